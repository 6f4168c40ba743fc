"""The tasks."""

from vtt_envs.tasks.peg_insertion import PegInsertion
from vtt_envs.tasks.push import Push

__all__ = ["PegInsertion", "Push"]

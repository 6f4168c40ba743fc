"""The tasks."""

from vtt_envs.tasks.peg_insertion import PegInsertion

__all__ = ["PegInsertion"]

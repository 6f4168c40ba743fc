"""The tasks."""

from vtt_envs.tasks.bolt_on_nut import BoltOnNut
from vtt_envs.tasks.door_opening import DoorOpening
from vtt_envs.tasks.peg_insertion import PegInsertion
from vtt_envs.tasks.peg_placement import PegPlacement
from vtt_envs.tasks.picking import Picking
from vtt_envs.tasks.push import Push

__all__ = ["BoltOnNut", "DoorOpening", "PegInsertion", "PegPlacement", "Picking", "Push"]

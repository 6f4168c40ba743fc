"""The tasks."""

from vtt_envs.tasks.bolt_on_nut import BoltOnNut
from vtt_envs.tasks.door_opening import DoorOpening
from vtt_envs.tasks.in_hand_pivot import InHandPivot
from vtt_envs.tasks.in_hand_rotation import InHandRotation
from vtt_envs.tasks.peg_insertion import PegInsertion
from vtt_envs.tasks.peg_placement import PegPlacement
from vtt_envs.tasks.picking import Picking
from vtt_envs.tasks.push import Push
from vtt_envs.tasks.surface_following import SurfaceFollowing

__all__ = [
    "BoltOnNut",
    "DoorOpening",
    "InHandPivot",
    "InHandRotation",
    "PegInsertion",
    "PegPlacement",
    "Picking",
    "Push",
    "SurfaceFollowing",
]

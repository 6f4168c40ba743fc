"""Robots: how an action becomes actuator targets, and where the tool and the touch sensors are."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from vtt_envs.robots.base import TABLE, GelPad, Robot, add_free_body
from vtt_envs.robots.floating import FloatingGripper
from vtt_envs.robots.franka import FrankaArm
from vtt_envs.robots.gripper import FINGER_TRAVEL, FINGERS, PAD_MIDDLE, Gripper, meet_table
from vtt_envs.robots.hand import Hand
from vtt_envs.robots.menagerie import ARMS, MenagerieArm
from vtt_envs.robots.probe import Probe

__all__ = [
    "FINGERS",
    "FINGER_TRAVEL",
    "PAD_MIDDLE",
    "TABLE",
    "FloatingGripper",
    "FrankaArm",
    "GelPad",
    "Gripper",
    "Hand",
    "MenagerieArm",
    "Probe",
    "Robot",
    "add_free_body",
    "grippers",
    "meet_table",
]


def grippers(**options: Any) -> Mapping[str, Callable[[], Robot]]:
    """Give every robot with a parallel gripper a name; `options` are those that all of them take, such as `grip_force`.

    Example:
        >>> tuple(grippers())
        ('floating', 'franka', 'menagerie:franka_emika_panda', 'menagerie:franka_fr3')
    """
    return {
        "floating": partial(FloatingGripper, **options),
        "franka": partial(FrankaArm, **options),
        **{f"menagerie:{name}": partial(MenagerieArm, name=name, **options) for name in ARMS},
    }

"""Robots: how an action becomes actuator targets, and where the tool and the touch sensors are."""

from vtt_envs.robots.base import GelPad, Robot, add_free_body
from vtt_envs.robots.floating import FINGERS, FloatingGripper

__all__ = ["FINGERS", "FloatingGripper", "GelPad", "Robot", "add_free_body"]

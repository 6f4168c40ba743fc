"""Bolt on nut: a bolt held at an unknown tilt is set on a nut and turned until its thread has caught.

Reproduces TacSL's third task (arXiv 2408.06506, and the `tacsl` branch of IsaacGymEnvs), for which it publishes no
result, on a floating gripper and with a thread that must be turned in.

Legend: B environments, n environments being reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import missing
from vtt_envs.engine import Engine
from vtt_envs.robots import FloatingGripper, Robot
from vtt_envs.task import Camera, check_range, uniform
from vtt_envs.tasks.held import HeldObjectTask, held_names, leave_out_searches
from vtt_envs.tasks.objects import BOLTS, match_pads

__all__ = ["BoltOnNut"]

_UPRIGHT = 0.05  # rad, 3 degrees
_INSIDE = 5e-4  # m: largest distance of a bolt in the nut from its axis
_MISS = 0.2  # rad: nearer to the start of the nut's thread a bolt may come down on it and needs a whole turn more
_CAMERA = Camera((0.2, -0.2, 0.14), (0.0, 0.0, 0.04))


@dataclass
class BoltOnNut(HeldObjectTask):
    """Set a bolt on a nut and turn it clockwise until its thread has caught; by default M16.

    The bolt's head sits in the grip tilted about the pad normal by an angle that no sensor but touch reveals; how far
    the bolt sticks out is unknown too, and so is the angle through which it must be turned until the threads meet. Its
    weight is compensated. The nut is observed with noise that lasts for the episode. The threads are in contact with
    each other, as a coarse approximation: see `vtt_envs.tasks.objects.Bolt` for dimensions and what is left out.

    Episode: 100 steps of 50 ms (TacSL: 256 of 17 ms, then 2 s of a script). Success: the bolt is upright within 3
    degrees in the nut's axis and as deep as its thread gets when it is turned by `turn` = 1 rad after it has caught; it
    cannot be there without turning. It then stands in the nut when it is let go and holds against a pull of 2 N, twice
    the weight of M16, and after 2 rad against 10 N (tested). Success ends the episode. TacSL sets the bolt down, and a
    script turns it by 1 rad, lets go and lifts; success is a bolt within 9.6 mm of the nut's middle and 15 degrees of
    upright, whose thread need not have caught.

    A script that lowers and turns an upright gripper at the observed nut succeeds in a tenth of the episodes, in two
    fifths without the tilt, and in all if it also knows the nut.

    | drawn at reset | range | TacSL |
    |---|---|---|
    | tilt about the pad normal | ±`tilt` = ±.63 rad | ±.628 rad, about the upper end |
    | length below the fingertips | 13.75 mm to .8 of the bolt's length: 32.8 mm | 13.75 to 32.8 mm |
    | nut x, y, z | ±100, ±100, 10 ± 10 mm | the same |
    | tool x, y from the nut | ±20 mm | both are drawn from ±100 mm independently |
    | height of the lower end of an upright bolt above the nut | 10 to 30 mm | up to some 150 mm |
    | tool yaw; roll, pitch | 1.1 ± 1; ±.1 rad | ±1; ±.1 rad |
    | turn until the thread catches | .2 to `thread_start` = 1.2 rad | ±1 rad, from the tool's yaw alone |
    | error of the observed nut, each axis | ±`nut_noise` = ±2 mm | ±5 mm |

    So the tool turns by at most some 2.2 rad, about equally to both sides of its home pose: a wrist's range is limited.
    The bolt is tilted about the middle of the held part of its head.

    Reward per step: `(exp(-40 D) - 1) / 2 + (q - 1) / 2` for the key-point distance D in [m] between bolt and bolt in
    the nut (four points on the bolt's axis over .5 m, as TacSL's) and the part q of the turning that is done, measured
    by the depth; never positive, so that success, which ends the episode, pays. Sparse: 1 on success, else 0.

    Args:
        size: `"M8"`, `"M10"`, `"M12"` or `"M16"`.
        nut_noise: Largest error of the observed nut, per axis, in [m].
        tilt: Largest tilt of the bolt in the grip, in [rad].
        thread_start: Largest turn until the thread catches, in [rad].
        turn: Turn after that which counts as success, in [rad].
        reward_kind: `"dense"` or `"sparse"`.

    Raises:
        ConfigError: If an argument is out of range.
        MissingError: If there is no such bolt.
    """

    size: str = "M16"
    nut_noise: float = 0.002
    tilt: float = 0.63
    thread_start: float = 1.2
    turn: float = 1.0
    _: KW_ONLY
    horizon: int = 100
    robot: Robot = field(default_factory=FloatingGripper)
    camera: Camera = _CAMERA

    robots: ClassVar = {"floating": FloatingGripper}
    goal_names = ("nut_x", "nut_y", "nut_z", "nut_axis_x", "nut_axis_y", "nut_axis_z")
    privileged_names = (*held_names("bolt", "nut"), "thread_start_x", "thread_start_y")
    objects = ("bolt",)
    surroundings = ("nut",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size not in BOLTS:
            raise missing("bolt", self.size, BOLTS)
        check_range("nut_noise", self.nut_noise, 0, 0.02, "m")
        check_range("thread_start", self.thread_start, _MISS, 6, "rad")
        check_range("turn", self.turn, 0.1, 6, "rad")
        bolt = self._bolt = BOLTS[self.size]
        protrusion = (0.01375, 0.8 * bolt.length)
        self._hold(bolt, target="nut", top=bolt.nut_height, noise=self.nut_noise, protrusion=protrusion)

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add nut and bolt."""
        self._bolt.add_nut_to(spec)
        self._bolt.add_to(spec)
        match_pads(spec, self.robot, self.payload)
        leave_out_searches(spec)

    def _turn_in_grip(self, angles: NDArray[np.float64], generators: Sequence[np.random.Generator]) -> NDArray:
        """Turn the tool so that a wrist is equally far from its home pose before and after; draw the thread's start."""
        angles[:, 0] += (self.thread_start + self.turn) / 2
        return angles[:, 0] - uniform(generators, _MISS, self.thread_start)

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """Bolt against nut, bolt and nut against tool, in [m], direction of the bolt's thread start. Shape (B, 14).

        The thread catches when it is deep enough and starts at +x of the base.
        """
        return np.column_stack([super().privileged(engine), engine.body_rotation("bolt")[:, :2, 0]]).astype(np.float32)

    def _turned(self, engine: Engine) -> NDArray[np.float64]:
        """Turn since the thread has caught, in [rad], told by the depth; negative before. Shape (B,)."""
        _, _, tip, _, top = self._state(engine)
        return ((top - tip)[:, 2] - self._bolt.catch_depth) * 2 * np.pi / self._bolt.pitch

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the bolt stands in the nut's thread, `turn` after it has caught. Shape (B,)."""
        _, _, tip, axis, top = self._state(engine)
        inside = np.linalg.norm((tip - top)[:, :2], axis=1) < _INSIDE
        return inside & (axis[:, 2] > np.cos(_UPRIGHT)) & (self._turned(engine) > self.turn)

    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """`(exp(-40 D) + q) / 2 - 1`. Shape (B,)."""
        _, _, tip, _, top = self._state(engine)
        depth = self._bolt.catch_depth + self.turn * self._bolt.pitch / (2 * np.pi)
        inside = np.linalg.norm((tip - top)[:, :2], axis=1) < _INSIDE
        done = np.clip((self._turned(engine) + self.thread_start) / (self.thread_start + self.turn), 0, 1)
        return (self._closeness(engine, depth=depth) + inside * done) / 2 - 1

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Upright the bolt, lower it into the nut's mouth, press lightly and turn it clockwise. Shape (B, 6)."""
        tool, rotation, tip, axis, top = self._state(engine)
        error = (top - tip)[:, :2]
        height = (tip - top)[:, 2]
        turn = np.cross(axis, [0.0, 0.0, 1.0])  # rotation vector that uprights the bolt, sin(angle) ~ angle
        distance, angle = np.linalg.norm(error, axis=1), np.linalg.norm(turn, axis=1)
        ready = (distance < _INSIDE) & (angle < 0.03)
        inside = height < 0
        hover = np.clip(0.003 - height, -0.005, 0.004)
        down = np.where(inside | ready, -0.002, hover)
        across = error * np.minimum(0.7, 0.005 / np.maximum(distance, 1e-9))[:, None]
        limit = self.robot.rotation_step
        turn *= (np.minimum(np.where(inside, 0.3, 0.5) * angle, limit) / np.maximum(angle, 1e-9))[:, None]
        spin = limit * np.clip(2 - angle / 0.05, 0, 1)
        turn[:, 2] = np.where(self._turned(engine) > -2 * np.pi, -spin, 0)  # where the threads touch
        move = np.column_stack([across, down])
        move -= np.cross(turn, tip - tool)  # turning the tool swings the bolt's end; hold it in place
        return self.tool_action(rotation, move, turn)

"""Peg placement: a peg held at an unknown tilt is stood upright on a plate.

Reproduces TacSL's placement task (arXiv 2408.06506, and the `tacsl` branch of IsaacGymEnvs) on a floating gripper.

Legend: B environments, n environments being reset.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.robots import FloatingGripper, Robot, grippers
from vtt_envs.task import Camera, check_range
from vtt_envs.tasks.held import HeldObjectTask, held_names, leave_out_searches
from vtt_envs.tasks.objects import STEEL, Peg, match_pads

__all__ = ["PegPlacement"]

_PLATE = (0.1, 0.1, 0.025)  # m, TacSL's
_UPRIGHT = 0.035  # rad, 2 degrees
_FLUSH = 5e-4  # m: largest distance of any point of the lower face from the plate
_STILL = 0.02  # m/s
_CAMERA = Camera((0.22, -0.22, 0.16), (0.0, 0.0, 0.05))


@dataclass
class PegPlacement(HeldObjectTask):
    """Stand a peg on the mark in the middle of a plate; by default a round peg of 16 mm.

    The peg sits in the grip tilted about the pad normal by an angle that no sensor but touch reveals; how far it
    sticks out is unknown too. Its weight is compensated. The plate is observed with noise that lasts for the episode.

    Episode: 50 steps of 50 ms (TacSL: 256 of 17 ms). Success: the peg stands upright within 2 degrees, no point of its
    lower face is farther than .5 mm from the plate, the middle of that face is within `tolerance` of the mark, and it
    moves by less than 20 mm/s. The gripper need not let go: a peg that stands so keeps standing when it does (tested).
    TacSL lets go by a script at the end and accepts 15 degrees and 60 mm. Success ends the episode.

    | drawn at reset | range | TacSL |
    |---|---|---|
    | tilt about the pad normal | ±`tilt` = ±.63 rad | ±.628 rad, about the upper end |
    | length below the fingertips | 25 to 37 mm | 24.5 to 37 mm |
    | plate x, y, z | ±100, ±100, 10 ± 10 mm | the same |
    | tool x, y from the mark | ±20 mm | both are drawn from ±100 mm independently |
    | height of the lower end of an upright peg above the plate | 10 to 30 mm | up to some 150 mm |
    | tool yaw; roll, pitch | ±1; ±.1 rad | the same |
    | error of the observed plate, each axis | ±`plate_noise` = ±5 mm | ±5 mm |

    The plate is TacSL's, 100 x 100 x 25 mm. The peg is tilted about the middle of its held length. A script that
    presses an upright gripper onto the observed mark succeeds in a sixth of the episodes, and always without the tilt.

    Reward per step: `exp(-40 D) - 1` for the key-point distance D in [m] between peg and placed peg (four points on the
    peg's axis over .5 m, as TacSL's); never positive, so that success, which ends the episode, pays. Sparse: 1 on
    success, else 0.

    Args:
        plate_noise: Largest error of the observed plate, per axis, in [m].
        tilt: Largest tilt of the peg in the grip, in [rad].
        tolerance: Distance of peg and mark on the plate that counts as success, in [m].
        reward_kind: `"dense"` or `"sparse"`.
        shape: Cross-section of the peg: `"round"`, `"square"` or `"hexagonal"`.
        diameter: Nominal size of the peg in [m], across its flats: .008, .012 or .016.

    Raises:
        ConfigError: If an argument is out of range.
        MissingError: If there is no such shape.
    """

    plate_noise: float = 0.005
    tilt: float = 0.63
    tolerance: float = 0.01
    shape: str = "round"
    diameter: float = 0.016
    _: KW_ONLY
    horizon: int = 50
    robot: Robot = field(default_factory=FloatingGripper)
    camera: Camera = _CAMERA

    robots: ClassVar = grippers()
    goal_names = ("mark_x", "mark_y", "mark_z", "plate_normal_x", "plate_normal_y", "plate_normal_z")
    privileged_names = held_names("peg", "mark")
    objects = ("peg",)
    surroundings = ("plate",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("plate_noise", self.plate_noise, 0, 0.02, "m")
        check_range("tolerance", self.tolerance, 0.001, 0.04, "m")
        self._peg = Peg(self.shape, self.diameter)
        self._hold(self._peg, target="plate", top=_PLATE[2], noise=self.plate_noise, protrusion=(0.025, 0.037))

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add plate and peg."""
        plate = spec.worldbody.add_body(name="plate", mocap=True)
        length, width, height = _PLATE
        plate.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[length / 2, width / 2, height / 2],
            pos=[0, 0, height / 2],
            contype=2,
            conaffinity=2,
            rgba=[0.35, 0.45, 0.6, 1],
            **STEEL,
        )
        plate.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[self.tolerance, 1e-4, 0],
            pos=[0, 0, height],
            contype=0,
            conaffinity=0,
            rgba=[0.2, 0.6, 0.3, 1],
        )
        self._peg.add_to(spec)
        match_pads(spec, self.robot, self.payload)
        leave_out_searches(spec)

    def bind(self, engine: Engine) -> None:
        """Look up addresses; see `Task`."""
        super().bind(engine)
        self._velocity = engine.model.joint("peg").dofadr[0]

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the peg stands still and upright on the mark, with its whole lower face on the plate. Shape (B,)."""
        _, _, tip, axis, mark = self._state(engine)
        tilt = np.linalg.norm(axis[:, :2], axis=1)  # sin(angle) ~ angle
        height = (tip - mark)[:, 2] + self._peg.foot * tilt  # of the highest point of the lower face
        near = np.linalg.norm((tip - mark)[:, :2], axis=1) < self.tolerance
        still = np.linalg.norm(engine.qvel[:, self._velocity : self._velocity + 3], axis=1) < _STILL
        return near & (axis[:, 2] > 0) & (tilt < _UPRIGHT) & (np.abs(height) < _FLUSH) & still

    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """`exp(-40 D) - 1`. Shape (B,)."""
        return self._closeness(engine, depth=0) - 1

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Upright the peg while moving it over the mark, then set it down gently. Shape (B, 6)."""
        tool, rotation, tip, axis, mark = self._state(engine)
        error = (mark - tip)[:, :2]
        height = (tip - mark)[:, 2]
        turn = np.cross(axis, [0.0, 0.0, 1.0])  # rotation vector that uprights the peg, sin(angle) ~ angle
        distance, angle = np.linalg.norm(error, axis=1), np.linalg.norm(turn, axis=1)
        ready = (distance < self.tolerance / 2) & (angle < 0.05)
        hover = np.clip(0.004 + self._peg.foot * angle - height, -0.005, 0.004)
        down = np.where(ready, -np.clip(0.5 * height, 0.001, 0.004), hover)
        across = error * np.minimum(0.7, 0.005 / np.maximum(distance, 1e-9))[:, None]
        across[height < 0.001] = 0  # on the plate: only press
        turn *= (np.minimum(0.5 * angle, self.robot.rotation_step) / np.maximum(angle, 1e-9))[:, None]
        move = np.column_stack([across, down])
        move -= np.cross(turn, tip - tool)  # turning the tool swings the peg's end; hold it in place
        return self.tool_action(rotation, move, turn)

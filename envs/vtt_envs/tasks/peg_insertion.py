"""Peg insertion: a peg held at an unknown tilt goes into a socket whose position is only roughly known.

Reproduces TacSL's insertion task (arXiv 2408.06506, and the `tacsl` branch of IsaacGymEnvs) on a floating gripper.

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
from vtt_envs.tasks.objects import STEEL, Peg, add_ring, match_pads

__all__ = ["PegInsertion"]

_FLOOR, _TOP = 0.003, 0.028  # m above the socket's origin: bottom and top of the bore
_CHAMFER = 0.001  # m
_CAMERA = Camera((0.22, -0.22, 0.16), (0.0, 0.0, 0.05))
_SEGMENTS = 16  # convex wedges around a round bore, which is the inscribed circle of their inner faces


@dataclass
class PegInsertion(HeldObjectTask):
    """Put a peg into a socket, 25 mm deep; by default a round peg of 16 mm.

    The peg sits in the grip tilted about the pad normal by an angle that no sensor but touch reveals; how far it
    sticks out is unknown too. Its weight is compensated. The socket is observed with noise that lasts for the episode.

    Episode: 50 steps of 50 ms (TacSL: 256 of 17 ms). Success: the peg's lower end is within 4.5 mm of the bore's floor
    (TacSL: 4.4958 mm mean key-point distance); it cannot be there at a tilt. Success ends the episode.

    | drawn at reset | range | TacSL |
    |---|---|---|
    | tilt about the pad normal | ±`tilt` = ±.63 rad | ±.628 rad, about the upper end |
    | length below the fingertips | 32 to 40 mm | 27.8 to 37 mm |
    | socket x, y, z | ±100, ±100, 10 ± 10 mm | the same |
    | tool x, y from the socket | ±20 mm | both are drawn from ±100 mm independently |
    | height of the lower end of an upright peg above the socket | 10 to 30 mm | up to some 150 mm |
    | tool yaw; roll, pitch | ±1; ±.1 rad | the same |
    | error of the observed socket, each axis | ±`socket_noise` = ±2 mm | ±5 mm |

    A square or hexagonal peg is gripped by two of its flats, so it must be turned to the socket by up to half a side:
    45 or 30 degrees. The direction that a wall of the socket faces is then observed exactly, as the last three of
    `goal`; `privileged` ends with the angle by which the peg must turn about the vertical.

    The peg is tilted about the middle of its held length, because the pad of the GelSight Mini is narrower than the
    R1.5's, and it sticks out farther, so that a tilted finger clears the socket.

    Reward per step: `exp(-40 D) - 1` for the key-point distance D in [m] between peg and inserted peg (four points on
    the peg's axis over .5 m, as TacSL's); never positive, so that success, which ends the episode, pays. Sparse: 1 on
    success, else 0.

    Args:
        socket_noise: Largest error of the observed socket position, per axis, in [m].
        tilt: Largest tilt of the peg in the grip, in [rad].
        clearance: Difference of bore and peg diameter, in [m]. The bore has a chamfer of 1 mm.
        reward_kind: `"dense"` or `"sparse"`.
        shape: Cross-section of peg and bore: `"round"`, `"square"` or `"hexagonal"`.
        diameter: Nominal size of the peg in [m], across its flats: .008, .012 or .016.

    Raises:
        ConfigError: If a range is negative or the peg would not fit.
        MissingError: If there is no such shape.
    """

    socket_noise: float = 0.002
    tilt: float = 0.63
    clearance: float = 0.001
    shape: str = "round"
    diameter: float = 0.016
    _: KW_ONLY
    horizon: int = 50
    robot: Robot = field(default_factory=FloatingGripper)
    camera: Camera = _CAMERA

    robots: ClassVar = grippers()
    goal_names = ("socket_x", "socket_y", "socket_z", "socket_axis_x", "socket_axis_y", "socket_axis_z")
    privileged_names = (*held_names("peg", "socket"), "insertion_depth")
    objects = ("peg",)
    surroundings = ("socket",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("socket_noise", self.socket_noise, 0, 0.02, "m")
        check_range("clearance", self.clearance, 1e-4, 0.01, "m")
        self._peg = Peg(self.shape, self.diameter)
        self._hold(self._peg, target="socket", top=_TOP, noise=self.socket_noise, protrusion=(0.032, 0.04))
        if self._peg.sides:
            self.goal_names = (*self.goal_names, *(f"socket_wall_{a}" for a in "xyz"))
            self.privileged_names = (*self.privileged_names, "peg_misalignment")

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add socket and peg."""
        socket = spec.worldbody.add_body(name="socket", mocap=True)
        bore, outer = self._peg.radius + self.clearance / 2, 0.02
        profile = [(bore, _FLOOR), (bore, _TOP - _CHAMFER), (bore + _CHAMFER, _TOP), (outer, _TOP), (outer, _FLOOR)]
        add_ring(spec, socket, "socket", profile, segments=self._peg.sides or _SEGMENTS, start=self._peg.facing)
        socket.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[outer, outer, _FLOOR / 2],
            pos=[0, 0, _FLOOR / 2],
            contype=2,
            conaffinity=2,
            rgba=[0.35, 0.45, 0.6, 1],
            **STEEL,
        )
        self._peg.add_to(spec)
        match_pads(spec, self.robot, self.payload)
        leave_out_searches(spec)

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """Observed middle of the socket's top in [m], the socket's axis and a wall's; tool frame. Shape (B, 6 or 9)."""
        seen = super().goal(engine)
        if not self._peg.sides:
            return seen
        wall = engine.body_rotation("tool")[:, 1]  # the base's y axis, which a wall faces
        return np.column_stack([seen, wall]).astype(np.float32)

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """Peg against socket, peg and socket against tool, insertion depth, in [m]. Shape (B, 13 or 14)."""
        _, _, tip, _, top = self._state(engine)
        parts = [super().privileged(engine), (top - tip)[:, 2]]
        if self._peg.sides:
            parts.append(self._peg.misalignment(engine.body_rotation("peg")))
        return np.column_stack(parts).astype(np.float32)

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the peg's lower end is within 4.5 mm of the floor, inside the bore. Shape (B,)."""
        _, _, tip, _, top = self._state(engine)
        inside = np.linalg.norm((tip - top)[:, :2], axis=1) < 0.002
        return inside & ((tip - top)[:, 2] < -(_TOP - _FLOOR) + 0.0045)

    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """`exp(-40 D) - 1`. Shape (B,)."""
        return self._closeness(engine, depth=_TOP - _FLOOR) - 1

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Upright the peg, centre its lower end above the socket, push it in; on the rim, slide to the bore.

        Shape (B, 6). Sliding under pressure, rather than lifting off, keeps the advice usable by a student without the
        expert's knowledge: the peg tips into the bore's direction, and the gel feels how.
        """
        tool, rotation, tip, axis, top = self._state(engine)
        error = (top - tip)[:, :2]
        height = (tip - top)[:, 2]
        turn = np.cross(axis, [0.0, 0.0, 1.0])  # rotation vector that uprights the peg, sin(angle) ~ angle
        turn[:, 2] += self._peg.misalignment(engine.body_rotation("peg"))
        distance, angle = np.linalg.norm(error, axis=1), np.linalg.norm(turn, axis=1)
        ready = np.clip(1.6 - distance / 0.0008, 0, 1) * np.clip(2 - angle / 0.05, 0, 1)
        hover = np.clip(0.003 - height, -0.004, 0.004)
        above = ready * -0.004 + (1 - ready) * hover
        on_rim = (height < 0.0012) & (angle < 0.2) & (distance < 0.01)
        caught = on_rim & (distance < self.clearance / 2 + _CHAMFER)
        down = np.where(caught, -0.004, np.where(on_rim, -0.003, above))
        speed = np.where(on_rim, 0.0025, 0.005)
        across = error * np.minimum(np.where(on_rim, 1.5, 0.7), speed / np.maximum(distance, 1e-9))[:, None]
        limit = self.robot.rotation_step
        gain = np.where(on_rim, 0.1, 0.5)  # the gel is soft: a faster turn overshoots
        turn *= (np.minimum(gain * angle, limit) / np.maximum(angle, 1e-9))[:, None]
        move = np.column_stack([across, down])
        move -= np.cross(turn, tip - tool)  # turning the tool swings the peg's end; hold it in place
        return self.tool_action(rotation, move, turn)

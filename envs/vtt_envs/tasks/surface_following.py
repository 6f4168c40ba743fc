"""Surface following: one pad slides over an unknown surface or along an unknown edge at a set indentation.

Legend: B environments, n environments being reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import pairwise
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, missing
from vtt_envs.engine import Engine
from vtt_envs.robots import Robot
from vtt_envs.robots.probe import Probe
from vtt_envs.task import (
    Camera,
    Task,
    axis_rotation,
    check_range,
    rotate,
    rotate_back,
    uniform,
    unit_vectors,
)

__all__ = ["SurfaceFollowing"]

_SHAPES = ("dome", "cylinder", "plane", "wave", "edge")
_RADIUS = {"cylinder": (0.06, 0.12), "dome": (0.08, 0.15)}  # m
_TILT = {"plane": 0.35}  # rad, of the whole surface about two axes; of all others .15
_SIDE = {"edge": 0.002}  # m, farthest off the edge; off the line over all others 5 mm
_RIM = 0.005  # m, radius of the edge
_ROLLER = 0.08  # m, radius of the cylinders under the wave
_SPAN = 0.2  # m, half length of wave and edge
_HEIGHT = 0.05  # m, of the surface's middle over the floor
_FRICTION = (0.3, 0.8)  # of a gel that is coated so that it slides
_OFF_NORMAL = 0.15  # rad
_SHARE = 0.9  # of the path
# Contact stiffness of the gel, in 1/s^2, in place of the pad's own, which is for a firm grip. MuJoCo gives every point
# of contact the same, and a wave has eight where a dome has one. So .6 mm take 1.7 N on a dome (Hertz, Johnson 1985,
# section 4.2, with .2 MPa: 1.7 N), 1.5 N on edge and wave, 3.3 to 3.5 N on plane and cylinder.
_STIFFNESS = {"plane": 2e4, "cylinder": 4e4, "dome": 4e4, "wave": 4e3, "edge": 5e3}
_RELAXATION = 1 / 150  # s, damping per stiffness: swifter than a control step
_BEHIND = 0.02  # m behind the gel's face, from where its indentation is measured
_GROUP = 3  # of the surface's geoms, for the rays
_CAMERA = Camera((0.2, -0.26, 0.22), (0.0, 0.0, 0.06))


def _wave(x: NDArray) -> tuple[NDArray, NDArray]:
    """Height in [m] of the wave and its slope."""
    k = 2 * np.pi / 0.14
    return 0.003 * np.sin(k * x), 0.003 * k * np.cos(k * x)


def _bend(x: NDArray) -> tuple[NDArray, NDArray]:
    """Sideways course in [m] of the edge and its slope."""
    k = 2 * np.pi / 0.1
    return 0.005 * np.sin(k * x), 0.005 * k * np.cos(k * x)


@dataclass
class SurfaceFollowing(Task):
    """Slide one pad along a line over an unknown surface, or along an unknown edge, at a set indentation.

    The probe starts over the surface, not quite along its normal. It must come down, lie flat, and move in the given
    direction while its gel stays as deep as asked: where the surface turns, only touch tells how. The direction is that
    of the line, level with the surface as a whole; an edge winds about it, 5 mm to either side, and must be felt.

    Episode: 80 steps of 50 ms. Success: at the end of the path, 60 mm along the direction, the pad has been in the band
    for 90 % of it. In the band: the surface reaches `indentation` = .6 mm, give or take `tolerance` = .3 mm, into the
    gel at the pad's middle, the pad is within .15 rad (9 degrees) of the surface's normal, and its middle within 5 mm
    of the line (2 mm of the edge). Success ends the episode; what was skipped cannot be made up for.

    | drawn at reset | range | Tactile Gym |
    |---|---|---|
    | surface | `shape`, see below | simplex noise, ±25 mm high, 300 mm wide; edges as well |
    | radius of cylinder; of dome | 60 to 120 mm; 80 to 150 mm | |
    | tilt of the surface, about two axes | ±.35 rad (plane), ±.15 rad | none |
    | heading of surface and line | any (wave: line within ±.3 rad of it; edge: along it, either way) | any |
    | middle of the line | ±10 mm from the top; anywhere along wave and edge | the surface's |
    | friction | .3 to .8 | 10 |
    | gap to the surface | 4 to 6 mm | 0 |
    | error of the pad about the normal's two axes; of its heading | ±.15 rad; ±.5 rad | 0 |

    Tactile Gym's surface_follow (github.com/ac-93/tactile_gym, 04b499e) asks for 1.5 mm with a DIGIT, moves at up to 10
    mm/s for 200 steps of .1 s and ends within 10 mm of the goal, however it got there. Lepora and Lloyd (Pose-based
    tactile servoing, arXiv 2012.02504) follow surfaces and edges on a robot and report errors of pose, not a success.

    `privileged`: indentation less the asked one [m], the surface's normal in the tool frame, offset from the line or
    edge [m], share of the path done in the band, friction, radius [m] (0: no such), force on the pad in the tool frame
    [N]. `goal`: direction in the tool frame, what remains of the path [m].

    Reward per step: `.5 exp(-|e| / tolerance) + .5 s - 1` for the error e of the indentation and the share s, in
    [-1, 0], so that ending early in success pays. Sparse: 1 on success, else 0.

    A script that presses with a fixed force and never turns on purpose follows nothing but planes: about half of them,
    on which the pressed pad turns flat by itself.

    Args:
        shape: `"dome"` (a sphere's top), `"cylinder"` (crossed at any angle), `"plane"`, `"wave"` (3 mm high, 140 mm
            long) or `"edge"` (a rim of 5 mm radius that winds ±5 mm in 100 mm and rises and falls as the wave).
        indentation: Asked of the gel at the pad's middle, in [m].
        tolerance: Half width of the band of indentation, in [m].
        distance: Length of the path, in [m].
        reward_kind: `"dense"` or `"sparse"`.

    Raises:
        MissingError: If there is no such shape.
        ConfigError: If an argument is out of range, or the robot no probe.
    """

    shape: str = "edge"
    indentation: float = 0.0006
    tolerance: float = 0.0003
    distance: float = 0.06
    _: KW_ONLY
    horizon: int = 80
    robot: Robot = field(default_factory=Probe)
    camera: Camera = _CAMERA

    robots: ClassVar = {"probe": Probe}
    goal_names = ("direction_x", "direction_y", "direction_z", "remaining")
    privileged_names = (
        "indentation_error",
        *(f"normal_{a}" for a in "xyz"),
        "side",
        "share_in_band",
        "friction",
        "radius",
        *(f"force_{a}" for a in "xyz"),
    )
    objects = ("surface",)
    surroundings = ("world",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape not in _SHAPES:
            raise missing("shape", self.shape, _SHAPES)
        if not isinstance(self.robot, Probe):
            raise ConfigError(f"robot must be a Probe, got {type(self.robot).__name__}.")
        check_range("indentation", self.indentation, 2e-4, 0.001, "m")
        if not 5e-5 <= self.tolerance < self.indentation:
            raise ConfigError(f"tolerance must be in [0.00005, {self.indentation}) m, got {self.tolerance}.")
        check_range("distance", self.distance, 0.02, 0.08, "m")
        self._spring = self.robot.stiffness[0]  # N/m

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the surface."""
        spec.geom("pad_pad").solref = [-_STIFFNESS[self.shape], -_STIFFNESS[self.shape] * _RELAXATION]
        body = spec.worldbody.add_body(name="surface", pos=[0, 0, _HEIGHT])
        kinds = mujoco.mjtGeom
        look = {"contype": 1, "conaffinity": 1, "group": _GROUP, "rgba": [0.45, 0.55, 0.65, 1]}
        along_y = [np.sqrt(0.5), -np.sqrt(0.5), 0, 0]
        # Dome and cylinder are built at their largest, so that the bounds that MuJoCo keeps hold for what is drawn.
        if self.shape == "dome":
            body.add_geom(
                type=kinds.mjGEOM_SPHERE, size=[_RADIUS["dome"][1], 0, 0], pos=[0, 0, -_RADIUS["dome"][1]], **look
            )
        elif self.shape == "cylinder":
            size = [_RADIUS["cylinder"][1], 0.12, 0]
            body.add_geom(type=kinds.mjGEOM_CYLINDER, size=size, pos=[0, 0, -size[0]], quat=along_y, **look)
        elif self.shape == "plane":
            body.add_geom(type=kinds.mjGEOM_BOX, size=[0.12, 0.12, 0.01], pos=[0, 0, -0.01], **look)
        elif self.shape == "wave":
            for x in np.linspace(-_SPAN, _SPAN, 51):
                height, slope = _wave(x)
                top = np.array([x, 0, height])
                middle = top - _ROLLER * np.array([-slope, 0, 1]) / np.hypot(1, slope)
                body.add_geom(type=kinds.mjGEOM_CAPSULE, size=[_ROLLER, 0.04, 0], pos=middle, quat=along_y, **look)
        else:
            x = np.linspace(-_SPAN, _SPAN, 51)
            nodes = np.stack([x, _bend(x)[0], _wave(x)[0] - _RIM], axis=1)
            for ends in pairwise(nodes):
                body.add_geom(type=kinds.mjGEOM_CAPSULE, size=[_RIM, 0, 0], fromto=np.ravel(ends), **look)

    def bind(self, engine: Engine) -> None:
        """Look up addresses; see `Task`."""
        number = engine.num_envs
        self._all = np.arange(number)
        self._start, self._direction = np.zeros((number, 3)), np.zeros((number, 3))
        self._reached, self._good = np.zeros(number), np.zeros(number)
        self._radius = np.zeros(number)
        body = engine.model.body("surface").id
        self._quat = engine.expand("body_quat")[:, body]
        pad = engine.model.geom("pad_pad").id
        self._friction = engine.expand("geom_friction")[:, pad, 0]
        if self.shape in _RADIUS:
            geom = engine.model.body_geomadr[body]
            self._size = engine.expand("geom_size")[:, geom, 0]
            self._middle = engine.expand("geom_pos")[:, geom, 2]
        self._groups = (np.arange(6) == _GROUP).astype(np.uint8)

    def _local(self, x: NDArray, y: NDArray, radius: NDArray) -> tuple[NDArray, NDArray]:
        """Height of the surface over its own plane and its normal there. Shapes (n,), (n, 3)."""
        height, dx, dy = np.zeros(len(x)), np.zeros(len(x)), np.zeros(len(x))
        if self.shape in ("wave", "edge"):
            height, dx = _wave(x)
        elif self.shape in _RADIUS:
            square = x**2 + (y**2 if self.shape == "dome" else 0)
            root = np.sqrt(radius**2 - square)
            height, dx = root - radius, -x / root
            dy = -y / root if self.shape == "dome" else dy
        normal = np.column_stack([-dx, -dy, np.ones(len(x))])
        if self.shape == "edge":  # upright on the edge's course
            course = np.column_stack([np.ones(len(x)), _bend(x)[1], dx])
            course = unit_vectors(course)
            normal = np.array([0, 0, 1.0]) - course[:, 2:] * course
        return height, unit_vectors(normal)

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes; see the class for the ranges."""
        radius = uniform(generators, *_RADIUS.get(self.shape, (0, 0)))
        tilt = _TILT.get(self.shape, 0.15)
        turn = uniform(generators, np.array([-np.pi, -tilt, -tilt]), np.array([np.pi, tilt, tilt]))
        friction = uniform(generators, *_FRICTION)
        heading = uniform(generators, -np.pi, np.pi)
        back = uniform(generators, 0, 1) < 0.5
        place = uniform(generators, np.full(2, -1.0), np.full(2, 1.0))
        gap = uniform(generators, 0.004, 0.006)
        error = uniform(generators, np.full(2, -0.15), np.full(2, 0.15))
        twist = uniform(generators, -0.5, 0.5)

        half, zero = self.distance / 2, np.zeros(len(ids))
        if self.shape in ("wave", "edge"):
            heading = np.where(back, np.pi, 0.0) + (heading / np.pi * 0.3 if self.shape == "wave" else 0)
            middle = np.column_stack([place[:, 0] * (_SPAN - half - 0.02), place[:, 1] * 0.01])
        else:
            middle = 0.01 * place
        along = np.column_stack([np.cos(heading), np.sin(heading)])
        start = middle - half * along
        if self.shape == "edge":
            start[:, 1] = _bend(start[:, 0])[0]
        height, normal = self._local(start[:, 0], start[:, 1], radius)

        surface = axis_rotation(2, turn[:, 0]) @ axis_rotation(1, turn[:, 1]) @ axis_rotation(0, turn[:, 2])
        for row, matrix in zip(ids, surface, strict=True):
            mujoco.mju_mat2Quat(self._quat[row], matrix.ravel())
        self._friction[ids] = friction
        self._radius[ids] = radius
        if self.shape in _RADIUS:
            self._size[ids], self._middle[ids] = radius, -radius
        engine.set_const(ids)

        normal = rotate(surface, normal)
        origin = np.array([0, 0, _HEIGHT])
        point = origin + rotate(surface, np.column_stack([start, height]))
        direction = rotate(surface, np.column_stack([along, zero]))
        self._start[ids], self._direction[ids] = point, direction
        self._reached[ids] = self._good[ids] = 0
        yaw = np.arctan2(direction[:, 1], direction[:, 0]) + twist
        normal = rotate_back(axis_rotation(2, yaw), normal)
        roll, pitch = -np.arcsin(normal[:, 1]), np.arctan2(normal[:, 0], normal[:, 2])
        position = point + gap[:, None] * rotate(axis_rotation(2, yaw), normal)
        qpos = engine.qpos[ids]
        self.robot.place(qpos, position, np.column_stack([yaw, pitch + error[:, 0], roll + error[:, 1]]), opening=zero)
        engine.qpos[ids] = qpos

    def _contact(self, engine: Engine) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Indentation at the pad's middle [m], normal there, offset from the line [m] and the way it points."""
        tool, rotation = engine.body_position("tool"), engine.body_rotation("tool")
        axis = rotation[:, :, 2]
        origin = tool - _BEHIND * axis
        distance, _, normal = engine.ray(origin[:, None], axis[:, None], ids=self._all, geomgroup=self._groups)
        depth, normal = np.where(distance < 0, -_BEHIND, _BEHIND - distance)[:, 0], normal[:, 0]
        if self.shape == "edge":
            surface = engine.body_rotation("surface")
            local = rotate_back(surface, tool - engine.body_position("surface"))
            _, normal = self._local(local[:, 0], local[:, 1], self._radius)
            course, slope = _bend(local[:, 0])
            across = np.column_stack([-slope, np.ones(len(slope)), np.zeros(len(slope))])
            across = unit_vectors(across)
            side = (local[:, 1] - course) * across[:, 1]
            return depth, rotate(surface, normal), side, rotate(surface, across)
        across = np.cross(engine.body_rotation("surface")[:, :, 2], self._direction)
        side = ((tool - self._start) * across).sum(axis=1)
        return depth, normal, side, across

    def _in_band(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether indentation, normal and line are kept. Shape (B,)."""
        depth, normal, side, _ = self._contact(engine)
        tilt = np.arccos(np.clip(-(normal * engine.body_rotation("tool")[:, :, 2]).sum(axis=1), -1, 1))
        deep = np.abs(depth - self.indentation) < self.tolerance
        return deep & (tilt < _OFF_NORMAL) & (np.abs(side) < _SIDE.get(self.shape, 0.005))

    def _progress(self, engine: Engine) -> NDArray[np.float64]:
        """How far along the direction the pad is, in [m]. Shape (B,)."""
        return ((engine.body_position("tool") - self._start) * self._direction).sum(axis=1)

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """Direction in the tool frame and what remains of the path in [m]. Shape (B, 4)."""
        direction = rotate_back(engine.body_rotation("tool"), self._direction)
        return np.column_stack([direction, self.distance - self._progress(engine)]).astype(np.float32)

    def _force(self, engine: Engine) -> NDArray[np.float64]:
        """Force of the surface on the pad, in [N] in the base frame. Shape (B, 3)."""
        return -engine.sensor("contact_pad")[:, 1:4]

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """Error, normal, offset, share, friction, radius and force; see the class. Shape (B, 11)."""
        depth, normal, side, _ = self._contact(engine)
        rotation = engine.body_rotation("tool")
        parts = [
            depth - self.indentation,
            rotate_back(rotation, normal),
            side,
            self._good / self.distance,
            self._friction,
            self._radius,
            rotate_back(rotation, self._force(engine)),
        ]
        return np.column_stack(parts).astype(np.float32)

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the path is done, and in the band. Counts what was done since the last call. Shape (B,)."""
        reached = np.clip(self._progress(engine), self._reached, self.distance)
        self._good += np.where(self._in_band(engine), reached - self._reached, 0)
        self._reached = reached
        return (reached >= self.distance) & (self._good >= _SHARE * self.distance)

    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """`.5 exp(-|e| / tolerance) + .5 s - 1`. Shape (B,)."""
        depth = self._contact(engine)[0]
        return 0.5 * (np.exp(-np.abs(depth - self.indentation) / self.tolerance) + self._good / self.distance) - 1

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Turn to the normal, press to the asked indentation, and move on as far as both are right. Shape (B, 6)."""
        depth, normal, side, across = self._contact(engine)
        rotation = engine.body_rotation("tool")
        axis = rotation[:, :, 2]
        error = self.indentation - depth
        turn = np.cross(axis, -normal)
        tilt = np.linalg.norm(turn, axis=1)
        pace = np.where(tilt < 0.1, np.clip(1.2 * (1 - np.abs(error) / self.tolerance), 0, 1), 0)
        along = np.cross(across, normal)
        along *= np.sign((along * self._direction).sum(axis=1, keepdims=True))
        move = 0.0025 * pace[:, None] * unit_vectors(along)
        move -= np.clip(0.5 * side, -0.002, 0.002)[:, None] * across
        # The force that holds the present indentation, and what changes it: the tool's spring gives way to the gel's.
        force = self._force(engine)
        gel = np.clip(-(force * axis).sum(axis=1) / np.maximum(depth, 1e-4), 0, 3e4)
        press = 0.6 * error * (1 + gel / self._spring)
        move += np.clip(press, -0.002, 0.003)[:, None] * axis - force / self._spring
        return self.tool_action(rotation, move, 0.7 * turn)

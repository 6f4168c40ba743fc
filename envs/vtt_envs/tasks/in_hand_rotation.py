"""InHandRotation: fingertips with DIGITs turn an object about the vertical.

Legend: B environments, n environments being reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, missing
from vtt_envs.engine import Engine
from vtt_envs.robots import Robot, add_free_body
from vtt_envs.robots.hand import LINKS, Hand
from vtt_envs.task import Camera, Task, uniform

__all__ = ["InHandRotation"]


class _Shape(NamedTuple):
    """MuJoCo's type; height and volume over width; squared radii of gyration over those of radius and height."""

    type: mujoco.mjtGeom
    height: float
    volume: float
    gyration: tuple[float, float]


_SHAPES = {
    "cylinder": _Shape(mujoco.mjtGeom.mjGEOM_CYLINDER, 1.0, np.pi / 4, (1 / 4, 1 / 12)),
    "sphere": _Shape(mujoco.mjtGeom.mjGEOM_SPHERE, 1.0, np.pi / 6, (1 / 5, 1 / 20)),
    "egg": _Shape(mujoco.mjtGeom.mjGEOM_ELLIPSOID, 1.5, np.pi / 4, (1 / 5, 1 / 20)),
}
_DIAMETER = (0.014, 0.017)  # m
_DENSITY = (4500.0, 8500.0)  # kg/m^3, titanium to brass
_OFFSET = (0.005, 0.006)  # m
_FLOOR = 4  # collision bit of the floor, see `BatchedEnv`
_GRASP = np.array([-0.015, -0.055, 0.201])  # m, base frame: where gels of thumb and index finger meet face to face
_DROP = 0.03  # m
_TILT = 0.4  # rad
_HOLD = 0.5  # s
_LEAD = 0.003  # m by which the expert's pads are ahead of the object
_BEYOND = 0.15  # rad past the goal, where the expert holds
_CAMERA = Camera((0.06, -0.22, 0.31), (-0.005, -0.045, 0.185), 34.0)

_GRIP = 1.0  # N
_INDENTATION = 4e-4  # m, about where the grip comes to rest
_ITERATIONS = 30  # of the inverse kinematics
# Side of the object (along x) on which a finger stands, joint angles in [rad] to start from, axes it would best have.
_PINCH = {
    "index": (1, (0.08, 1.48, 0.38, -0.2), np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])),
    "thumb": (-1, (1.3, 0.0, 0.35, 0.1), np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])),
}


@dataclass
class InHandRotation(Task):
    """Turn a small object by 90 degrees about the vertical between the fingertips, without dropping it.

    The palm faces up. Thumb and index finger hold an object of the size of a nut by their gels, high above the palm;
    nothing else carries it. To turn it they roll it: the index finger goes one way, the thumb the other, and the
    contact wanders over both gels, which the DIGITs see. It begins near one edge of either gel, because 90 degrees take
    up to 13 of its 18 mm. Middle and ring finger begin half open; what they do is up to the policy.

    Hora (Qi et al., CoRL 2022, arXiv 2210.04887) turns objects of some 6 cm with this hand for as long as it can, by a
    learned gait of all fingers, without touch; RotateIt (Qi et al., CoRL 2023, arXiv 2309.09979) adds sight, touch and
    other axes; NeuralFeels (Suresh et al., 2023, arXiv 2312.13469) has a DIGIT on every fingertip and tracks the object
    while such a policy turns it. Here the object is small enough for a quarter turn within one grasp, so that a script
    does it. Larger objects need a gait, and are left out.

    Episode: 100 steps of 50 ms. Success: for half a second on end the object has been turned by `goal_angle` or more
    about the vertical, its axis has been within 23 degrees of it, its middle within 15 mm of the height of the grasp,
    and at least two gels have touched it. Success ends the episode, and so does a drop: the object 30 mm below the
    grasp. A scripted roll that knows neither size nor angle arrives in about a third of the episodes when it aims at 90
    degrees, in all when it aims at 113: touch tells when to stop.

    | drawn at reset | range | Hora |
    |---|---|---|
    | diameter | 14 to 17 mm | 56 to 69 mm |
    | density | 4.5 to 8.5 g/cm^3: 6 to 33 g | 10 to 250 g |
    | friction of the gels | `friction` = .8 to 1.5 | .3 to 3, of hand and object |
    | heading of the object | any | any of a cache of grasps |
    | contact off the middle of both gels | 5 to 6 mm | from the cache |
    | height of the object in the grasp | ±2 mm | from the cache |

    The cylinder is as high as wide: one longer than the 16 mm that a DIGIT sees can rest on the edges of the gels. The
    egg is an ellipsoid half as high again as it is wide. Flat sides snap from face to face and are left out.

    Reward per step: `clip(turned / goal_angle, 0, 1) - 1` in [-1, 0], so that ending early is never a loss; a drop: -1
    for each step of a whole episode; sparse: 1 on success, else 0. Hora: `clip(spin, -.5, .5)` in rad/s, with penalties
    on the object's speed, posture, torque and work.

    Args:
        shape: `"cylinder"`, `"sphere"` or `"egg"`.
        goal_angle: Angle to turn, counterclockwise from above, in [rad], from .2 to pi/2.
        friction: Range of the gels' friction coefficient; the lower, the harder.
        reward_kind: `"dense"` or `"sparse"`.

    Raises:
        MissingError: If there is no such shape.
        ConfigError: If an argument is out of range, or `robot` is no `Hand`.
    """

    shape: str = "cylinder"
    goal_angle: float = np.pi / 2
    friction: tuple[float, float] = (0.8, 1.5)
    reward_kind: str = "dense"
    horizon: int = 100
    physics_dt: float = 0.002
    substeps: int = 25
    robot: Robot = field(default_factory=Hand)
    camera: Camera = _CAMERA

    robots: ClassVar = {"hand": Hand}
    goal_names = ("goal_angle",)
    privileged_names = (
        *(f"object_from_grasp_{a}" for a in "xyz"),
        *(f"object_axis_{a}" for a in "xyz"),
        *(f"object_velocity_{a}" for a in "xyz"),
        *(f"object_angular_velocity_{a}" for a in "xyz"),
        "angle_turned",
        "object_width",
        "object_mass",
        "gel_friction",
        *(f"grip_{finger}" for finger in Hand.fingers),
    )
    objects = ("object",)
    surroundings = ("palm",)
    payload = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.robot, Hand):
            raise ConfigError(f"robot must be a Hand, got {type(self.robot).__name__}.")
        self._hand = self.robot
        if self.shape not in _SHAPES:
            raise missing("shape of InHandRotation", self.shape, _SHAPES)
        if not 0.2 <= self.goal_angle <= np.pi / 2:
            raise ConfigError(f"goal_angle must be in [0.2, pi/2] rad, got {self.goal_angle}.")
        low, high = self.friction
        if not 0.2 <= low <= high <= 3:
            raise ConfigError(f"friction must be two rising numbers in [0.2, 3], got {self.friction}.")
        if self.reward_kind not in ("dense", "sparse"):
            raise ConfigError(f"reward_kind must be dense or sparse, got '{self.reward_kind}'.")

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the object, at its largest."""
        shape, half = _SHAPES[self.shape], _DIAMETER[1] / 2
        high = half * shape.height
        spec.add_sensor(name="clock", type=mujoco.mjtSensor.mjSENS_CLOCK)
        body = add_free_body(spec, "object")
        body.explicitinertial, body.mass, body.inertia = True, 1.0, [1.0, 1.0, 1.0]  # drawn at reset
        body.add_geom(
            name="object",
            type=shape.type,
            size=[half, high, 0] if self.shape == "cylinder" else [half, half, high],
            contype=1 | _FLOOR,
            conaffinity=1 | _FLOOR | LINKS,
            rgba=[0.85, 0.65, 0.3, 1],
        )
        body.add_geom(  # seen, not felt: a needle on top that shows how it turns
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.004, 0.001, 0.001],
            pos=[0, 0, high + 0.001],
            contype=0,
            conaffinity=0,
            rgba=[0.15, 0.2, 0.5, 1],
        )

    def bind(self, engine: Engine) -> None:
        """Look up addresses; see `Task`."""
        joint, body = engine.model.joint("object"), engine.model.body("object")
        self._object, self._speed = joint.qposadr[0], joint.dofadr[0]
        geom = engine.model.geom("object").id
        self._pads = [engine.model.geom(f"pad_{finger}").id for finger in self._hand.fingers]
        self._largest = engine.model.geom_size[geom].copy()
        self._size = engine.expand("geom_size")[:, geom]
        self._mass = engine.expand("body_mass")[:, body.id]
        self._inertia = engine.expand("body_inertia")[:, body.id]
        self._friction = engine.expand("geom_friction")
        self._width, self._offset = np.zeros((2, engine.num_envs))
        self._start = np.zeros((engine.num_envs, 4))
        self._short, self._turned = np.zeros((2, engine.num_envs))

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes; see the class for the ranges."""
        width, density = uniform(generators, *_DIAMETER), uniform(generators, *_DENSITY)
        friction, offset = uniform(generators, *self.friction), uniform(generators, *_OFFSET)
        heading, height = uniform(generators, -np.pi, np.pi), uniform(generators, -0.002, 0.002)

        shape, zero = _SHAPES[self.shape], np.zeros(len(ids))
        mass = density * shape.volume * width**3
        around, along = np.array(shape.gyration) * [1 / 4, shape.height**2]
        level, upright = (mass * width**2 * ratio for ratio in (around + along, 2 * around))
        self._width[ids], self._offset[ids] = width, offset
        self._size[ids] = self._largest * (width / _DIAMETER[1])[:, None]
        self._mass[ids] = mass
        self._inertia[ids] = np.column_stack([level, level, upright])
        self._friction[ids[:, None], self._pads, 0] = friction[:, None]
        engine.set_const(ids)
        self._short[ids], self._turned[ids] = np.inf, 0.0

        place = np.column_stack([zero, zero, height]) + _GRASP
        quat_wxyz = np.column_stack([np.cos(heading / 2), zero, zero, np.sin(heading / 2)])
        self._start[ids] = quat_wxyz
        engine.qpos[ids, self._object : self._object + 7] = np.concatenate([place, quat_wxyz], axis=1)
        positions, targets = np.tile(self._hand.home, (2, len(ids), 1))
        for finger, (side, angles, axes) in _PINCH.items():
            columns = self._hand.columns(finger)
            pad = _GRASP + side * np.column_stack([width / 2 - _INDENTATION, -offset, zero])
            joints = np.tile(angles, (len(ids), 1))
            for _ in range(_ITERATIONS):
                joints += self._hand.approach(finger, joints, pad, axes)
            positions[:, columns] = joints
            targets[:, columns] = joints + self._hand.press(finger, joints, np.array([-side * _GRIP, 0, 0]))
        self._hand.set_joints(engine, ids, positions, targets)

    def turned(self, engine: Engine) -> NDArray[np.float64]:
        """Angle about the vertical since the reset in [rad], counterclockwise from above, unwrapped. Shape (B,)."""
        (w, _, _, z), (start_w, _, _, start_z) = engine.body_quat("object").T, self._start.T
        # Half of the part about the vertical of the rotation since the reset (swing-twist decomposition).
        half = np.arctan2(z * start_w - w * start_z, w * start_w + z * start_z)
        self._turned += (2 * half - self._turned + np.pi) % (2 * np.pi) - np.pi
        return self._turned.copy()

    def _from_grasp(self, engine: Engine) -> NDArray[np.float64]:
        """Position of the object from where it should be held, in [m]. Shape (B, 3)."""
        return engine.body_position("object") - _GRASP

    def _grip(self, engine: Engine) -> NDArray[np.float64]:
        """Force of each pad on the object in [N]. Shape (B, 4)."""
        forces = [engine.sensor(f"contact_{finger}")[:, 1:4] for finger in self._hand.fingers]
        return np.linalg.norm(forces, axis=2).T

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """The angle to turn in all, in [rad]; how much is left must be felt. Shape (B, 1)."""
        return np.full((engine.num_envs, 1), self.goal_angle, dtype=np.float32)

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """State and properties of the object and the force of each pad, in SI units. Shape (B, 20)."""
        parts = [
            self._from_grasp(engine),
            engine.body_rotation("object")[:, :, 2],
            engine.qvel[:, self._speed : self._speed + 6],
            np.column_stack([self.turned(engine), self._width, self._mass, self._friction[:, self._pads[0], 0]]),
            self._grip(engine),
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the object has been held, turned far enough, for long enough. Shape (B,)."""
        held = (self._grip(engine) > 0).sum(axis=1) >= 2
        level = np.abs(self._from_grasp(engine)[:, 2]) < _DROP / 2
        upright = engine.body_rotation("object")[:, 2, 2] > np.cos(_TILT)
        there = held & level & upright & (self.turned(engine) >= self.goal_angle)
        clock = engine.sensor("clock")[:, 0]
        self._short = np.where(there, np.minimum(self._short, clock), clock)  # when it was last not there
        return there & (clock - self._short > _HOLD - 1e-6)

    def failed(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the object has been dropped. Shape (B,)."""
        return self._from_grasp(engine)[:, 2] < -_DROP

    def reward(self, engine: Engine, success: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Dense: share of the turn, less 1, and a whole episode's -1 for a drop; sparse: success. Shape (B,)."""
        if self.reward_kind == "sparse":
            return success.astype(np.float64)
        share = np.clip(self.turned(engine) / self.goal_angle, 0, 1)
        return np.where(self.failed(engine), -float(self.horizon), share - 1)

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Roll the object between index finger and thumb: both stay a little ahead of it, and press. Shape (B, 16)."""
        robot, item = self._hand, self._from_grasp(engine)
        angles, targets = robot.proprioception(engine)[:, :16], robot.targets(engine)
        # The pads move as the object's sides do; memory is the angle turned.
        rim = self._width / 2
        turned = np.clip(self.turned(engine), -1, np.pi)
        ahead = np.minimum(turned + _LEAD / rim, self.goal_angle + _BEYOND)
        way = rim * ahead - self._offset
        rise = np.clip(-0.5 * item[:, 2], -0.002, 0.002)
        action = np.zeros((engine.num_envs, robot.action_size))
        for finger, (side, _, axes) in _PINCH.items():
            columns = robot.columns(finger)
            pad = _GRASP + np.column_stack([side * (self._width / 2 - _INDENTATION), side * way, rise])
            joints = angles[:, columns]
            move = robot.approach(finger, joints, pad, axes)
            move += robot.press(finger, joints, np.array([-side * _GRIP, 0, 0]))
            action[:, columns] = (joints + move - targets[:, columns]) / robot.joint_step
        return np.clip(action, -1, 1).astype(np.float32)

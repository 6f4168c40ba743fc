"""InHandRotation: fingertips with DIGITs turn an object about the vertical.

Legend: B environments, n environments being reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, missing
from vtt_envs.engine import Engine
from vtt_envs.robots import Robot, add_free_body
from vtt_envs.robots.hand import LINKS, Hand
from vtt_envs.task import Camera, Task, check_range, uniform

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
_DIAMETER = (0.011, 0.015)  # m
_DENSITY = (4500.0, 8500.0)  # kg/m^3, titanium to brass
_OFFSET = (0.005, 0.006)  # m
_FLOOR = 4  # collision bit of the floor, see `BatchedEnv`
_GRASP = np.array([-0.015, -0.055, 0.201])  # m, base frame: where gels of thumb and index finger meet face to face
_FARTHEST = 2.0  # rad
_DROP = 0.03  # m
_TILT = 0.4  # rad
_HOLD = 1.5  # s
_LEAD = 0.004  # m by which the expert would have its pads go on at most
_GAIN = 0.25  # of the expert: what comes two steps late does not swing
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
    """Turn a small object about the vertical between the fingertips to an angle of about 90 degrees, and hold it there.

    The palm faces up. Thumb and index finger hold an object of the size of a nut by their gels, high above the palm;
    nothing else carries it. To turn it they roll it: the index finger goes one way, the thumb the other, and the
    contact wanders over both gels, which the DIGITs see. It begins near one edge of either gel, because 100 degrees
    take up to 13 of its 18 mm. Middle and ring finger begin half open; what they do is up to the policy.

    Hora (Qi et al., CoRL 2022, arXiv 2210.04887) turns objects of some 6 cm with this hand for as long as it can, by a
    learned gait of all fingers, without touch; RotateIt (Qi et al., CoRL 2023, arXiv 2309.09979) adds sight, touch and
    other axes; NeuralFeels (Suresh et al., 2023, arXiv 2312.13469) has a DIGIT on every fingertip and tracks the object
    while such a policy turns it. Here the object is small enough for a quarter turn within one grasp, so that a script
    does it. Larger objects need a gait, and are left out.

    Episode: 70 steps of 50 ms. Success: for one and a half seconds on end the object has been turned by the goal
    angle, give or take `tolerance` = .07 rad (4 degrees), its axis has been within 23 degrees of the vertical, its
    middle within 15 mm of the height of the grasp, and at least two gels have touched it. There is time for one such
    halt, so that to turn in small steps until one happens to count does not pay. Success ends the episode, and so does
    a drop: the object 30 mm below the grasp.

    The goal angle is known, the object's is not, and its size and how far it slips are drawn. A script that rolls an
    object of mean size by the goal angle succeeds in a quarter of the episodes; one that measures the size by its
    joints in up to six of ten, and in none where it slips more (`friction` .2 to .25).

    | drawn at reset | range | Hora |
    |---|---|---|
    | goal angle | `goal_angle` = 1.2 to 1.75 rad (69 to 100 degrees) | none |
    | diameter | 11 to 15 mm | 56 to 69 mm |
    | density | 4.5 to 8.5 g/cm^3: 5 to 23 g | 10 to 250 g |
    | friction of the gels | `friction` = .8 to 1.5 | .3 to 3, of hand and object |
    | heading of the object | any | any of a cache of grasps |
    | contact off the middle of both gels | 5 to 6 mm | from the cache |
    | height of the object in the grasp | ±2 mm | from the cache |

    The cylinder is as high as wide: one longer than the 16 mm that a DIGIT sees can rest on the edges of the gels. The
    egg is an ellipsoid half as high again as it is wide. Flat sides snap from face to face and are left out.

    Reward per step: `-|1 - turned / goal|`, at least -1, so that ending early is never a loss; a drop: -1 for each step
    of a whole episode; sparse: 1 on success, else 0. Hora: `clip(spin, -.5, .5)` in rad/s, with penalties
    on the object's speed, posture, torque and work.

    Args:
        shape: `"cylinder"`, `"sphere"` or `"egg"`.
        goal_angle: Range of the angle to turn, counterclockwise from above, in [rad], within .2 to 2.
        tolerance: Angle from the goal that counts as success, in [rad]; the lower, the harder.
        friction: Range of the gels' friction coefficient; the lower, the more the object slips.
        reward_kind: `"dense"` or `"sparse"`.

    Raises:
        MissingError: If there is no such shape.
        ConfigError: If an argument is out of range, or `robot` is no `Hand`.
    """

    shape: str = "cylinder"
    goal_angle: tuple[float, float] = (1.2, 1.75)
    tolerance: float = 0.07
    friction: tuple[float, float] = (0.8, 1.5)
    _: KW_ONLY
    horizon: int = 70
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.robot, Hand):
            raise ConfigError(f"robot must be a Hand, got {type(self.robot).__name__}.")
        self._hand = self.robot
        if self.shape not in _SHAPES:
            raise missing("shape of InHandRotation", self.shape, _SHAPES)
        for name, bounds in (("goal_angle", (0.2, _FARTHEST)), ("friction", (0.2, 3.0))):
            low, high = getattr(self, name)
            if not bounds[0] <= low <= high <= bounds[1]:
                raise ConfigError(f"{name} must be two rising numbers in {list(bounds)}, got {(low, high)}.")
        check_range("tolerance", self.tolerance, 0.02, 0.5, "rad")

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
        self._width = np.zeros(engine.num_envs)
        self._start = np.zeros((engine.num_envs, 4))
        self._goal, self._short, self._turned = np.zeros((3, engine.num_envs))

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes; see the class for the ranges."""
        width, density = uniform(generators, *_DIAMETER), uniform(generators, *_DENSITY)
        friction, offset = uniform(generators, *self.friction), uniform(generators, *_OFFSET)
        heading, height = uniform(generators, -np.pi, np.pi), uniform(generators, -0.002, 0.002)
        self._goal[ids] = uniform(generators, *self.goal_angle)

        shape, zero = _SHAPES[self.shape], np.zeros(len(ids))
        mass = density * shape.volume * width**3
        around, along = np.array(shape.gyration) * [1 / 4, shape.height**2]
        level, upright = (mass * width**2 * ratio for ratio in (around + along, 2 * around))
        self._width[ids] = width
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

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """The angle to turn in all, in [rad]; how much is left must be felt. Shape (B, 1)."""
        return self._goal[:, None].astype(np.float32)

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """State and properties of the object and the force of each pad, in SI units. Shape (B, 20)."""
        parts = [
            self._from_grasp(engine),
            engine.body_rotation("object")[:, :, 2],
            engine.qvel[:, self._speed : self._speed + 6],
            np.column_stack([self.turned(engine), self._width, self._mass, self._friction[:, self._pads[0], 0]]),
            self.pad_forces(engine),
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the object has been held at the goal angle for long enough. Shape (B,)."""
        held = (self.pad_forces(engine) > 0).sum(axis=1) >= 2
        level = np.abs(self._from_grasp(engine)[:, 2]) < _DROP / 2
        upright = engine.body_rotation("object")[:, 2, 2] > np.cos(_TILT)
        there = held & level & upright & (np.abs(self.turned(engine) - self._goal) < self.tolerance)
        clock = engine.sensor("clock")[:, 0]
        self._short = np.where(there, np.minimum(self._short, clock), clock)  # when it was last not there
        return there & (clock - self._short > _HOLD - 1e-6)

    def failed(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the object has been dropped. Shape (B,)."""
        return self._from_grasp(engine)[:, 2] < -_DROP

    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """`-|1 - turned / goal|`, at least -1. Shape (B,)."""
        return -np.minimum(np.abs(1 - self.turned(engine) / self._goal), 1)

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Roll the object between index finger and thumb: both stay a little ahead of it, and press. Shape (B, 16)."""
        robot, item = self._hand, self._from_grasp(engine)
        angles, targets = robot.proprioception(engine)[:, :16], robot.targets(engine)
        grasps = {}  # joint angles to which the targets would bring each finger if it did not press, and its pad there
        for finger, (side, _, _) in _PINCH.items():
            columns = robot.columns(finger)
            force = np.array([-side * _GRIP, 0, 0])
            joints = targets[:, columns] - robot.press(finger, angles[:, columns], force)
            grasps[finger] = joints, robot.chain(finger).forward(joints).position - _GRASP
        way = sum(_PINCH[finger][0] * place[:, 1] for finger, (_, place) in grasps.items()) / len(grasps)
        way += np.clip(self._width / 2 * (self._goal - self.turned(engine)), -_LEAD, _LEAD)
        rise = np.clip(-0.5 * item[:, 2], -0.002, 0.002)
        action = np.zeros((engine.num_envs, robot.action_size))
        for finger, (side, _, axes) in _PINCH.items():
            pad = _GRASP + np.column_stack([side * (self._width / 2 - _INDENTATION), side * way, rise])
            action[:, robot.columns(finger)] = _GAIN * robot.approach(finger, grasps[finger][0], pad, axes)
        return np.clip(action / robot.joint_step, -1, 1).astype(np.float32)

"""In-hand pivoting: a held object is turned between the pads to a goal angle.

The task of Viña et al. (ICRA 2016, "Adaptive control for pivoting with visual and tactile feedback") and of Antonova et
al. (arXiv 1703.00472, "Reinforcement learning for pivoting task"), with touch in place of the camera.

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
from vtt_envs.robots import FINGERS, Robot, add_free_body, grippers
from vtt_envs.task import Camera, Task, axis_rotation, check_range, rotate, rotate_back, uniform

__all__ = ["InHandPivot"]

_LENGTH = 0.14  # m, of every object
# Half sizes in m: across, in the plane of the pads, and between the pads.
_SHAPES = {"bar": (0.005, 0.005), "plate": (0.006, 0.0025), "rods": (0.006, 0.003)}
_ROUNDING = 0.002  # m, radius of the long edges of bar and plate
_DENSITY = (2700.0, 7850.0)  # kg/m^3: aluminium to steel
_GEL_FRICTION = (0.6, 1.2)  # dusty to clean silicone
_TABLE_FRICTION = (0.3, 0.6)  # metals on wood or laminate
_OFFSET = (0.04, 0.05)  # m from the object's middle to where it is held
_LEAST_TURN = 0.35  # rad
_PAYLOAD = 0.055  # kg, near the middle of the masses
_GRIP_FORCE = 10.0  # N, each finger, at action 1
_FIRM = 7.0  # N on either pad: holds the heaviest bar level at the least friction
_STILL = 0.1  # rad/s
_SLIPPED = 0.06  # m from the object's middle to the pads', 10 mm from its end: the gels begin to reach past it
_DROPPED = 0.02  # m from the pads' middle to the object's axis
# The friction torque of an even pressure on the 10 x 25 mm that a bar covers has a lever of 7 mm (mean distance from
# the middle). MuJoCo puts the pressure on the corners, where the lever would be 12 mm; half of a square of 12 mm gives
# 6.5 mm at any angle, and lets an object that turns under its weight slide down as little as it would on real pads.
_PATCH = 0.006  # m
_LEVER = 0.0065  # m, torque of a pad per friction force
# MuJoCo's friction creeps under load; with its usual ratio here, 50, a heavy bar would turn by .1 rad/s in a firm grip.
_IMPRATIO = 500.0
# 1/s, of the pads' contacts in place of their own 400: held 45 mm from its middle, a light object turns into the gel
# more easily than its mass tells MuJoCo, which takes the contact for softer than it is. With 460 it chatters.
_CONTACT_DAMPING = 300.0
_FINGER_DAMPING = 60.0  # N s/m, a geared gripper's; without it the fingers bounce off an object when loosened
# Collision bits: of the points in the fingers that wake the taxels, of what is gripped, and of the floor.
_NEAR, _GRIP, _TABLE = 1, 2, 4
_GRAVITY = 9.81  # m/s^2
_CAMERA = Camera((0.1, -0.44, 0.2), (0.0, 0.0, 0.11))


_ROBOTS = grippers(grip_force=_GRIP_FORCE, gripper_action=True)


@dataclass
class InHandPivot(Task):
    """Turn a held bar between the pads, about their normal, to a goal angle.

    The angle is counted in the tool's x-z plane: 0 when the object points along the fingers, positive towards x. No
    joint turns it. It falls when the grip is loosened, slower the more friction is left (the seventh action is the grip
    force of each finger, 1: 10 N, negative: opens); the tool may tilt so that it falls to the wanted side, and swing
    it; and it can be pressed with its end on the table. The expert lets it fall, and presses what gravity does not
    reach: goals beyond .87 rad, which the tool, tilted by its 1.2 rad, would let it approach but slowly. The angle is
    not observed, nor are mass and frictions: the edges of the object in the tactile images show it.

    Episode: 160 steps of 50 ms. Success: the object is within `tolerance` = .07 rad (4 degrees) of the goal, turns by
    less than .1 rad/s in the grip, does not touch the table, and both pads press with 7 N or more, which holds any of
    the objects. Success ends the episode; so does a drop, as a failure: the pads' middle within 10 mm of the
    object's end or 20 mm beside it.

    | drawn at reset | range |
    |---|---|
    | angle, and goal angle | ±`largest_angle` = ±1.2 rad, at least .35 rad apart |
    | density | 2700 to 7850 kg/m3, aluminium to steel: 21 to 110 g |
    | friction on the gels; on the table | .6 to 1.2; .3 to .6 |
    | held place from the object's middle | 40 to 50 mm of its 70 mm |
    | tool x, y; height | ±50, ±50 mm; 150 to 180 mm |
    | tool yaw; roll, pitch | ±1; ±.1 rad |

    The controller carries 55 g, whatever the object weighs. Antonova et al. pivot by swinging the arm, at friction that
    they draw as well, with a camera that sees the angle; there is no table and no touch.

    The gels carry the object on a patch of 12 x 12 mm in their middle (the images show the whole window), so that the
    torque of friction is that of a real pad; the long edges of bar and plate are rounded. A single rod is left out: the
    line that it touches cannot bear weight and resist turning at once.

    `privileged`: angle [rad], goal minus angle, rate [rad/s], the object's middle in the tool frame [m], height of its
    far end [m], mass [kg], friction on the gels and on the table.

    Reward per step: `exp(-2 e) - 1` for the angle e to the goal in [rad], never positive, so that success, which ends
    the episode, pays; a drop costs as much as a whole episode at -1. Sparse: 1 on success, else 0.

    Args:
        shape: `"bar"` (10 x 10 mm), `"plate"` (12 x 5 mm) or `"rods"` (two of 6 mm, side by side); 140 mm long.
        tolerance: Angle from the goal that counts as success, in [rad].
        largest_angle: Largest angle at the start and of the goal, in [rad]; up to .8 needs no table.
        reward_kind: `"dense"` or `"sparse"`.

    Raises:
        MissingError: If there is no such shape.
        ConfigError: If an argument is out of range.
    """

    shape: str = "bar"
    tolerance: float = 0.07
    largest_angle: float = 1.2
    _: KW_ONLY
    horizon: int = 160
    robot: Robot = field(default_factory=_ROBOTS["floating"])
    camera: Camera = _CAMERA

    robots: ClassVar = _ROBOTS
    rest_action: ClassVar = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    goal_names = ("goal_angle", "table_normal_x", "table_normal_y", "table_normal_z")
    privileged_names = (
        "angle",
        "angle_error",
        "angular_rate",
        *(f"tool_from_object_{a}" for a in "xyz"),
        "end_height",
        "object_mass",
        "gel_friction",
        "table_friction",
    )
    objects = ("object",)
    surroundings = ("world",)
    payload = _PAYLOAD

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape not in _SHAPES:
            raise missing("shape", self.shape, _SHAPES)
        check_range("tolerance", self.tolerance, 0.01, 0.5, "rad")
        check_range("largest_angle", self.largest_angle, 0.4, 1.2, "rad")

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the object, and let the fingers meet the table."""
        for finger in FINGERS:
            pad = spec.geom(f"pad_{finger}")
            pad.condim = 3  # the patch has the torque, see above
            pad.size[0] = pad.size[2] = _PATCH
            pad.solref[1] = -_CONTACT_DAMPING
            pad.contype, pad.conaffinity = _GRIP | _TABLE, _GRIP
            spec.geom(f"shell_{finger}").contype = _TABLE
            spec.joint(f"finger_{finger}").damping[0] = _FINGER_DAMPING
        spec.option.impratio = _IMPRATIO
        spec.geom("floor").friction = [0, 0, 0]
        across, between = _SHAPES[self.shape]
        held = add_free_body(spec, "object")
        look = {"density": 1.0, "rgba": [0.85, 0.65, 0.3, 1]}
        capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
        if self.shape == "rods":
            for x in (-between, between):
                geom = held.add_geom(type=capsule, size=[between, _LENGTH / 2 - between, 0], pos=[x, 0, 0], **look)
                geom.contype, geom.conaffinity = _GRIP | _TABLE, _GRIP | _NEAR
        else:
            half = np.array([across, between, _LENGTH / 2])
            corners = half * np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
            mesh = spec.add_mesh(name="object", uservert=corners.ravel())
            # Taxels read a mesh through an octree; MuJoCo's own distance in a box is up to twice too large.
            mesh.needsdf, mesh.octree_maxdepth = True, 6
            held.explicitinertial, held.mass = True, 8 * half.prod()
            held.inertia = held.mass / 3 * ((half**2).sum() - half**2)
            solid = held.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="object", mass=0, rgba=look["rgba"])
            solid.contype, solid.conaffinity = _TABLE, _NEAR
            # Pads meet the rounded edges: their few contacts turn smoothly, those of two boxes jump in number.
            size = [_ROUNDING, _LENGTH / 2 - _ROUNDING, 0]
            for x in (_ROUNDING - across, across - _ROUNDING):
                for y in (_ROUNDING - between, between - _ROUNDING):
                    edge = held.add_geom(type=capsule, size=size, pos=[x, y, 0], mass=0, group=4)
                    edge.contype = edge.conaffinity = _GRIP

    def bind(self, engine: Engine) -> None:
        """Look up addresses; see `Task`."""
        self._object = engine.model.joint("object").qposadr[0]
        self._spin = engine.model.joint("object").dofadr[0] + 3
        self._goal = np.zeros(engine.num_envs)
        body = engine.model.body("object").id
        self._mass = engine.expand("body_mass")[:, body]
        self._inertia = engine.expand("body_inertia")[:, body]
        friction = engine.expand("geom_friction")
        first = engine.model.body_geomadr[body]
        self._table_friction = [friction[:, first + index, 0] for index in range(engine.model.body_geomnum[body])]
        self._gel_friction = [friction[:, engine.model.geom(f"pad_{finger}").id, 0] for finger in FINGERS]
        self._volume = engine.model.body_mass[body]
        self._inertia_of_1 = engine.model.body_inertia[body].copy()
        self._pad = np.array([0.0, 0.0, -self.robot.pad.size[1] / 2])  # middle of the pads in the tool frame

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes; see the class for the ranges."""
        largest, least = self.largest_angle, _LEAST_TURN
        density = uniform(generators, *_DENSITY)
        gel, table = uniform(generators, *_GEL_FRICTION), uniform(generators, *_TABLE_FRICTION)
        angle = uniform(generators, -largest, largest)
        below, above = np.maximum(angle - least + largest, 0), np.maximum(largest - angle - least, 0)
        part = uniform(generators, 0, 1) * (below + above)
        self._goal[ids] = np.where(part < below, part - largest, part - below + angle + least)
        offset = uniform(generators, *_OFFSET)
        position = uniform(generators, np.array([-0.05, -0.05, 0.15]), np.array([0.05, 0.05, 0.18]))
        angles = uniform(generators, np.array([-1.0, -0.1, -0.1]), np.array([1.0, 0.1, 0.1]))

        self._mass[ids] = density * self._volume
        self._inertia[ids] = density[:, None] * self._inertia_of_1
        for friction in self._table_friction:
            friction[ids] = table
        for friction in self._gel_friction:
            friction[ids] = gel
        engine.set_const(ids)

        qpos = engine.qpos[ids]
        indentation = 3e-4  # m, near where the grip comes to rest
        opening = np.full(len(ids), _SHAPES[self.shape][1] - indentation)
        self.robot.place(qpos, position, angles, opening=opening)
        base_from_tool = (
            axis_rotation(2, angles[:, 0]) @ axis_rotation(1, angles[:, 1]) @ axis_rotation(0, angles[:, 2])
        )
        base_from_tool = base_from_tool @ np.diag([1.0, -1.0, -1.0])
        tool_from_object = axis_rotation(1, angle)  # z towards the far end
        middle = self._pad + offset[:, None] * tool_from_object[:, :, 2]
        qpos[:, self._object : self._object + 3] = position + rotate(base_from_tool, middle)
        for row, matrix in zip(qpos, base_from_tool @ tool_from_object, strict=True):
            mujoco.mju_mat2Quat(row[self._object + 3 : self._object + 7], matrix.ravel())
        engine.qpos[ids] = qpos

    def _angle(self, engine: Engine) -> tuple[NDArray, NDArray]:
        """Angle of the object in [rad] and its rate in [rad/s], about y of the tool, 0 along the fingers."""
        tool, held = engine.body_rotation("tool"), engine.body_rotation("object")
        axis = rotate_back(tool, held[:, :, 2])
        spin = rotate_back(tool, rotate(held, engine.qvel[:, self._spin : self._spin + 3]))
        return np.arctan2(axis[:, 0], axis[:, 2]), (spin - engine.sensor("tool_angular_velocity"))[:, 1]

    def _held(self, engine: Engine) -> tuple[NDArray, NDArray]:
        """Where along the object the pads' middle is, and its distance from the axis of the object, in [m]."""
        pads = engine.body_position("tool") + engine.body_rotation("tool") @ self._pad
        local = rotate_back(engine.body_rotation("object"), pads - engine.body_position("object"))
        return local[:, 2], np.linalg.norm(local[:, :2], axis=1)

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """Goal angle in [rad] and the table's normal, in the tool frame. Shape (B, 4)."""
        return np.column_stack([self._goal, engine.body_rotation("tool")[:, 2]]).astype(np.float32)

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """Angles, rate, object against tool, heights, mass and frictions; see the class. Shape (B, 10)."""
        angle, rate = self._angle(engine)
        rotation, held = engine.body_rotation("tool"), engine.body_position("object")
        end = held[:, 2] + engine.body_rotation("object")[:, 2, 2] * _LENGTH / 2
        parts = [
            angle,
            self._goal - angle,
            rate,
            rotate_back(rotation, held - engine.body_position("tool")),
            end,
            self._mass,
            self._gel_friction[0],
            self._table_friction[0],
        ]
        return np.column_stack(parts).astype(np.float32)

    def _grip(self, engine: Engine) -> NDArray[np.float64]:
        """Force on the pads along their normal, the lesser of both, in [N]. Shape (B,)."""
        normal = engine.body_rotation("tool")[:, :, 1]
        forces = [np.abs((engine.sensor(f"contact_{f}")[:, 1:4] * normal).sum(axis=1)) for f in FINGERS]
        return np.minimum(*forces)

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the object is at the goal angle, at rest, firmly held and off the table. Shape (B,)."""
        angle, rate = self._angle(engine)
        still = np.abs(rate) < _STILL
        free = engine.sensor("contact_object")[:, 0] == 0
        return still & free & (self._grip(engine) > _FIRM) & (np.abs(angle - self._goal) < self.tolerance)

    def failed(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the object has left the grip. Shape (B,)."""
        along, aside = self._held(engine)
        return (np.abs(along) > _SLIPPED) | (aside > _DROPPED)

    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """`exp(-2 e) - 1`. Shape (B,)."""
        return np.exp(-2 * np.abs(self._angle(engine)[0] - self._goal)) - 1

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Let the object fall towards the goal; where gravity does not reach, press it on the table. Shape (B, 7)."""
        angle, rate = self._angle(engine)
        tool, rotation = engine.body_position("tool"), engine.body_rotation("tool")
        present = self._grip(engine)
        firm = present > 0.8 * _GRIP_FORCE
        down = np.arctan2(-rotation[:, 2, 0], -rotation[:, 2, 2])  # angle of an object that hangs
        along, _ = self._held(engine)
        weight, gel = self._mass * _GRAVITY, self._gel_friction[0]
        torque = weight * -along * np.sin(down - angle)
        # In a firm grip the object swings on the gels, about where their angle and its weight's twist put it.
        gel_axis = rotate_back(engine.body_rotation("gel_left"), engine.body_rotation("object")[:, :, 2])
        rest = np.arctan2(gel_axis[:, 0], gel_axis[:, 2]) + torque / (2 * self.robot.pad.twist_stiffness)
        error = self._goal - np.where(firm, rest, angle)
        sign = np.sign(error)
        near = np.abs(error) < np.where(firm, 0.8, 0.6) * self.tolerance
        touching = engine.sensor("contact_object")[:, 0] > 0
        end = engine.body_position("object")[:, 2] + engine.body_rotation("object")[:, 2, 2] * _LENGTH / 2

        # Fall: tilt the tool until the object would hang beyond the goal, loosen the grip, brake.
        target = np.clip(self._goal + sign * 0.9, -1.15, 1.15)
        inertia = self._inertia[:, 1] + self._mass * along**2
        speed = np.clip(4 * np.abs(error), 0.5, 1.2)
        brake = sign * torque - inertia * (speed - sign * rate) / 0.02
        fall = np.hypot(np.maximum(brake, 0) / _LEVER, 1.5 * weight) / (2 * gel)
        fall = np.where(
            (np.abs(down - target) < 0.1) & (sign * torque > 0), np.maximum(fall, 0.6 * present), _GRIP_FORCE
        )
        lift = np.clip(0.165 - tool[:, 2], -0.003, 0.003)

        # Press: upright, lower the end on to the table, which turns it outwards.
        outward = np.sign(self._goal)
        short = outward * (self._goal - rest)  # of the goal, once the end is lifted
        press = (outward * self._goal > 0.87) & (outward * angle > 0.58 + 0.15 * np.clip(outward * down, 0, 1))
        press &= short > np.where(touching, 0, 0.02)
        freed = touching & ((short < 0) | (firm & (np.abs(short) < 0.8 * self.tolerance)))
        lower = np.where(end > 0.015, -0.005, np.where(np.abs(down) < 0.3, -np.clip(0.02 * short, 0.001, 0.004), 0))

        done = freed | (near & ~touching)
        target = np.where(press | touching, 0, target)
        grip = np.where(press & touching, 2.5 / gel, np.where(press, _GRIP_FORCE, fall))
        grip = np.where(done, _GRIP_FORCE, grip)
        off = np.where(end < 0.015, 0.002, 0)  # clear of the table
        rise = np.where(touching & (done | ~press), 0.004, np.where(press & ~done, lower, np.where(done, off, lift)))
        turn = np.where(done, 0, np.clip(down - target, -0.08, 0.08))
        move, spin = np.outer(rise, [0.0, 0.0, 1.0]), turn[:, None] * rotation[:, :, 1]
        return self.tool_action(rotation, move, spin, grip / _GRIP_FORCE)

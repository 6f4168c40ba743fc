"""Door opening: grasp a cabinet door's handle and swing the door open.

Reproduces the opening task of VTT (Chen et al., CoRL 2022, arXiv 2210.00121; released code 256677f) with a handle whose
place is only roughly known and a hinge whose place is not known at all.

Frames:
    cabinet: x into the cabinet, z up, origin on the floor below the hinge; the closed door reaches along -y.

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
from vtt_envs.robots import FINGER_TRAVEL, PAD_MIDDLE, Robot, grippers, meet_table
from vtt_envs.task import Camera, Task, axis_rotation, check_range, rotate, rotate_back, uniform, unit_vectors

__all__ = ["DoorOpening"]

_WIDTH, _HEIGHT, _THICKNESS = 0.36, 0.22, 0.018  # m, the door: a panel of 18 mm
_DEPTH = 0.25  # m, the cabinet behind it
_MASS = (1.5, 4.0)  # kg; VTT's door has 2.64 kg
_RADIUS = (0.24, 0.32)  # m from hinge to handle
_DAMPING = (0.05, 0.4)  # N m s/rad
_LEAST_FRICTION = 0.1  # N m, of the hinge
_GEL_FRICTION = (0.5, 1.2)  # dusty to clean silicone
_START = (0.0, 0.45)  # rad
# Handles hang from their grasped point: the middle of a knob, a point 16 mm below the upper end of an upright bar.
_HANDLES = {"round": 0.029, "square": 0.029, "knob": 0.024}  # m from the door to the grasped point
_GRASP_HEIGHT = 0.19  # m, of that point above the cabinet's foot
_BAR, _POST = 0.006, 0.005  # m, half the width of a bar (T-bar handle, 12 mm, 156 mm long) and of its posts
_BAR_LENGTH, _POST_SPACING = 0.156, 0.096  # m
_BAR_END = 0.016  # m from the grasped point up to the bar's end
_KNOB = 0.015  # m, radius
_GRIPPED = 4.0  # N on each pad, from which the expert pulls
_GAIN = 0.4  # of the expert: what comes two steps late does not swing
_CAMERA = Camera((-0.4, -0.3, 0.46), (0.0, 0.05, 0.14), field_of_view=40.0)


_ROBOTS = grippers(gripper_action=True)


@dataclass
class DoorOpening(Task):
    """Grasp the handle of a cabinet door from above and swing the door open.

    The door turns about an upright hinge on the right finger's side. The handle, an upright bar or a knob, is grasped
    by a gripper that points down, with a finger on either side, so that the pull acts along the gels: a loose grip
    slips, and the line of contact wanders over the tactile image. The seventh action closes (1: `grip_force` of each
    finger) or opens (-1). The handle is observed as it was seen when the episode began; where it then is between the
    pads, and whither the door leads the hand, only touch and the picture tell. A script that believes what it saw and
    follows the arc of a middling door opens two thirds of the doors with a knob.

    Episode: 150 steps of 50 ms (VTT: 200 of up to 417 ms). Success: the door's angle is above .58 rad (33 degrees),
    VTT's bound: it stands open by 14 to 18 cm at the handle. Success ends the episode.

    | drawn at reset | range | VTT |
    |---|---|---|
    | angle of the door | 0 to .45 rad: no episode starts solved | 0 to .6 rad, 3.3 % start solved; tests from 0 |
    | friction of the hinge | .1 to `hinge_friction` = 1 N m | .496 N m |
    | damping of the hinge | .05 to .4 N m s/rad | not known to us |
    | mass of the door | 1.5 to 4 kg | 2.64 kg |
    | radius from hinge to handle | 240 to 320 mm | one cabinet |
    | handle x, y, z | ±30, ±30, 190 ± 10 mm | one place |
    | friction on the gels | .5 to 1.2 | not known to us |
    | error of the observed handle, each axis | ±`handle_noise` = ±20 mm | none, it is in the picture |
    | error of the observed door normal | ±.1 rad | none |
    | tool from the handle: off the door, sideways | 0 to 40, ±30 mm | one place |
    | height of the fingertips above the grasped point | 30 to 60 mm | 100 to 150 mm above the base |
    | tool yaw from the door's; roll, pitch | ±.3; ±.05 rad | ±pi/4, chosen by the policy; fixed |

    Reward per step, in [-1, 0], so that ending early in success pays: `.2 exp(-20 d) + .8 a - 1` for the distance d in
    [m] of the grasped point from the middle between the pads and the opened part a of .58 rad, in [0, 1]; sparse: 1 on
    success, else 0. VTT: 25 on success, else 10 times the missing angle, negative.

    Args:
        handle: `"round"` or `"square"`, an upright bar of 12 mm, or `"knob"`, a ball of 30 mm.
        handle_noise: Largest error of the observed handle, per axis, in [m].
        hinge_friction: Largest friction torque of the hinge, in [N m]; at most 1.2, for a hand that pulls with 10 N.
        reward_kind: `"dense"` or `"sparse"`.

    Raises:
        MissingError: If there is no such handle.
        ConfigError: If an argument is out of range.
    """

    handle: str = "round"
    handle_noise: float = 0.02
    hinge_friction: float = 1.0
    _: KW_ONLY
    horizon: int = 150
    robot: Robot = field(default_factory=_ROBOTS["floating"])
    camera: Camera = _CAMERA

    robots: ClassVar = _ROBOTS
    rest_action: ClassVar = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)  # open
    goal_names = (
        *(f"handle_{a}" for a in "xyz"),
        *(f"door_normal_{a}" for a in "xyz"),
        *(f"hinge_axis_{a}" for a in "xyz"),
    )
    privileged_names = (
        *(f"tool_from_handle_{a}" for a in "xyz"),
        *(f"door_normal_{a}" for a in "xyz"),
        "door_angle",
        "door_velocity",
        "door_mass",
        "handle_radius",
        "hinge_friction",
        "hinge_damping",
        "gel_friction",
        "grip_left",
        "grip_right",
    )
    objects = ("handle",)
    surroundings = ("cabinet",)
    open_angle: ClassVar = 0.58  # rad

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.handle not in _HANDLES:
            raise missing("handle of DoorOpening", self.handle, _HANDLES)
        check_range("handle_noise", self.handle_noise, 0, 0.03, "m")
        check_range("hinge_friction", self.hinge_friction, _LEAST_FRICTION, 1.2, "N m")

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add cabinet, door and handle, and let the fingers meet them."""
        box, cylinder = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
        meet_table(spec)
        cabinet = spec.worldbody.add_body(name="cabinet", mocap=True)
        cabinet.add_geom(
            type=box,
            size=[_DEPTH / 2, _WIDTH / 2, _HEIGHT / 2],
            pos=[_THICKNESS + _DEPTH / 2, -_WIDTH / 2, _HEIGHT / 2],
            rgba=[0.62, 0.5, 0.38, 1],
        )
        door = cabinet.add_body(name="door")
        hinge = door.add_joint(name="hinge", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, -1], range=[0, np.pi / 2])
        hinge.limited, hinge.frictionloss = mujoco.mjtLimited.mjLIMITED_TRUE, 0.5
        door.add_geom(
            name="door",
            type=box,
            size=[_THICKNESS / 2, _WIDTH / 2, _HEIGHT / 2 - 0.002],
            pos=[_THICKNESS / 2, -_WIDTH / 2, _HEIGHT / 2],
            mass=1.0,
            rgba=[0.86, 0.78, 0.66, 1],
        )
        off = _HANDLES[self.handle]
        handle = door.add_body(name="handle", pos=[-off, -_RADIUS[0], _GRASP_HEIGHT])
        metal = {"mass": 0.02, "rgba": [0.75, 0.12, 0.1, 1]}
        if self.handle == "knob":
            handle.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[_KNOB, 0, 0], **metal)
            posts = [0.0]
        else:
            middle = _BAR_END - _BAR_LENGTH / 2
            half = _BAR_LENGTH / 2
            handle.add_geom(
                type=cylinder if self.handle == "round" else box,
                size=[_BAR, half, 0] if self.handle == "round" else [_BAR, _BAR, half],
                pos=[0, 0, middle],
                **metal,
            )
            posts = [middle - _POST_SPACING / 2, middle + _POST_SPACING / 2]
        for height in posts:
            handle.add_geom(
                type=cylinder, size=[_POST, off / 2, 0], pos=[off / 2, 0, height], quat=[1, 0, 1, 0], **metal
            )

    def bind(self, engine: Engine) -> None:
        """Look up addresses; see `Task`."""
        model = engine.model
        self._hinge, self._hinge_dof = model.joint("hinge").qposadr[0], model.joint("hinge").dofadr[0]
        door, self._pads = model.body("door").id, [model.geom(f"pad_{f}").id for f in self.robot.fingers]
        self._mass = engine.expand("body_mass")[:, door]
        self._inertia = engine.expand("body_inertia")[:, door]
        self._inertia_of_1_kg = model.body_inertia[door].copy()
        self._radius = engine.expand("body_pos")[:, model.body("handle").id, 1]  # negative
        self._friction = engine.expand("dof_frictionloss")[:, self._hinge_dof]
        self._damping = engine.expand("dof_damping")[:, self._hinge_dof]
        self._gel_friction = engine.expand("geom_friction")
        self._seen = np.zeros((engine.num_envs, 2, 3))

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes; see the class for the ranges."""
        angle = uniform(generators, *_START)
        friction = uniform(generators, _LEAST_FRICTION, self.hinge_friction)
        damping, mass = uniform(generators, *_DAMPING), uniform(generators, *_MASS)
        radius, on_gel = uniform(generators, *_RADIUS), uniform(generators, *_GEL_FRICTION)
        handle = uniform(generators, np.array([-0.03, -0.03, -0.01]), np.array([0.03, 0.03, 0.01]))
        noise = uniform(generators, np.full(3, -self.handle_noise), np.full(3, self.handle_noise))
        turned = uniform(generators, -0.1, 0.1)
        offset = uniform(generators, np.array([0.0, -0.03, 0.03]), np.array([0.04, 0.03, 0.06]))
        angles = uniform(generators, np.array([-0.3, -0.05, -0.05]), np.array([0.3, 0.05, 0.05]))

        self._mass[ids], self._inertia[ids] = mass, mass[:, None] * self._inertia_of_1_kg
        self._radius[ids], self._friction[ids], self._damping[ids] = -radius, friction, damping
        self._gel_friction[ids[:, None], self._pads, 0] = on_gel[:, None]
        engine.set_const(ids)

        handle[:, 2] += _GRASP_HEIGHT
        base_from_door = axis_rotation(2, -angle)
        off, zero = np.full(len(ids), _HANDLES[self.handle]), np.zeros(len(ids))
        engine.mocap_pos[ids, 0] = handle - rotate(
            base_from_door, np.column_stack([-off, -radius, zero + _GRASP_HEIGHT])
        )
        normal = -base_from_door[:, :, 0]
        self._seen[ids, 0] = handle + noise
        self._seen[ids, 1] = rotate(axis_rotation(2, turned), normal)
        angles[:, 0] -= angle
        qpos = engine.qpos[ids]
        offset[:, 0] *= -1  # off the door is along its -x
        self.robot.place(
            qpos, handle + rotate(base_from_door, offset), angles, opening=np.full(len(ids), FINGER_TRAVEL)
        )
        qpos[:, self._hinge] = angle
        engine.qpos[ids] = qpos

    def _state(self, engine: Engine) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Position and axes of the tool, grasped point of the handle, outward normal of the door; base frame."""
        tool, handle = engine.body_position("tool"), engine.body_position("handle")
        return tool, engine.body_rotation("tool"), handle, -engine.body_rotation("door")[:, :, 0]

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """Grasped point in [m] and door normal as first seen, the hinge's axis, in the tool frame. Shape (B, 9)."""
        tool, rotation, _, _ = self._state(engine)
        handle, normal = self._seen[:, 0], self._seen[:, 1]
        parts = [rotate_back(rotation, handle - tool), rotate_back(rotation, normal), rotation[:, 2]]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """Handle and door from the tool, the door's state, what was drawn, force of both pads; SI units. (B, 15)."""
        tool, rotation, handle, normal = self._state(engine)
        parts = [
            rotate_back(rotation, handle - tool),
            rotate_back(rotation, normal),
            np.column_stack([engine.qpos[:, self._hinge], engine.qvel[:, self._hinge_dof], self._mass]),
            np.column_stack([-self._radius, self._friction, self._damping]),
            self._gel_friction[:, self._pads[:1], 0],
            self.pad_forces(engine),
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the door is open. Shape (B,)."""
        return engine.qpos[:, self._hinge] > self.open_angle

    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """`.2 exp(-20 d) + .8 a - 1`. Shape (B,)."""
        tool, rotation, handle, _ = self._state(engine)
        distance = np.linalg.norm(handle - tool + PAD_MIDDLE * rotation[:, :, 2], axis=1)
        opened = np.clip(engine.qpos[:, self._hinge] / self.open_angle, 0, 1)
        return 0.2 * np.exp(-20 * distance) + 0.8 * opened - 1

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Come down around the handle, close, follow its arc; what slips is grasped anew. Shape (B, 7)."""
        tool, rotation, handle, normal = self._state(engine)
        error = handle - tool
        level = np.cross(normal, [0.0, 0.0, 1.0])  # along the door
        off, side = (error * normal).sum(axis=1), (error * level).sum(axis=1)
        spin = _half_turn(np.arctan2(level[:, 1], level[:, 0]) - np.arctan2(rotation[:, 1, 1], rotation[:, 0, 1]))
        down = error[:, 2] - PAD_MIDDLE  # the tool's way to where the grasped point is at the pads' middle
        gripped = (self.pad_forces(engine) > _GRIPPED).all(axis=1) & (np.abs(off) < 0.009)
        aligned = (np.abs(off) < 0.004) & (np.abs(side) < 0.008) & (np.abs(spin) < 0.1)
        low = error[:, 2] > -_BAR_END  # a fingertip is below the bar's end
        close = gripped | (aligned & (np.abs(down) < 0.004))
        free = aligned | (low & (np.abs(side) < 0.02))
        rise = np.where(free, down, error[:, 2] + _BAR_END + 0.01)
        radius = handle - engine.body_position("door")
        pull = unit_vectors(np.column_stack([radius[:, 1], -radius[:, 0]]))  # the hinge turns about -z
        along = np.where(gripped[:, None], self.robot.translation_step * pull, _GAIN * off[:, None] * normal[:, :2])
        across = along + _GAIN * side[:, None] * level[:, :2]
        turn = np.cross(-rotation[:, :, 2], [0.0, 0.0, 1.0])  # rotation vector that levels the tool
        turn[:, 2] = spin
        turn *= _GAIN
        turn[:, 2] -= np.where(gripped, engine.qvel[:, self._hinge_dof] * self.substeps * self.physics_dt, 0)
        return self.tool_action(rotation, np.column_stack([across, _GAIN * rise]), turn, np.where(close, 1.0, -1.0))


def _half_turn(angle: NDArray) -> NDArray[np.float64]:
    """Bring angles to within a quarter turn of zero by half turns, for a gripper looks the same after one."""
    return (angle + np.pi / 2) % np.pi - np.pi / 2

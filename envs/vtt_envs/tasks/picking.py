"""Picking: grasp an object that lies on a table, lift it and hold it still.

Reproduces the picking task of VTT (Chen et al., CoRL 2022, arXiv 2210.00121; released code 256677f) with masses of real
materials, four shapes and a gripper that must find the object by touch.

Legend: B environments, n environments being reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import missing
from vtt_envs.engine import Engine
from vtt_envs.robots import FINGER_TRAVEL, PAD_MIDDLE, TABLE, Robot, add_free_body, grippers, meet_table
from vtt_envs.task import Camera, Task, axis_rotation, check_range, rotate, rotate_back, uniform

__all__ = ["Picking"]

_UNIT = 0.05  # m: side of VTT's cube at scale 1; width and height of every shape here
_SCALE = (0.65, 0.80)  # VTT's
_DENSITY = (700.0, 2700.0)  # kg/m^3: beech to aluminium
_TABLE_FRICTION = (0.3, 0.6)  # metals, plastics and wood on wood or laminate
_GEL_FRICTION = (0.5, 1.2)  # dusty to clean silicone
_WORKSPACE = 0.2  # m from the base in x and y
_HOLD = 0.5  # s
_STILL = 0.02  # m; a lift at full action moves by 37 mm in that time
_GRIPPED = 4.0  # N on each pad, from which the expert lifts
_GAIN = 0.4  # of the expert: what comes two steps late does not swing
# Contact reference of the gels: their own damping of 400 makes a light block between two flat contacts ring.
_SOLREF = (-120000.0, -250.0)
_CAMERA = Camera((0.3, -0.3, 0.25), (0.0, 0.0, 0.075), field_of_view=36.0)


class _Shape(NamedTuple):
    """A shape 1 m wide and high.

    Attributes:
        volume: In [m^3].
        inertia: About a level axis and the upright one, at 1 kg, in [kg m^2].
        faces: Number of upright faces; 0 if round.
    """

    volume: float
    inertia: tuple[float, float]
    faces: int


_SHAPES = {
    "cube": _Shape(1.0, (1 / 6, 1 / 6), 4),
    "cylinder": _Shape(np.pi / 4, (7 / 48, 1 / 8), 0),
    "sphere": _Shape(np.pi / 6, (1 / 10, 1 / 10), 0),
    "hexagon": _Shape(np.sqrt(3) / 2, (11 / 72, 5 / 36), 6),
}


_ROBOTS = grippers(gripper_action=True)


@dataclass
class Picking(Task):
    """Grasp an object, lift it by 80 mm and hold it still for half a second.

    The open gripper starts above an object whose place is known to 15 mm. It comes down around the object, closes with
    the seventh action (1: `grip_force` of each finger, -1: opens with as much) and lifts. Only touch tells whether the
    object is between the pads, where on them, and whether it slips. A script that believes the observed place lifts
    nine cubes of ten, but one cylinder of five. The flat faces of cube and hexagon cover the whole window of a gel,
    whose image then hardly changes: they are felt as force. What was dropped may be picked up again.

    Episode: 120 steps of 50 ms. Success: for .5 s (10 steps) both pads have touched the object, and its middle has been
    80 mm higher than when it lay on the table and within 20 mm of where it was at first; what was thrown or is sliding
    out does not count. VTT counts the first instant of a lift by some 82 mm. Success ends the episode, and so does an
    object that leaves the workspace, 200 mm from the base in x or y (VTT: 125 mm); the reward makes that a loss.

    | drawn at reset | range | VTT |
    |---|---|---|
    | size (width and height) | 50 mm x (.65 to .80) | the same, cubes |
    | density | 700 to 2700 kg/m3, beech to aluminium: 13 to 173 g | 7.5 to 10 kg: 117 to 291 times as dense as water |
    | friction on the table | .3 to .6 | not known to us |
    | friction on the gels | .5 to 1.2 | not known to us |
    | object x, y | ±50, ±50 mm | ±75, ±75 mm |
    | object's heading | any | not known to us |
    | error of the observed object, x and y | ±`object_noise` = ±15 mm | none, it is in the picture |
    | error of its observed heading | ±.2 rad | none |
    | tool x, y from the object | ±40 mm | the hand starts at one place |
    | height of the fingertips | 60 to 90 mm | the same each time |
    | tool yaw; roll, pitch | ±.5; ±.05 rad | fixed |

    VTT's masses are those of no material (osmium is 22.6 times as dense as water), which its fingers hold with 350 N.
    The friction of a contact with a gel is the gel's.

    Reward per step, in [-1, 0], so that ending early in success pays: `.3 exp(-20 d) + .7 h - 1` for the distance d in
    [m] of the object from the middle between the pads and the lifted part h of 80 mm, in [0, 1]. Leaving the workspace
    costs as much as a whole episode at -1. Sparse: 1 on success, else 0. VTT: 25 on success, else .2 + 5 z once the
    wrist carries 50 N, else -15 times the distance, so that there throwing the cube off the table pays.

    Args:
        shape: `"cube"`, `"cylinder"` (upright), `"sphere"` or `"hexagon"` (an upright prism).
        object_noise: Largest error of the observed position, per axis of the table, in [m].
        height: Lift that counts as success, in [m].
        reward_kind: `"dense"` or `"sparse"`.

    Raises:
        MissingError: If there is no such shape.
        ConfigError: If an argument is out of range.
    """

    shape: str = "cube"
    object_noise: float = 0.015
    height: float = 0.08
    _: KW_ONLY
    horizon: int = 120
    robot: Robot = field(default_factory=_ROBOTS["floating"])
    camera: Camera = _CAMERA

    robots: ClassVar = _ROBOTS
    rest_action: ClassVar = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)  # open
    goal_names = (
        *(f"object_{a}" for a in "xyz"),
        *(f"object_heading_{a}" for a in "xyz"),
        *(f"table_normal_{a}" for a in "xyz"),
    )
    privileged_names = (
        *(f"tool_from_object_{a}" for a in "xyz"),
        *(f"object_heading_{a}" for a in "xyz"),
        *(f"object_velocity_{a}" for a in "xyz"),
        "lift",
        "object_size",
        "object_mass",
        "table_friction",
        "gel_friction",
        "grip_left",
        "grip_right",
    )
    objects = ("object",)
    surroundings = ("world",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape not in _SHAPES:
            raise missing("shape of Picking", self.shape, _SHAPES)
        check_range("object_noise", self.object_noise, 0, 0.03, "m")
        check_range("height", self.height, 0.01, 0.2, "m")

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the object, at its largest, and let the fingers meet object and table."""
        meet_table(spec)
        for finger in self.robot.fingers:
            spec.geom(f"pad_{finger}").solref = _SOLREF
        # Of two coefficients MuJoCo takes the larger: the object's, which is drawn.
        spec.geom("floor").friction = [0, 0, 0]
        half = _SCALE[1] * _UNIT / 2
        kind, size = {
            "cube": (mujoco.mjtGeom.mjGEOM_BOX, [half, half, half]),
            "cylinder": (mujoco.mjtGeom.mjGEOM_CYLINDER, [half, half, 0]),
            "sphere": (mujoco.mjtGeom.mjGEOM_SPHERE, [half, 0, 0]),
            # Bars between opposite faces fill the hexagon exactly; unlike a mesh's, their size can be drawn.
            "hexagon": (mujoco.mjtGeom.mjGEOM_BOX, [half, half / np.sqrt(3), half]),
        }[self.shape]
        body = add_free_body(spec, "object")
        body.explicitinertial, body.mass, body.inertia = True, 1.0, [1.0, 1.0, 1.0]  # drawn at reset
        for turn in np.arange(3 if self.shape == "hexagon" else 1) * np.pi / 3:
            body.add_geom(
                type=kind,
                size=size,
                quat=[np.cos(turn / 2), 0, 0, np.sin(turn / 2)],
                contype=1 | TABLE,
                conaffinity=1 | TABLE,
                condim=6,
                friction=[1, 1e-3, 2e-4],  # [1], [m], [m]: rolling enough to bring a ball to rest
                rgba=[0.85, 0.65, 0.3, 1],
            )
        spec.add_sensor(
            name="object_velocity",
            type=mujoco.mjtSensor.mjSENS_FRAMELINVEL,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            objname="object",
        )
        spec.add_sensor(name="clock", type=mujoco.mjtSensor.mjSENS_CLOCK)

    def bind(self, engine: Engine) -> None:
        """Look up addresses; see `Task`."""
        self._object = engine.model.joint("object").qposadr[0]
        body = engine.model.body("object")
        geoms = slice(body.geomadr[0], body.geomadr[0] + body.geomnum[0])
        pads = [engine.model.geom(f"pad_{finger}").id for finger in self.robot.fingers]
        self._largest = engine.model.geom_size[geoms].copy()
        self._geom_size = engine.expand("geom_size")[:, geoms]
        self._mass = engine.expand("body_mass")[:, body.id]
        self._inertia = engine.expand("body_inertia")[:, body.id]
        self._friction = engine.expand("geom_friction")
        self._geoms, self._pads = geoms, pads
        self._size = np.zeros(engine.num_envs)
        self._noise = np.zeros((engine.num_envs, 3))
        self._since = np.zeros(engine.num_envs)
        self._held_at = np.zeros((engine.num_envs, 3))

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes; see the class for the ranges."""
        scale, density = uniform(generators, *_SCALE), uniform(generators, *_DENSITY)
        on_table, on_gel = uniform(generators, *_TABLE_FRICTION), uniform(generators, *_GEL_FRICTION)
        place = uniform(generators, np.full(2, -0.05), np.full(2, 0.05))
        heading = uniform(generators, -np.pi, np.pi)
        largest = np.array([self.object_noise, self.object_noise, 0.2])
        self._noise[ids] = uniform(generators, -largest, largest)
        tool = uniform(generators, np.array([-0.04, -0.04, 0.06]), np.array([0.04, 0.04, 0.09]))
        angles = uniform(generators, np.array([-0.5, -0.05, -0.05]), np.array([0.5, 0.05, 0.05]))

        shape, size = _SHAPES[self.shape], scale * _UNIT
        mass = density * shape.volume * size**3
        level, upright = shape.inertia
        self._size[ids] = size
        self._geom_size[ids] = self._largest * (scale / _SCALE[1])[:, None, None]
        self._mass[ids] = mass
        self._inertia[ids] = (mass * size**2)[:, None] * np.array([level, level, upright])
        self._friction[ids, self._geoms, 0] = on_table[:, None]
        self._friction[ids[:, None], self._pads, 0] = on_gel[:, None]
        engine.set_const(ids)
        self._since[ids] = np.inf

        qpos = engine.qpos[ids]
        tool[:, :2] += place
        self.robot.place(qpos, tool, angles, opening=np.full(len(ids), FINGER_TRAVEL))
        zero = np.zeros(len(ids))
        qpos[:, self._object : self._object + 7] = np.column_stack(
            [place, size / 2, np.cos(heading / 2), zero, zero, np.sin(heading / 2)]
        )
        engine.qpos[ids] = qpos

    def _state(self, engine: Engine) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Position and axes of the tool, position and first axis of the object, in the base frame."""
        tool, item = engine.body_position("tool"), engine.body_position("object")
        return tool, engine.body_rotation("tool"), item, engine.body_rotation("object")[:, :, 0]

    def _lift(self, engine: Engine) -> NDArray[np.float64]:
        """Height of the object above where it lay, in [m]. Shape (B,)."""
        return engine.body_position("object")[:, 2] - self._size / 2

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """Observed object in [m], its heading and the table's normal, in the tool frame. Shape (B, 9)."""
        tool, rotation, item, heading = self._state(engine)
        observed = item - tool
        observed[:, :2] += self._noise[:, :2]
        heading = rotate(axis_rotation(2, self._noise[:, 2]), heading)
        parts = [rotate_back(rotation, observed), rotate_back(rotation, heading), rotation[:, 2]]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """Object from the tool, velocity, lift, size, mass, friction, force of both pads; SI units. Shape (B, 16)."""
        tool, rotation, item, heading = self._state(engine)
        parts = [
            rotate_back(rotation, item - tool),
            rotate_back(rotation, heading),
            rotate_back(rotation, engine.sensor("object_velocity")),
            np.column_stack([self._lift(engine), self._size, self._mass]),
            self._friction[:, [self._geoms.start, self._pads[0]], 0],
            self.pad_forces(engine),
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the object has been held still above the height for long enough. Shape (B,)."""
        item, clock = engine.body_position("object"), engine.sensor("clock")[:, 0]
        held = (self._lift(engine) > self.height) & (self.pad_forces(engine) > 0).all(axis=1)
        moved = np.linalg.norm(item - self._held_at, axis=1) > _STILL
        anew = ~held | moved | (self._since > clock)
        self._held_at[anew], self._since[anew] = item[anew], clock[anew]
        return held & (clock - self._since > _HOLD - 1e-6)

    def failed(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the object has left the workspace. Shape (B,)."""
        return np.abs(engine.body_position("object")[:, :2]).max(axis=1) > _WORKSPACE

    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """`.3 exp(-20 d) + .7 h - 1`. Shape (B,)."""
        tool, rotation, item, _ = self._state(engine)
        distance = np.linalg.norm(item - tool + PAD_MIDDLE * rotation[:, :, 2], axis=1)
        lifted = np.clip(self._lift(engine) / self.height, 0, 1)
        return 0.3 * np.exp(-20 * distance) + 0.7 * lifted - 1

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Level the tool over the object, turn to its faces, come down, close, lift, hold. Shape (B, 7)."""
        tool, rotation, item, heading = self._state(engine)
        error = item - tool
        distance = np.linalg.norm(error[:, :2], axis=1)
        spin = self._spin(rotation, heading)
        grasp = error[:, 2] - PAD_MIDDLE  # tool's way to where the object's middle is at the pads'
        grasp = np.maximum(grasp, 0.003 - tool[:, 2])
        gripped = (self.pad_forces(engine) > _GRIPPED).all(axis=1)
        around = (distance < 0.004) & (np.abs(spin) < 0.08)
        near = np.abs(grasp) < 0.003
        low = grasp > -0.5 * self._size - 0.005
        close = gripped | (around & near)
        down = np.where(around | (low & (distance < 0.008)), grasp, grasp + 0.5 * self._size + 0.02)
        up = self.height + 0.015 - self._lift(engine)
        move = np.column_stack([error[:, :2], np.where(gripped, up, down)])
        move[close, :2] = 0
        turn = np.cross(-rotation[:, :, 2], [0.0, 0.0, 1.0])  # rotation vector that levels the tool
        turn[:, 2] = np.where(close, 0, spin)
        return self.tool_action(rotation, _GAIN * move, _GAIN * turn, np.where(close, 1.0, -1.0))

    def _spin(self, rotation: NDArray, heading: NDArray) -> NDArray[np.float64]:
        """Angle about the base's z that turns the pads to the nearest pair of faces, in [rad]. Shape (B,)."""
        faces = _SHAPES[self.shape].faces
        if not faces:
            return np.zeros(len(heading))
        turn = 2 * np.pi / faces
        angle = np.arctan2(heading[:, 1], heading[:, 0]) - np.arctan2(rotation[:, 1, 1], rotation[:, 0, 1])
        return (angle + turn / 2) % turn - turn / 2

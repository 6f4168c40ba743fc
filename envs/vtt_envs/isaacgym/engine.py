"""The batched physics engine on Isaac Gym Preview 4, which runs in a process of its own.

Legend: B simulations, D joints of the robot, A actors besides it, C bodies that collide, n simulations.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Collection
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError
from vtt_envs.engine import Engine
from vtt_envs.isaacgym.process import Worker
from vtt_envs.isaacgym.scene_files import export_scene
from vtt_envs.isaacgym.worker.protocol import ANGULAR_VELOCITY, POSITION, QUATERNION, VELOCITY, Shared
from vtt_envs.observations import FORCE
from vtt_envs.robots import FloatingGripper
from vtt_envs.task import Task

__all__ = ["IsaacGymEngine", "check_support"]

_TASKS = ("PegInsertion", "PegPlacement", "Push")
# What may differ between simulations: sent to the worker, or concerning what is read only.
_FIELDS = (
    "actuator_biasprm",
    "actuator_gainprm",
    "body_inertia",
    "body_invweight0",
    "body_mass",
    "dof_damping",
    "dof_invweight0",
    "geom_friction",
    "geom_pos",
    "geom_solref",
    "jnt_stiffness",
)
_NEAR = 1e-4  # m: an object so near its surroundings counts as touching them
_NOMINAL_SOLREF = (-120000.0, -400.0)  # of `GelPad`, with which a peg sinks .9 mm into the gel under 10 N
_PRESS_STIFFNESS = 10 / 0.0009  # N/m
_PRESS_DAMPING = _PRESS_STIFFNESS * 400 / 120000  # N s/m
_COUPLING = 1e4  # N/m, between fingers: as stiff as their mass of .15 kg with a time constant of 4 ms


def check_support(task: Task, keys: Collection[str]) -> None:
    """Refuse what Isaac Gym cannot give, before any work.

    Raises:
        ConfigError: If task, robot or an observation is not supported.
    """
    name = type(task).__name__
    if name not in _TASKS:
        raise ConfigError(
            f"task must be {', '.join(_TASKS)} with backend='isaacgym', got {name}. Use backend='mujoco'."
        )
    if not isinstance(task.robot, FloatingGripper):
        raise ConfigError(
            f"robot must be floating with backend='isaacgym', got {type(task.robot).__name__}. Use backend='mujoco'."
        )
    lacking = [key for key in keys if key == "wrench" or key.startswith(FORCE)]
    if lacking:
        raise ConfigError(
            f"observation must not hold {', '.join(lacking)} with backend='isaacgym', which reports no torques. "
            "Choose another word than 'all'."
        )


class IsaacGymEngine(Engine):
    """`Engine` whose simulations advance in Isaac Gym; whatever is read of a state is MuJoCo's.

    Isaac Gym gives positions and velocities. Poses, touch, rays and pictures are then computed by MuJoCo from the same
    model at that state: penetration at a taxel is the signed distance of the object that PhysX has moved. Contact is
    counted where bodies overlap, or an object is within .1 mm of its surroundings; its force and torque are NaN.

    The gel, soft by its contact in MuJoCo, is a rigid block on a spring along its normal in PhysX (see `scene_files`).
    Where two bodies touch, PhysX takes the mean of their coefficients of friction, MuJoCo the larger or the pad's: what
    is sent makes the mean that of MuJoCo.

    All simulations are computed at every call; those outside `ids` are put back before they are used again. Results
    are float32, and equal seeds promise no equal bits: PhysX keeps contacts from step to step that nobody can read.

    Args:
        model: The compiled model.
        num_envs: Number of simulations B.
        num_threads: Threads of what MuJoCo computes; 0 takes all cores.
        device: Of Isaac Gym's physics: `"cpu"` or `"cuda"`, `"cuda:0"`, ... Readings are on the host.

    Raises:
        DependencyError: If the worker cannot be started; the message ends with what it said.
        ConfigError: If the model holds what the worker cannot simulate.
    """

    def __init__(self, model: mujoco.MjModel, *, num_envs: int, num_threads: int = 0, device: str = "cpu") -> None:
        with tempfile.TemporaryDirectory(prefix="vtt-isaacgym-") as folder:
            self._export = export_scene(model, Path(folder), num_envs=num_envs, device=device)
            self._look_up(model)
            model = copy.copy(model)
            model.geom_margin[self._scenery] = _NEAR
            super().__init__(model, num_envs=num_envs, num_threads=num_threads)
            self._expanded: dict[str, NDArray] = {}
            self._worker = Worker(self._export.scene, Path(folder) / "scene.json", prepare=self._set_properties)
        self._data = mujoco.MjData(model)
        self._sent = np.full_like(self._state(np.arange(num_envs)), np.nan)
        self._lost = np.zeros(num_envs, dtype=bool)

    def _look_up(self, model: mujoco.MjModel) -> None:
        """Find the model's addresses of what is sent and received."""
        export = self._export
        moved = [index for index, movable in enumerate(export.movables) if movable.joint >= 0]
        self._moved = np.array(moved)
        self._moved_joints = np.array([export.movables[index].joint for index in moved])
        self._moved_qpos, self._moved_qvel = (
            addresses[self._moved_joints] for addresses in (model.jnt_qposadr, model.jnt_dofadr)
        )
        driven = [index for index, movable in enumerate(export.movables) if movable.actuator >= 0]
        self._driven = np.array(driven)
        self._actuators = np.array([export.movables[index].actuator for index in driven])
        self._pressed = np.array([index for index, movable in enumerate(export.movables) if movable.pad >= 0])
        self._pads = np.array([export.movables[index].pad for index in self._pressed])
        bodies = np.array(export.bodies)
        fixed = np.array([actor.fixed for actor in export.scene.actors])
        self._objects, self._stands = np.flatnonzero(~fixed), np.flatnonzero(fixed)
        free = model.body_jntadr[bodies[self._objects]]
        self._object_qpos = model.jnt_qposadr[free][:, None] + np.arange(7)
        self._object_qvel = model.jnt_dofadr[free][:, None] + np.arange(6)
        self._mocap = model.body_mocapid[bodies[self._stands]]
        self._mocap_quat = model.body_quat[bodies[self._stands]]
        self._object_geoms = np.flatnonzero(
            np.isin(model.geom_bodyid, bodies[self._objects]) & (model.geom_contype > 0)
        )
        planes = (model.geom_bodyid == 0) & (model.geom_contype > 0) & export.scene.ground
        self._scenery = np.flatnonzero(
            (np.isin(model.geom_bodyid, bodies[self._stands]) & (model.geom_contype > 0)) | planes
        )

    def reset(self, ids: NDArray[np.intp]) -> None:
        """Set simulations back to the model's initial state; follow with writes and `forward`."""
        super().reset(ids)
        self._lost[ids] = False

    def step(self, substeps: int, *, ids: NDArray[np.intp] | None = None) -> None:
        """Advance by physics steps without computing sensors.

        Raises:
            DependencyError: If the worker has failed.
            StateError: If the engine is closed.
        """
        rows = np.arange(self.num_envs) if ids is None else np.asarray(ids)
        shared = self._worker.shared
        self._set_back(rows)
        fresh = rows[(self._state(rows) != self._sent[rows]).any(axis=1)]
        self._send(fresh)
        shared.drive[rows] = self._drives(rows)
        shared.active[:], shared.active[rows] = 0, 1
        shared.written[:], shared.written[fresh] = 0, 1
        self._worker.step(substeps)
        self._receive(rows)
        self._set_back(rows)

    def lost(self, steps: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return which simulations blew up and were set back since their reset."""
        return self._lost.copy()

    def sensor(self, name: str) -> NDArray[np.float64]:
        """Return the readings of one sensor; of a contact, only whether there is one. Shape (B, S).

        Raises:
            ConfigError: If it measures force or torque.
        """
        if name.startswith("wrist_"):
            raise ConfigError(f"'{name}' must be a reading that backend='isaacgym' has. Use backend='mujoco'.")
        reading = super().sensor(name)
        if name.startswith("contact_"):
            reading = reading.copy()
            reading[:, 1:] = np.nan
        return reading

    def expand(self, name: str) -> NDArray:
        """Give a model field one value per simulation, to write to; `set_const` must follow. Shape (B, ...).

        Raises:
            ConfigError: If the worker would not know of it.
        """
        if name not in _FIELDS:
            raise ConfigError(f"'{name}' must be one of {', '.join(_FIELDS)} with backend='isaacgym'. Use 'mujoco'.")
        self._expanded[name] = super().expand(name)
        return self._expanded[name]

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def _state(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """All that the tasks may write of simulations. Shape (n, ...)."""
        mocap = self.mocap_pos[rows].reshape(len(rows), -1)
        return np.concatenate([self.qpos[rows], self.qvel[rows], mocap], axis=1)

    def _set_back(self, rows: NDArray[np.intp]) -> None:
        """Set back and mark as lost what has blown up."""
        sane = (np.abs(self._state(rows)) < mujoco.mjMAXVAL).all(axis=1)  # NaN is not
        if not sane.all():
            self.reset(rows[~sane])
            self._lost[rows[~sane]] = True

    def _send(self, rows: NDArray[np.intp]) -> None:
        """Write state and parameters of simulations that the tasks have changed."""
        shared = self._worker.shared
        shared.changed[:] = 0
        if not len(rows):
            return
        joints = np.zeros((len(rows), len(self._export.movables), 2))
        joints[:, self._moved, 0] = self.qpos[rows][:, self._moved_qpos]
        joints[:, self._moved, 1] = self.qvel[rows][:, self._moved_qvel]
        joints[:, self._pressed, 0] = self._overlaps(rows)
        shared.joints[rows] = joints
        actors = np.zeros((len(rows), len(self._export.bodies), 13))
        pose, twist = self.qpos[rows][:, self._object_qpos], self.qvel[rows][:, self._object_qvel]  # (n, objects, k)
        actors[:, self._objects, POSITION] = pose[..., :3]
        actors[:, self._objects, QUATERNION] = pose[..., [4, 5, 6, 3]]
        actors[:, self._objects, VELOCITY] = twist[..., :3]
        actors[:, self._objects, ANGULAR_VELOCITY] = _turn(pose[..., 3:], twist[..., 3:])
        actors[:, self._stands, POSITION] = self.mocap_pos[rows][:, self._mocap]
        actors[:, self._stands, QUATERNION] = self._mocap_quat[:, [1, 2, 3, 0]]
        shared.actors[rows] = actors
        self._set_properties(shared, rows)
        self._sent[rows] = self._state(rows)

    def _set_properties(self, shared: Shared, rows: NDArray[np.intp] | None = None) -> None:
        """Write stiffness, damping, mass and friction of some simulations or all; mark those for whom they change."""
        rows = np.arange(self.num_envs) if rows is None else rows
        mass = self._values("body_mass", rows)[:, list(self._export.bodies)]
        arrays = (shared.stiffness, shared.damping, shared.mass, shared.friction)
        for array, values in zip(arrays, (*self._springs(rows), mass, self._friction(rows)), strict=True):
            values = np.broadcast_to(values, array[rows].shape).astype(np.float32)
            shared.changed[rows] |= (array[rows] != values).any(axis=1)
            array[rows] = values

    def _receive(self, rows: NDArray[np.intp]) -> None:
        """Take the state of simulations that have advanced."""
        joints, actors = self._worker.shared.joints[rows], self._worker.shared.actors[rows][:, self._objects]
        self.qpos[np.ix_(rows, self._moved_qpos)] = joints[:, self._moved, 0]
        self.qvel[np.ix_(rows, self._moved_qvel)] = joints[:, self._moved, 1]
        quat_wxyz = actors[..., QUATERNION][..., [3, 0, 1, 2]].astype(np.float64)
        angular = _turn(quat_wxyz * [1, -1, -1, -1], actors[..., ANGULAR_VELOCITY])
        pose = np.concatenate([actors[..., POSITION], quat_wxyz], axis=2)
        twist = np.concatenate([actors[..., VELOCITY], angular], axis=2)
        self.qpos[np.ix_(rows, self._object_qpos.ravel())] = pose.reshape(len(rows), -1)
        self.qvel[np.ix_(rows, self._object_qvel.ravel())] = twist.reshape(len(rows), -1)
        self._sent[rows] = self._state(rows)

    def _overlaps(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """How deep objects sink into each gel, in [m]: where its block has to stand. Shape (n, pads)."""
        depth, data = np.zeros((len(rows), len(self._pads))), self._data
        for index, row in enumerate(rows):
            data.qpos[:], data.mocap_pos[:] = self.qpos[row], self.mocap_pos[row]
            mujoco.mj_kinematics(self.model, data)
            for column, pad in enumerate(self._pads):
                for geom in self._object_geoms:
                    gap = mujoco.mj_geomDistance(self.model, data, int(pad), int(geom), _NEAR, None)
                    depth[index, column] = max(depth[index, column], -gap)
        return depth

    def _values(self, name: str, rows: NDArray[np.intp]) -> NDArray:
        """A field of the model, by simulation. Shape (n or 1, ...)."""
        return self._expanded[name][rows] if name in self._expanded else getattr(self.model, name)[None]

    def _springs(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Stiffness and damping of each joint of the robot. Shapes (n, D)."""
        stiffness, damping = np.zeros((2, len(rows), len(self._export.movables)))
        bias = self._values("actuator_biasprm", rows)[:, self._actuators]
        stiffness[:, self._moved] = self._values("jnt_stiffness", rows)[:, self._moved_joints]
        damping[:, self._moved] = self._values("dof_damping", rows)[:, self._moved_qvel]
        stiffness[:, self._driven] -= bias[..., 1]
        damping[:, self._driven] -= bias[..., 2]
        gel = self._values("geom_solref", rows)[:, self._pads] / _NOMINAL_SOLREF
        stiffness[:, self._pressed] = gel[..., 0] * _PRESS_STIFFNESS
        damping[:, self._pressed] = gel[..., 1] * _PRESS_DAMPING
        stiffness[:, np.array(self._export.scene.coupled, dtype=int).ravel()] += _COUPLING
        return stiffness, damping

    def _drives(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Force of each joint's spring at position 0. Shape (n, D)."""
        drive = np.zeros((len(rows), len(self._export.movables)))
        springs = self._values("jnt_stiffness", rows)[:, self._moved_joints]
        drive[:, self._moved] = springs * self.model.qpos_spring[self._moved_qpos]
        gain = self._values("actuator_gainprm", rows)[:, self._actuators, 0]
        bias = self._values("actuator_biasprm", rows)[:, self._actuators, 0]
        drive[:, self._driven] += gain * self.ctrl[rows][:, self._actuators] + bias
        return drive

    def _friction(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Coefficients of which two have the mean that MuJoCo would use. Shape (n, C).

        In hundredths: PhysX has room for some 64,000 different materials.
        """
        values, priority = self._values("geom_friction", rows)[..., 0], self.model.geom_priority
        friction = np.zeros((len(values), len(self._export.collisions)))  # the scenery keeps 0
        scenery, touched = (values[:, geoms].max(axis=1) for geoms in (self._scenery, self._object_geoms))
        own = [values[:, collision.geoms].max(axis=1) for collision in self._export.collisions]
        of_object = np.zeros(len(values))
        for index, collision in enumerate(self._export.collisions):
            if collision.actor - 1 in self._objects:
                friction[:, index] = of_object = 2 * np.maximum(own[index], scenery)
        for index, collision in enumerate(self._export.collisions):
            if collision.actor == 0:
                rules = priority[list(collision.geoms)].max() > priority[self._object_geoms].max()
                wanted = own[index] if rules else np.maximum(own[index], touched)
                friction[:, index] = np.maximum(2 * wanted - of_object, 0)
        return friction.round(2)


def _turn(quat_wxyz: NDArray[np.float64], vector: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn vectors (..., 3) by quaternions (..., 4)."""
    axis = quat_wxyz[..., 1:]
    return vector + 2 * np.cross(axis, np.cross(axis, vector) + quat_wxyz[..., :1] * vector)

"""The simulations in Isaac Gym Preview 4, by its stock calls.

Physics runs on the scene's device; states pass through host memory (its CPU pipeline), where numpy reads them.

Legend: B simulations, D joints of the robot, A actors besides it, n simulations.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .serving import Physics

if TYPE_CHECKING:
    from isaacgym import gymapi
    from numpy.typing import NDArray

    from .protocol import Scene, Shared

__all__ = ["Preview4"]

_CONTACT_OFFSET = 0.002  # m: half of how near surfaces come before contacts are prepared
_POSITION_ITERATIONS = 16  # TacSL's
_DEPENETRATION = 1.0  # m/s, at most
_SPACING = 0.5  # m, half of a simulation's square
_FAR = 1e6  # no limit, in N, m/s, ...


class Preview4(Physics):
    """B copies of a scene, each in a square of its own.

    Args:
        scene: What to simulate.
        shared: Holds the first properties.
        folder: Where its files are.

    Raises:
        RuntimeError: If Isaac Gym cannot make the simulation.
    """

    def __init__(self, scene: Scene, shared: Shared, folder: str) -> None:
        from isaacgym import gymapi  # before torch, which gymtorch imports

        self._api = gymapi
        self._gymtorch = importlib.import_module("isaacgym.gymtorch")
        self._torch = importlib.import_module("torch")
        self._gym = gymapi.acquire_gym()
        self._scene = scene
        self._sim = self._make_sim()
        self._envs: list[Any] = []
        self._handles: list[list[int]] = []  # of the robot and the actors, by simulation
        self._build(shared, folder)
        if not self._gym.prepare_sim(self._sim):
            raise RuntimeError("Isaac Gym could not prepare the simulation; its reason stands above.")
        self._bind()

    def _make_sim(self) -> gymapi.Sim:
        scene, parameters = self._scene, self._api.SimParams()
        name, _, index = scene.device.partition(":")
        parameters.dt, parameters.substeps = scene.physics_dt, 1
        parameters.up_axis = self._api.UP_AXIS_Z
        parameters.gravity = self._api.Vec3(0.0, 0.0, scene.gravity)
        parameters.use_gpu_pipeline = False
        physx = parameters.physx
        physx.use_gpu = name == "cuda"
        physx.solver_type = 1  # TGS
        physx.num_position_iterations, physx.num_velocity_iterations = _POSITION_ITERATIONS, 1
        physx.contact_offset, physx.rest_offset = _CONTACT_OFFSET, 0.0
        physx.max_depenetration_velocity = _DEPENETRATION
        # Without cameras no graphics device is needed.
        sim = self._gym.create_sim(int(index or 0), -1, self._api.SIM_PHYSX, parameters)
        if sim is None:
            raise RuntimeError("Isaac Gym could not create a simulation; its reason stands above.")
        if scene.ground:
            plane = self._api.PlaneParams()
            plane.normal = self._api.Vec3(0.0, 0.0, 1.0)
            plane.static_friction = plane.dynamic_friction = plane.restitution = 0.0
            self._gym.add_ground(sim, plane)
        return sim

    def _build(self, shared: Shared, folder: str) -> None:
        gym, scene = self._gym, self._scene
        assets = [(scene.robot, self._load(folder, scene.robot, fixed=True, weightless=True))]
        for actor in scene.actors:
            assets.append((actor.name, self._load(folder, actor.file, fixed=actor.fixed, weightless=actor.fixed)))
        lower, upper = self._api.Vec3(-_SPACING, -_SPACING, 0.0), self._api.Vec3(_SPACING, _SPACING, 2 * _SPACING)
        per_row = int(np.ceil(np.sqrt(scene.num_envs)))
        for index in range(scene.num_envs):
            env = gym.create_env(self._sim, lower, upper, per_row)
            # Simulations are collision groups, so that they never meet.
            handles = [gym.create_actor(env, asset, self._api.Transform(), name, index, 0) for name, asset in assets]
            self._envs.append(env)
            self._handles.append(handles)
            self._set_drives(index, shared)
            for actor in range(len(handles)):
                self._set_shapes(index, actor, shared, first=True)
        # Friction and masses that stay are never set again: some versions lose contacts or positions over it
        # (IsaacGymEnvs, issue 181).
        self._friction, self._mass = shared.friction.copy(), shared.mass.copy()

    def _load(self, folder: str, file: str, *, fixed: bool, weightless: bool) -> gymapi.Asset:
        options = self._api.AssetOptions()
        options.fix_base_link, options.disable_gravity = fixed, weightless
        options.linear_damping = options.angular_damping = 0.0
        options.max_linear_velocity = options.max_angular_velocity = 1e3
        options.use_physx_armature = True
        options.slices_per_cylinder = 28  # 56 vertices: PhysX takes up to 64 on a GPU
        return self._gym.load_asset(self._sim, folder, file, options)

    def _set_shapes(self, index: int, actor: int, shared: Shared, *, first: bool) -> None:
        """Set friction, and at first the filter, of an actor's shapes."""
        env, handle = self._envs[index], self._handles[index][actor]
        bodies = self._gym.get_actor_rigid_body_names(env, handle)
        ranges = self._gym.get_actor_rigid_body_shape_indices(env, handle)
        shapes = self._gym.get_actor_rigid_shape_properties(env, handle)
        for number, collider in enumerate(self._scene.colliders):
            if collider.actor == actor:
                found = ranges[bodies.index(collider.link)]
                for shape in shapes[found.start : found.start + found.count]:
                    shape.friction = float(shared.friction[index, number])
                    if first:
                        shape.filter = collider.filter
        self._gym.set_actor_rigid_shape_properties(env, handle, shapes)

    def _set_drives(self, index: int, shared: Shared) -> None:
        """Set the springs of a robot's joints."""
        env, robot = self._envs[index], self._handles[index][0]
        names = self._gym.get_actor_dof_names(env, robot)
        where = np.array([names.index(name) for name in self._scene.joints])
        drives = self._gym.get_actor_dof_properties(env, robot)
        drives["driveMode"].fill(int(self._api.DOF_MODE_POS))
        drives["stiffness"][where], drives["damping"][where] = shared.stiffness[index], shared.damping[index]
        drives["armature"][where] = self._scene.armature
        drives["friction"].fill(0.0)
        drives["effort"].fill(_FAR)
        drives["velocity"].fill(_FAR)
        self._gym.set_actor_dof_properties(env, robot, drives)

    def _bind(self) -> None:
        """Find the states in memory."""
        gym, scene, size = self._gym, self._scene, self._scene.num_envs
        self._raw_joints = self._wrap(gym.acquire_dof_state_tensor(self._sim)).reshape(size, len(scene.joints), 2)
        self._raw_actors = self._wrap(gym.acquire_actor_root_state_tensor(self._sim)).reshape(size, -1, 13)
        names = gym.get_actor_dof_names(self._envs[0], self._handles[0][0])
        self._order = np.array([names.index(name) for name in scene.joints])
        origins = [gym.get_env_origin(env) for env in self._envs]
        self._origins = np.array([[[origin.x, origin.y, origin.z]] for origin in origins], dtype=np.float32)
        self._numbers = np.array(
            [
                [gym.get_actor_index(env, handle, self._api.DOMAIN_SIM) for handle in self._handles[index]]
                for index, env in enumerate(self._envs)
            ],
            dtype=np.int32,
        )
        self._targets = self._torch.zeros((size, len(scene.joints)), dtype=self._torch.float32)
        self._refresh()

    def _wrap(self, tensor: gymapi.Tensor) -> NDArray[np.float32]:
        """View a tensor of Isaac Gym, which must be in host memory."""
        return self._gymtorch.wrap_tensor(tensor).numpy()

    def _refresh(self) -> None:
        self._gym.refresh_dof_state_tensor(self._sim)
        self._gym.refresh_actor_root_state_tensor(self._sim)
        self.joints = self._raw_joints[:, self._order]
        self.actors = self._raw_actors[:, 1:].copy()
        self.actors[..., :3] -= self._origins

    def set_properties(self, ids: NDArray[np.intp], shared: Shared) -> None:
        """Take stiffness, damping, mass and friction of simulations from the shared memory."""
        gym, scene = self._gym, self._scene
        for index in ids:
            env, handles = self._envs[index], self._handles[index]
            self._set_drives(index, shared)
            moved = self._friction[index] != shared.friction[index]
            for actor in sorted({scene.colliders[number].actor for number in np.flatnonzero(moved)}):
                self._set_shapes(index, actor, shared, first=False)
            for number in np.flatnonzero(self._mass[index] != shared.mass[index]):
                bodies = gym.get_actor_rigid_body_properties(env, handles[1 + number])
                bodies[0].mass = float(shared.mass[index, number])
                gym.set_actor_rigid_body_properties(env, handles[1 + number], bodies, recomputeInertia=True)
        self._friction[ids], self._mass[ids] = shared.friction[ids], shared.mass[ids]

    def write(self, ids: NDArray[np.intp]) -> None:
        """Put simulations into the state that `joints` and `actors` have."""
        unwrap = self._gymtorch.unwrap_tensor
        joints, roots = self._raw_joints.copy(), self._raw_actors.copy()
        joints[:, self._order] = self.joints
        roots[:, 1:] = self.actors
        roots[:, 1:, :3] += self._origins
        arrays = (
            joints.reshape(-1, 2),
            self._numbers[ids, 0].copy(),
            roots.reshape(-1, 13),
            self._numbers[ids, 1:].ravel(),
        )
        # Kept until they are replaced: Isaac Gym is given their addresses.
        self._written = [self._torch.from_numpy(array) for array in arrays]
        joints, robots, roots, others = self._written
        self._gym.set_dof_state_tensor_indexed(self._sim, unwrap(joints), unwrap(robots), len(robots))
        if len(others):
            self._gym.set_actor_root_state_tensor_indexed(self._sim, unwrap(roots), unwrap(others), len(others))

    def step(self, targets: NDArray[np.float32]) -> None:
        """Advance all simulations by one step; see `Physics`."""
        self._targets.numpy()[:, self._order] = targets
        self._gym.set_dof_position_target_tensor(self._sim, self._gymtorch.unwrap_tensor(self._targets))
        self._gym.simulate(self._sim)
        self._gym.fetch_results(self._sim, True)
        self._refresh()

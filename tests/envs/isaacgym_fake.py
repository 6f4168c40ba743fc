"""Modules that answer the calls of `preview4` to Isaac Gym, with a stand-in's physics behind them.

They say what we take those calls to do, so they find slips, not misunderstandings. Where Isaac Gym's order is unknown
(links, joints), an awkward one is chosen; each simulation has an origin of its own.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import torch
from worker import protocol, serving

_DRIVES = ["driveMode", "stiffness", "damping", "armature", "friction", "effort", "velocity"]


class _Record(SimpleNamespace):
    """A structure whose fields may be read before they are written, as nested ones are."""

    def __getattr__(self, name: str) -> _Record:
        setattr(self, name, _Record())
        return getattr(self, name)


class _Vec3:
    def __init__(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> None:
        self.x, self.y, self.z = x, y, z


class _Asset:
    def __init__(self, path: Path, options: _Record) -> None:
        robot = ElementTree.parse(path).getroot()
        self.options = options
        self.links = [link.get("name") for link in robot.iter("link")][::-1]
        counts = {link.get("name"): len(link.findall("collision")) for link in robot.iter("link")}
        self.counts = [counts[name] for name in self.links]
        self.masses = [float(mass.get("value", 0)) for mass in robot.iter("mass")][::-1]
        self.joints = [joint.get("name") for joint in robot.iter("joint") if joint.get("type") != "fixed"][::-1]


class Gym:
    """`gymapi.Gym` for one simulation of a scene."""

    def __init__(self, scene: protocol.Scene, make: Callable[[SimpleNamespace], serving.Physics]) -> None:
        self.scene, self.make = scene, make
        self.ground, self.prepared = False, False
        self.envs: list[SimpleNamespace] = []

    # Building

    def create_sim(self, compute: int, graphics: int, kind: str, parameters: _Record) -> Gym:
        assert (kind, parameters.dt, parameters.use_gpu_pipeline) == ("physx", self.scene.physics_dt, False)
        assert parameters.gravity.z == self.scene.gravity
        return self

    def add_ground(self, sim: Gym, plane: _Record) -> None:
        assert (plane.normal.z, plane.static_friction, plane.dynamic_friction) == (1.0, 0.0, 0.0)
        self.ground = True

    def load_asset(self, sim: Gym, folder: str, file: str, options: _Record) -> _Asset:
        return _Asset(Path(folder) / file, options)

    def create_env(self, sim: Gym, lower: _Vec3, upper: _Vec3, per_row: int) -> SimpleNamespace:
        row, column = divmod(len(self.envs), per_row)
        origin = _Vec3((upper.x - lower.x) * column, (upper.y - lower.y) * row, 0.0)
        self.envs.append(SimpleNamespace(index=len(self.envs), origin=origin, actors=[]))
        return self.envs[-1]

    def create_actor(self, env: SimpleNamespace, asset: _Asset, pose: object, name: str, group: int, mask: int) -> int:
        assert (group, mask) == (env.index, 0)
        shapes = [_Record(friction=1.0, filter=0) for _ in range(sum(asset.counts))]
        drives = np.zeros(
            len(asset.joints), [(name, np.int32 if name == "driveMode" else np.float32) for name in _DRIVES]
        )
        body = [_Record(mass=mass) for mass in asset.masses]
        env.actors.append(SimpleNamespace(name=name, asset=asset, shapes=shapes, drives=drives, bodies=body))
        return len(env.actors) - 1

    def prepare_sim(self, sim: Gym) -> bool:
        """Check that what was built is what the scene says."""
        assert self.ground == self.scene.ground
        for env in self.envs:
            assert env.actors[0].asset.options.disable_gravity
            fixed = [actor.asset.options.fix_base_link for actor in env.actors]
            assert fixed == [True, *(actor.fixed for actor in self.scene.actors)]
            for collider in self.scene.colliders:
                assert {shape.filter for shape in self.shapes(env, collider)} == {collider.filter}
            armature = env.actors[0].drives["armature"][self.order(env)]
            np.testing.assert_allclose(armature, self.scene.armature, rtol=1e-6)
        collected = [self.collect(env) for env in self.envs]
        properties = {name: np.stack([values[name] for values in collected]) for name in collected[0]}
        self.properties = SimpleNamespace(**properties)
        self.physics = self.make(self.properties)
        size, actors = len(self.envs), len(self.scene.actors) + 1
        self.joints = np.zeros((size * len(self.scene.joints), 2), np.float32)
        self.roots = np.zeros((size * actors, 13), np.float32)
        self.roots[:, 6] = 1
        self.prepared = True
        return True

    def order(self, env: SimpleNamespace) -> list[int]:
        """Where the scene's joints are among ours."""
        return [env.actors[0].asset.joints.index(name) for name in self.scene.joints]

    def shapes(self, env: SimpleNamespace, collider: protocol.Collider) -> list[_Record]:
        actor = env.actors[collider.actor]
        link = actor.asset.links.index(collider.link)
        first = sum(actor.asset.counts[:link])
        return actor.shapes[first : first + actor.asset.counts[link]]

    # Names and properties

    def get_actor_rigid_body_names(self, env: SimpleNamespace, actor: int) -> list[str]:
        return env.actors[actor].asset.links

    def get_actor_rigid_body_shape_indices(self, env: SimpleNamespace, actor: int) -> list[SimpleNamespace]:
        counts = env.actors[actor].asset.counts
        return [SimpleNamespace(start=sum(counts[:index]), count=count) for index, count in enumerate(counts)]

    def get_actor_dof_names(self, env: SimpleNamespace, actor: int) -> list[str]:
        return env.actors[actor].asset.joints

    def get_actor_index(self, env: SimpleNamespace, actor: int, domain: str) -> int:
        assert domain == "sim"
        return env.index * len(env.actors) + actor

    def get_env_origin(self, env: SimpleNamespace) -> _Vec3:
        return env.origin

    def get_actor_rigid_shape_properties(self, env: SimpleNamespace, actor: int) -> list[_Record]:
        return [_Record(**vars(shape)) for shape in env.actors[actor].shapes]

    def set_actor_rigid_shape_properties(self, env: SimpleNamespace, actor: int, shapes: list[_Record]) -> None:
        env.actors[actor].shapes = shapes
        self.pass_on(env)

    def get_actor_rigid_body_properties(self, env: SimpleNamespace, actor: int) -> list[_Record]:
        return [_Record(**vars(body)) for body in env.actors[actor].bodies]

    def set_actor_rigid_body_properties(
        self, env: SimpleNamespace, actor: int, bodies: list[_Record], recomputeInertia: bool = False
    ) -> None:
        assert recomputeInertia
        env.actors[actor].bodies = bodies
        self.pass_on(env)

    def get_actor_dof_properties(self, env: SimpleNamespace, actor: int) -> np.ndarray:
        return env.actors[actor].drives.copy()

    def set_actor_dof_properties(self, env: SimpleNamespace, actor: int, drives: np.ndarray) -> None:
        env.actors[actor].drives = drives
        self.pass_on(env)

    def pass_on(self, env: SimpleNamespace) -> None:
        """Give the properties of a simulation to the physics."""
        if self.prepared:
            for name, values in self.collect(env).items():
                getattr(self.properties, name)[env.index] = values
            self.physics.set_properties(np.array([env.index]), self.properties)

    def collect(self, env: SimpleNamespace) -> dict[str, np.ndarray]:
        drives = env.actors[0].drives[self.order(env)]
        return {
            "stiffness": drives["stiffness"],
            "damping": drives["damping"],
            "mass": np.array([actor.bodies[0].mass for actor in env.actors[1:]], np.float32),
            "friction": np.array([self.shapes(env, collider)[0].friction for collider in self.scene.colliders]),
        }

    # State

    def acquire_dof_state_tensor(self, sim: Gym) -> np.ndarray:
        return self.joints

    def acquire_actor_root_state_tensor(self, sim: Gym) -> np.ndarray:
        return self.roots

    def origins(self) -> np.ndarray:
        return np.array([[[env.origin.x, env.origin.y, env.origin.z]] for env in self.envs], np.float32)

    def refresh_dof_state_tensor(self, sim: Gym) -> None:
        self.joints.reshape(len(self.envs), -1, 2)[:, self.order(self.envs[0])] = self.physics.joints

    def refresh_actor_root_state_tensor(self, sim: Gym) -> None:
        roots = self.roots.reshape(len(self.envs), -1, 13)
        roots[:, 1:] = self.physics.actors
        roots[:, 1:, :3] += self.origins()

    def set_dof_state_tensor_indexed(self, sim: Gym, states: np.ndarray, actors: np.ndarray, count: int) -> None:
        per_env = len(self.envs[0].actors)
        assert (actors.dtype, count) == (np.int32, len(actors))
        assert not (actors % per_env).any()
        rows = actors // per_env
        self.physics.joints[rows] = states.reshape(len(self.envs), -1, 2)[rows][:, self.order(self.envs[0])]
        self.physics.write(rows)

    def set_actor_root_state_tensor_indexed(self, sim: Gym, states: np.ndarray, actors: np.ndarray, count: int) -> None:
        per_env = len(self.envs[0].actors)
        assert (actors.dtype, count) == (np.int32, len(actors))
        assert (actors % per_env).all()
        rows, columns = actors // per_env, actors % per_env
        places = states.reshape(len(self.envs), -1, 13).copy()
        places[..., :3] -= self.origins()
        self.physics.actors[rows, columns - 1] = places[rows, columns]
        self.physics.write(np.unique(rows))

    def set_dof_position_target_tensor(self, sim: Gym, targets: np.ndarray) -> None:
        self.targets = targets.reshape(len(self.envs), -1)[:, self.order(self.envs[0])]

    def simulate(self, sim: Gym) -> None:
        self.physics.step(self.targets)

    def fetch_results(self, sim: Gym, wait: bool) -> None:
        assert wait


def install(scene: protocol.Scene, make: Callable[[SimpleNamespace], serving.Physics]) -> None:
    """Let `isaacgym` and its parts be imported."""
    gymapi = types.ModuleType("isaacgym.gymapi")
    gym = Gym(scene, make)
    gymapi.__dict__.update(
        acquire_gym=lambda: gym,
        Sim=Gym,
        Asset=_Asset,
        Tensor=np.ndarray,
        SimParams=_Record,
        PlaneParams=_Record,
        AssetOptions=_Record,
        Transform=_Record,
        Vec3=_Vec3,
        SIM_PHYSX="physx",
        UP_AXIS_Z="z",
        DOMAIN_SIM="sim",
        DOF_MODE_POS=1,
    )
    gymtorch = types.ModuleType("isaacgym.gymtorch")
    gymtorch.__dict__.update(wrap_tensor=torch.from_numpy, unwrap_tensor=torch.Tensor.numpy)
    package = types.ModuleType("isaacgym")
    package.__dict__.update(gymapi=gymapi, gymtorch=gymtorch)
    sys.modules.update({"isaacgym": package, "isaacgym.gymapi": gymapi, "isaacgym.gymtorch": gymtorch})

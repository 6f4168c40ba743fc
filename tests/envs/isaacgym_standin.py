"""Stand-ins for Isaac Gym: the worker's real loop and protocol, from the scene's real files, on other physics.

    python isaacgym_standin.py KIND WORKER_FOLDER SCENE_FILE MEMORY_FD

| kind | physics |
|---|---|
| `mujoco` | MuJoCo loads the URDF files and does as Isaac Gym does: springs at joints, averaged friction, filters |
| `preview4` | `preview4.Preview4`, with modules in Isaac Gym's place that answer its calls by what `mujoco` does |
| `springs` | numpy alone, so on Python 3.8 too: springs at joints, things fall; nothing collides |
| `dies`, `fails`, `dawdles` | ends by a signal, raises an error, or never answers, in the second step |
| `mute`, `babbles`, `outdated`, `unbuildable` | ends, talks nonsense, speaks another version, raises, at the start |
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(sys.argv[2]).parent))

from worker import protocol, serving


class Springs(serving.Physics):
    """Joints on springs with masses of their own, and things that fall."""

    def __init__(self, scene: protocol.Scene, shared: protocol.Shared, folder: str) -> None:
        self.scene, self.folder = scene, Path(folder)
        size = scene.num_envs
        self.joints = np.zeros((size, len(scene.joints), 2), np.float32)
        self.actors = np.zeros((size, len(scene.actors), 13), np.float32)
        self.falls = np.array([not actor.fixed for actor in scene.actors])
        self.stiffness, self.damping = shared.stiffness, shared.damping
        assert all((self.folder / actor.file).exists() for actor in scene.actors)

    def set_properties(self, ids, shared) -> None:
        pass  # the arrays are the shared ones

    def write(self, ids) -> None:
        pass  # the arrays are the state

    def step(self, targets) -> None:
        dt, mass = self.scene.physics_dt, 0.1 + np.array(self.scene.armature)  # kg or kg m^2
        place, speed = self.joints[..., 0], self.joints[..., 1]
        force = self.stiffness * (targets - place) - (self.damping + dt * self.stiffness) * speed
        speed += dt * force / (mass + dt * self.damping + dt**2 * self.stiffness)
        place += dt * speed
        self.actors[:, self.falls, 9] += dt * self.scene.gravity
        self.actors[:, self.falls, :3] += dt * self.actors[:, self.falls, 7:10]


class Mujoco(Springs):
    """One MuJoCo model and state for each simulation, made of the URDF files.

    MuJoCo's contacts yield when they press on light, strongly damped links, less so in smaller steps.
    """

    substeps = 4

    def __init__(self, scene: protocol.Scene, shared: protocol.Shared, folder: str) -> None:
        super().__init__(scene, shared, folder)
        import mujoco

        self.mujoco = mujoco
        model = self.build()
        self.models = [model] + [model.__copy__() for _ in range(scene.num_envs - 1)]
        self.data = [mujoco.MjData(each) for each in self.models]
        joints = [model.joint(f"robot/{name}") for name in scene.joints]
        self.ids = np.array([joint.id for joint in joints])
        self.qpos, self.qvel = model.jnt_qposadr[self.ids], model.jnt_dofadr[self.ids]
        model.dof_armature[self.qvel] = scene.armature
        for each in self.models:
            each.dof_armature[:] = model.dof_armature
        self.colliders = [self.body(c) for c in scene.colliders]
        self.inertia = model.body_inertia / np.maximum(model.body_mass, 1e-9)[:, None]
        self.set_properties(range(scene.num_envs), shared)

    def body(self, collider: protocol.Collider) -> str:
        actors = ["robot", *(actor.name for actor in self.scene.actors)]
        return f"{actors[collider.actor]}/{collider.link}"

    def build(self):
        mujoco, scene = self.mujoco, self.scene
        spec = mujoco.MjSpec()
        spec.option.timestep, spec.option.gravity = scene.physics_dt / self.substeps, [0, 0, scene.gravity]
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 50
        if scene.ground:
            spec.worldbody.add_geom(name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 1])
        self.attach(spec, "robot", scene.robot, fixed=True)
        for actor in scene.actors:
            self.attach(spec, actor.name, actor.file, fixed=actor.fixed)
        for body in spec.bodies[1:]:
            body.gravcomp = float(body.name.startswith("robot/"))
        self.geoms = [[] for _ in scene.colliders]
        for index, collider in enumerate(scene.colliders):
            for number, geom in enumerate(spec.body(self.body(collider)).geoms):
                geom.name = f"{self.body(collider)}/{number}"
                self.geoms[index].append(geom.name)
        for geom in spec.geoms:
            geom.contype = geom.conaffinity = 0
        for name, first, second in self.pairs():
            steel = {"solref": [0.004, 1], "solimp": [0.99, 0.999, 0.0005, 0.5, 2]}
            spec.add_pair(name=name, geomname1=first, geomname2=second, condim=4, **steel)
        return spec.compile()

    def attach(self, spec, name: str, file: str, *, fixed: bool) -> None:
        child = self.mujoco.MjSpec.from_file(str(self.folder / file))
        child.compiler.fusestatic, child.meshdir = False, str(self.folder)
        body = child.worldbody.first_body()
        spec.worldbody.add_frame().attach_body(body, f"{name}/", "")
        if name != "robot":
            body = spec.body(f"{name}/{name}")
            if fixed:
                body.mocap = True
            else:
                body.add_freejoint(name=name)

    def pairs(self):
        """Name and both geoms of whatever may touch, by the filters."""
        colliders = self.scene.colliders
        for i, first in enumerate(colliders):
            for j, second in enumerate(colliders[:i]):
                if not first.filter & second.filter:
                    for a in self.geoms[i]:
                        yield from ((f"{i} {j} {a} {b}", a, b) for b in self.geoms[j])
            if self.scene.ground:
                yield from ((f"{i} -1 {a} ground", a, "ground") for a in self.geoms[i])

    def set_properties(self, ids, shared) -> None:
        for index in ids:
            model, friction = self.models[index], [*shared.friction[index], 0.0]  # the ground's is 0
            model.jnt_stiffness[self.ids] = shared.stiffness[index]
            model.dof_damping[self.qvel] = shared.damping[index]
            for number in range(model.npair):
                i, j = (int(part) for part in model.pair(number).name.split()[:2])
                mean = (friction[i] + friction[j]) / 2
                model.pair_friction[number] = [mean, mean, 0.01, 1e-4, 1e-4]
            for number, actor in enumerate(self.scene.actors):
                body = model.body(f"{actor.name}/{actor.name}").id
                model.body_mass[body] = shared.mass[index, number]
                model.body_inertia[body] = self.inertia[body] * model.body_mass[body]
            self.mujoco.mj_setConst(model, self.mujoco.MjData(model))

    def write(self, ids) -> None:
        for index in ids:
            model, data = self.models[index], self.data[index]
            data.qacc_warmstart[:] = 0
            data.qpos[self.qpos], data.qvel[self.qvel] = self.joints[index].T
            for number, actor in enumerate(self.scene.actors):
                state = self.actors[index, number]
                place, quat_wxyz = state[:3], state[[6, 3, 4, 5]]
                if actor.fixed:
                    mocap = model.body(f"{actor.name}/{actor.name}").mocapid[0]
                    data.mocap_pos[mocap], data.mocap_quat[mocap] = place, quat_wxyz
                    continue
                joint, local = data.joint(actor.name), np.zeros(3)
                self.mujoco.mju_rotVecQuat(local, state[10:].astype(float), quat_wxyz * [1.0, -1, -1, -1])
                joint.qpos[:], joint.qvel[:] = [*place, *quat_wxyz], [*state[7:10], *local]

    def step(self, targets) -> None:
        for index, model in enumerate(self.models):
            data = self.data[index]
            model.qpos_spring[self.qpos] = targets[index]
            self.mujoco.mj_step(model, data, self.substeps)
            self.joints[index] = np.stack([data.qpos[self.qpos], data.qvel[self.qvel]], axis=1)
            data.qpos[self.qpos], data.qvel[self.qvel] = self.joints[index].T  # float32, as Isaac Gym's
            for number, actor in enumerate(self.scene.actors):
                if not actor.fixed:
                    joint, world = data.joint(actor.name), np.zeros(3)
                    self.mujoco.mju_rotVecQuat(world, joint.qvel[3:], joint.qpos[3:])
                    place, quat_wxyz = joint.qpos[:3], joint.qpos[3:]
                    self.actors[index, number] = [*place, *quat_wxyz[[1, 2, 3, 0]], *joint.qvel[:3], *world]


class Failing(Springs):
    """Fails in the second step."""

    def __init__(self, scene: protocol.Scene, shared: protocol.Shared, folder: str) -> None:
        super().__init__(scene, shared, folder)
        self.left = 60  # the reset takes 50

    def step(self, targets) -> None:
        super().step(targets)
        self.left -= 1
        if self.left == 0:
            os.write(1, b"PhysX error: invalid transform")  # where Isaac Gym prints, too
            if sys.argv[1] == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if sys.argv[1] == "dawdles":
                time.sleep(600)
            raise FloatingPointError("the solver diverged")


def preview4(scene: protocol.Scene, shared: protocol.Shared, folder: str) -> serving.Physics:
    import isaacgym_fake

    isaacgym_fake.install(scene, lambda properties: Mujoco(scene, properties, folder))
    from worker import preview4

    return preview4.Preview4(scene, shared, folder)


def unbuildable(scene: protocol.Scene, shared: protocol.Shared, folder: str) -> serving.Physics:
    raise ImportError("libpython3.8.so.1.0: cannot open shared object file")


if sys.argv[1] == "mute":
    sys.exit("No module named 'isaacgym'")
if sys.argv[1] == "babbles":
    os.write(1, b"Importing module 'gym_38'\n")
if sys.argv[1] == "outdated":
    serving.VERSION = 0
kinds = {"mujoco": Mujoco, "preview4": preview4, "springs": Springs, "outdated": Springs, "unbuildable": unbuildable}
serving.serve(kinds.get(sys.argv[1], Failing), sys.argv[3:])

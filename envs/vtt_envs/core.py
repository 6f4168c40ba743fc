"""The batched environment that every skin wraps: seeds, control steps, observations.

Legend: B environments, n of them, A action size, rows x columns taxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from vtt.errors import ConfigError, ShapeError, StateError
from vtt.streams import StreamSpec
from vtt_envs.camera import CAMERA, WRIST_CAMERA, RendererKind, Views, add_camera, add_wrist_camera, make_renderer
from vtt_envs.engine import Backend, make_engine
from vtt_envs.observations import FORCE, PAD, keys_of
from vtt_envs.randomisation import Randomisation, Randomiser, get_level
from vtt_envs.robots.base import TABLE
from vtt_envs.task import Task, rotate_back
from vtt_envs.touch import Touch
from vtt_envs.touch_variation import variation_patterns
from vtt_sensors.calibration import Calibration, get_calibration
from vtt_sensors.spec import get_spec

if TYPE_CHECKING:
    from vtt_envs.camera import Renderer

__all__ = ["BatchedEnv", "Step"]

_GRAVITY = 9.81  # m/s^2
_SETTLE_STEPS = 50  # physics steps after a reset in which the grip comes to rest


class Step(NamedTuple):
    """What a control step gives.

    Attributes:
        reward: Shape (B,).
        terminated: Whether the episode ended in success or beyond saving. Shape (B,).
        truncated: Whether it reached the horizon, or its physics blew up. Shape (B,).
        success: Shape (B,).
    """

    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    success: NDArray[np.bool_]


class BatchedEnv:
    """Many copies of one task, stepped together, without resets of their own.

    An environment that has ended stands still until it is reset. The same seed gives the same episode at any batch
    size and number of threads.

    | key | dtype, shape | meaning |
    |---|---|---|
    | `proprioception` | float32 (k,) | what the robot knows of itself: names in `stream_specs` |
    | `goal` | float32 (k,) | what is known of the target, with noise, in the tool frame; names in `stream_specs` |
    | `tactile_<finger>` | uint8 (rows, columns, 3) | tactile image; Mini: (48, 64, 3), a fifth of its 240x320 |
    | `force_<finger>` | float32 (rows/4, columns/4, 3) | normal, shear along columns, along rows; N per cell |
    | `wrench` | float32 (6,) | force [N] and torque [N m] of the surroundings on the tool, without weight |
    | `camera_front` | uint8 (64, 64, 3) | fixed camera; with `cameras` also `camera_wrist`, on the tool |
    | `privileged` | float32 (m,) | state of the objects |

    The fingers of a gripper are `left` and `right`; its proprioception is (14,): position [m] and quaternion wxyz of
    the tool in the base frame, twist [m/s, rad/s] in the tool frame, opening [m]. Goal and wrench are in its frame.

    Args:
        task: What to do, with which robot.
        num_envs: Number of environments B.
        observation: A word of `vtt_envs.observations.WORDS`, or several words and keys, joined by commas.
        num_threads: Physics threads; 0 takes all cores.
        device: Torch device of the touch simulation and, but for `"mujoco"`, of the physics.
        backend: What computes the physics: `"mujoco"`, `"mjwarp"` or `"isaacgym"` (docs/backends.md).
        renderer: How camera images are made; see `vtt_envs.camera`.
        cameras: Which cameras the words with a camera observe: `"front"` and `"wrist"`, on the tool.
        calibration: Optics of the pads' sensors; None is the calibration shipped for the robot's sensor.
        randomisation: What differs between episodes: a level's name or ranges; see `vtt_envs.randomisation`.

    Raises:
        MissingError: If there is no such observation word or level.
        ConfigError: If `num_envs` is not positive, or the back end lacks what the model needs.
        DependencyError: If a camera is observed by OpenGL on a machine without a context, or the back end is missing.
    """

    def __init__(
        self,
        task: Task,
        *,
        num_envs: int = 1,
        observation: str = "tactile",
        num_threads: int = 0,
        device: str = "cpu",
        backend: Backend = "mujoco",
        renderer: RendererKind = "gl",
        cameras: Sequence[str] = ("front",),
        calibration: Calibration | None = None,
        randomisation: str | Randomisation = "none",
    ) -> None:
        robot = task.robot
        if not cameras or len(set(cameras)) < len(cameras) or set(cameras) - {"front", "wrist"}:
            raise ConfigError(f"cameras must be some of front and wrist, once each, got {tuple(cameras)}.")
        self.keys = keys_of(observation, robot.fingers, cameras)
        self._cameras = tuple(key for key in self.keys if key in (CAMERA, WRIST_CAMERA))
        self._pads = tuple(f"{PAD}{finger}" for finger in robot.fingers)
        self._forces = tuple(f"{FORCE}{finger}" for finger in robot.fingers)
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1, got {num_envs}.")
        self.task = task
        self.num_envs = num_envs
        self.control_dt = task.substeps * task.physics_dt
        self.horizon = task.horizon
        if backend == "isaacgym":
            from vtt_envs.isaacgym.engine import check_support

            check_support(task, self.keys)
        robot.touch = any(key in self.keys for key in (*self._pads, *self._forces))
        spec = self._build(task)
        if WRIST_CAMERA in self._cameras:
            add_wrist_camera(spec)
        self.engine = make_engine(backend, spec.compile(), num_envs=num_envs, num_threads=num_threads, device=device)
        robot.bind(self.engine.model)
        task.bind(self.engine)
        self.sensor = get_spec(robot.sensor)
        self.calibration = calibration or get_calibration(self.sensor.name)
        self._randomiser = self._make_randomiser(get_level(randomisation))
        self._touch: Touch | None = None
        if robot.touch:
            self._touch = Touch(
                self.engine,
                robot,
                sensor=self.sensor,
                calibration=self.calibration,
                device=device,
                randomiser=self._randomiser,
            )
        self._renderer: Renderer | None = None
        self._renderer_kind: RendererKind = renderer
        self._views: Views | None = None
        if self._cameras:
            if self._randomiser is not None and self._randomiser.uses("camera_"):
                self._views = Views(self.engine, self._randomiser)
            self._renderer = make_renderer(renderer, self.engine, size=64, views=self._views)
        self.action_space = spaces.Box(-1.0, 1.0, (robot.action_size,), np.float32)
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self.done = np.ones(num_envs, dtype=bool)
        self._started = False
        self._observation = {
            key: np.zeros((num_envs, *s.shape), dtype=s.dtype) for key, s in self.stream_specs().items()
        }
        self.observation_space = spaces.Dict({key: _space(s) for key, s in self.stream_specs().items()})

    def _make_randomiser(self, randomisation: Randomisation) -> Randomiser | None:
        """Prepare what is to be drawn, of what is observed; nothing at level none."""
        robot, model = self.task.robot, self.engine.model
        leave_out = [*([] if robot.touch else ["touch_", "pad_"]), *([] if self._cameras else ["camera_"])]
        if not any(not name.startswith(tuple(leave_out)) for name in randomisation.ranges()):
            return None
        return Randomiser(
            randomisation,
            self.engine,
            self.task,
            control_dt=self.control_dt,
            cameras=["front", "wrist"] if WRIST_CAMERA in self._cameras else ["front"],
            leave_out=leave_out,
            patterns={
                **variation_patterns(len(robot.fingers), self.horizon),
                "camera_colour": (model.nbody, 3),
            },
        )

    @staticmethod
    def _build(task: Task) -> mujoco.MjSpec:
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        spec.option.timestep = task.physics_dt
        spec.option.gravity = [0, 0, -_GRAVITY]
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        # Elliptic cones with a stiff tangent keep a grasped object from creeping through the fingers.
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        spec.option.impratio = 50
        floor = spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1])
        floor.contype, floor.conaffinity, floor.rgba = TABLE, TABLE, [0.55, 0.55, 0.52, 1]
        task.robot.add_to(spec)
        task.build(spec)
        add_camera(spec, task.camera)
        for name, first, second in [
            *((f"contact_{f}", f"gel_{f}", task.objects[0]) for f in task.robot.fingers),
            ("contact_object", task.objects[0], task.surroundings[0]),
        ]:
            spec.add_sensor(
                name=name,
                type=mujoco.mjtSensor.mjSENS_CONTACT,
                objtype=mujoco.mjtObj.mjOBJ_BODY,
                objname=first,
                reftype=mujoco.mjtObj.mjOBJ_BODY,
                refname=second,
                intprm=[7, 3, 1],  # found, force, torque; summed over all contacts, in the world frame
            )
        return spec

    def stream_specs(self) -> dict[str, StreamSpec]:
        """Describe every observation as a stream of an episode store."""
        rate = 1 / self.control_dt
        robot = self.task.robot
        pad = robot.pad
        name, digest = self.sensor.name, self.calibration.hash
        specs = {
            "proprioception": StreamSpec(
                "vector",
                (len(robot.proprioception_names),),
                "float32",
                robot.proprioception_unit,
                rate,
                names=robot.proprioception_names,
            ),
            "goal": StreamSpec(
                "vector", (len(self.task.goal_names),), "float32", "SI", rate, names=self.task.goal_names
            ),
            **{key: StreamSpec("image", (64, 64, 3), "uint8", "1", rate) for key in self._cameras},
            **{
                key: StreamSpec("tactile_image", (*pad.taxels, 3), "uint8", "1", rate, name, digest)
                for key in self._pads
            },
            **{
                key: StreamSpec("force_grid", Touch.force_shape(pad), "float32", "N", rate, name)
                for key in self._forces
            },
            "wrench": StreamSpec("vector", (6,), "float32", "N, N m", rate),
            "privileged": StreamSpec(
                "vector", (len(self.task.privileged_names),), "float32", "SI", rate, names=self.task.privileged_names
            ),
        }
        return {key: specs[key] for key in self.keys}

    def rest_images(self) -> dict[str, NDArray[np.uint8]]:
        """Return the images of the untouched gels, by key. Shapes (rows, columns, 3)."""
        return {} if self._touch is None else {key: self._touch.rest_image.copy() for key in self._pads}

    def reset(self, seeds: Sequence[int], *, ids: NDArray[np.intp] | None = None) -> dict[str, NDArray]:
        """Start new episodes.

        Args:
            seeds: One seed for each of `ids`. Shape (n,).
            ids: The environments to reset, or None for all.

        Returns:
            The observation of all environments; arrays are reused by the next call. Shapes (B, ...).
        """
        ids = np.arange(self.num_envs) if ids is None else np.asarray(ids)
        if len(seeds) != len(ids):
            raise ShapeError(f"seeds must have one entry for each of {len(ids)} environments, got {len(seeds)}.")
        if len(ids):
            random = self._randomiser
            self.engine.reset(ids)
            if random is not None:
                random.restore(ids)
            self.task.reset(self.engine, ids, [np.random.default_rng(seed) for seed in seeds])
            if random is not None:
                random.begin(ids, seeds)
                for part in (self._touch, self._views):
                    if part is not None:
                        part.begin(ids)
            rest = self.task.rest_action or (0.0,) * self.task.robot.action_size
            self._control(ids, np.tile(rest, (len(ids), 1)))
            self.engine.step(_SETTLE_STEPS, ids=ids)
            self.engine.forward(ids=ids)
            self.steps[ids] = 0
            self.done[ids] = False
            self._update(ids)
        self._started = True
        return self._observation

    def step(self, action: NDArray[np.floating]) -> Step:
        """Advance every running environment by one control step; read `observation` afterwards.

        Args:
            action: In [-1, 1]; values outside are clipped. Shape (B, A).

        Raises:
            ShapeError: If `action` has another shape or holds NaN.
            StateError: If no episode was started.
        """
        if not self._started:
            raise StateError("step needs reset to be called first.")
        action = np.asarray(action)
        expected = (self.num_envs, self.task.robot.action_size)
        if action.shape != expected:
            raise ShapeError(f"action must have shape {expected}, got {action.shape}.")
        if np.isnan(action).any():
            raise ShapeError("action must be a number in [-1, 1], got NaN.")
        active = ~self.done
        running = np.flatnonzero(active)
        if len(running):
            wanted = np.clip(action[running], -1, 1)
            if self._randomiser is not None:
                wanted = self._randomiser.delay(running, wanted, self.steps[running])
            self._control(running, wanted)
            self.engine.step(self.task.substeps, ids=running)
            self.engine.forward(ids=running)
            self.steps[running] += 1
            self._update(running)
        lost = self.engine.lost(_SETTLE_STEPS + self.steps * self.task.substeps)
        success = active & ~lost & self.task.success(self.engine)
        failed = active & ~lost & ~success & self.task.failed(self.engine)
        reward = np.where(active, self.task.reward(self.engine, success), 0.0)
        terminated = success | failed
        truncated = active & ~terminated & (lost | (self.steps >= self.horizon))
        self.done |= terminated | truncated
        return Step(reward, terminated, truncated, success)

    @property
    def observation(self) -> dict[str, NDArray]:
        """Latest observation of all environments. Shapes (B, ...)."""
        return self._observation

    def set_randomisation(self, factor: float) -> None:
        """Shrink all ranges of the randomisation from the next reset on: a curriculum.

        Args:
            factor: In [0, 1]; 1 is the randomisation given, 0 is none of it.

        Raises:
            ConfigError: If `factor` is not in [0, 1].
        """
        if self._randomiser is not None:
            self._randomiser.set_factor(factor)
        else:
            Randomisation().scaled(factor)

    def drawn(self) -> dict[str, NDArray[np.float64]]:
        """Return what the randomisation has drawn for the present episodes, by name. Shapes (B,)."""
        return {} if self._randomiser is None else self._randomiser.drawn()

    def expert_action(self) -> NDArray[np.float32]:
        """Action of the privileged expert at the present state. Shape (B, A)."""
        return self.task.expert(self.engine)

    def contact(self) -> NDArray[np.bool_]:
        """Whether the object touches each pad, in the order of the fingers, and its surroundings. Shape (B, F + 1)."""
        names = (*self.task.robot.fingers, "object")
        return np.stack([self.engine.sensor(f"contact_{name}")[:, 0] > 0 for name in names], axis=1)

    def render(self, ids: NDArray[np.intp] | None = None) -> NDArray[np.uint8]:
        """Draw the front camera of some environments. Shape (n, H, W, 3)."""
        if self._renderer is None:
            self._renderer = make_renderer(self._renderer_kind, self.engine, size=64)
        return self._renderer.render(self.engine, np.arange(self.num_envs) if ids is None else ids)

    def close(self) -> None:
        """Release graphics contexts and other processes."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self.engine.close()

    def _control(self, ids: NDArray[np.intp], action: NDArray) -> None:
        self.engine.ctrl[ids] = self.task.robot.control(self.engine, ids, action, payload=self.task.payload)

    def _update(self, ids: NDArray[np.intp]) -> None:
        """Write the observation of some environments."""
        engine, out = self.engine, self._observation
        if "proprioception" in out:
            out["proprioception"][ids] = self.task.robot.proprioception(engine)[ids]
        if "goal" in out:
            out["goal"][ids] = self.task.goal(engine)[ids]
        if "privileged" in out:
            out["privileged"][ids] = self.task.privileged(engine)[ids]
        if "wrench" in out:
            out["wrench"][ids] = self._wrench()[ids]
        if self._touch is not None and self._pads[0] in out:
            images = self._touch.images(ids, self.steps[ids])
            for index, key in enumerate(self._pads):
                out[key][ids] = images[:, index]
        if self._touch is not None and self._forces[0] in out:
            for key, finger in zip(self._forces, self.task.robot.fingers, strict=True):
                out[key][ids] = self._touch.force(finger, ids)
        if self._renderer is not None:
            for camera in self._cameras:
                out[camera][ids] = self._renderer.render(engine, ids, camera=camera)
        if self._randomiser is not None:
            self._randomiser.disturb(out, ids, self.steps[ids])

    def _wrench(self) -> NDArray[np.float64]:
        """Force and torque of the surroundings on the tool, without weight, in the tool frame. Shape (B, 6)."""
        down = rotate_back(self.engine.body_rotation("tool"), np.tile([0.0, 0.0, -_GRAVITY], (self.num_envs, 1)))
        weight = down * (self.task.robot.mass + self.task.payload)
        moment = np.cross(np.array(self.task.robot.centre_of_mass) * self.task.robot.mass, down)
        force, torque = self.engine.sensor("wrist_force"), self.engine.sensor("wrist_torque")
        return np.concatenate([-force - weight, -torque - moment], axis=1)


def _space(spec: StreamSpec) -> spaces.Box:
    if spec.dtype == "uint8":
        return spaces.Box(0, 255, spec.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, spec.shape, np.float32)

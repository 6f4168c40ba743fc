"""The batched physics engine: many MuJoCo simulations of one model on a thread pool.

Legend: B simulations, S values of a sensor.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Literal, get_args

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch
from numpy.typing import NDArray

from vtt.errors import missing

__all__ = ["NEAR", "Backend", "Engine", "make_engine"]

Backend = Literal["mujoco", "mjwarp", "isaacgym"]

NEAR = "near_"  # names of geoms that make no force: their contacts only tell sensors what is near


class Engine:
    """`mujoco.batch.Batch` with sensors evaluated once per control step.

    MuJoCo evaluates every sensor in every substep. Touch sensors cost more than the physics, so they are switched off
    during the substeps, with the contacts that only they need, and computed once at the end, by a forward pass.
    Results do not depend on the number of threads (tested). MuJoCo's timers are stopped in the whole process.

    Args:
        model: The compiled model.
        num_envs: Number of simulations B.
        num_threads: Threads; 0 takes all cores.
    """

    def __init__(self, model: mujoco.MjModel, *, num_envs: int, num_threads: int = 0) -> None:
        _stop_timers()
        self.model = model
        self.device = "cpu"
        self.num_envs = num_envs
        self.num_threads = min(num_threads or len(os.sched_getaffinity(0)), num_envs)
        # One MjData for each thread, which stays in its caches, not one for each simulation.
        self.batch = Batch(model, num_envs, self.num_threads, persistent=False)
        self.qpos: NDArray[np.float64] = self.batch.bind("qpos")
        self.qvel: NDArray[np.float64] = self.batch.bind("qvel")
        self.ctrl: NDArray[np.float64] = self.batch.bind("ctrl")
        self.mocap_pos: NDArray[np.float64] = self.batch.bind("mocap_pos")
        self._time = self.batch.bind("time")
        self._sensordata = self.batch.bind("sensordata")
        self._xpos = self.batch.bind("xpos")
        self._xquat = self.batch.bind("xquat")
        self._xmat = self.batch.bind("xmat")
        self._readings = {
            model.sensor(index).name: slice(int(address), int(address + size))
            for index, (address, size) in enumerate(zip(model.sensor_adr, model.sensor_dim, strict=True))
        }
        self._bodies = {model.body(index).name: index for index in range(model.nbody)}
        self._disableflags = self.batch.expand("opt.disableflags")
        self._enabled = int(model.opt.disableflags)
        self._muted = self._enabled | int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
        self._near = [index for index in range(model.ngeom) if model.geom(index).name.startswith(NEAR)]
        self._near_contype = model.geom_contype[self._near]
        self._contype = self.batch.expand("geom_contype")

    def reset(self, ids: NDArray[np.intp]) -> None:
        """Set simulations back to the model's initial state; follow with writes and `forward`."""
        self.batch.reset(ids=ids, stage=mujoco.mjtStage.mjSTAGE_NONE)

    def step(self, substeps: int, *, ids: NDArray[np.intp] | None = None) -> None:
        """Advance by physics steps without computing sensors."""
        self._disableflags[:] = self._muted
        self._contype[:, self._near] = 0
        self.batch.step(ids=ids, nstep=substeps, stage=mujoco.mjtStage.mjSTAGE_NONE)

    def forward(self, *, ids: NDArray[np.intp] | None = None) -> None:
        """Compute poses and sensors at the present state."""
        self._disableflags[:] = self._enabled
        self._contype[:, self._near] = self._near_contype
        self.batch.forward(ids=ids)

    def lost(self, steps: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return which simulations blew up and were set back by MuJoCo since their reset, `steps` physics steps ago."""
        return self._time < (steps - 0.5) * self.model.opt.timestep

    def sensor(self, name: str) -> NDArray[np.float64]:
        """Return the readings of one sensor. Shape (B, S)."""
        return self._sensordata[:, self._readings[name]]

    def sensor_tensor(self, name: str, ids: NDArray[np.intp], *, size: int) -> torch.Tensor:
        """Return the first `size` readings of one sensor where the physics has them, on `device`. Shape (n, size)."""
        return torch.from_numpy(self.sensor(name)[ids, :size])

    def body_position(self, name: str) -> NDArray[np.float64]:
        """Return a body's position in the world, in [m]. Shape (B, 3)."""
        return self._xpos[:, self._bodies[name]]

    def body_rotation(self, name: str) -> NDArray[np.float64]:
        """Return a body's axes in the world, as columns. Shape (B, 3, 3)."""
        return self._xmat[:, self._bodies[name]].reshape(-1, 3, 3)

    def body_quat(self, name: str) -> NDArray[np.float64]:
        """Return a body's orientation in the world as quaternions wxyz. Shape (B, 4)."""
        return self._xquat[:, self._bodies[name]]

    def expand(self, name: str) -> NDArray:
        """Give a model field one value per simulation, to write to; `set_const` must follow. Shape (B, ...)."""
        return self.batch.expand(name)

    def write_model(self, index: int, model: mujoco.MjModel) -> None:
        """Write the model of one simulation, with its own values, into a copy of the model."""
        self.batch.get_model(index, model)

    def data(self, index: int) -> mujoco.MjData:
        """Compute everything that MuJoCo knows of one simulation at its present state."""
        data, model = self.batch.get_data(index), self.batch.get_model(index)
        mujoco.mj_forward(model, data)
        return data

    def set_const(self, ids: NDArray[np.intp]) -> None:
        """Recompute what the model derives from masses, inertias and lengths."""
        self.batch.set_const(ids=ids)

    def ray(
        self, origin: NDArray, directions: NDArray, *, ids: NDArray[np.intp], geomgroup: NDArray[np.uint8]
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Cast rays; return distance in [m], the geom hit or -1, and its normal. Shapes (n, R), (n, R), (n, R, 3).

        Origin and directions are everyone's, (3,) and (R, 3), or each simulation's, (n, 1, 3) and (n, R, 3).
        """
        return self.batch.ray(origin, directions, geomgroup=geomgroup, ids=ids, normal=True)

    def close(self) -> None:
        """Release what the process holds elsewhere, of which MuJoCo has nothing."""


def _stop_timers() -> None:
    """Stop MuJoCo's timers, whose clock takes 4 % of the physics; nothing here reads them."""
    for library in Path(mujoco.__file__).parent.glob("libmujoco.*"):
        ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time").value = None


def make_engine(backend: Backend, model: mujoco.MjModel, *, num_envs: int, num_threads: int, device: str) -> Engine:
    """Make the engine of a back end.

    Raises:
        MissingError: If there is no such back end.
        DependencyError: If what it needs is not installed.
        ConfigError: If it lacks something that the model uses.
    """
    if backend == "mujoco":
        return Engine(model, num_envs=num_envs, num_threads=num_threads)
    if backend == "mjwarp":
        from vtt_envs.warp_engine import WarpEngine

        return WarpEngine(model, num_envs=num_envs, num_threads=num_threads, device=device)
    if backend == "isaacgym":
        from vtt_envs.isaacgym.engine import IsaacGymEngine

        return IsaacGymEngine(model, num_envs=num_envs, num_threads=num_threads, device=device)
    raise missing("backend", backend, get_args(Backend))

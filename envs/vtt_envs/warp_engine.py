"""The batched physics engine on mujoco-warp: MuJoCo written in Warp kernels, for thousands of environments on a GPU.

Legend: B simulations, S values of a sensor.
"""

from __future__ import annotations

import copy
import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from vtt.errors import ConfigError, DependencyError
from vtt_envs.engine import Engine

__all__ = ["WarpEngine"]

_log = logging.getLogger(__name__)

# What `set_const` derives, and what therefore needs a value per simulation.
_DERIVED = (
    "actuator_acc0",
    "body_invweight0",
    "body_subtreemass",
    "dof_invweight0",
    "eq_data",
    "geom_aabb",
    "geom_rbound",
    "tendon_invweight0",
    "tendon_length0",
)
# What moves geoms that are fixed to the world.
_POSES = ("body_pos", "body_quat", "geom_pos", "geom_quat")


class WarpEngine(Engine):
    """`Engine` by mujoco-warp: the same model, tasks and sensors, computed in float32 on one device.

    The task code keeps its numpy arrays: `qpos`, `qvel`, `ctrl`, `mocap_pos`, poses and all readings but touch are
    float64 copies on the host, sent before and fetched after each `step` and `forward`. Touch, by far the largest
    reading, stays on the device: take it from `sensor_tensor`.

    All simulations are computed at every call; those outside `ids` are put back as they were. One physics step and one
    forward pass are recorded once and replayed, on a CPU too, where it is ten times as fast as launching each kernel.
    mujoco-warp is asked for results that repeat to the last bit at any batch size (tested on a CPU).

    Args:
        model: The compiled model.
        num_envs: Number of simulations B.
        num_threads: Threads of what runs beside the physics; 0 takes all cores. On a CPU the physics takes one.
        device: Warp device: `"cpu"`, `"cuda"` or `"cuda:0"`, ...
        max_contacts: Contacts per simulation that memory is kept for, on average over the batch.
        max_constraints: Rows of constraints per simulation that memory is kept for. A simulation that needs more has
            blown up, see `lost`.

    Raises:
        DependencyError: If mujoco-warp is not installed, or there is no such device.
        ConfigError: If mujoco-warp lacks something that the model uses.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        num_envs: int,
        num_threads: int = 0,
        device: str = "cpu",
        max_contacts: int = 64,
        max_constraints: int = 256,
    ) -> None:
        self._warp, self._mjwarp = _import(device)
        overflow = self._mjwarp.OverflowType
        self._full = int(
            overflow.NEFC | overflow.NJMAX_NNZ | overflow.BROADPHASE | overflow.NARROWPHASE | overflow.TACTILE
        )
        # Searches that mujoco-warp does in its own way, and refuses to be told to leave out.
        model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_ISLAND | mujoco.mjtDisableBit.mjDSBL_MIDPHASE)
        self.model = model
        self.num_envs = num_envs
        self.num_threads = min(num_threads or len(os.sched_getaffinity(0)), num_envs)
        self.device = device
        self._limits = {"nconmax": max_contacts, "njmax": max_constraints}
        self._expanded: dict[str, NDArray] = {}
        self._lost = np.zeros(num_envs, dtype=bool)
        self._bodies = {model.body(index).name: index for index in range(model.nbody)}
        self._columns = {
            model.sensor(index).name: slice(int(address), int(address + size))
            for index, (address, size) in enumerate(zip(model.sensor_adr, model.sensor_dim, strict=True))
        }
        owner = model.geom_bodyid
        self._fixed = np.flatnonzero(
            (model.body_weldid[owner] == 0) & (model.body_mocapid[model.body_rootid[owner]] == -1)
        )
        self._load()
        # What the task code reads and writes.
        self.qpos = np.tile(model.qpos0, (num_envs, 1))
        self.qvel = np.zeros((num_envs, model.nv))
        self.ctrl = np.zeros((num_envs, model.nu))
        self.mocap_pos = np.tile(model.body_pos[_mocap_bodies(model)], (num_envs, 1, 1))
        self._xpos, self._xquat, self._xmat = (np.zeros((num_envs, model.nbody, size)) for size in (3, 4, 9))
        touch = model.sensor_type == mujoco.mjtSensor.mjSENS_TACTILE
        self._small = np.flatnonzero(np.repeat(~touch, model.sensor_dim))
        self._sensordata = np.zeros((num_envs, len(self._small)))
        ends = np.cumsum(np.where(touch, 0, model.sensor_dim))
        self._readings = {
            model.sensor(index).name: slice(int(ends[index] - model.sensor_dim[index]), int(ends[index]))
            for index in np.flatnonzero(~touch)
        }

    def reset(self, ids: NDArray[np.intp]) -> None:
        """Set simulations back to the model's initial state; follow with writes and `forward`."""
        self.qpos[ids] = self.model.qpos0
        self.qvel[ids] = 0
        self.ctrl[ids] = 0
        self.mocap_pos[ids] = self.model.body_pos[_mocap_bodies(self.model)]
        self._lost[ids] = False
        for hidden in self._state()[2:]:
            hidden[self._index(ids)] = 0

    def step(self, substeps: int, *, ids: NDArray[np.intp] | None = None) -> None:
        """Advance by physics steps without computing sensors."""
        rows = self._rows(ids)
        self._launch("step", substeps, rows)
        self.qpos[rows], self.qvel[rows] = self._fetch("qpos", rows), self._fetch("qvel", rows)
        state = np.concatenate([self.qpos[rows], self.qvel[rows]], axis=1)
        sane = (np.abs(state) < mujoco.mjMAXVAL).all(axis=1)  # NaN is not
        full = (self._fetch("overflow", rows).astype(int) & self._full) != 0
        self._view("overflow").zero_()
        if full.any():
            _log.warning(
                "%d simulations met more contacts or constraints than memory is kept for and count as lost. "
                "Raise max_contacts or max_constraints of WarpEngine.",
                full.sum(),
            )
        bad = rows[~sane | full]
        self.reset(bad)
        self._lost[bad] = True

    def forward(self, *, ids: NDArray[np.intp] | None = None) -> None:
        """Compute poses and sensors at the present state."""
        rows = self._rows(ids)
        self._launch("forward", 1, rows)
        self._xpos[rows], self._xquat[rows] = self._fetch("xpos", rows), self._fetch("xquat", rows)
        self._xmat[rows] = self._fetch("xmat", rows).reshape(len(rows), -1, 9)
        self._sensordata[rows] = self._fetch("sensordata", rows, self._small)

    def lost(self, steps: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return which simulations blew up and were set back since their reset."""
        return self._lost.copy()

    def sensor(self, name: str) -> NDArray:
        """Return the readings of one sensor; touch is fetched from the device at each call. Shape (B, S)."""
        if name in self._readings:
            return self._sensordata[:, self._readings[name]]
        return self.sensor_tensor(name).cpu().numpy()

    def sensor_tensor(self, name: str, ids: NDArray[np.intp] | None = None, *, size: int | None = None) -> torch.Tensor:
        """Return the readings of one sensor, or the first `size` of them, as float32 on the device. Shape (n, S).

        Without `ids` it is a view of the physics' own memory.
        """
        readings = self._view("sensordata")[:, self._columns[name]][:, :size]
        return readings if ids is None else readings[self._index(ids)]

    def expand(self, name: str) -> NDArray:
        """Give a field of the model a value per simulation, to be written to; after that, call `set_const`. (B, ...).

        Raises:
            ConfigError: If mujoco-warp has no such field per simulation.
        """
        if name not in self._expanded:
            owner, field = self._field(self._model, name)
            source, _ = self._field(self.model, name)
            if not getattr(getattr(owner, field, None), "_is_batched", False) or not hasattr(source, field):
                raise ConfigError(
                    f"'{name}' must be a field that mujoco-warp keeps per simulation. Choose one, or backend='mujoco'."
                )
            self._expanded[name] = np.repeat(np.asarray(getattr(source, field))[None], self.num_envs, axis=0)
            self._load()
        return self._expanded[name]

    def write_model(self, index: int, model: mujoco.MjModel) -> None:
        """Write the values that differ between simulations into a copy of the model; see `Engine`."""
        for name, values in self._expanded.items():
            owner, field = self._field(model, name)
            setattr(owner, field, values[index])

    def set_const(self, ids: NDArray[np.intp]) -> None:
        """Recompute what the model derives from masses, inertias and lengths."""
        self._send_model()
        self._replay("set_const")

    def ray(
        self, origin: NDArray, directions: NDArray, *, ids: NDArray[np.intp], geomgroup: NDArray[np.uint8]
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Cast rays, on the host by MuJoCo; see `Engine.ray`."""
        origins = np.broadcast_to(np.reshape(origin, (-1, 3)), (len(ids), 3))
        rays = np.broadcast_to(directions, (len(ids), *directions.shape[-2:]))
        shape = rays.shape[:2]
        distance, geom, normal = np.empty(shape), np.empty(shape, dtype=np.int32), np.empty((*shape, 3))
        for row, data in enumerate(self._on_host(ids)):
            hit = (geom[row], distance[row], normal[row].reshape(-1))
            mujoco.mj_multiRay(
                data.model, data, origins[row], rays[row].ravel(), geomgroup, True, -1, *hit, shape[1], mujoco.mjMAXVAL
            )
        return distance, geom, normal

    def _load(self) -> None:
        """Put model and data on the device; `_replay` records on them anew."""
        warp, mjwarp = self._warp, self._mjwarp
        fields = [name for name in self._expanded if not name.startswith("opt.")]
        with warp.ScopedDevice(self.device), warnings.catch_warnings():
            # MuJoCo takes the larger friction of two geoms, so one of them may have none.
            warnings.filterwarnings("ignore", message=".*MJ_MINMU", category=UserWarning)
            try:
                self._model = mjwarp.put_model(
                    self.model, batch_sizes=dict.fromkeys([*_DERIVED, *fields], self.num_envs)
                )
                self._data = mjwarp.make_data(self.model, nworld=self.num_envs, **self._limits)
            except (NotImplementedError, ValueError) as error:
                raise ConfigError(f"mujoco-warp cannot run this model: {error} Use backend='mujoco'.") from error
            for name in self._expanded:
                owner, field = self._field(self._model, name)
                if owner is self._model.opt:  # `batch_sizes` covers the rest
                    array = getattr(owner, field)
                    setattr(owner, field, warp.zeros((self.num_envs, *array.shape[1:]), dtype=array.dtype))
            self._model.opt.warn_overflow = 0  # `step` tells
            self._model.opt.deterministic = int(mjwarp.DeterminismType.ALL)
        self._views: dict[str, torch.Tensor] = {}
        self._sent: dict[str, NDArray] = {}
        self._graphs: dict[str, Any] = {}

    def _record(self, name: str) -> Any:
        """Compile and record one of mujoco-warp's functions; the simulations stay as they are."""
        _log.info("Recording '%s' on %s; its kernels compile at their first use.", name, self.device)
        enabled = int(self.model.opt.disableflags)
        muted = enabled | int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
        self._model.opt.disableflags = muted if name == "step" else enabled
        function = getattr(self._mjwarp, name)
        kept = [view.clone() for view in self._state()]
        with self._warp.ScopedDevice(self.device):
            function(self._model, self._data)
            self._wait()
            for view, before in zip(self._state(), kept, strict=True):
                view.copy_(before)
            self._view("overflow").zero_()
            self._wait()
            with self._warp.ScopedCapture() as capture:
                function(self._model, self._data)
        return capture.graph

    def _launch(self, name: str, count: int, rows: NDArray[np.intp]) -> None:
        """Send what the host has written and replay a function; simulations that are not in `rows` stay."""
        for field in ("qpos", "qvel", "ctrl", "mocap_pos"):
            values = getattr(self, field)
            if values.size:
                self._view(field).copy_(torch.from_numpy(values).reshape(self._view(field).shape))
        self._send_model()
        idle = self._index(np.setdiff1d(np.arange(self.num_envs), rows))
        kept = [view[idle] for view in self._state()]
        self._replay(name, count)
        for view, before in zip(self._state(), kept, strict=True):
            view[idle] = before

    def _replay(self, name: str, count: int = 1) -> None:
        if name not in self._graphs:
            self._graphs[name] = self._record(name)
        self._wait()
        for _ in range(count):
            self._warp.capture_launch(self._graphs[name])
        self._wait()

    def _wait(self) -> None:
        """Let torch and Warp, which have streams of their own, wait for each other."""
        if self._view("qpos").is_cuda:
            torch.cuda.synchronize(self._view("qpos").device)

    def _state(self) -> list[torch.Tensor]:
        """What a physics step hands to the next."""
        names = ("qpos", "qvel", "qacc_warmstart", "act")
        return [self._view(name) for name in (names if self.model.na else names[:-1])]

    def _view(self, name: str) -> torch.Tensor:
        """A field of mujoco-warp's data, as a tensor on the same memory."""
        if name not in self._views:
            self._views[name] = self._warp.to_torch(getattr(self._data, name))
        return self._views[name]

    def _fetch(self, name: str, rows: NDArray[np.intp], columns: NDArray[np.intp] | None = None) -> NDArray:
        view = self._view(name)
        return (view if columns is None else view[:, self._index(columns)]).cpu().numpy()[rows]

    def _index(self, ids: NDArray[np.intp]) -> torch.Tensor:
        return torch.as_tensor(ids, device=self._view("qpos").device)

    def _rows(self, ids: NDArray[np.intp] | None) -> NDArray[np.intp]:
        return np.arange(self.num_envs) if ids is None else np.asarray(ids)

    @staticmethod
    def _field(model: Any, name: str) -> tuple[Any, str]:
        """Owner and name of a field of a model, which may be one of its options."""
        return (model.opt, name.removeprefix("opt.")) if name.startswith("opt.") else (model, name)

    def _send_model(self) -> None:
        """Send the values per simulation that have changed."""
        moved = np.zeros(self.num_envs, dtype=bool)
        for name, values in self._expanded.items():
            if name not in self._sent or not np.array_equal(values, self._sent[name]):
                view = self._warp.to_torch(getattr(*self._field(self._model, name)))
                view.copy_(torch.from_numpy(values).reshape(view.shape))
                if name in _POSES:
                    old = self._sent.get(name, np.nan)
                    moved |= (values != old).reshape(self.num_envs, -1).any(axis=1)
                self._sent[name] = values.copy()
        # mujoco-warp takes the poses of what is fixed to the world as they were when its data was made.
        ids = np.flatnonzero(moved)
        where = (self._index(ids)[:, None], self._index(self._fixed))
        poses = [(data.geom_xpos[self._fixed], data.geom_xmat[self._fixed]) for data in self._on_host(ids)]
        for name, values in zip(("geom_xpos", "geom_xmat"), zip(*poses, strict=True), strict=False):
            view = self._view(name)
            view[where] = torch.from_numpy(np.stack(values)).to(view).unflatten(-1, view.shape[2:])

    def _on_host(self, ids: NDArray[np.intp]) -> Iterator[mujoco.MjData]:
        """MuJoCo's poses of some simulations; the object is reused."""
        if not len(ids):
            return
        model = copy.copy(self.model)
        model.geom_sameframe[:] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE  # else MuJoCo overlooks a new `geom_pos`
        data = mujoco.MjData(model)
        for index in ids:
            self.write_model(int(index), model)
            data.qpos[:], data.mocap_pos[:] = self.qpos[index], self.mocap_pos[index]
            mujoco.mj_kinematics(model, data)
            yield data


def _mocap_bodies(model: mujoco.MjModel) -> NDArray[np.intp]:
    """Bodies that are moved from outside, in the order of `mocap_pos`."""
    bodies = np.flatnonzero(model.body_mocapid >= 0)
    return bodies[np.argsort(model.body_mocapid[bodies])]


def _import(device: str) -> tuple[Any, Any]:
    """Import Warp and mujoco-warp, and see that the device exists."""
    try:
        warp = importlib.import_module("warp")
        warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)  # not a line for each kernel
        mjwarp = importlib.import_module("mujoco_warp")
    except ImportError as error:
        raise DependencyError(
            f"backend='mjwarp' needs mujoco-warp ({error}). Install it with pip install 'vtt-stack[mjwarp]'."
        ) from error
    try:
        found = warp.get_device(device)
    except (ValueError, RuntimeError) as error:
        raise DependencyError(f"backend='mjwarp' found no device '{device}' ({error}). Pass device='cpu'.") from error
    if found.is_cuda and not torch.cuda.is_available():
        raise DependencyError(f"device='{device}' needs a torch built for CUDA, got {torch.__version__}. Install one.")
    return warp, mjwarp

"""What computes one step of a policy: torch or ONNX Runtime, each imported only when chosen.

Arrays carry a batch of one: B = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, DependencyError, StoreError, missing
from vtt_policies.deploy.contract import Contract

if TYPE_CHECKING:  # a robot with ONNX Runtime has no torch
    from torch import nn

__all__ = ["Backend", "Engine", "OnnxEngine", "TorchEngine", "input_names", "output_names", "start_engine"]

Backend = Literal["torch", "onnx"]


class Engine(Protocol):
    """One step of a network."""

    def step(
        self, observation: Mapping[str, NDArray], state: Mapping[str, NDArray]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray]]:
        """Return the action (1, A), or a chunk (1, K, A), and the new memory."""
        ...


class TorchEngine:
    """Runs a policy's own network.

    Args:
        stepper: From `Deployable.stepper`, on the CPU, in evaluation mode.
        threads: Threads of torch, for the whole process; None leaves them.
    """

    def __init__(self, stepper: nn.Module, *, threads: int | None = None) -> None:
        import torch

        self._torch = torch
        self._stepper = stepper.eval()
        if threads is not None:
            torch.set_num_threads(threads)

    def step(
        self, observation: Mapping[str, NDArray], state: Mapping[str, NDArray]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray]]:
        """Return the action, or a chunk, and the new memory."""
        from vtt.normalizer import as_tensor

        with self._torch.inference_mode():
            seen = {key: as_tensor(value) for key, value in observation.items()}
            action, new = self._stepper(seen, {name: as_tensor(value) for name, value in state.items()})
        return action.numpy(), {name: value.numpy() for name, value in new.items()}


class OnnxEngine:
    """Runs `policy.onnx`.

    Args:
        path: The file.
        contract: What its inputs and outputs are.
        threads: Threads within an operator; None lets ONNX Runtime choose.

    Raises:
        DependencyError: If onnxruntime is not installed.
        StoreError: If there is no such file, or it is damaged.
        ConfigError: If it is not of the contract.
    """

    def __init__(self, path: Path, contract: Contract, *, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise DependencyError("The backend 'onnx' needs onnxruntime. Run `pip install onnxruntime`.") from error
        if not path.exists():
            raise StoreError(f"No {path}. Export the bundle with `vtt export --to onnx`.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no base class of their own
            raise StoreError(f"{path} is damaged ({error}).") from error
        self._states = tuple(contract.state)
        # What does not reach the action is dropped by the exporter.
        self._inputs = {given.name for given in self._session.get_inputs()}
        expected = set(input_names(contract))
        if not self._inputs <= expected:
            raise ConfigError(f"{path} must have the inputs {sorted(expected)}, got {sorted(self._inputs)}.")

    def step(
        self, observation: Mapping[str, NDArray], state: Mapping[str, NDArray]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray]]:
        """Return the action, or a chunk, and the new memory."""
        given = {**observation, **{_memory(name): value for name, value in state.items()}}
        action, *new = self._session.run(None, {name: given[name] for name in self._inputs})
        return np.asarray(action), {name: np.asarray(value) for name, value in zip(self._states, new, strict=True)}


def start_engine(folder: Path, contract: Contract, backend: Backend, *, threads: int | None = None) -> Engine:
    """Start an engine on a bundle."""
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}.")
    if backend == "onnx":
        return OnnxEngine(folder / "policy.onnx", contract, threads=threads)
    if backend != "torch":
        raise missing("backend", backend, ("torch", "onnx"))
    try:
        from vtt_policies.bundle import load_policy
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise DependencyError("The backend 'torch' needs torch. Install it, or use backend=\"onnx\".") from error
    return TorchEngine(load_policy(folder)[0].stepper(), threads=threads)


def input_names(contract: Contract) -> list[str]:
    """Name the inputs of `policy.onnx`: the observation keys, then each memory."""
    return [*contract.observation, *map(_memory, contract.state)]


def output_names(contract: Contract) -> list[str]:
    """Name the outputs of `policy.onnx`: the action or chunk, then each memory after the step."""
    return ["action", *(f"next.{name}" for name in contract.state)]


def _memory(name: str) -> str:
    """Name a memory; no observation key has a dot."""
    return f"memory.{name}"

"""Make a bundle: a checkpoint without what training needs, with a contract, checked against the policy it came from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vtt import checkpoint
from vtt.errors import ConfigError, DependencyError, StateError
from vtt.files import atomic_folder
from vtt.streams import StreamSpec
from vtt_policies.bundle import find_checkpoint, load_policy
from vtt_policies.deploy.contract import NOISE, Contract
from vtt_policies.deploy.engines import OnnxEngine, TorchEngine, input_names, output_names
from vtt_policies.deploy.limits import Limits
from vtt_policies.observations import ObservationGroups
from vtt_policies.policy import Deployable

__all__ = ["TOLERANCE", "export_bundle", "sample_observation"]

TOLERANCE = 1e-5
"""Largest difference of an action, in units of its range [-1, 1], between torch and ONNX Runtime."""

_CHECKED_STEPS = 4

_README = """# A policy for a robot: {kind}

Trained by vtt{env}. Needs the package `vtt-stack` and NumPy, with torch and safetensors, or with ONNX Runtime:

    pip install --no-deps vtt-stack
    pip install numpy {needs}

```python
from vtt_policies.deploy import load

policy = load("{name}"{backend})
policy.check(specs)  # what the robot's sensors deliver: other shapes, units or calibrations are refused
policy.reset()
action = policy.act(observation)
```

## Observation

One array per key, without a batch axis. Anything else is refused; further keys are never read.

| key | dtype and shape | unit | rate | sensor | calibration | components |
|---|---|---|---|---|---|---|
{rows}

## Action

{action_dim} components in [-1, 1], at most {magnitude:g} and changing by at most {rate:g} per control step. What is not
finite is replaced by zero, and `policy.verdict` says so.{chunks}
"""


def export_bundle(path: Path, out: Path, *, onnx: bool = False, limits: Limits | None = None) -> Contract:
    """Write a bundle.

    Args:
        path: Run, of which the newest checkpoint is taken, or checkpoint.
        out: New folder to write.
        onnx: Also write `policy.onnx`, and check that it acts as torch does.
        limits: Bounds of the actions.

    Returns:
        The contract of the bundle.

    Raises:
        ConfigError: If the policy sees what only a simulator knows, cannot be run on a robot, or `out` is taken.
        DependencyError: If the packages for ONNX are not installed.
        StateError: If ONNX Runtime acts otherwise than torch.
    """
    if out.exists():
        raise ConfigError(f"out must be a new folder, got {out}, which exists. Choose another name or remove it.")
    if onnx:
        _need_onnx()
    policy, specs = load_policy(path)
    ObservationGroups(student=policy.keys)  # refuses privileged observations
    contract = _contract(policy, specs, limits or Limits())
    config = checkpoint.load(find_checkpoint(path)).config
    run = config.get("run", {})
    with atomic_folder(out) as partial:
        checkpoint.save(
            partial / "bundle",
            model=policy.network,
            config={"kind": policy.kind, "made_of": policy.made_of(), "run": run, "deploy": contract.to_dict()},
            normalizer=policy.normalizer,
            observation=specs,
            readme=_readme(contract, str(run.get("env") or ""), name=out.name, onnx=onnx),
        )
        for file in (partial / "bundle").iterdir():
            file.rename(partial / file.name)
        (partial / "bundle").rmdir()
        if onnx:
            _write_onnx(partial / "policy.onnx", policy, contract)
            _compare(partial / "policy.onnx", policy, contract)
    return contract


def sample_observation(contract: Contract, *, rng: np.random.Generator) -> dict[str, NDArray]:
    """Draw an observation that a contract allows, without meaning: for checks and timing. Shapes as in the specs."""
    drawn = {}
    for key, spec in contract.observation.items():
        if np.dtype(spec.dtype).kind == "f":
            drawn[key] = rng.standard_normal(spec.shape).astype(spec.dtype)
        else:
            drawn[key] = rng.integers(0, 2 if spec.dtype == "bool" else 128, spec.shape).astype(spec.dtype)
    return drawn


def _contract(policy: Deployable, specs: Mapping[str, StreamSpec], limits: Limits) -> Contract:
    """Find out how a policy is executed, by one step of it."""
    state = policy.initial_state(1)
    for name, memory in state.items():
        if name != NOISE and bool(memory.any()):
            raise ConfigError(f"The memory '{name}' of a {policy.kind} must begin at zero to be exported.")
    contract = Contract(
        kind=policy.kind,
        observation=specs,
        action_dim=1,
        state={name: tuple(memory.shape[1:]) for name, memory in state.items()},
        limits=limits,
        obs_horizon=getattr(policy, "obs_horizon", None),
        action_horizon=getattr(policy, "action_horizon", None),
        ensemble=getattr(policy, "ensemble", None),
    )
    seen, memory = _example(contract)
    action, new = TorchEngine(policy.stepper()).step(seen, memory)
    if {name: value.shape for name, value in new.items()} != {name: value.shape for name, value in memory.items()}:
        raise ConfigError(f"A {policy.kind} must return the memory that it is given ({', '.join(memory)}).")
    return replace(contract, action_dim=action.shape[-1])


def _example(contract: Contract, *, seed: int = 0) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Draw the input of one step: observations (1, ...), or (1, T, ...), and an empty memory."""
    rng = np.random.default_rng(seed)
    frames = [sample_observation(contract, rng=rng) for _ in range(contract.obs_horizon or 1)]
    seen = {key: np.stack([frame[key] for frame in frames]) for key in contract.observation}
    if contract.obs_horizon is not None:
        seen = {key: value[None] for key, value in seen.items()}
    state = {name: np.zeros((1, *shape), np.float32) for name, shape in contract.state.items()}
    if NOISE in state:
        state[NOISE] = rng.standard_normal(state[NOISE].shape, np.float32)
    return seen, state


class _Flat(nn.Module):
    """A stepper with its inputs and outputs in a row, as ONNX has them."""

    def __init__(self, stepper: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.stepper = stepper
        self.keys = tuple(contract.observation)
        self.states = tuple(contract.state)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Take one step."""
        count = len(self.keys)
        seen = dict(zip(self.keys, inputs[:count], strict=True))
        action, new = self.stepper(seen, dict(zip(self.states, inputs[count:], strict=True)))
        # What is returned as it was given would make an output that is an input, which ONNX does not have.
        return action, *(new[name].clone() for name in self.states)


def _write_onnx(path: Path, policy: Deployable, contract: Contract) -> None:
    """Export one step at batch 1; weights stay inside the file."""
    flat = _Flat(policy.stepper(), contract).eval()
    seen, state = _example(contract)
    example = tuple(torch.from_numpy(value) for value in (*seen.values(), *state.values()))
    quiet = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in quiet]
    for logger in quiet:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter about itself
            flat(*example)  # fills what is computed once, outside the trace
            torch.onnx.export(
                flat,
                example,
                str(path),
                dynamo=True,
                external_data=False,
                input_names=input_names(contract),
                output_names=output_names(contract),
                verbose=False,
            )
    finally:
        for logger, level in zip(quiet, levels, strict=True):
            logger.setLevel(level)


def _compare(path: Path, policy: Deployable, contract: Contract) -> None:
    """Let both backends act on the same observations."""
    engines: list[Any] = [TorchEngine(policy.stepper()), OnnxEngine(path, contract, threads=1)]
    _, state = _example(contract)
    states = [state, state]
    for step in range(_CHECKED_STEPS):
        seen, _ = _example(contract, seed=step)
        actions = []
        for index, engine in enumerate(engines):
            action, states[index] = engine.step(seen, states[index])
            actions.append(action)
        apart = float(np.abs(actions[0] - actions[1]).max())
        if not apart <= TOLERANCE:
            raise StateError(
                f"policy.onnx must act as torch does within {TOLERANCE:g}, got a difference of {apart:.2g} at step "
                f"{step}. Export with `--to bundle` and run it with torch."
            )


def _need_onnx() -> None:
    """Look for the exporter's packages before anything is written."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DependencyError(f"Export to ONNX needs {error.name}. Run `pip install 'vtt-stack[onnx]'`.") from error


def _readme(contract: Contract, env: str, *, name: str, onnx: bool) -> str:
    """Write what a robot's owner needs to know."""
    rows = "\n".join(
        f"| `{key}` | {spec.dtype} {spec.shape} | {spec.unit or '-'} | {spec.rate_hz:g} Hz | {spec.sensor or '-'} | "
        f"{spec.calibration_hash or '-'} | {', '.join(spec.names) or '-'} |"
        for key, spec in contract.observation.items()
    )
    chunks = ""
    if contract.action_horizon is not None:
        how = "averaged over all that overlap" if contract.ensemble is not None else "one after the other"
        chunks = f"\n\nThe network says a chunk of actions; {contract.action_horizon} of each are executed, {how}."
    return _README.format(
        kind=contract.kind,
        env=f" on `{env}`" if env else "",
        needs="onnxruntime" if onnx else "torch safetensors",
        backend=', backend="onnx"' if onnx else "",
        name=name,
        rows=rows,
        action_dim=contract.action_dim,
        magnitude=contract.limits.max_magnitude,
        rate=contract.limits.max_rate,
        chunks=chunks,
    )

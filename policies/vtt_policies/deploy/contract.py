"""What a deployed policy must be shown, and how it is executed: the files of a bundle without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, MissingError, ShapeError, StoreError
from vtt.files import read_json
from vtt.streams import StreamSpec
from vtt_policies.deploy.limits import Limits

__all__ = ["NOISE", "PREVIOUS_ACTION", "Contract", "check_arrays", "read_contract"]

PREVIOUS_ACTION = "previous_action"
"""Name of a memory in which whoever executes actions writes what was executed, if the policy has it."""

NOISE = "noise"
"""Name of a memory that is not remembered but drawn anew, from a normal distribution, whenever the network runs."""


@dataclass(frozen=True)
class Contract:
    """How a bundle is run.

    Attributes:
        kind: Kind of the policy.
        observation: Spec of each key that it must be shown, in order.
        action_dim: Components of an action.
        state: Shape of each memory, without the batch; zero at the start of an episode, or `NOISE`.
        limits: Bounds of its actions.
        obs_horizon: Latest frames that the network sees at once; None if it sees one, without an axis of frames.
        action_horizon: Steps executed of each chunk; None if the network decides every step.
        ensemble: Decay of the temporal ensemble over chunks; None for none.
    """

    kind: str
    observation: Mapping[str, StreamSpec]
    action_dim: int
    state: Mapping[str, tuple[int, ...]]
    limits: Limits
    obs_horizon: int | None = None
    action_horizon: int | None = None
    ensemble: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """List what `config.json` holds of it under `deploy`."""
        return {
            "action_dim": self.action_dim,
            "state": {name: list(shape) for name, shape in self.state.items()},
            "limits": {"max_magnitude": self.limits.max_magnitude, "max_rate": self.limits.max_rate},
            "obs_horizon": self.obs_horizon,
            "action_horizon": self.action_horizon,
            "ensemble": self.ensemble,
        }


def read_contract(folder: Path) -> Contract:
    """Read the contract of a bundle.

    Raises:
        StoreError: If there is no bundle, or it is damaged.
    """
    config, observation = read_json(folder / "config.json"), read_json(folder / "observation.json")
    try:
        deploy = config["config"].get("deploy")
        if deploy is None:
            raise ConfigError(f"{folder} must be a bundle, got a checkpoint. Run `vtt export --policy {folder}` first.")
        return Contract(
            kind=config["config"]["kind"],
            observation={key: StreamSpec.from_dict(spec) for key, spec in observation.items()},
            state={name: tuple(shape) for name, shape in deploy.pop("state").items()},
            limits=Limits(**deploy.pop("limits")),
            **deploy,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"Bundle {folder} is damaged ({error!r}).") from error


def check_arrays(observation: Mapping[str, NDArray], specs: Mapping[str, StreamSpec]) -> None:
    """Refuse one step's observations that are not as specified.

    Args:
        observation: Arrays by key; further keys are never read.
        specs: What the policy must be shown.

    Raises:
        MissingError: If a key is missing; names both sides.
        ShapeError: If an array has another shape or dtype.
        ConfigError: If an array holds NaN or infinity.
    """
    absent = [key for key in specs if key not in observation]
    if absent:
        raise MissingError(
            f"The policy expects {', '.join(specs)}, but {', '.join(observation) or 'nothing'} arrives. "
            f"Missing: {', '.join(absent)}."
        )
    for key, spec in specs.items():
        array = observation[key]
        if not isinstance(array, np.ndarray) or array.shape != spec.shape or array.dtype != spec.dtype:
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ShapeError(f"Observation '{key}' must be {spec.dtype} {spec.shape}, got {got}.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            where = [spec.names[i] for i in np.flatnonzero(~np.isfinite(array))] if spec.names else []
            raise ConfigError(
                f"Observation '{key}' must be finite, got NaN or infinity{' in ' + ', '.join(where) if where else ''}."
            )

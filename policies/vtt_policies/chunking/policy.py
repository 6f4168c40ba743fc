"""Policies that act in chunks: normalise the latest frames, predict a chunk, execute its beginning.

Axes: B environments · T frames · K steps of a chunk · A action dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vtt.affine import Affine
from vtt.encoders import Encoder, EncoderConfig, SignalSpec, build_encoder, signal_specs
from vtt.normalizer import Normalizer
from vtt.streams import StreamSpec
from vtt_policies.chunking.act import Act
from vtt_policies.chunking.config import ActConfig, DiffusionConfig, from_dict
from vtt_policies.chunking.diffusion import Diffusion
from vtt_policies.chunking.encoders import Encoders
from vtt_policies.chunks import ObservationHistory, chunk_executor
from vtt_policies.policy import Deployable, Observation

__all__ = ["ACTION", "ActPolicy", "ChunkPolicy", "DiffusionPolicy"]

ACTION = "action"
"""Key of the actions in the normaliser."""


class ChunkPolicy(Deployable):
    """What both policies share.

    Attributes:
        obs_horizon: Frames T that the stepper is shown, the newest last: its observations are (B, T, ...).
        action_horizon: Steps executed of each chunk.
        ensemble: Decay of a temporal ensemble, or None.

    Args:
        network: The network.
        normalizer: Prepares observations, and actions under the key `ACTION`.
        keys: Observations that the policy sees.
        device: Where the network is.
        seed: Draws the noise that chunks are made from; the same in every episode, another in every environment.
    """

    network: Act | Diffusion

    def __init__(
        self,
        network: Act | Diffusion,
        normalizer: Normalizer,
        *,
        keys: tuple[str, ...],
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(network, normalizer, keys=keys, device=device)
        config = network.config
        self.obs_horizon = config.obs_horizon
        self.action_horizon = config.n_action_steps
        self.ensemble = config.temporal_ensemble_coeff
        self._seed = seed
        self._history = ObservationHistory(self.obs_horizon)
        self._executor = chunk_executor(self.action_horizon, ensemble=self.ensemble)
        self._rows = np.arange(0)
        self._num_envs = 0

    def reset(self, num_envs: int) -> None:
        """Forget the past; `num_envs` episodes begin."""
        super().reset(num_envs)
        self._history.reset()
        self._executor.reset()
        self._generator = torch.Generator().manual_seed(self._seed)
        self._rows, self._num_envs = np.arange(num_envs), num_envs

    @torch.inference_mode()
    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Decide. Shape (B, A), in [-1, 1]."""
        state = self._remembered("act")
        seen = {key: value.numpy(force=True) for key, value in self.observe(observation).items()}
        frames = self._history.add(seen)
        if self._executor.due:
            # Drawn for every environment there was at the start: what one gets does not depend on who else is left.
            fresh = {
                name: torch.randn(self._num_envs, *memory.shape[1:], generator=self._generator)[self._rows]
                for name, memory in state.items()
            }
            shown = {key: torch.from_numpy(value).to(self.device) for key, value in frames.items()}
            drawn = {name: memory.to(self.device) for name, memory in fresh.items()}
            chunk, _ = self.stepper()(shown, drawn)
            self._executor.add(chunk.numpy(force=True))
        return self._executor.next()

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with these environments only."""
        super().keep(rows)
        self._history.keep(rows)
        self._executor.keep(rows)
        self._rows = self._rows[rows]

    def made_of(self) -> dict[str, Any]:
        """Tell sizes, signals and the joint encoder."""
        encoders = self.network.encoders
        return {
            "network": asdict(self.network.config),
            "joint": encoders.made_of(),
            "may_be_absent": list(self.network.may_be_absent),
            "action_dim": self.network.action_dim,
        }

    @classmethod
    def build(
        cls,
        made_of: Mapping[str, Any],
        specs: Mapping[str, StreamSpec],
        normalizer: Normalizer,
        *,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Build an untrained policy."""
        joint, frozen = None, False
        if made_of["joint"]:
            signals = {
                key: SignalSpec(**{**signal, "shape": tuple(signal["shape"])})
                for key, signal in made_of["joint"]["signals"].items()
            }
            joint = build_encoder(EncoderConfig.from_dict(made_of["joint"]["config"]), signals)
            frozen = made_of["joint"]["frozen"]
        config = cls.config_from(made_of["network"])
        network = cls.make_network(
            config,
            specs,
            action_dim=made_of["action_dim"],
            joint=joint,
            frozen=frozen,
            may_be_absent=tuple(made_of["may_be_absent"]),
        )
        return cls(network.to(device), normalizer, keys=tuple(specs), device=device)

    @classmethod
    @abstractmethod
    def config_from(cls, values: Mapping[str, Any]) -> ActConfig | DiffusionConfig:
        """Read the settings of the network."""

    @classmethod
    @abstractmethod
    def make_network(
        cls,
        config: Any,
        specs: Mapping[str, StreamSpec],
        *,
        action_dim: int,
        joint: Encoder | None = None,
        frozen: bool = False,
        may_be_absent: tuple[str, ...] = (),
    ) -> Act | Diffusion:
        """Build the network for what is seen."""

    def stepper(self) -> nn.Module:
        """Return the prediction of a chunk that begins now, from frames (B, T, ...)."""
        return _Step(self.network.eval(), self.normalizer.to(self.device))

    @property
    def action_entry(self) -> Affine:
        """How actions are normalised."""
        return self.normalizer.to(self.device).entries[ACTION]


class ActPolicy(ChunkPolicy):
    """Acts with an action chunking transformer."""

    kind = "act"

    @classmethod
    def config_from(cls, values: Mapping[str, Any]) -> ActConfig:
        """Read the settings of the network."""
        return from_dict(ActConfig, values)

    @classmethod
    def make_network(
        cls,
        config: ActConfig,
        specs: Mapping[str, StreamSpec],
        *,
        action_dim: int,
        joint: Encoder | None = None,
        frozen: bool = False,
        may_be_absent: tuple[str, ...] = (),
    ) -> Act:
        """Build the network for what is seen."""
        encoders = Encoders(config.encoders, signal_specs(specs, specs), joint=joint, frozen=frozen)
        return Act(config, encoders, action_dim=action_dim, may_be_absent=may_be_absent)

    def initial_state(self, num_envs: int) -> dict[str, Tensor]:
        """Return nothing: the queue of actions is outside."""
        return {}


class DiffusionPolicy(ChunkPolicy):
    """Acts with a diffusion policy."""

    kind = "diffusion"

    @classmethod
    def config_from(cls, values: Mapping[str, Any]) -> DiffusionConfig:
        """Read the settings of the network."""
        return from_dict(DiffusionConfig, values)

    @classmethod
    def make_network(
        cls,
        config: DiffusionConfig,
        specs: Mapping[str, StreamSpec],
        *,
        action_dim: int,
        joint: Encoder | None = None,
        frozen: bool = False,
        may_be_absent: tuple[str, ...] = (),
    ) -> Diffusion:
        """Build the network for what is seen."""
        encoders = Encoders(config.encoders, signal_specs(specs, specs), joint=joint, frozen=frozen)
        return Diffusion(config, encoders, action_dim=action_dim, may_be_absent=may_be_absent)

    def initial_state(self, num_envs: int) -> dict[str, Tensor]:
        """Return the noise of the first chunk; whoever executes chunks draws it anew for each."""
        assert isinstance(self.network, Diffusion)
        shape = (num_envs, self.network.draws, self.network.config.horizon, self.network.action_dim)
        return {"noise": torch.randn(shape, generator=torch.Generator().manual_seed(self._seed)).to(self.device)}


class _Step(nn.Module):
    """Raw frames to the chunk that begins now."""

    def __init__(self, network: Act | Diffusion, normalizer: Normalizer) -> None:
        super().__init__()
        self.network = network
        self.normalizer = normalizer

    def forward(
        self, observation: Mapping[str, Tensor], state: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict. Frames (B, T, ...) to a chunk (B, K, A)."""
        prepared = self.normalizer.prepare(observation)
        if isinstance(self.network, Act):
            chunk = self.network(prepared).chunk
        else:
            whole = self.network.denoise(self.network.condition(prepared), state["noise"])
            chunk = whole[:, self.network.config.n_obs_steps - 1 :]  # what lies in the past is over
        entry = self.normalizer.entries[ACTION]
        chunk = chunk * entry.scale + entry.offset
        return chunk.clamp(-1.0, 1.0) if self.network.config.bounded else chunk, dict(state)

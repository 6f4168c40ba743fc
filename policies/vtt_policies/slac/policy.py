"""A SLAC policy: encoder and actor, with the memory of the latest frames. The latent model is not needed to act.

Axes: B environments · S frames that the actor sees · F feature · A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vtt.normalizer import Normalizer
from vtt.streams import StreamSpec
from vtt_policies.policy import PREVIOUS_ACTION, Deployable, Observation
from vtt_policies.slac.agent import Actor
from vtt_policies.slac.config import ModelConfig
from vtt_policies.slac.model import Frames

__all__ = ["SlacNetwork", "SlacPolicy"]


class SlacNetwork(nn.Module):
    """Encoder and actor.

    Args:
        specs: What is seen.
        config: The encoder, and the frames that the actor sees.
        hidden_dim: Width of the actor.
        action_dim: A.
        num_contacts: Contact verdicts of the encoder.
    """

    def __init__(
        self,
        specs: Mapping[str, StreamSpec],
        *,
        config: ModelConfig,
        hidden_dim: int,
        action_dim: int,
        num_contacts: int,
    ) -> None:
        super().__init__()
        self.config, self.hidden_dim = config, hidden_dim
        self.action_dim, self.num_contacts = action_dim, num_contacts
        self.frames = Frames(specs, config=config, num_contacts=num_contacts)
        self.actor = Actor(self.frames.feature_dim, action_dim, sequence=config.sequence, hidden=hidden_dim)


class SlacPolicy(Deployable):
    """Takes the most likely action; `sample` draws one.

    Args:
        network: Encoder and actor.
        normalizer: Turns raw observations into what the network was trained on.
        keys: What it sees; all else is never read.
        device: Where the network is.
    """

    kind = "slac"
    network: SlacNetwork

    def __init__(
        self, network: SlacNetwork, normalizer: Normalizer, *, keys: tuple[str, ...], device: str | torch.device = "cpu"
    ) -> None:
        super().__init__(network, normalizer, keys=keys, device=device)

    def made_of(self) -> dict[str, Any]:
        """Tell settings and sizes."""
        network = self.network
        sizes = {name: getattr(network, name) for name in ("hidden_dim", "action_dim", "num_contacts")}
        return {"config": asdict(network.config), **sizes}

    @classmethod
    def build(
        cls,
        made_of: Mapping[str, Any],
        specs: Mapping[str, StreamSpec],
        normalizer: Normalizer,
        *,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Build an untrained policy; its weights come from torch's global generator."""
        network = SlacNetwork(specs, **{**made_of, "config": ModelConfig(**made_of["config"])})
        return cls(network.to(device), normalizer, keys=tuple(specs), device=device)

    def stepper(self) -> nn.Module:
        """Return one control step."""
        return _Step(self.network, self.normalizer.to(self.device))

    def initial_state(self, num_envs: int) -> dict[str, Tensor]:
        """Return a memory of nothing: `features` (B, S - 1, F), the actions between them, and the previous action."""
        network, earlier = self.network, self.network.config.sequence - 1
        lengths = {
            "features": (earlier, network.frames.feature_dim),
            "actions": (earlier - 1, network.action_dim),
            PREVIOUS_ACTION: (network.action_dim,),
        }
        return {name: torch.zeros(num_envs, *shape, device=self.device) for name, shape in lengths.items()}

    @torch.no_grad()
    def sample(self, observation: Observation, *, generator: torch.Generator) -> NDArray[np.float32]:
        """Draw actions, as training does to explore. Shape (B, A), in (-1, 1)."""
        state = self._remembered("sample")
        self.network.eval()
        seen = _recollect(self.network, self.normalizer.prepare(self.observe(observation)), state)
        action, _ = self.network.actor.sample(*seen, generator=generator)
        self._state = _remember(*seen, action)
        return action.numpy(force=True)

    def forget(self, mask: NDArray[np.bool_]) -> None:
        """Forget the past of some environments, whose next episodes begin. Shape (B,)."""
        chosen = torch.as_tensor(mask, device=self.device)
        state = self._remembered("forget")
        self._state = {
            name: memory.masked_fill(chosen.view(-1, *[1] * (memory.ndim - 1)), 0.0) for name, memory in state.items()
        }


class _Step(nn.Module):
    """Raw observations and memory to action and memory."""

    def __init__(self, network: SlacNetwork, normalizer: Normalizer) -> None:
        super().__init__()
        self.network = network
        self.normalizer = normalizer

    def forward(
        self, observation: Mapping[str, Tensor], state: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take one step. Action (B, A)."""
        seen = _recollect(self.network, self.normalizer.prepare(observation), state)
        action = self.network.actor(*seen)[0].tanh()
        return action, _remember(*seen, action)


def _recollect(
    network: SlacNetwork, prepared: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Join memory and present: features (B, S, F), actions (B, S - 1, A)."""
    feature, _ = network.frames(prepared)
    actions = torch.cat((state["actions"], state[PREVIOUS_ACTION][:, None]), 1)
    return torch.cat((state["features"], feature[:, None]), 1), actions


def _remember(features: Tensor, actions: Tensor, action: Tensor) -> dict[str, Tensor]:
    """Drop the oldest."""
    return {"features": features[:, 1:], "actions": actions[:, 1:], PREVIOUS_ACTION: action}

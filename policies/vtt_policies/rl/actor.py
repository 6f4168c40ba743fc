"""A learned actor to deploy: features, memory, layers, action. Knows nothing of how it was trained.

B environments, A action dimensions, D width of the memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from vtt.errors import missing
from vtt.normalizer import Normalizer
from vtt.streams import StreamSpec
from vtt_policies.policy import Deployable
from vtt_policies.rl.features import Features

__all__ = ["Actor", "ActorPolicy", "Standardise", "build_layers", "describe_layers"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Standardise(nn.Module):
    """Batch normalisation whose statistics stand still: (x - mean) / sqrt(variance + eps) * scale + bias.

    Args:
        width: Length of x.
        eps: Added to the variance.
    """

    mean: Tensor
    variance: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        for name, value in (("mean", 0.0), ("variance", 1.0), ("scale", 1.0), ("bias", 0.0)):
            self.register_buffer(name, torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise. Shape (B, width)."""
        return self.scale * ((x - self.mean) / (self.variance + self.eps).sqrt()) + self.bias


def describe_layers(layers: nn.Sequential) -> list[list[Any]]:
    """Tell what `build_layers` needs, ready for JSON.

    Raises:
        MissingError: If a layer is of a kind that a deployed actor cannot have.

    Example:
        >>> describe_layers(nn.Sequential(nn.Linear(3, 8), nn.Tanh()))
        [['linear', 3, 8], ['tanh']]
    """
    described: list[list[Any]] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            described.append(["linear", layer.in_features, layer.out_features])
        elif isinstance(layer, Standardise):
            described.append(["standardise", layer.width, layer.eps])
        else:
            names = [name for name, kind in _ACTIVATIONS.items() if isinstance(layer, kind)]
            if not names:
                raise missing("deployable layer", type(layer).__name__, ("linear", "standardise", *_ACTIVATIONS))
            described.append(names)
    return described


def build_layers(described: Sequence[Sequence[Any]]) -> nn.Sequential:
    """Build layers that have learned nothing, from what `describe_layers` told."""
    layers: list[nn.Module] = []
    for kind, *sizes in described:
        if kind == "linear":
            layers.append(nn.Linear(*sizes))
        elif kind == "standardise":
            layers.append(Standardise(sizes[0], eps=sizes[1]))
        else:
            layers.append(_ACTIVATIONS[kind]())
    return nn.Sequential(*layers)


class Actor(nn.Module):
    """The mean action of a policy.

    Args:
        features: Turns normalised observations into features.
        memory: Remembers them; None decides each step by itself.
        layers: From features or memory to the action before its bound.
        bound: How the action is brought into [-1, 1].
    """

    def __init__(
        self, features: Features, memory: nn.LSTM | None, layers: nn.Sequential, *, bound: Literal["clip", "tanh"]
    ) -> None:
        super().__init__()
        self.features = features
        self.memory = memory
        self.layers = layers
        self.bound: Literal["clip", "tanh"] = bound

    def forward(
        self, observation: Mapping[str, Tensor], state: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Decide one step.

        Args:
            observation: Normalised observations.
            state: `memory` and `cell` of the LSTM, each (B, D); nothing without memory.

        Returns:
            Actions in [-1, 1] of shape (B, A), and the new memory.
        """
        new: dict[str, Tensor] = {}
        frame = self.features(observation)
        if self.memory is not None:
            # Time first, as in training.
            remembered, (memory, cell) = self.memory(frame[None], (state["memory"][None], state["cell"][None]))
            frame, new["memory"], new["cell"] = remembered[0], memory[0], cell[0]
        action = self.layers(frame)
        return action.clamp(-1.0, 1.0) if self.bound == "clip" else action.tanh(), new


class ActorPolicy(Deployable):
    """Acts with the mean action of an actor."""

    kind = "actor"
    network: Actor

    def made_of(self) -> dict[str, Any]:
        """Tell encoder, memory and layers."""
        memory = self.network.memory
        return {
            "features": self.network.features.made_of(),
            "memory": [memory.input_size, memory.hidden_size] if memory is not None else None,
            "layers": describe_layers(self.network.layers),
            "bound": self.network.bound,
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
        """Build an untrained actor."""
        memory = nn.LSTM(*made_of["memory"]) if made_of["memory"] else None
        features = Features.build(made_of["features"], specs)
        actor = Actor(features, memory, build_layers(made_of["layers"]), bound=made_of["bound"])
        return cls(actor.to(device), normalizer, keys=tuple(specs), device=device)

    def stepper(self) -> nn.Module:
        """Return one control step."""
        return _Step(self.network, self.normalizer.to(self.device))

    def initial_state(self, num_envs: int) -> dict[str, Tensor]:
        """Return an empty memory."""
        memory = self.network.memory
        if memory is None:
            return {}
        return {name: torch.zeros(num_envs, memory.hidden_size, device=self.device) for name in ("memory", "cell")}


class _Step(nn.Module):
    """Raw observations and memory to action and memory."""

    def __init__(self, actor: Actor, normalizer: Normalizer) -> None:
        super().__init__()
        self.actor = actor
        self.normalizer = normalizer

    def forward(
        self, observation: Mapping[str, Tensor], state: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take one step. Action (B, A)."""
        return self.actor(self.normalizer.prepare(observation), state)

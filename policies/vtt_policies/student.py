"""A deployable student: encoder per frame, memory over time, action.

B episodes or environments, T steps, N steps of all episodes in a row, D width, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vtt.encoders import Encoder, EncoderConfig, SignalSpec, build_encoder, signal_specs
from vtt.errors import ConfigError
from vtt.normalizer import Normalizer
from vtt.streams import StreamSpec
from vtt_policies.config import StudentConfig
from vtt_policies.deploy.contract import PREVIOUS_ACTION
from vtt_policies.policy import Deployable, Observation

__all__ = ["Student", "StudentPolicy", "student_for"]


class Student(nn.Module):
    """Encodes each frame, remembers, and decides.

    Vectors reach the memory both through the encoder, where they meet touch and vision, and directly, because a pose in
    metres is needed exactly.

    Args:
        config: Width and memory.
        encoder: Encodes each frame to a latent of shape (N, latent_dim).
        encoder_keys: Observations that the encoder sees.
        vectors: Lengths of the vectors that reach the memory directly.
        action_dim: Number of action dimensions.
    """

    def __init__(
        self,
        config: StudentConfig,
        *,
        encoder: Encoder,
        encoder_keys: tuple[str, ...],
        vectors: Mapping[str, int],
        action_dim: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.encoder_keys = encoder_keys
        self.vector_keys = tuple(vectors)
        self.action_dim = action_dim
        width = config.hidden_dim
        latent_dim = encoder.config.latent_dim
        inputs = latent_dim + sum(vectors.values()) + (action_dim if config.previous_action else 0)
        # The scale of a pretrained latent is arbitrary.
        self.latent_norm = nn.LayerNorm(latent_dim)
        self.inlet = nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width), nn.SiLU())
        self.memory = nn.GRU(width, width, batch_first=True) if config.recurrent else None
        self.head = nn.Sequential(
            nn.Linear(2 * width if config.recurrent else width, width), nn.SiLU(), nn.Linear(width, action_dim)
        )

    def encode(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Encode normalised observations, frame by frame. Shape (N, latent_dim)."""
        return self.encoder({key: observation[key] for key in self.encoder_keys}).latent

    def forward(
        self, latent: Tensor, observation: Mapping[str, Tensor], previous_action: Tensor, lengths: Tensor
    ) -> Tensor:
        """Decide every step of whole episodes, each from an empty memory.

        Args:
            latent: Output of `encode`. Shape (N, latent_dim).
            observation: Normalised observations, of which the vectors are used. Shapes (N, n).
            previous_action: Shape (N, A).
            lengths: Steps of each episode, which follow each other in the arrays above. Shape (B,).

        Returns:
            Actions, not clamped, so that the loss has a slope everywhere. Shape (N, A).
        """
        frame = self._inlet(latent, observation, previous_action)
        if self.memory is None:
            return self.head(frame)
        alive = torch.arange(int(lengths.max()), device=frame.device) < lengths[:, None]  # (B, T)
        padded = frame.new_zeros(*alive.shape, frame.shape[-1])
        padded[alive] = frame
        remembered, _ = self.memory(padded)
        return self.head(torch.cat((remembered[alive], frame), dim=-1))

    def step(
        self, latent: Tensor, observation: Mapping[str, Tensor], state: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Decide one step of B environments, and move their memory on.

        Args:
            latent: Shape (B, latent_dim).
            observation: Normalised observations. Shapes (B, n).
            state: `memory` (B, D) if recurrent, `previous_action` (B, A) if that is seen.

        Returns:
            Actions in [-1, 1] of shape (B, A), and the new memory.
        """
        new: dict[str, Tensor] = {}
        frame = self._inlet(latent, observation, state.get(PREVIOUS_ACTION))
        if self.memory is not None:
            remembered, memory = self.memory(frame[:, None], state["memory"][None])
            frame, new["memory"] = torch.cat((remembered[:, 0], frame), dim=-1), memory[0]
        action = self.head(frame).clamp(-1.0, 1.0)
        if self.config.previous_action:
            new[PREVIOUS_ACTION] = action
        return action, new

    def _inlet(self, latent: Tensor, observation: Mapping[str, Tensor], previous_action: Tensor | None) -> Tensor:
        """Join what is known of each frame. Shape (N, D)."""
        parts = [self.latent_norm(latent), *(observation[key] for key in self.vector_keys)]
        if self.config.previous_action and previous_action is not None:
            parts.append(previous_action)
        return self.inlet(torch.cat(parts, dim=-1))


def student_for(
    specs: Mapping[str, StreamSpec], encoder: Encoder, *, network: StudentConfig, action_dim: int
) -> Student:
    """Put memory and head on an encoder, which sees whatever it knows of the observations."""
    signals = signal_specs(specs, specs)
    seen = tuple(key for key in signals if key in encoder.signals)
    if not seen:
        raise ConfigError(
            f"The encoder must know something of what the student sees ({', '.join(signals)}), "
            f"got an encoder of {', '.join(encoder.signals)}."
        )
    lost = [key for key, signal in signals.items() if key not in seen and signal.kind != "vector"]
    if lost:
        raise ConfigError(
            f"The encoder must know all images and force grids that the student sees, not {', '.join(lost)}."
        )
    vectors = {key: signal.shape[0] for key, signal in signals.items() if signal.kind == "vector"}
    return Student(network, encoder=encoder, encoder_keys=seen, vectors=vectors, action_dim=action_dim)


class StudentPolicy(Deployable):
    """Acts with a student: normalises, encodes all environments in one pass, remembers.

    Args:
        student: The network.
        normalizer: Turns raw observations into what the network was trained on.
        keys: Observations that the student sees; all others are never read.
        device: Where the network is.
    """

    kind = "student"
    network: Student

    def __init__(
        self, student: Student, normalizer: Normalizer, *, keys: tuple[str, ...], device: str | torch.device = "cpu"
    ) -> None:
        super().__init__(student, normalizer, keys=keys, device=device)

    def made_of(self) -> dict[str, Any]:
        """Tell sizes, encoder and the signals that the encoder knows, which may be more than the student sees."""
        encoder = self.network.encoder
        return {
            "network": asdict(self.network.config),
            "encoder": encoder.config.to_dict(),
            "signals": {key: asdict(signal) for key, signal in encoder.signals.items()},
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
        """Build an untrained student."""
        signals = {
            key: SignalSpec(**{**signal, "shape": tuple(signal["shape"])}) for key, signal in made_of["signals"].items()
        }
        encoder = build_encoder(EncoderConfig.from_dict(made_of["encoder"]), signals)
        network = StudentConfig(**made_of["network"])
        student = student_for(specs, encoder, network=network, action_dim=made_of["action_dim"])
        return cls(student.to(device), normalizer, keys=tuple(specs), device=device)

    def stepper(self) -> nn.Module:
        """Return one control step."""
        return _Step(self.network, self.normalizer.to(self.device))

    def initial_state(self, num_envs: int) -> dict[str, Tensor]:
        """Return an empty memory, and no previous action."""
        config, state = self.network.config, {}
        if config.recurrent:
            state["memory"] = torch.zeros(num_envs, config.hidden_dim, device=self.device)
        if config.previous_action:
            state[PREVIOUS_ACTION] = torch.zeros(num_envs, self.network.action_dim, device=self.device)
        return state

    @torch.inference_mode()
    def encode_episode(self, episode: Observation) -> NDArray[np.float32]:
        """Encode all frames of an episode. Shape (T, latent_dim)."""
        self.network.eval()
        prepared = self.normalizer.prepare({key: episode[key] for key in self.keys}, device=self.device)
        return self.network.encode(prepared).numpy(force=True)


class _Step(nn.Module):
    """Raw observations and memory to action and memory."""

    def __init__(self, student: Student, normalizer: Normalizer) -> None:
        super().__init__()
        self.student = student
        self.normalizer = normalizer

    def forward(
        self, observation: Mapping[str, Tensor], state: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take one step. Action (B, A)."""
        prepared = self.normalizer.prepare(observation)
        return self.student.step(self.student.encode(prepared), prepared, state)

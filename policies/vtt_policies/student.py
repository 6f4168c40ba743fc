"""A deployable student: encoder per frame, memory over time, action.

B episodes or environments, T steps, N steps of all episodes in a row, D width, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vtt.encoders import Encoder
from vtt.errors import StateError
from vtt.images import from_network
from vtt.normalizer import Normalizer
from vtt_policies.config import StudentConfig
from vtt_policies.policy import Observation

__all__ = ["Student", "StudentPolicy"]


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
        self, latent: Tensor, observation: Mapping[str, Tensor], previous_action: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decide one step of B environments, and move their memory on.

        Args:
            latent: Shape (B, latent_dim).
            observation: Normalised observations. Shapes (B, n).
            previous_action: Shape (B, A).
            state: Memory. Shape (1, B, D).

        Returns:
            Actions in [-1, 1] of shape (B, A), and the new memory.
        """
        frame = self._inlet(latent, observation, previous_action)
        if self.memory is not None:
            remembered, state = self.memory(frame[:, None], state)
            frame = torch.cat((remembered[:, 0], frame), dim=-1)
        return self.head(frame).clamp(-1.0, 1.0), state

    def _inlet(self, latent: Tensor, observation: Mapping[str, Tensor], previous_action: Tensor) -> Tensor:
        """Join what is known of each frame. Shape (N, D)."""
        parts = [self.latent_norm(latent), *(observation[key] for key in self.vector_keys)]
        if self.config.previous_action:
            parts.append(previous_action)
        return self.inlet(torch.cat(parts, dim=-1))


class StudentPolicy:
    """Acts with a student: normalises, encodes all environments in one pass, remembers.

    Args:
        student: The network.
        normalizer: Turns raw observations into what the network was trained on.
        keys: Observations that the student sees; all others are never read.
        device: Where the network is.
    """

    def __init__(
        self, student: Student, normalizer: Normalizer, *, keys: tuple[str, ...], device: str | torch.device = "cpu"
    ) -> None:
        self.student = student
        self.normalizer = normalizer
        self.keys = keys
        self._device = torch.device(device)
        self._state: Tensor | None = None
        self._previous: Tensor | None = None

    def reset(self, num_envs: int) -> None:
        """Forget the past; `num_envs` episodes begin."""
        self._state = torch.zeros(1, num_envs, self.student.config.hidden_dim, device=self._device)
        self._previous = torch.zeros(num_envs, self.student.action_dim, device=self._device)

    @torch.inference_mode()
    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Decide. Shape (B, A), in [-1, 1]."""
        if self._state is None or self._previous is None:
            raise StateError("act needs reset to be called first.")
        self.student.eval()
        prepared = self.normalizer.prepare({key: observation[key] for key in self.keys}, device=self._device)
        latent = self.student.encode(prepared)
        self._previous, self._state = self.student.step(latent, prepared, self._previous, self._state)
        return self._previous.numpy(force=True)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with these environments only."""
        if self._state is None or self._previous is None:
            raise StateError("keep needs reset to be called first.")
        chosen = torch.as_tensor(rows, device=self._device)
        self._state, self._previous = self._state[:, chosen], self._previous[chosen]

    def recall(self, action: NDArray[np.float32]) -> None:
        """Take note of what was executed instead of the last answer of `act`. Shape (B, A)."""
        self._previous = torch.as_tensor(action, device=self._device)

    @torch.inference_mode()
    def encode_episode(self, episode: Observation) -> NDArray[np.float32]:
        """Encode all frames of an episode. Shape (T, latent_dim)."""
        self.student.eval()
        prepared = self.normalizer.prepare({key: episode[key] for key in self.keys}, device=self._device)
        return self.student.encode(prepared).numpy(force=True)

    def rest_images(self) -> dict[str, NDArray[np.uint8]]:
        """Return what the student takes for untouched gels, by key. Shape (H, W, 3)."""
        entries = self.normalizer.entries
        chosen = [key for key in self.keys if entries[key].kind == "tactile_image"]
        return {key: from_network(entries[key].offset).cpu().numpy() for key in chosen}

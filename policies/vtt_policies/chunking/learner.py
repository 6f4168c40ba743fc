"""Fits ACT or diffusion policy to demonstrated chunks.

Axes: B windows · T frames · K steps of a chunk · A action dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtt_policies.chunking.act import Act, act_loss
from vtt_policies.chunking.config import ChunkLearnerConfig
from vtt_policies.chunking.policy import ChunkPolicy
from vtt_policies.chunking.windows import ChunkBatch, ChunkWindows
from vtt_policies.learner import GradientSteps
from vtt_policies.observations import without_keys

__all__ = ["ChunkLearner", "ema_decay"]

# Chi et al. 2023, `ema_model.py`.
_EMA_POWER, _EMA_MAX = 0.75, 0.9999


def ema_decay(step: int) -> float:
    """Weight of the past in the running mean after a number of gradient steps.

    Example:
        >>> [round(ema_decay(step), 3) for step in (0, 1, 15, 10**9)]
        [0.0, 0.405, 0.875, 1.0]
    """
    return min(_EMA_MAX, 1.0 - (1.0 + step) ** -_EMA_POWER)


class ChunkLearner(GradientSteps[ChunkBatch]):
    """AdamW on a chunk policy, and the running mean of its weights where that acts.

    Args:
        policy: What acts; with a running mean, its network is that mean, and another one is trained.
        config: Step sizes and modality dropout.
    """

    config: ChunkLearnerConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, policy: ChunkPolicy, *, config: ChunkLearnerConfig) -> None:
        self.policy = policy
        network = policy.network
        self.averaged = not isinstance(network, Act) and network.config.ema
        # What is trained.
        self.network = copy.deepcopy(network) if self.averaged else network
        self._dropped = tuple(key for key in policy.keys if key not in without_keys(policy.keys, config.drop_modality))
        super().__init__(self.network, self.network.encoders.joint, config=config)

    @property
    def batch_size(self) -> int:
        """Windows."""
        return self.config.batch_size

    def streams(self, batch: ChunkBatch) -> Mapping[str, NDArray]:
        """List the arrays of a batch."""
        return {**batch.observation, "action": batch.action}

    def update(self, batch: ChunkBatch, *, progress: float) -> float:
        """Take one gradient step, and move the running mean."""
        loss = super().update(batch, progress=progress)
        if self.averaged:
            decay = ema_decay(self.steps)
            with torch.no_grad():
                mean = self.policy.network.state_dict()
                for name, value in self.network.state_dict().items():
                    if value.is_floating_point():
                        mean[name].lerp_(value, 1.0 - decay)
        return loss

    def loss(self, batch: ChunkBatch) -> Tensor:
        """Measure the network on demonstrated chunks; draws from torch's own generator. Scalar."""
        observation, actions, steps_valid = self._prepare(batch)
        shown = torch.rand(len(actions), device=actions.device) >= self.config.drop_share
        valid = dict.fromkeys(self._dropped, shown)
        if isinstance(self.network, Act):
            output = self.network(observation, actions=actions, actions_valid=steps_valid, valid=valid)
            return act_loss(output, actions, steps_valid, kl_weight=self.network.config.kl_weight)[0]
        return self.network.loss(observation, actions, steps_valid, valid=valid)

    @torch.inference_mode()
    def validate(self, windows: ChunkWindows) -> float:
        """Average, over all valid steps, what ACT's chunk is off, or what diffusion policy fails to see of the noise.

        Measured as the policy acts: without dropout, with the style latent at zero, by the running mean of the weights;
        the noise is the same at every call.
        """
        network = self.policy.network.eval()
        generator = torch.Generator(self.policy.device).manual_seed(0)
        total = steps = 0.0
        for start in range(0, len(windows), self.config.batch_size):
            moments = np.arange(start, min(start + self.config.batch_size, len(windows)))
            observation, actions, valid = self._prepare(windows.gather(moments))
            if isinstance(network, Act):
                _, loss = act_loss(network(observation), actions, valid, kl_weight=0.0)
            else:
                loss = network.loss(observation, actions, valid, generator=generator)
            total += float(loss) * float(valid.sum())
            steps += float(valid.sum())
        return total / steps if steps else float("nan")

    def state(self) -> dict[str, Any]:
        """Return everything a resumed run needs besides the policy's weights."""
        trained = {"network": self.network.state_dict()} if self.averaged else {}
        return {**super().state(), **trained}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        super().load_state(state)
        if self.averaged:
            self.network.load_state_dict(state["network"])

    def _prepare(self, batch: ChunkBatch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Normalise a batch: frames (B, T, ...), actions (B, K, A), valid steps (B, K)."""
        device, entry = self.policy.device, self.policy.action_entry
        observation = self.policy.normalizer.prepare(batch.observation, device=device)
        actions = (torch.from_numpy(batch.action).to(device) - entry.offset) / entry.scale
        return observation, actions, torch.from_numpy(batch.valid).to(device)

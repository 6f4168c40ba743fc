"""Masked reconstruction of what was just seen, beside the policy's own loss (M3L, Sferrazza et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from torch import nn

from vtt.encoders import VttEncoder
from vtt.errors import ConfigError, StateError
from vtt.objectives import Batch, Objective, ObjectiveConfig, Statistics, summarise
from vtt_policies.rl.config import AuxiliaryConfig
from vtt_policies.rl.policies import Extractor

__all__ = ["Auxiliary"]


class Auxiliary:
    """Fits the encoders of actor and critic to hidden tokens and to a summary of all, from what a buffer holds.

    Deviation from M3L: frames alone, not stacks of them; the reconstruction has an optimiser of its own there, too.

    Args:
        config: How.
        extractors: Those of actor and critic, each once.
        seed: Draws frames and masks.
        num_frames: Frames from which the scale of the reconstruction is measured.

    Raises:
        ConfigError: If there is no encoder to train.
    """

    def __init__(
        self, config: AuxiliaryConfig, extractors: list[Extractor], *, seed: int, num_frames: int = 512
    ) -> None:
        if not extractors:
            raise ConfigError("auxiliary.updates must be 0 where there is no image or force grid to reconstruct.")
        self._config = config
        self._extractors = extractors
        self._seed = seed
        self._num_frames = num_frames
        self._steps = 0
        self._objectives: list[Objective] = []
        self._optimizer: torch.optim.Optimizer | None = None

    def fit(self, model: BaseAlgorithm, log: Logger) -> None:
        """Take the gradient steps of one rollout.

        Raises:
            StateError: If the loss is not finite.
        """
        buffer: Any = getattr(model, "replay_buffer", None) or getattr(model, "rollout_buffer", None)
        if not self._objectives:
            rng = np.random.default_rng([self._seed, 4])
            self._begin([self._draw(buffer, part, rng, self._num_frames) for part in self._extractors])
        assert self._optimizer is not None
        value = math.nan
        for _ in range(self._config.updates):
            # Everything random comes from seed and step, so that a continued run repeats it.
            rng = np.random.default_rng([self._seed, 5, self._steps])
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            losses = []
            for part, objective in zip(self._extractors, self._objectives, strict=True):
                assert part.features.encoder is not None
                observation = self._draw(buffer, part, rng, self._config.batch_size)
                batch = Batch(observation, torch.zeros(self._config.batch_size, 0), {})
                losses.append(objective.total(objective(part.features.encoder, batch, generator=generator)))
            total = torch.stack(losses).sum()
            value = float(total.detach())
            if not math.isfinite(value):
                raise StateError(f"The auxiliary loss must be finite, got {value}. Lower auxiliary.learning_rate.")
            self._optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_([p for group in self._optimizer.param_groups for p in group["params"]], 1.0)
            self._optimizer.step()
            self._steps += 1
        log.record("train/auxiliary_loss", value)

    def state(self) -> dict[str, Any] | None:
        """Take down heads, optimiser and counter; None before the first fit."""
        if self._optimizer is None:
            return None
        return {
            "steps": self._steps,
            "statistics": [(tuple(o.statistics), tuple(o.coarse)) for o in self._objectives],
            "objectives": [objective.state_dict() for objective in self._objectives],
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` took down."""
        self._build([(Statistics(*statistics), Statistics(*coarse)) for statistics, coarse in state["statistics"]])
        for objective, held in zip(self._objectives, state["objectives"], strict=True):
            objective.load_state_dict(held)
        assert self._optimizer is not None
        self._optimizer.load_state_dict(state["optimizer"])
        self._steps = state["steps"]

    def _begin(self, frames: list[dict[str, torch.Tensor]]) -> None:
        """Measure the scale of what is to be reconstructed."""
        self._build([(Statistics.of(some), Statistics.of(summarise(some))) for some in frames])

    def _build(self, measured: list[tuple[Statistics, Statistics]]) -> None:
        weights = ObjectiveConfig(contact=0.0, align=0.0, mask_ratio=self._config.mask_ratio)
        parameters: list[nn.Parameter] = []
        with torch.random.fork_rng(devices=[]):  # the policy's own draws must not depend on this
            torch.manual_seed(self._seed)
            for part, (statistics, coarse) in zip(self._extractors, measured, strict=True):
                encoder = part.features.encoder
                assert isinstance(encoder, VttEncoder)
                objective = Objective(encoder, weights, statistics=statistics, coarse=coarse)
                device = next(encoder.parameters()).device
                self._objectives.append(objective.to(device))
                parameters += [*encoder.parameters(), *objective.parameters()]
        self._optimizer = torch.optim.AdamW(parameters, lr=self._config.learning_rate)

    @staticmethod
    def _draw(buffer: Any, part: Extractor, rng: np.random.Generator, count: int) -> dict[str, torch.Tensor]:
        """Draw normalised frames (count, ...) of what an encoder sees from a buffer of SB3."""
        slots, envs = rng.integers(buffer.size(), size=count), rng.integers(buffer.n_envs, size=count)
        raw: dict[str, NDArray] = {key: buffer.observations[key][slots, envs] for key in part.features.encoder_keys}
        return part.normalizer.prepare(raw, device=buffer.device)

"""Fits a student to labelled episodes: the loss, the step-size schedule, one gradient step.

N steps of whole episodes in a row, A action dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from vtt.errors import StateError
from vtt.normalizer import Normalizer
from vtt_policies.config import LearnerConfig
from vtt_policies.encoding import FrameEncoder
from vtt_policies.replay import Batch
from vtt_policies.student import Student

__all__ = ["Learner", "imitation_loss", "rate_factor"]


def imitation_loss(action: Tensor, expert_action: Tensor, *, delta: float) -> Tensor:
    """Average the Huber loss over steps and action dimensions.

    Args:
        action: What the student would do. Shape (N, A).
        expert_action: What the expert would. Shape (N, A).
        delta: Error from which the loss grows linearly.

    Returns:
        A scalar: e^2 / 2 for errors below `delta`, delta * (|e| - delta / 2) beyond, divided by delta so that the slope
        far out is one whatever `delta` is.
    """
    return huber_loss(action, expert_action, delta=delta) / delta


def rate_factor(step: int, *, progress: float, warmup: int, fall_from: float = 0.0) -> float:
    """Scale the step size: a linear rise over `warmup` gradient steps, then even, then half a cosine to zero.

    Args:
        step: Gradient steps so far.
        progress: Share of the budget that is spent, in 0..1.
        warmup: Gradient steps of the rise.
        fall_from: Progress at which the fall begins.

    Example:
        >>> [rate_factor(step, progress=p, warmup=4, fall_from=0.5) for step, p in [(0, 0), (3, 0.1), (9, 0.5), (9, 1)]]
        [0.25, 1.0, 1.0, 0.0]
    """
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    fallen = max(0.0, progress - fall_from) / (1.0 - fall_from)
    return rise * 0.5 * (1.0 + math.cos(math.pi * fallen))


class Learner:
    """AdamW on a student.

    Args:
        student: The network, on `device`.
        normalizer: Prepares raw observations for it.
        config: Step sizes and loss.
        device: Where the arithmetic happens.
    """

    def __init__(
        self, student: Student, normalizer: Normalizer, *, config: LearnerConfig, device: str | torch.device = "cpu"
    ) -> None:
        self.student = student
        self.normalizer = normalizer
        self.config = config
        self.steps = 0
        self._device = torch.device(device)
        self.frozen = False
        self._encoder = FrameEncoder(student, normalizer, device=self._device)
        if config.encoder_rate == 0.0:
            self.freeze()
        self.optimizer = torch.optim.AdamW(_parameter_groups(student, config), lr=config.learning_rate)

    def freeze(self) -> None:
        """Leave the encoder as it is from now on; batches then hold its `latent` instead of what it saw."""
        self.frozen = True
        self.student.encoder.requires_grad_(False)

    def update(self, batch: Batch, *, progress: float) -> float:
        """Take one gradient step.

        Args:
            batch: Labelled episodes. With a frozen encoder they hold its `latent` instead of what it saw.
            progress: Share of the budget that is spent, in 0..1.

        Returns:
            The loss before the step.

        Raises:
            StateError: If the loss is not finite; says what was not.
        """
        for group in self.optimizer.param_groups:
            factor = rate_factor(
                self.steps, progress=progress, warmup=self.config.warmup, fall_from=self.config.fall_from
            )
            group["lr"] = self.config.learning_rate * group["relative_rate"] * factor
        self.student.train()
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise StateError(self._blame(batch))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._encoder.backward()
        norm = nn.utils.clip_grad_norm_(self._trained(), self.config.max_grad_norm)
        if not torch.isfinite(norm):
            raise StateError(f"The gradient must be finite, got norm {float(norm)} at gradient step {self.steps}.")
        self.optimizer.step()
        self.steps += 1
        return float(loss.detach())

    def loss(self, batch: Batch) -> Tensor:
        """Compare the student with the labels of a batch. Scalar."""
        if "latent" in batch.observation:
            latent = self._tensor(batch.observation["latent"])
        else:
            latent = self._encoder.forward(batch.observation)
        raw = {key: batch.observation[key] for key in self.student.vector_keys}
        vectors = self.normalizer.prepare(raw, device=self._device)
        action = self.student(latent, vectors, self._tensor(batch.previous_action), self._tensor(batch.lengths))
        return imitation_loss(action, self._tensor(batch.expert_action), delta=self.config.huber_delta)

    def state(self) -> dict[str, Any]:
        """Return everything a resumed run needs besides the weights."""
        return {"steps": self.steps, "frozen": self.frozen, "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.steps = state["steps"]
        if state["frozen"]:
            self.freeze()
        self.optimizer.load_state_dict(state["optimizer"])

    def _trained(self) -> list[nn.Parameter]:
        """List the parameters that are fitted."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _tensor(self, array: NDArray) -> Tensor:
        """Move an array to where the arithmetic happens."""
        return torch.from_numpy(array).to(self._device)

    def _blame(self, batch: Batch) -> str:
        """Say where a loss that is not finite comes from: the labels, an observation, or the weights."""
        streams = {**batch.observation, "previous_action": batch.previous_action, "expert_action": batch.expert_action}
        bad = [key for key, array in streams.items() if not bool(torch.isfinite(torch.from_numpy(array)).all())]
        cause = f"{', '.join(bad)} of the batch hold values that are not" if bad else "the weights have diverged"
        return f"The loss must be finite at gradient step {self.steps}: {cause}. " + (
            "Correct the data." if bad else "Lower learning_rate."
        )


def _parameter_groups(student: Student, config: LearnerConfig) -> list[dict]:
    """Split the weights by step size, and by whether they decay: biases, norms and embeddings of one axis do not."""
    parts = [([module for name, module in student.named_children() if name != "encoder"], 1.0)]
    if config.encoder_rate > 0.0:
        parts.append(([student.encoder], config.encoder_rate))
    groups = []
    for modules, rate in parts:
        parameters = [parameter for module in modules for parameter in module.parameters()]
        for decays in (True, False):
            chosen = [parameter for parameter in parameters if (parameter.ndim > 1) == decays]
            decay = config.weight_decay if decays else 0.0
            groups.append({"params": chosen, "relative_rate": rate, "weight_decay": decay})
    return [group for group in groups if group["params"]]

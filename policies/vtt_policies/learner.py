"""Fits a policy to labels: the step-size schedule, one gradient step, and the loss of a student.

N steps of whole episodes in a row, A action dimensions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from vtt.errors import StateError
from vtt.normalizer import Normalizer
from vtt_policies.config import GradientConfig, LearnerConfig
from vtt_policies.encoding import FrameEncoder
from vtt_policies.replay import Batch
from vtt_policies.student import Student

__all__ = ["GradientSteps", "Learner", "imitation_loss", "rate_factor"]

BatchT = TypeVar("BatchT")


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


class GradientSteps(ABC, Generic[BatchT]):
    """AdamW with a step size that follows the budget; stops with the cause when a loss is not finite.

    Args:
        network: What is fitted.
        encoder: Its part with a step size of its own, if it has one.
        config: Step sizes.
    """

    config: GradientConfig

    def __init__(self, network: nn.Module, encoder: nn.Module | None, *, config: GradientConfig) -> None:
        self.config = config
        self.steps = 0
        self._network = network
        self.optimizer = torch.optim.AdamW(_parameter_groups(network, encoder, config), lr=config.learning_rate)

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Samples that `update` is given."""

    @abstractmethod
    def loss(self, batch: BatchT) -> Tensor:
        """Measure the network on a batch. Scalar."""

    @abstractmethod
    def streams(self, batch: BatchT) -> Mapping[str, NDArray]:
        """List the arrays of a batch by name, to find the one that is not finite."""

    def update(self, batch: BatchT, *, progress: float) -> float:
        """Take one gradient step.

        Args:
            batch: Labelled samples.
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
        self._network.train()
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise StateError(self._blame(batch))
        self.optimizer.zero_grad(set_to_none=True)
        self.backward(loss)
        norm = nn.utils.clip_grad_norm_(self._trained(), self.config.max_grad_norm)
        if not torch.isfinite(norm):
            raise StateError(f"The gradient must be finite, got norm {float(norm)} at gradient step {self.steps}.")
        self.optimizer.step()
        self.steps += 1
        return float(loss.detach())

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss."""
        loss.backward()

    def state(self) -> dict[str, Any]:
        """Return everything a resumed run needs besides the policy's weights."""
        return {"steps": self.steps, "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.steps = state["steps"]
        self.optimizer.load_state_dict(state["optimizer"])

    def _trained(self) -> list[nn.Parameter]:
        """List the parameters that are fitted."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _blame(self, batch: BatchT) -> str:
        """Say where a loss that is not finite comes from: the labels, an observation, or the weights."""
        streams = self.streams(batch)
        bad = [key for key, array in streams.items() if not bool(torch.isfinite(torch.from_numpy(array)).all())]
        cause = f"{', '.join(bad)} of the batch hold values that are not" if bad else "the weights have diverged"
        return f"The loss must be finite at gradient step {self.steps}: {cause}. " + (
            "Correct the data." if bad else "Lower learning_rate."
        )


class Learner(GradientSteps[Batch]):
    """Fits a student to whole episodes.

    Args:
        student: The network, on `device`.
        normalizer: Prepares raw observations for it.
        config: Step sizes and loss.
        device: Where the arithmetic happens.
    """

    config: LearnerConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self, student: Student, normalizer: Normalizer, *, config: LearnerConfig, device: str | torch.device = "cpu"
    ) -> None:
        self.student = student
        self.normalizer = normalizer
        self._device = torch.device(device)
        self.frozen = False
        self._encoder = FrameEncoder(student, normalizer, device=self._device)
        if config.encoder_rate == 0.0:
            self.freeze()
        super().__init__(student, student.encoder, config=config)

    @property
    def batch_size(self) -> int:
        """Whole episodes."""
        return self.config.batch_episodes

    def freeze(self) -> None:
        """Leave the encoder as it is from now on; batches then hold its `latent` instead of what it saw."""
        self.frozen = True
        self.student.encoder.requires_grad_(False)

    def streams(self, batch: Batch) -> Mapping[str, NDArray]:
        """List the arrays of a batch."""
        return {
            **batch.observation,
            "previous_action": batch.previous_action,
            "expert_action": batch.expert_action,
        }

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients, the encoder's on all cores."""
        loss.backward()
        self._encoder.backward()

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
        return {**super().state(), "frozen": self.frozen}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        if state["frozen"]:
            self.freeze()
        super().load_state(state)

    def _tensor(self, array: NDArray) -> Tensor:
        """Move an array to where the arithmetic happens."""
        return torch.from_numpy(array).to(self._device)


def _parameter_groups(network: nn.Module, encoder: nn.Module | None, config: GradientConfig) -> list[dict]:
    """Split the weights by step size, and by whether they decay: biases, norms and embeddings of one axis do not."""
    own = {id(parameter) for parameter in encoder.parameters()} if encoder is not None else set()
    rest = [parameter for parameter in network.parameters() if id(parameter) not in own]
    parts = [(rest, 1.0)]
    if encoder is not None and config.encoder_rate > 0.0:
        parts.append((list(encoder.parameters()), config.encoder_rate))
    groups = []
    for parameters, rate in parts:
        for decays in (True, False):
            chosen = [parameter for parameter in parameters if (parameter.ndim > 1) == decays]
            decay = config.weight_decay if decays else 0.0
            groups.append({"params": chosen, "relative_rate": rate, "weight_decay": decay})
    return [group for group in groups if group["params"]]

"""Settings of students and of their training; plain data, light to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from vtt.errors import ConfigError

__all__ = [
    "BUDGET",
    "BcConfig",
    "Budget",
    "DistillConfig",
    "GradientConfig",
    "ImitateConfig",
    "LearnerConfig",
    "Modality",
    "StudentConfig",
    "TrainingConfig",
]

BUDGET = ("iterations", "seconds")
"""Settings that a continued run may change."""

Modality = Literal["nothing", "touch", "vision"]


def _check_positive(config: Any, *names: str) -> None:
    """Refuse numbers that are given and not positive."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value <= 0:
            raise ConfigError(f"{name} must be positive, got {value}.")


@dataclass(frozen=True)
class StudentConfig:
    """What a student is made of.

    Attributes:
        encoder: Encoder of each frame: the visuo-tactile transformer or one of its baselines.
        preset: Size of the encoder, "demo", "small" or "paper". A pretrained encoder brings its own.
        hidden_dim: Width of the recurrent state and of the layers around it.
        recurrent: Remember what was felt; without, each step is decided by itself.
        previous_action: Also show the action executed one step earlier.
    """

    encoder: Literal["vtt", "concat", "poe"] = "vtt"
    preset: str = "demo"
    # 128 follows the head of the tactile policies of TacSL (256, 128, 64) at a size that two cores train in minutes.
    hidden_dim: int = 128
    recurrent: bool = True
    # Under impedance control the last action is the force that was asked for: with the motion that came of it, it tells
    # free space from contact. Plain imitation learns to repeat it (de Haan et al. 2019); DAgger's labels correct that.
    previous_action: bool = True


@dataclass(frozen=True, kw_only=True)
class GradientConfig:
    """How gradient steps are taken.

    Attributes:
        learning_rate: Peak step size of AdamW.
        encoder_rate: Step size of the visuo-tactile encoder relative to `learning_rate`; 0 freezes it.
        warmup: Gradient steps until the peak.
        fall_from: Share of the budget after which the step size falls to zero.
        weight_decay: Decoupled weight decay of the weight matrices.
        max_grad_norm: Norm to which gradients are clipped.
    """

    learning_rate: float = 2e-3
    encoder_rate: float = 1.0
    warmup: int = 50
    # The student's own mistakes arrive late: episodes that come when the step size has fallen are not learned from.
    fall_from: float = 0.5
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that cannot learn."""
        _check_positive(self, "learning_rate", "max_grad_norm")
        for name in ("encoder_rate", "warmup", "weight_decay"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
        if not 0.0 <= self.fall_from < 1.0:
            raise ConfigError(f"fall_from must be in [0, 1), got {self.fall_from}.")


@dataclass(frozen=True, kw_only=True)
class LearnerConfig(GradientConfig):
    """How a student is fitted to the labels of whole episodes.

    Attributes:
        huber_delta: Action error beyond which the loss grows linearly.
        batch_episodes: Whole episodes per gradient step.
    """

    # Nearly absolute: where the expert knows what the student cannot, a squared loss teaches the mean of its answers,
    # which is to hesitate; an absolute one their median. On the same 624 episodes of peg insertion, frozen encoder, 192
    # held-out seeds: .48 with 0.5, .66 with 0.05.
    huber_delta: float = 0.05
    batch_episodes: int = 24

    def __post_init__(self) -> None:
        """Refuse settings that cannot learn."""
        super().__post_init__()
        _check_positive(self, "huber_delta", "batch_episodes")

    @property
    def batch_size(self) -> int:
        """Samples per gradient step: whole episodes."""
        return self.batch_episodes


@dataclass(frozen=True)
class Budget:
    """When training stops: after a number of iterations or of seconds, whichever comes first.

    Attributes:
        iterations: Iterations; None for no limit.
        seconds: Wall time, over all interruptions; None for no limit.
    """

    iterations: int | None
    seconds: float | None

    def __post_init__(self) -> None:
        """Refuse a budget without an end."""
        if self.iterations is None and self.seconds is None:
            raise ConfigError("A budget must end, got neither iterations nor seconds.")
        _check_positive(self, "iterations", "seconds")

    def progress(self, iterations: float, seconds: float) -> float:
        """Tell the share of the budget that is spent, in 0..1.

        Args:
            iterations: Iterations so far; a fraction within one.
            seconds: Wall time so far.

        Example:
            >>> Budget(10, None).progress(2.5, 100.0), Budget(10, 60.0).progress(1, 30.0)
            (0.25, 0.5)
        """
        by_iterations = iterations / self.iterations if self.iterations else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_iterations, by_time))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every training of a policy on labels takes.

    Attributes:
        out: Run folder. An interrupted run there continues.
        student: Observation word, or comma-separated keys, that the policy sees.
        without: Take a modality from the policy and leave all else equal: the control, or, with an encoder that was
            pretrained with that modality, a policy that is deployed without the sensor.
        encoder: Checkpoint of a pretrained encoder.
        seed: Seed of everything random.
        iterations: Iterations, each followed by a checkpoint; with `seconds` alone, as many as fit.
        seconds: Wall time after which training stops.
        updates: Gradient steps per iteration.
        device: Torch device of the policy.
    """

    out: Path
    student: str = "tactile"
    without: Modality = "nothing"
    encoder: Path | None = None
    seed: int = 0
    iterations: int | None = None
    seconds: float | None = None
    updates: int = 100
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        Budget(self.iterations, self.seconds)
        _check_positive(self, "updates")

    @property
    def budget(self) -> Budget:
        """When training stops."""
        return Budget(self.iterations, self.seconds)


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainingConfig):
    """Train a student on the labels of an environment's expert, while the student drives (DAgger).

    Attributes:
        env: Gymnasium id with its module, "vtt_envs:vtt/PegInsertion-v0".
        data: Episode store of expert episodes; without, the first iteration records its own.
        env_args: Further options of the environment, each key=value.
        num_envs: Episodes per iteration, run side by side.
        first_updates: Gradient steps of the first iteration, which learns from the expert alone; without, as many as in
            the others. A student that can do nothing yet wastes its first rollouts.
        freeze_from: Share of the budget after which the encoder is frozen and only what it says of each frame is kept:
            an update then costs a tenth, and the rest of the time goes into many more rounds. 1 never freezes it.
        frozen_updates: Gradient steps per iteration from then on.
        expert_iterations: k in the expert's share of the driving, max(0, 1 - i / k) in iteration i.
        memory_gb: Size of the episodes kept in memory, in 1e9 bytes; the oldest are forgotten, on disk all are kept.
        network: The student.
        learner: How it is fitted.
    """

    env: str
    data: Path | None = None
    env_args: tuple[str, ...] = ()
    num_envs: int = 64
    updates: int = 40
    first_updates: int | None = None
    freeze_from: float = 0.4
    frozen_updates: int = 100
    expert_iterations: int = 1
    memory_gb: float = 4.0
    network: StudentConfig = field(default_factory=StudentConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        _check_positive(self, "num_envs", "first_updates", "frozen_updates", "expert_iterations", "memory_gb")
        if not 0.0 <= self.freeze_from <= 1.0:
            raise ConfigError(f"freeze_from must be in [0, 1], got {self.freeze_from}.")

    def expert_share(self, iteration: int) -> float:
        """Tell how often the expert drives.

        Source: Ross, Gordon and Bagnell 2011, section 3.1 (beta_1 = 1) with the linear decay of `imitation` 1.0.1.
        """
        return max(0.0, 1.0 - iteration / self.expert_iterations)


@dataclass(frozen=True, kw_only=True)
class ImitateConfig(TrainingConfig):
    """Train a policy on recorded expert episodes.

    Attributes:
        data: Episode store.
        episodes: Use the first so many episodes; without, all.
        held_out: Share of the episodes that are kept for the validation loss.
    """

    method: ClassVar[str]

    data: Path
    episodes: int | None = None
    iterations: int | None = 20
    held_out: float = 0.1

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        _check_positive(self, "episodes")
        if not 0.0 <= self.held_out < 1.0:
            raise ConfigError(f"held_out must be in [0, 1), got {self.held_out}.")


@dataclass(frozen=True, kw_only=True)
class BcConfig(ImitateConfig):
    """Behaviour cloning: a student, recurrent or not, that decides every step.

    Attributes:
        network: The student.
        learner: How it is fitted.
    """

    method = "bc"

    network: StudentConfig = field(default_factory=StudentConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)

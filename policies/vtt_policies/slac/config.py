"""Settings of SLAC; plain data, light to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vtt.errors import ConfigError
from vtt_policies.config import Modality

__all__ = ["AgentConfig", "ModelConfig", "SlacConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """The latent model. Without notes, numbers are those of SLAC and of VTT, which agree.

    Attributes:
        encoder: Encoder of each frame: the visuo-tactile transformer, one of its baselines, or SLAC's convolutions.
        preset: Size of the encoder, "demo", "small" or "paper"; not of "conv".
        match_parameters: "concat" and "poe" only: widen to within 5 % of this many parameters, those of "vtt" say.
        feature_dim: Length of what "conv" says of a frame; the others' latent has the length of their preset.
        width: Channels of the convolutions next to an image, of "conv" and of the decoder; they double with each level.
        z1_dim: Length of the latent that the frame informs directly.
        z2_dim: Length of the latent that carries the past.
        hidden_dim: Width of the two hidden layers of each Gaussian.
        sequence: Transitions of a window; the actor sees as many frames.
        batch_windows: Windows per update of the model.
        learning_rate: Step size of Adam, for the model and the encoder.
        image_variance: Variance of a camera's pixels given the latent, in normalised units: a grey level of [0, 1] is
            4, so 1.6 is SLAC's 0.1.
        touch_variance: Likewise of tactile images and force grids; smaller, because a touch changes few pixels.
        vector_variance: Likewise of vectors.
        reward_floor: Smallest standard deviation of the reward given the latent, in the reward's unit.
        contact: Weight of VTT's contact loss, in nats per frame; 0 leaves it out.
        align: Weight of VTT's alignment loss, in nats per frame; 0 leaves it out.
        min_gap: Steps between two moments of one episode that count as different in the alignment loss.
    """

    encoder: Literal["vtt", "concat", "poe", "conv"] = "vtt"
    preset: str = "demo"
    match_parameters: int | None = None
    feature_dim: int = 256
    width: int = 32
    z1_dim: int = 32
    z2_dim: int = 256
    hidden_dim: int = 256
    sequence: int = 8
    batch_windows: int = 32
    learning_rate: float = 1e-4
    image_variance: float = 1.6
    touch_variance: float = 0.1
    vector_variance: float = 0.1
    # The released code learns it down to 1e-5: with a sparse reward the first success then weighs 1e10 nats.
    reward_floor: float = 0.05
    # The released code weighs a mean of verdicts by 1 against a sum over 190,512 pixels. With these, gradients on the
    # encoder are of one size; on Push after 80 updates: touch 36, kl 33, align 30, reward 16, contact 8.
    contact: float = 3.0
    align: float = 3.0
    min_gap: int = 10

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        for name in ("feature_dim", "width", "z1_dim", "z2_dim", "hidden_dim", "sequence", "batch_windows", "min_gap"):
            _positive(self, name)
        for name in ("learning_rate", "image_variance", "touch_variance", "vector_variance", "reward_floor"):
            _positive(self, name)
        if self.match_parameters is not None and self.encoder not in ("concat", "poe"):
            raise ConfigError(
                f"match_parameters must be None for encoder '{self.encoder}', got {self.match_parameters}."
            )
        if self.sequence < 3:
            raise ConfigError(f"sequence must be at least 3, got {self.sequence}.")
        for name in ("contact", "align"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.align > 0 and self.batch_windows < 2:
            raise ConfigError(f"batch_windows must be at least 2 for the alignment loss, got {self.batch_windows}.")


@dataclass(frozen=True)
class AgentConfig:
    """Soft actor-critic on the latent; numbers of SLAC and VTT.

    Attributes:
        hidden_dim: Width of the two hidden layers of actor and critics.
        batch_windows: Windows per update, of each of which the last transition is learned from.
        learning_rate: Step size of Adam, for actor, critics and temperature.
        discount: Of the reward one step later.
        target_rate: Share of the critic that its target takes over per update.
        temperature: Weight of the entropy at the start; then tuned to an entropy of minus the action's dimensions.
    """

    hidden_dim: int = 256
    batch_windows: int = 256
    learning_rate: float = 3e-4
    discount: float = 0.99
    target_rate: float = 5e-3
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        for name in ("hidden_dim", "batch_windows", "learning_rate", "temperature"):
            _positive(self, name)
        if not 0.0 <= self.discount < 1.0:
            raise ConfigError(f"discount must be in [0, 1), got {self.discount}.")
        if not 0.0 < self.target_rate <= 1.0:
            raise ConfigError(f"target_rate must be in (0, 1], got {self.target_rate}.")


@dataclass(frozen=True)
class SlacConfig:
    """Train SLAC: a latent model of what is seen and felt, and soft actor-critic on its latent.

    Attributes:
        env: Gymnasium id with its module, "vtt_envs:vtt/Push-v0".
        out: Run folder. An interrupted run there continues.
        student: Observation word, or comma-separated keys, that the policy sees.
        without: Take a modality from the policy and leave all else equal: the control.
        env_args: Further options of the environment, each key=value.
        seed: Seed of everything random.
        num_envs: Environments side by side.
        steps: Environment steps, those of all environments together.
        seconds: Wall time after which training stops, over all interruptions.
        start_steps: Environment steps with random actions before anything is learned.
        pretrain_updates: Updates of the model on them before the policy acts.
        updates_per_step: Updates of model and agent per environment step from then on.
        checkpoint_every: Environment steps between checkpoints. All environments begin anew after each, so that a
            continued run sees what an uninterrupted one does.
        evaluation_episodes: Episodes of the greedy policy at each checkpoint, on seeds of training; 0 for none.
        capacity: Transitions that the replay holds; the oldest episodes are forgotten.
        device: Torch device of the networks.
        model: The latent model.
        agent: Actor and critics.
    """

    env: str
    out: Path
    student: str = "visuotactile"
    without: Modality = "nothing"
    env_args: tuple[str, ...] = ()
    seed: int = 0
    num_envs: int = 8
    steps: int = 100_000
    seconds: float | None = None
    start_steps: int = 10_000
    pretrain_updates: int = 10_000
    updates_per_step: float = 1.0
    checkpoint_every: int = 2_000
    evaluation_episodes: int = 0
    capacity: int = 100_000
    device: str = "cpu"
    model: ModelConfig = field(default_factory=ModelConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        for name in ("num_envs", "steps", "start_steps", "updates_per_step", "checkpoint_every", "capacity"):
            _positive(self, name)
        if self.seconds is not None:
            _positive(self, "seconds")
        for name in ("pretrain_updates", "evaluation_episodes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.start_steps >= self.steps:
            raise ConfigError(f"steps must exceed start_steps ({self.start_steps}), got {self.steps}.")
        if self.capacity < self.start_steps:
            raise ConfigError(f"capacity must hold start_steps ({self.start_steps}), got {self.capacity}.")


def _positive(config: object, name: str) -> None:
    """Refuse a setting that is not positive."""
    if getattr(config, name) <= 0:
        raise ConfigError(f"{name} must be positive, got {getattr(config, name)}.")

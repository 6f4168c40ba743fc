"""Settings of `vtt train`; plain data, light to import. Defaults are stable-baselines3's unless a reason is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import ClassVar, Literal

from vtt.errors import ConfigError

__all__ = [
    "RL_BUDGET",
    "AacdConfig",
    "AuxiliaryConfig",
    "CrossqConfig",
    "FeaturesConfig",
    "OffPolicyConfig",
    "PpoConfig",
    "RecurrentPpoConfig",
    "RlConfig",
    "SacConfig",
    "TqcConfig",
]

RL_BUDGET = ("out", "steps", "seconds", "device", "video", "wandb", "rerun", "log_every")
"""Settings that a continued run may change."""


@dataclass(frozen=True)
class FeaturesConfig:
    """What turns observations into features. Vectors also reach actor and critic directly.

    Attributes:
        encoder: Encoder of images and force grids; where there are only vectors, none is built.
        preset: Its size. A pretrained encoder brings its own.
        pretrained: Checkpoint or run of `vtt pretrain` to begin with.
        frozen: Leave the pretrained encoder as it is; without, it is fine-tuned.
    """

    encoder: Literal["vtt", "concat", "poe"] = "vtt"
    preset: Literal["demo", "small", "paper"] = "demo"
    pretrained: Path | None = None
    frozen: bool = False

    def __post_init__(self) -> None:
        """Refuse to freeze what has learned nothing."""
        if self.frozen and self.pretrained is None:
            raise ConfigError("frozen must be False for a new encoder, got True. Name a pretrained encoder.")


@dataclass(frozen=True)
class AuxiliaryConfig:
    """Masked reconstruction of what was just seen, beside the policy's loss (M3L, Sferrazza et al. 2023).

    Attributes:
        updates: Gradient steps on the encoder after each rollout; 0 leaves it out. A rollout of SAC is a single step.
        batch_size: Frames per gradient step.
        learning_rate: Step size.
        mask_ratio: Share of the tokens that is hidden.
    """

    updates: int = 0
    batch_size: int = 64
    # MAE's and M3L's step size for the reconstruction.
    learning_rate: float = 1e-4
    mask_ratio: float = 0.6

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        _positive(self, "batch_size", "learning_rate")
        if self.updates < 0:
            raise ConfigError(f"auxiliary.updates must not be negative, got {self.updates}.")
        if not 0.0 < self.mask_ratio < 1.0:
            raise ConfigError(f"auxiliary.mask_ratio must be in (0, 1), got {self.mask_ratio}.")


@dataclass(frozen=True)
class RlConfig(ABC):
    """What all algorithms of reinforcement learning share.

    Attributes:
        env: Gymnasium id with its module, "vtt_envs:vtt/Push-v0".
        out: Run folder. An interrupted run there continues.
        actor: Observation word, or comma-separated keys, that the actor sees.
        critic: Likewise for the critic, which is not deployed and may see what only a simulator knows; by default as
            the actor.
        observation: Observation word that the environment is asked for. Each of its keys must then be seen by actor or
            critic, or ignored. By default the smallest word that holds what they see, the rest of it ignored.
        ignore: Keys that are offered and not used.
        env_args: Further options of the environment, each key=value.
        seed: Seed of everything random.
        num_envs: Environments side by side.
        steps: Control steps of all environments together, rounded up to whole rollouts.
        seconds: Wall time after which training stops.
        checkpoint_every: Control steps between checkpoints, rounded up to whole rollouts. All episodes are cut there,
            as by their horizon, so that a continued run repeats an uninterrupted one.
        log_every: Control steps between two rows of metrics, at least a rollout.
        video: Record an episode at each checkpoint, if the environment renders.
        wandb: Also log to this project of Weights & Biases.
        rerun: Also log to a Rerun recording in the run folder.
        device: Torch device of the learner.
        learning_rate: Step size.
        schedule: Keep the step size, or let it fall linearly to zero at `steps`.
        gamma: Discount per control step.
        hidden: Widths of the hidden layers of actor and critic.
        features: What turns observations into features.
        auxiliary: Masked reconstruction beside the policy's loss.
    """

    algorithm: ClassVar[str] = ""

    env: str
    out: Path
    actor: str = "tactile"
    critic: str | None = None
    observation: str | None = None
    ignore: tuple[str, ...] = ()
    env_args: tuple[str, ...] = ()
    seed: int = 0
    num_envs: int = 16
    steps: int = 1_000_000
    seconds: float | None = None
    checkpoint_every: int = 50_000
    log_every: int = 5_000
    video: bool = True
    wandb: str | None = None
    rerun: bool = False
    device: str = "cpu"
    learning_rate: float = 3e-4
    schedule: Literal["constant", "linear"] = "constant"
    gamma: float = 0.99
    hidden: tuple[int, ...] = (256, 256)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        _positive(self, "num_envs", "steps", "checkpoint_every", "log_every", "learning_rate")
        if self.seconds is not None:
            _positive(self, "seconds")
        if not 0.0 < self.gamma <= 1.0:
            raise ConfigError(f"gamma must be in (0, 1], got {self.gamma}.")
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"hidden must be positive widths, got {self.hidden}.")
        if self.ignore and self.observation is None:
            raise ConfigError("ignore must come with observation: without it, nothing unused is asked for.")
        if self.auxiliary.updates and self.features.frozen:
            raise ConfigError("auxiliary.updates must be 0 for a frozen encoder. Leave out features.frozen.")
        if self.auxiliary.updates and self.features.encoder != "vtt":
            raise ConfigError(
                f"auxiliary.updates must be 0 for encoder '{self.features.encoder}', which has no tokens to hide. "
                "Take features.encoder vtt."
            )

    @property
    @abstractmethod
    def rollout(self) -> int:
        """Control steps of each environment between updates."""

    def whole(self, steps: int) -> int:
        """Round control steps of all environments up to whole rollouts, in control steps of each environment."""
        per_rollout = self.rollout * self.num_envs
        return -(-steps // per_rollout) * self.rollout


@dataclass(frozen=True)
class PpoConfig(RlConfig):
    """Proximal policy optimisation: on-policy, the default where the simulator is fast.

    Attributes:
        n_steps: Control steps of each environment per rollout.
        batch_size: Samples per gradient step; must divide the rollout, n_steps * num_envs.
        n_epochs: Passes over each rollout.
        gae_lambda: Trade-off of bias and variance of the advantage (GAE).
        clip_range: Clipping of the probability ratio.
        ent_coef: Weight of the entropy.
        vf_coef: Weight of the value loss.
        max_grad_norm: Norm to which gradients are clipped.
        target_kl: Stop the epochs of a rollout at this divergence from the old policy.
        log_std: Logarithm of the initial standard deviation of the actions.
    """

    algorithm: ClassVar[str] = "ppo"

    num_envs: int = 32
    hidden: tuple[int, ...] = (64, 64)
    # SB3 takes 2048 steps of one environment in batches of 64; with 32 environments these are as many gradient steps
    # per sample at a tenth of the Python between them.
    n_steps: int = 128
    batch_size: int = 256
    n_epochs: int = 10
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None
    # Actions are in [-1, 1]: a standard deviation of 1 would be clipped in every third draw.
    log_std: float = -0.5

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        _positive(self, "n_steps", "n_epochs", "clip_range", "max_grad_norm")
        samples = self.n_steps * self.num_envs
        if self.batch_size < 2 or samples % self.batch_size:
            raise ConfigError(
                f"batch_size must be at least 2 and divide the rollout of n_steps * num_envs = {samples} samples, got "
                f"{self.batch_size}. Take {max(2, gcd(samples, self.batch_size))}, or another n_steps."
            )

    @property
    def rollout(self) -> int:
        """Control steps of each environment between updates."""
        return self.n_steps


@dataclass(frozen=True)
class RecurrentPpoConfig(PpoConfig):
    """PPO whose actor and critic remember, each with an LSTM of its own.

    Attributes:
        lstm: Width of the memory.
    """

    algorithm: ClassVar[str] = "recurrent-ppo"

    batch_size: int = 512
    lstm: int = 256

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        _positive(self, "lstm")


@dataclass(frozen=True)
class AacdConfig(PpoConfig):
    """Asymmetric actor-critic distillation (TacSL): a new actor learns under a critic that has learned already.

    Train the critic with `vtt train ppo --actor oracle`, then a touch actor under it.

    Attributes:
        variant: "scratch" learns actor and critic together (TacSL's AAC), "frozen" leaves the critic as it is, which
            starts fastest, and "unfrozen" goes on training it, which ends highest (TacSL, section VI).
        critic_run: Run of `vtt train ppo` whose critic is taken; not for "scratch".
    """

    algorithm: ClassVar[str] = "aacd"

    critic: str | None = "oracle"
    variant: Literal["scratch", "frozen", "unfrozen"] = "unfrozen"
    critic_run: Path | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        if (self.critic_run is None) != (self.variant == "scratch"):
            need = "must be left out" if self.variant == "scratch" else "must name a run of vtt train ppo"
            raise ConfigError(f"critic_run {need} for variant '{self.variant}', got {self.critic_run}.")


@dataclass(frozen=True)
class OffPolicyConfig(RlConfig):
    """What the algorithms with a replay buffer share.

    Attributes:
        buffer_size: Transitions to remember. An image is stored once, in 8 bits.
        learning_starts: Control steps of random actions before learning begins.
        batch_size: Transitions per gradient step.
        train_freq: Control steps of each environment between updates.
        gradient_steps: Gradient steps per update; -1 for one per control step of every environment, SB3's ratio.
        ent_coef: Weight of the entropy; None learns it.
    """

    buffer_size: int = 1_000_000
    # SB3's 100 are a single step of many environments.
    learning_starts: int = 2_000
    batch_size: int = 256
    train_freq: int = 1
    gradient_steps: int = -1
    ent_coef: float | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        _positive(self, "buffer_size", "batch_size", "train_freq")
        if self.gradient_steps == 0 or self.gradient_steps < -1:
            raise ConfigError(f"gradient_steps must be positive or -1, got {self.gradient_steps}.")
        if self.buffer_size < max(self.batch_size, self.num_envs):
            raise ConfigError(
                f"buffer_size must hold a batch of {self.batch_size} and a step of {self.num_envs} environments, got "
                f"{self.buffer_size}."
            )
        if not 0 <= self.learning_starts < self.steps:
            raise ConfigError(
                f"learning_starts must be in [0, steps), got {self.learning_starts} of {self.steps} steps: nothing "
                "would be learned."
            )

    @property
    def rollout(self) -> int:
        """Control steps of each environment between updates."""
        return self.train_freq


@dataclass(frozen=True)
class SacConfig(OffPolicyConfig):
    """Soft actor-critic: off-policy, for when every step of the simulator is dear.

    Attributes:
        tau: Share by which the target critic follows the critic.
    """

    algorithm: ClassVar[str] = "sac"

    tau: float = 0.005

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        if not 0.0 < self.tau <= 1.0:
            raise ConfigError(f"tau must be in (0, 1], got {self.tau}.")


@dataclass(frozen=True)
class TqcConfig(SacConfig):
    """SAC with truncated quantile critics (Kuznetsov et al. 2020), which overestimate less.

    Attributes:
        drop_quantiles: Largest quantiles left out, of 25 for each of 2 critics.
    """

    algorithm: ClassVar[str] = "tqc"

    drop_quantiles: int = 2

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        if not 0 <= self.drop_quantiles < 25:
            raise ConfigError(f"drop_quantiles must be in [0, 25), got {self.drop_quantiles}.")


@dataclass(frozen=True)
class CrossqConfig(OffPolicyConfig):
    """CrossQ (Bhatt et al. 2024): SAC without target critic, with batch renormalisation; learns from fewer steps.

    Attributes:
        policy_delay: Updates of the critic for each of the actor.
    """

    algorithm: ClassVar[str] = "crossq"

    learning_rate: float = 1e-3
    policy_delay: int = 3

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        _positive(self, "policy_delay")


def _positive(config: object, *names: str) -> None:
    """Refuse settings that are not positive."""
    for name in names:
        if getattr(config, name) <= 0:
            raise ConfigError(f"{name} must be positive, got {getattr(config, name)}.")

"""Settings of ACT and diffusion policy, and of their training; plain data, light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from vtt.errors import ConfigError, missing
from vtt_policies.config import GradientConfig, ImitateConfig, Modality

__all__ = [
    "ACT_LEARNERS",
    "ACT_PRESETS",
    "DIFFUSION_LEARNERS",
    "DIFFUSION_PRESETS",
    "ActConfig",
    "ActTrainingConfig",
    "ChunkLearnerConfig",
    "ChunkTrainingConfig",
    "DiffusionConfig",
    "DiffusionTrainingConfig",
    "EncodersConfig",
    "from_dict",
]


def _check_horizons(name: str, available: int, executed: int) -> None:
    """Refuse to execute more than is predicted."""
    if not 1 <= executed <= available:
        raise ConfigError(f"n_action_steps must be in 1..{name} = 1..{available}, got {executed}.")


@dataclass(frozen=True)
class EncodersConfig:
    """How observations are encoded.

    Attributes:
        kind: "per_key", an encoder of its own for each image and force field while vectors go in as they are; or
            "joint", one visuo-tactile encoder (`joint_name`, or a pretrained one) for all, with the vectors beside it.
        image: Encoder of camera and tactile images: ResNet18, or four convolutions for small images.
        width: Channels of the first stage, which double from stage to stage; ResNet18's own is 64.
        norm: Group normalisation, or batch normalisation with constants, as in released checkpoints.
        shared: One encoder for all images of the same size, as in ACT; diffusion policy has one each.
        keypoints: Points per image, the expected place of as many activations (spatial softmax); 0 averages each
            channel instead. Only diffusion policy pools: ACT attends to every place of the map.
        joint_name: Encoder that is built for "joint" when none is given: "vtt", "concat" or "poe".
        joint_preset: Its size, "demo", "small" or "paper".
    """

    kind: Literal["per_key", "joint"] = "per_key"
    # Small images, few cores: at 48x64 a ResNet18 of the published width costs fifty times as much.
    image: Literal["conv", "resnet18"] = "conv"
    width: int = 16
    norm: Literal["group", "frozen_batch"] = "group"
    shared: bool = False
    keypoints: int = 32
    joint_name: Literal["vtt", "concat", "poe"] = "vtt"
    joint_preset: str = "demo"

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"width must be a positive multiple of 8, got {self.width}.")
        if self.keypoints < 0:
            raise ConfigError(f"keypoints must not be negative, got {self.keypoints}.")


_RESNET = EncodersConfig(image="resnet18", width=64)


@dataclass(frozen=True)
class ActConfig:
    """Action Chunking Transformer; the defaults train on two cores.

    Attributes:
        chunk_size: Steps K of a predicted chunk.
        n_action_steps: Steps executed of each; 1 with `temporal_ensemble_coeff`.
        temporal_ensemble_coeff: m in the weights exp(-m i) of a temporal ensemble; None executes chunk after chunk.
        dim_model: Width D of the transformer.
        n_heads: Attention heads.
        dim_feedforward: Hidden width of a block.
        n_encoder_layers: Blocks of the encoder.
        n_decoder_layers: Blocks of the decoder. The original declares seven and uses the output of the first.
        latent_dim: Length of the style latent; 0 trains without the variational encoder.
        n_vae_encoder_layers: Blocks of the variational encoder.
        kl_weight: Weight of the latent's divergence from the standard normal.
        dropout: Share of activations that are dropped while training.
        bounded: Clip actions to [-1, 1]; False only for policies of other action spaces.
        encoders: How observations are encoded.

    Source: Zhao et al. 2023; the names are lerobot's.
    """

    chunk_size: int = 16
    n_action_steps: int = 8
    temporal_ensemble_coeff: float | None = None
    dim_model: int = 128
    n_heads: int = 4
    dim_feedforward: int = 256
    n_encoder_layers: int = 2
    n_decoder_layers: int = 1
    latent_dim: int = 16
    n_vae_encoder_layers: int = 2
    kl_weight: float = 10.0
    dropout: float = 0.1
    bounded: bool = True
    encoders: EncodersConfig = field(default_factory=EncodersConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be built or executed."""
        _check_horizons("chunk_size", self.chunk_size, self.n_action_steps)
        if self.temporal_ensemble_coeff is not None and self.n_action_steps != 1:
            raise ConfigError(f"n_action_steps must be 1 for a temporal ensemble, got {self.n_action_steps}.")
        if self.dim_model % (2 * self.n_heads) or self.dim_model % 4:
            raise ConfigError(
                f"dim_model must be divisible by 4 and by twice n_heads ({self.n_heads}), got {self.dim_model}."
            )
        if self.latent_dim < 0 or not 0.0 <= self.dropout < 1.0 or self.kl_weight < 0:
            raise ConfigError("latent_dim and kl_weight must not be negative, and dropout must be in [0, 1).")

    @property
    def obs_horizon(self) -> int:
        """Frames seen at once: the current one."""
        return 1

    @property
    def prediction_horizon(self) -> int:
        """Steps of a predicted chunk."""
        return self.chunk_size


@dataclass(frozen=True)
class DiffusionConfig:
    """Diffusion policy with a convolutional network; the defaults train on two cores.

    Attributes:
        n_obs_steps: Frames T that are seen, the current one last.
        horizon: Steps K that are denoised, beginning at the oldest frame.
        n_action_steps: Steps executed of each chunk, beginning now.
        down_dims: Channels of each level of the network; the length of a chunk halves between levels.
        kernel_size: Steps that a convolution spans.
        n_groups: Groups of the group normalisation.
        diffusion_step_embed_dim: Width of the embedding of the diffusion step.
        num_train_timesteps: Diffusion steps of training.
        num_inference_steps: Denoising steps for a chunk.
        sampler: "ddim", deterministic given its first noise, or "ddpm", which adds noise at every step.
        clip_sample: Clip each estimate of the clean chunk to [-1, 1].
        ema: Act with the running mean of the weights.
        do_mask_loss_for_padding: Leave steps beyond an episode's ends out of the loss. The original does not: what is
            never supervised there denoises to anything, and the convolutions carry it into the steps beside it.
        bounded: Clip actions to [-1, 1]; False only for policies of other action spaces.
        encoders: How observations are encoded.

    Source: Chi et al. 2023; the names are lerobot's.
    """

    n_obs_steps: int = 2
    horizon: int = 16
    n_action_steps: int = 8
    down_dims: tuple[int, ...] = (64, 128, 256)
    kernel_size: int = 5
    n_groups: int = 8
    diffusion_step_embed_dim: int = 64
    num_train_timesteps: int = 100
    num_inference_steps: int = 10
    sampler: Literal["ddim", "ddpm"] = "ddim"
    clip_sample: bool = True
    ema: bool = True
    do_mask_loss_for_padding: bool = False
    bounded: bool = True
    encoders: EncodersConfig = field(default_factory=EncodersConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be built or executed."""
        if self.n_obs_steps < 1:
            raise ConfigError(f"n_obs_steps must be at least 1, got {self.n_obs_steps}.")
        _check_horizons("horizon - n_obs_steps + 1", self.horizon - self.n_obs_steps + 1, self.n_action_steps)
        halvings = 2 ** (len(self.down_dims) - 1)
        if not self.down_dims or self.horizon % halvings:
            raise ConfigError(f"horizon must be divisible by {halvings} for {self.down_dims}, got {self.horizon}.")
        if any(width % self.n_groups for width in self.down_dims):
            raise ConfigError(f"down_dims must be divisible by n_groups {self.n_groups}, got {self.down_dims}.")
        if not 1 <= self.num_inference_steps <= self.num_train_timesteps:
            raise ConfigError(
                f"num_inference_steps must be in 1..{self.num_train_timesteps}, got {self.num_inference_steps}."
            )
        if self.kernel_size % 2 == 0 or self.diffusion_step_embed_dim % 2:
            raise ConfigError("kernel_size must be odd and diffusion_step_embed_dim even.")

    @property
    def obs_horizon(self) -> int:
        """Frames seen at once."""
        return self.n_obs_steps

    @property
    def prediction_horizon(self) -> int:
        """Steps of a denoised chunk."""
        return self.horizon

    @property
    def temporal_ensemble_coeff(self) -> None:
        """Chunks are executed one after the other."""
        return None


# "paper" holds the published sizes: act/detr/main.py and the real-robot configuration of diffusion_policy.
ACT_PRESETS: Mapping[str, ActConfig] = {
    "demo": ActConfig(),
    "small": ActConfig(
        chunk_size=32,
        n_action_steps=16,
        dim_model=256,
        n_heads=8,
        dim_feedforward=1024,
        n_encoder_layers=4,
        latent_dim=32,
        n_vae_encoder_layers=4,
        encoders=EncodersConfig(image="resnet18", width=32),
    ),
    "paper": ActConfig(
        chunk_size=100,
        n_action_steps=100,
        dim_model=512,
        n_heads=8,
        dim_feedforward=3200,
        n_encoder_layers=4,
        latent_dim=32,
        n_vae_encoder_layers=4,
        encoders=EncodersConfig(image="resnet18", width=64, norm="frozen_batch", shared=True),
    ),
}
DIFFUSION_PRESETS: Mapping[str, DiffusionConfig] = {
    "demo": DiffusionConfig(),
    "small": DiffusionConfig(
        down_dims=(128, 256, 512), diffusion_step_embed_dim=128, encoders=EncodersConfig(image="resnet18", width=32)
    ),
    "paper": DiffusionConfig(
        down_dims=(512, 1024, 2048), diffusion_step_embed_dim=128, num_inference_steps=16, encoders=_RESNET
    ),
}


@dataclass(frozen=True, kw_only=True)
class ChunkLearnerConfig(GradientConfig):
    """How a chunk is fitted to the demonstrated one.

    Attributes:
        batch_size: Windows per gradient step.
        drop_modality: Modality that is hidden from some windows, so that the policy does not lean on it.
        drop_share: Share of the windows from which it is hidden.
    """

    # Chi et al. 2023: 1e-4 over some 10^5 steps, Zhao et al. 2023: 1e-5 over 10^6; a few thousand steps want more.
    learning_rate: float = 5e-4
    warmup: int = 100
    fall_from: float = 0.0
    batch_size: int = 32
    drop_modality: Modality = "nothing"
    drop_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse settings that cannot learn."""
        super().__post_init__()
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}.")
        if not 0.0 < self.drop_share < 1.0:
            raise ConfigError(f"drop_share must be in (0, 1), got {self.drop_share}.")


@dataclass(frozen=True, kw_only=True)
class ChunkTrainingConfig(ImitateConfig):
    """Train a policy that acts in chunks.

    Attributes:
        preset: What the settings of network and learner start from: "demo", "small" or "paper", the published sizes.
        learner: How it is fitted.
    """

    preset: Literal["demo", "small", "paper"] = "demo"
    network: ActConfig | DiffusionConfig
    learner: ChunkLearnerConfig = field(default_factory=ChunkLearnerConfig)

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is made."""
        super().__post_init__()
        joint = self.network.encoders.kind == "joint"
        if self.encoder is not None and not joint:
            raise ConfigError("encoder needs network.encoders.kind joint, got per_key.")
        if self.learner.encoder_rate != 1.0 and not joint:
            raise ConfigError(
                "encoder_rate is that of a joint encoder; network.encoders.kind must be joint, got per_key."
            )


@dataclass(frozen=True, kw_only=True)
class ActTrainingConfig(ChunkTrainingConfig):
    """Action Chunking Transformer.

    Attributes:
        network: The network.
    """

    method = "act"

    network: ActConfig = field(default_factory=ActConfig)


@dataclass(frozen=True, kw_only=True)
class DiffusionTrainingConfig(ChunkTrainingConfig):
    """Diffusion policy.

    Attributes:
        network: The network.
    """

    method = "diffusion"

    network: DiffusionConfig = field(default_factory=DiffusionConfig)


# As published: act/README.md (batch 8, step size 1e-5) and diffusion_policy's real-robot configuration.
ACT_LEARNERS: Mapping[str, ChunkLearnerConfig] = {
    "demo": ChunkLearnerConfig(),
    "small": ChunkLearnerConfig(learning_rate=1e-4),
    "paper": ChunkLearnerConfig(learning_rate=1e-5, warmup=0, batch_size=8),
}
DIFFUSION_LEARNERS: Mapping[str, ChunkLearnerConfig] = {
    "demo": ChunkLearnerConfig(),
    "small": ChunkLearnerConfig(learning_rate=1e-4, weight_decay=1e-6, batch_size=64),
    "paper": ChunkLearnerConfig(learning_rate=1e-4, weight_decay=1e-6, warmup=500, batch_size=64),
}

_Config = TypeVar("_Config", ActConfig, DiffusionConfig)


def from_dict(config_class: type[_Config], values: Mapping[str, Any]) -> _Config:
    """Undo `dataclasses.asdict` after a trip through JSON.

    Raises:
        MissingError: If a setting is unknown.

    Example:
        >>> from dataclasses import asdict
        >>> from_dict(ActConfig, asdict(ActConfig(chunk_size=20))) == ActConfig(chunk_size=20)
        True
    """
    return _from_dict(config_class, values)


def _from_dict(config_class: Any, values: Mapping[str, Any]) -> Any:
    known = {item.name: item for item in fields(config_class)}
    built = {}
    for name, value in values.items():
        if name not in known:
            raise missing("setting", name, known)
        if isinstance(value, Mapping):
            value = _from_dict(EncodersConfig, value)
        built[name] = tuple(value) if isinstance(value, list) else value
    return config_class(**built)

"""Action Chunking Transformer: a conditional variational autoencoder of action chunks.

Axes: B batch · K steps of a chunk · A action dimensions · D dim_model · S tokens · Z latent_dim.

Source: Zhao et al. 2023 (ALOHA), released code `detr/models/detr_vae.py`; the parameters bear the names of lerobot's
`modeling_act.py`. Deviations: any mix of images, force fields, vectors or a joint encoder; absent signals are masked
out; the loss is the mean over the valid steps (the original also counts padding).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vtt.errors import ConfigError
from vtt_policies.chunking.config import ActConfig
from vtt_policies.chunking.encoders import Encoders, PlaceTokens

__all__ = ["Act", "ActOutput", "act_loss", "kl_from_normal", "sine_sequence"]

_STATE = "proprioception"


class ActOutput(NamedTuple):
    """What the network says.

    Attributes:
        chunk: Normalised actions. Shape (B, K, A).
        mean: Of the latent given the demonstrated chunk, or None at test. Shape (B, Z).
        log_variance: Likewise.
    """

    chunk: Tensor
    mean: Tensor | None
    log_variance: Tensor | None


class Act(nn.Module):
    """Tokens of the observation and of a style latent through an encoder and a decoder to a chunk.

    Args:
        config: Sizes.
        encoders: Turns observations into maps and vectors.
        action_dim: A.
        may_be_absent: Keys that need not be there: their tokens are left out, or masked out where `valid` says so.
    """

    def __init__(
        self, config: ActConfig, encoders: Encoders, *, action_dim: int, may_be_absent: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.config, self.action_dim, self.may_be_absent = config, action_dim, may_be_absent
        self.encoders = encoders
        dim = config.dim_model
        self.vector_keys = tuple(encoders.vectors)
        # The variational encoder sees the body besides the actions, as in the original.
        self.state_key = _STATE if _STATE in self.vector_keys else next(iter(self.vector_keys), None)
        if config.latent_dim:
            self.vae_encoder = _Encoder(config, config.n_vae_encoder_layers)
            self.vae_encoder_cls_embed = nn.Embedding(1, dim)
            if self.state_key is not None:
                self.vae_encoder_robot_state_input_proj = nn.Linear(encoders.vectors[self.state_key], dim)
            self.vae_encoder_action_input_proj = nn.Linear(action_dim, dim)
            self.vae_encoder_latent_output_proj = nn.Linear(dim, 2 * config.latent_dim)
            self.vae_encoder_pos_enc: Tensor
            count = 1 + (self.state_key is not None) + config.chunk_size
            self.register_buffer("vae_encoder_pos_enc", sine_sequence(count, dim)[None])
            self.encoder_latent_input_proj = nn.Linear(config.latent_dim, dim)
        else:
            self.encoder_start = nn.Parameter(torch.zeros(dim))
        self.encoder = _Encoder(config, config.n_encoder_layers)
        self.decoder = _Decoder(config)
        self.encoder_vector_input_proj = nn.ModuleDict({k: nn.Linear(n, dim) for k, n in encoders.vectors.items()})
        self.encoder_1d_feature_pos_embed = nn.Embedding(1 + len(self.vector_keys), dim)
        # Images that share a backbone share the projection too, as in the original.
        names = {key: encoders.name_of(key) for key in encoders.shapes}
        self.encoder_img_feat_input_proj = nn.ModuleDict(
            {name: PlaceTokens(encoders.shapes[key], dim=dim) for key, name in names.items()}
        )
        self.joint_proj = nn.Linear(encoders.token_dim, dim) if encoders.joint is not None else None
        self.decoder_pos_embed = nn.Embedding(config.chunk_size, dim)
        self.action_head = nn.Linear(dim, action_dim)
        for part in (self.encoder, self.decoder):
            for parameter in part.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        observation: Mapping[str, Tensor],
        *,
        actions: Tensor | None = None,
        actions_valid: Tensor | None = None,
        valid: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> ActOutput:
        """Predict a chunk.

        Args:
            observation: Normalised, the current frame, (B, 1, ...).
            actions: The demonstrated chunk, normalised, to draw the style from; None uses the prior's mean, 0.
                Shape (B, K, A).
            actions_valid: Which steps of it exist. Shape (B, K).
            valid: Which samples have a signal, by key; the tokens of the others are masked out. Shape (B,).
            generator: Draws the latent.
        """
        frame = {key: value[:, -1] for key, value in observation.items()}
        batch = len(next(iter(frame.values())))
        mean = log_variance = None
        if self.config.latent_dim:
            latent = self.action_head.weight.new_zeros(batch, self.config.latent_dim)
            if actions is not None and actions_valid is not None:
                mean, log_variance = self._infer(frame, actions, actions_valid)
                noise = torch.randn(mean.shape, generator=generator, device=mean.device)
                latent = mean + (log_variance / 2).exp() * noise
            first = self.encoder_latent_input_proj(latent)
        else:
            first = self.encoder_start.expand(batch, -1)
        tokens, position, absent = self._tokens(first, frame, valid or {})
        memory = self.encoder(tokens, position, absent)
        decoded = self.decoder(memory, position, self.decoder_pos_embed.weight, absent)
        return ActOutput(self.action_head(decoded), mean, log_variance)

    def _infer(self, frame: Mapping[str, Tensor], actions: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Infer the style of a chunk: mean and log variance, (B, Z) each."""
        first = [self.vae_encoder_cls_embed.weight.expand(len(actions), 1, -1)]
        if self.state_key is not None:
            first.append(self.vae_encoder_robot_state_input_proj(frame[self.state_key])[:, None])
        tokens = torch.cat((*first, self.vae_encoder_action_input_proj(actions)), 1)  # (B, 2 + K, D)
        there = valid.new_ones(len(valid), len(first))
        absent = ~torch.cat((there, valid), 1)
        said = self.vae_encoder(tokens, self.vae_encoder_pos_enc[0], absent)[:, 0]
        mean, log_variance = self.vae_encoder_latent_output_proj(said).chunk(2, 1)
        return mean, log_variance

    def _tokens(
        self, first: Tensor, frame: Mapping[str, Tensor], valid: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Lay out latent, vectors and maps: tokens (B, S, D), positions (S, D), and who is absent (B, S)."""
        parts, owners, exist = [first[:, None]], [""], None
        for key in self.vector_keys:
            if key in frame or key not in self.may_be_absent:
                parts.append(self.encoder_vector_input_proj[key](frame[key])[:, None])
                owners.append(key)
        rows = [0, *(1 + self.vector_keys.index(key) for key in owners[1:])]
        positions = [self.encoder_1d_feature_pos_embed.weight[rows]]
        for key in self.encoders.shapes:
            if key in frame or key not in self.may_be_absent:
                place = self.encoder_img_feat_input_proj[self.encoders.name_of(key)]
                part, position = place(self.encoders.encode_map(key, frame[key]))
                parts.append(part)
                positions.append(position)
                owners.append(key)
        if self.joint_proj is not None:
            _, joint, exist = self.encoders.encode_joint(frame, valid=valid)
            parts.append(self.joint_proj(joint))
            positions.append(parts[-1].new_zeros(parts[-1].shape[1:]))  # the tokens know their places
            owners.append("")
        if not valid:
            return torch.cat(parts, 1), torch.cat(positions), None
        there = torch.ones(len(first), dtype=torch.bool, device=first.device)
        known = [
            valid.get(owner, there)[:, None].expand(part.shape[:2]) for owner, part in zip(owners, parts, strict=True)
        ]
        if exist is not None:
            known[-1] = exist
        return torch.cat(parts, 1), torch.cat(positions), ~torch.cat(known, 1)


def act_loss(output: ActOutput, actions: Tensor, valid: Tensor, *, kl_weight: float) -> tuple[Tensor, Tensor]:
    """Measure a chunk against the demonstrated one.

    Args:
        output: Of the network.
        actions: Demonstrated, normalised. Shape (B, K, A).
        valid: Which steps exist. Shape (B, K).
        kl_weight: Weight of the latent's divergence.

    Returns:
        The loss, and its absolute error alone: the mean over valid steps and action dimensions.
    """
    error = (output.chunk - actions).abs().mean(-1)  # (B, K)
    absolute = (error * valid).sum() / valid.sum().clamp_min(1)
    if output.mean is None or output.log_variance is None:
        return absolute, absolute
    return absolute + kl_weight * kl_from_normal(output.mean, output.log_variance).mean(), absolute


def kl_from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a diagonal Gaussian from the standard normal, (B, Z) to (B,).

    Source: Kingma and Welling 2014, appendix B.
    """
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1)


def sine_sequence(count: int, dim: int) -> Tensor:
    """Encode places in a sequence. Shape (count, dim). Source: Vaswani et al. 2017, section 3.5."""
    place = torch.arange(count, dtype=torch.float64)[:, None]
    angle = place / 10000.0 ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return torch.stack((angle.sin(), angle.cos()), 2).flatten(1).float()


class _Block(nn.Module):
    """What encoder and decoder blocks share: the feed-forward part behind a normalisation (post-norm)."""

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        dim = config.dim_model
        self.self_attn = nn.MultiheadAttention(dim, config.n_heads, dropout=config.dropout, batch_first=True)
        self.linear1 = nn.Linear(dim, config.dim_feedforward)
        self.linear2 = nn.Linear(config.dim_feedforward, dim)
        self.dropout = nn.Dropout(config.dropout)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.linear2(self.dropout(torch.relu(self.linear1(x)))))


class _EncoderBlock(_Block):
    def __init__(self, config: ActConfig) -> None:
        super().__init__(config)
        self.norm1 = nn.LayerNorm(config.dim_model)
        self.norm2 = nn.LayerNorm(config.dim_model)

    def forward(self, x: Tensor, position: Tensor, absent: Tensor | None) -> Tensor:
        asked = x + position
        told, _ = self.self_attn(asked, asked, x, key_padding_mask=absent, need_weights=False)
        return self.norm2(self._feed_forward(self.norm1(x + self.dropout(told))))


class _Encoder(nn.Module):
    """Blocks in a row; positions are added to queries and keys in each, as in DETR."""

    def __init__(self, config: ActConfig, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_EncoderBlock(config) for _ in range(depth))

    def forward(self, x: Tensor, position: Tensor, absent: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, position, absent)
        return x


class _DecoderBlock(_Block):
    def __init__(self, config: ActConfig) -> None:
        super().__init__(config)
        dim = config.dim_model
        self.multihead_attn = nn.MultiheadAttention(dim, config.n_heads, dropout=config.dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, memory: Tensor, place: Tensor, query: Tensor, absent: Tensor | None) -> Tensor:
        asked = x + query
        told, _ = self.self_attn(asked, asked, x, need_weights=False)
        x = self.norm1(x + self.dropout(told))
        told, _ = self.multihead_attn(x + query, memory + place, memory, key_padding_mask=absent, need_weights=False)
        return self.norm3(self._feed_forward(self.norm2(x + self.dropout(told))))


class _Decoder(nn.Module):
    """Learned queries, one per step of the chunk, read the observation."""

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        if config.n_decoder_layers < 1:
            raise ConfigError(f"n_decoder_layers must be at least 1, got {config.n_decoder_layers}.")
        self.layers = nn.ModuleList(_DecoderBlock(config) for _ in range(config.n_decoder_layers))
        self.norm = nn.LayerNorm(config.dim_model)

    def forward(self, memory: Tensor, position: Tensor, query: Tensor, absent: Tensor | None) -> Tensor:
        x = torch.zeros_like(query).expand(len(memory), -1, -1)
        for layer in self.layers:
            x = layer(x, memory, position, query, absent)
        return self.norm(x)

"""What an encoder is made of, and what it returns."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from vtt.errors import ConfigError, missing

if TYPE_CHECKING:
    from torch import Tensor

    from vtt.masks import MaskKind
    from vtt.tokens import TokenGroup

__all__ = ["PRESETS", "EncoderConfig", "EncoderOutput"]


@dataclass(frozen=True)
class EncoderConfig:
    """Choose an encoder. The defaults are the demo's, sized to train on two CPU cores.

    Attributes:
        name: "vtt", the transformer; "concat" or "poe", the paper's baselines.
        latent_dim: Length of the latent.
        num_contacts: Contact logits: left pad, right pad, held object against the environment.
        match_parameters: Baselines only: widen to within 5 % of this many parameters.
        embed_dim: Width D of the trunk; this and what follows is for "vtt" only.
        depth: Blocks of the trunk.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of a block's MLP over `embed_dim`.
        mask: Attention mask, see `vtt.masks.attention_mask`.
        image_patch: Patch of camera images, (rows, columns) in px.
        tactile_patch: Patch of tactile images, in px.
        force_patch: Patch of force grids, in taxels.
        stem_dim: Width of the two-level patch embedding of images; 0 for one linear map.
        vector_tokens: Tokens per vector.
        window: Time steps an observation holds; 1 for observations without a time axis.
        modality_embedding: Learned modality and key embeddings beside the positions (the paper has positions only).
        token_dims: Each token is compressed by an MLP of these two widths before all are joined.
        latent_hidden: Hidden width between the joined tokens and the latent.
    """

    name: Literal["vtt", "concat", "poe"] = "vtt"
    latent_dim: int = 64
    num_contacts: int = 3
    match_parameters: int | None = None
    embed_dim: int = 64
    depth: int = 2
    num_heads: int = 4
    # ViT has 4; 2, as in RPT and M3L, is a quarter cheaper and learns as fast at this size.
    mlp_ratio: float = 2.0
    mask: MaskKind = "full"
    image_patch: tuple[int, int] = (16, 16)
    tactile_patch: tuple[int, int] = (16, 16)
    force_patch: tuple[int, int] = (16, 16)
    stem_dim: int = 16
    vector_tokens: int = 1
    window: int = 1
    modality_embedding: bool = True
    token_dims: tuple[int, int] = (32, 16)
    latent_hidden: int = 128

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> EncoderConfig:
        """Undo `to_dict`.

        Raises:
            ConfigError: If a field is unknown; names the nearest.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in fields:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise ConfigError(f"No encoder option '{name}'.{hint}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)

    @classmethod
    def preset(cls, name: str) -> EncoderConfig:
        """Look up one of `PRESETS`.

        Raises:
            MissingError: If there is no such preset.
        """
        if name not in PRESETS:
            raise missing("encoder preset", name, PRESETS)
        return PRESETS[name]


PRESETS: dict[str, EncoderConfig] = {
    "demo": EncoderConfig(),
    "small": EncoderConfig(
        latent_dim=128,
        embed_dim=128,
        depth=4,
        mlp_ratio=4.0,
        stem_dim=32,
        image_patch=(8, 8),
        tactile_patch=(8, 8),
        force_patch=(8, 8),
        token_dims=(64, 16),
        latent_hidden=256,
    ),
    # The geometry of the released code of VTT (slac/network/encoder.py): 11,933,602 parameters for 84x84 + wrench.
    "paper": EncoderConfig(
        latent_dim=288,
        num_contacts=1,
        embed_dim=384,
        depth=6,
        num_heads=8,
        mlp_ratio=4.0,
        image_patch=(14, 14),
        tactile_patch=(14, 14),
        stem_dim=0,
        vector_tokens=2,
        modality_embedding=False,
        token_dims=(96, 32),
        latent_hidden=640,
    ),
}


class EncoderOutput(NamedTuple):
    """What an encoder returns.

    Attributes:
        latent: The state a policy reads, shape (B, latent_dim).
        align_logit: Do touch and the rest belong to one moment, shape (B,).
        contact_logit: Is there contact: left pad, right pad, held object against the environment. Shape
            (B, num_contacts).
        tokens: Tokens after the trunk, shape (B, N, D); None from a baseline.
        groups: Where each signal's tokens stand; empty from a baseline.
        valid: Which tokens exist, shape (B, N); None if all do.
        attention: Per block, shape (B, heads, N, N); None unless asked for.
    """

    latent: Tensor
    align_logit: Tensor
    contact_logit: Tensor
    tokens: Tensor | None = None
    groups: tuple[TokenGroup, ...] = ()
    valid: Tensor | None = None
    attention: tuple[Tensor, ...] | None = None

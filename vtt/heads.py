"""Heads: what is read off the tokens or the latent.

Axes: B batch · N tokens of a full sequence · K tokens of them that were kept · S slots · D embed_dim · P patch values.
The align and contact heads are plain linear maps and live in the encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtt.tokens import TokenGroup, Tokeniser
from vtt.trunk import Trunk

__all__ = ["LatentHead", "PixelHead", "ProjectionHead"]


class LatentHead(nn.Module):
    """Pool tokens to a latent: compress each token, join them in their slots, compress the joint.

    Tokens that do not exist contribute nothing: joining is a sum over tokens of a slot's weights, and theirs are left
    out. Source: the compression of VTT (`slac/network/encoder.py`), which has no missing tokens.
    """

    def __init__(
        self, embed_dim: int, groups: Sequence[TokenGroup], *, token_dims: tuple[int, int], hidden: int, latent_dim: int
    ) -> None:
        """Build for the sequence `groups`, in which every signal is present: its tokens are the slots."""
        super().__init__()
        self._slots = {group.name: group for group in groups}
        self._count = groups[-1].stop
        self.token = nn.Sequential(
            nn.Linear(embed_dim, token_dims[0]), nn.LeakyReLU(0.2), nn.Linear(token_dims[0], token_dims[1])
        )
        self.joint = nn.Sequential(
            nn.Linear(self._count * token_dims[1], hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, latent_dim)
        )

    def forward(
        self, x: Tensor, groups: Sequence[TokenGroup], *, valid: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """Pool (B, N, D) to (B, latent_dim).

        Args:
            x: Tokens after the trunk, shape (B, N, D); (B, K, D) with `keep`.
            groups: What the N tokens are.
            valid: Which tokens of `x` exist, shape as its first two axes.
            keep: Index in the N of each token of `x`, shape (B, K).
        """
        c = self.token(x)  # (B, N, c)
        if valid is not None:
            c = torch.where(valid[..., None], c, torch.zeros((), dtype=c.dtype, device=c.device))
        if keep is not None:
            c = c.new_zeros(c.shape[0], groups[-1].stop, c.shape[2]).scatter(1, keep[..., None].expand_as(c), c)
        if any(group != self._slots[group.name] for group in groups) or groups[-1].stop != self._count:
            c = self._to_slots(c, groups)
        return self.joint(c.flatten(1))  # (B, latent_dim)

    def _to_slots(self, c: Tensor, groups: Sequence[TokenGroup]) -> Tensor:
        """Place compressed tokens (B, N, c) in their slots (B, S, c), resampling images of another size."""
        slots = c.new_zeros(c.shape[0], self._count, c.shape[2])
        for group in groups:
            slot, part = self._slots[group.name], c[:, group.start : group.stop]
            if group.grid[1:] != slot.grid[1:]:
                part = part.unflatten(1, group.grid).permute(0, 4, 1, 2, 3)  # (B, c, T, rows, columns)
                part = F.adaptive_avg_pool3d(part, (group.grid[0], *slot.grid[1:])).flatten(2).transpose(1, 2)
            slots[:, slot.start : slot.start + part.shape[1]] = part
        return slots


class PixelHead(nn.Module):
    """Predict the content of tokens that were hidden: a light decoder, as of a masked autoencoder.

    Source: MAE (arXiv 2111.06377): mask token, positions, transformer on all tokens, one linear map to patch values.
    """

    def __init__(self, tokeniser: Tokeniser, widths: Mapping[str, int], *, embed_dim: int, depth: int = 1) -> None:
        """Build for the `tokeniser`'s signals, with the number of values per token by key in `widths`."""
        super().__init__()
        self.project = nn.Linear(embed_dim, embed_dim)
        self.position = nn.Linear(embed_dim, embed_dim)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(embed_dim), std=0.02))
        self.trunk = Trunk(embed_dim, depth, 4)
        self.values = nn.ModuleDict({key: _near_zero(nn.Linear(embed_dim, width)) for key, width in widths.items()})

    def forward(self, x: Tensor, keep: Tensor, groups: Sequence[TokenGroup], tokeniser: Tokeniser) -> dict[str, Tensor]:
        """Predict every token's content from the kept ones.

        Args:
            x: Tokens after the trunk, shape (B, K, D).
            keep: Their indices in the full sequence, shape (B, K).
            groups: What the full sequence is.
            tokeniser: Gives the embeddings of the places to predict.

        Returns:
            By key the values of its tokens, shape (B, n, P).
        """
        known = self.project(x)  # (B, K, D)
        full = self.mask_token.to(known.dtype).expand(x.shape[0], groups[-1].stop, -1)
        full = full.scatter(1, keep[..., None].expand_as(known), known)  # (B, N, D)
        signals = [group for group in groups if group.modality != "special"]
        places = self.position(torch.cat([tokeniser.embedding(group) for group in signals]))
        full = full + F.pad(places, (0, 0, groups[-1].stop - places.shape[0], 0))  # special tokens come first
        y, _ = self.trunk(full)
        return {group.name: self.values[group.name](y[:, group.start : group.stop]) for group in signals}


class ProjectionHead(nn.Module):
    """Project the latent to named vectors through one shared hidden layer."""

    def __init__(self, latent_dim: int, widths: Mapping[str, int], *, hidden: int = 256) -> None:
        super().__init__()
        self._widths = dict(widths)
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.GELU(), _near_zero(nn.Linear(hidden, sum(self._widths.values())))
        )

    def forward(self, latent: Tensor) -> dict[str, Tensor]:
        """Map (B, latent_dim) to (B, width) by name."""
        return dict(zip(self._widths, self.layers(latent).split(list(self._widths.values()), 1), strict=True))


def _near_zero(layer: nn.Linear) -> nn.Linear:
    """Let a layer that predicts standardised values begin near their mean."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer

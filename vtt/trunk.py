"""The trunk: one pre-LN transformer on scaled dot-product attention.

Axes: B batch · N tokens · D embed_dim · h heads · d = D / h.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtt.errors import ConfigError

__all__ = ["Block", "Trunk", "attend"]


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, return_attention: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Attend: softmax(Q K^T / sqrt(d)) V.

    Args:
        query: Shape (B, h, N, d).
        key: Shape (B, h, N, d).
        value: Shape (B, h, N, d).
        mask: True where a row may attend to a column; shape broadcastable to (B, h, N, N).
        return_attention: Compute the softmax explicitly and return it; the values agree with the fused path.

    Returns:
        The values (B, h, N, d), and the attention (B, h, N, N), rows summing to one, or None.
    """
    if not return_attention:
        if query.dtype == torch.bfloat16 and query.device.type == "cpu":
            # The CPU's fused backward is ten times slower in bfloat16 than in float32 (torch 2.13).
            with torch.autocast("cpu", enabled=False):
                y = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)
            return y.to(query.dtype), None
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask), None
    score = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5  # (B, h, N, N)
    if mask is not None:
        score = score.masked_fill(~mask, float("-inf"))
    attention = score.softmax(-1)
    return attention @ value, attention


class Block(nn.Module):
    """One transformer block: attention, then MLP, each behind a LayerNorm and beside a residual.

    qkv has no bias, exact GELU, no dropout: as in the released code of VTT (`slac/network/encoder.py`).
    """

    def __init__(self, embed_dim: int, num_heads: int, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ConfigError(f"embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}.")
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(embed_dim)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=False)
        self.out = nn.Linear(embed_dim, embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.up = nn.Linear(embed_dim, int(mlp_ratio * embed_dim))
        self.down = nn.Linear(int(mlp_ratio * embed_dim), embed_dim)

    def forward(self, x: Tensor, mask: Tensor | None, return_attention: bool) -> tuple[Tensor, Tensor | None]:
        """Map (B, N, D) to (B, N, D), with the attention (B, h, N, N) if asked for."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.num_heads, -1))  # (B, N, 3, h, d)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, h, N, d) each
        y, attention = attend(query, key, value, mask=mask, return_attention=return_attention)
        x = x + self.out(y.transpose(1, 2).flatten(2))  # (B, N, D)
        return x + self.down(F.gelu(self.up(self.norm2(x)))), attention


class Trunk(nn.Module):
    """Blocks, then a LayerNorm. The only transformer of the project; what differs is tokens, masks and heads."""

    def __init__(self, embed_dim: int, depth: int, num_heads: int, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio=mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, return_attention: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Transform a sequence.

        Args:
            x: Tokens, shape (B, N, D).
            mask: True where a row may attend to a column, shape (N, N) or (B, N, N); None for all.
            return_attention: Also return the attention of every block.

        Returns:
            Tokens (B, N, D), and per block the attention (B, h, N, N), or None.
        """
        if mask is not None and mask.ndim == 3:
            mask = mask[:, None]  # (B, 1, N, N)
        maps: list[Tensor] = []
        for block in self.blocks:
            x, attention = block(x, mask, return_attention)
            if attention is not None:
                maps.append(attention)
        return self.norm(x), tuple(maps) if return_attention else None

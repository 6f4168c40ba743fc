"""Attention maps: which part of one signal the tokens of another look at.

Axes: B batch · N tokens · h heads · H, W rows and columns of an image. A map is non-negative and sums to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vtt.encoders.config import EncoderOutput
from vtt.errors import ConfigError, ShapeError, StateError, missing
from vtt.tokens import TokenGroup

__all__ = ["attention_map", "overlay", "rollout", "upsample"]


def attention_map(
    output: EncoderOutput,
    *,
    queries: str,
    keys: str,
    layer: int = -1,
    method: Literal["layer", "rollout"] = "layer",
    per_head: bool = False,
) -> Tensor:
    """Map how the tokens `queries` attend to the patches of `keys`.

    The mean over query tokens (and heads), restricted to the key's tokens and made to sum to one again: it says where
    in the image the attention lies, not how much of all attention it gets.

    Args:
        output: From an encoder called with `return_attention=True`.
        queries: Signal ("tactile_left"), special token ("align") or modality ("touch") that looks.
        keys: Signal that is looked at, such as "camera_front". In a window, its newest step.
        layer: Block whose attention is shown; the last by default.
        method: "layer", or "rollout" through all blocks (`layer` is then not used).
        per_head: Keep the heads apart. Not with rollout.

    Returns:
        Shape (B, rows, columns), or (B, h, rows, columns) with `per_head`; sums to one for each sample, and is zero
        where a sample lacks the queries or the keys.

    Raises:
        StateError: If `output` holds no attention.
        MissingError: If no token has such a name.
    """
    if output.attention is None:
        raise StateError("attention_map needs an encoder called with return_attention=True.")
    if method == "rollout" and per_head:
        raise ConfigError("per_head must be False with method 'rollout', got True.")
    key = _groups(output.groups, keys, by_modality=False)[0]
    _, rows, columns = key.grid
    attention = rollout(output.attention)[:, None] if method == "rollout" else output.attention[layer]  # (B, h, N, N)
    looking = torch.zeros(attention.shape[0], attention.shape[-1], device=attention.device)  # (B, N)
    for group in _groups(output.groups, queries, by_modality=True):
        looking[:, group.start : group.stop] = 1
    if output.valid is not None:
        looking = looking * output.valid
    newest = slice(key.stop - rows * columns, key.stop)
    seen = torch.einsum("bn,bhnk->bhk", looking, attention[..., newest].float())  # (B, h, rows * columns)
    if not per_head:
        seen = seen.sum(1, keepdim=True)
    # Without valid queries or keys all entries are exactly zero, and stay so.
    seen = seen / seen.sum(-1, keepdim=True).clamp_min(torch.finfo(seen.dtype).tiny)
    seen = seen.unflatten(-1, (rows, columns))
    return seen if per_head else seen[:, 0]


def rollout(attention: Sequence[Tensor]) -> Tensor:
    """Follow attention through all blocks, residuals included.

    Args:
        attention: Per block, shape (B, h, N, N).

    Returns:
        Share of each input token (column) in each output token (row), shape (B, N, N); rows sum to one.

    Source: Abnar and Zuidema, Quantifying attention flow in transformers, ACL 2020, eqn. 1.
    """
    one = torch.eye(attention[0].shape[-1], device=attention[0].device)
    flow = one.expand(len(attention[0]), -1, -1)
    for layer in attention:
        flow = 0.5 * (layer.float().mean(1) + one) @ flow
    return flow


def upsample(attention: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge maps (B, rows, columns) bilinearly to (B, H, W), keeping their sum."""
    large = F.interpolate(attention[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    total = attention.sum((1, 2)) / large.sum((1, 2)).clamp_min(torch.finfo(large.dtype).tiny)
    return large * total[:, None, None]


def overlay(
    image: NDArray[np.uint8], attention: NDArray[np.floating] | Tensor, *, strength: float = 0.7, peak: float = 0.0
) -> NDArray[np.uint8]:
    """Paint a map over its image, from nothing where it is least over red to yellow where it peaks.

    Args:
        image: Shape (H, W, 3), uint8.
        attention: Map of the image, shape (rows, columns).
        strength: Opacity where the map is at its peak, 0..1.
        peak: Map value that is painted at full strength; 0 takes the map's maximum, but at least twice its mean, so
            that an even map paints nothing. Give one for all frames of a video.

    Returns:
        Shape (H, W, 3), uint8.

    Raises:
        ShapeError: If the image is not uint8 (H, W, 3), or the map not two-dimensional.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}.")
    values = torch.as_tensor(attention, dtype=torch.float32).detach().cpu()
    if values.ndim != 2:
        raise ShapeError(f"attention must be (rows, columns), got {tuple(values.shape)}.")
    least, high = values.min(), peak or torch.maximum(values.max(), 2 * values.mean())
    values = (values - least) / (high - least).clamp_min(torch.finfo(values.dtype).tiny)
    size = (image.shape[0], image.shape[1])
    x = F.interpolate(values[None, None], size, mode="bilinear", align_corners=False)[0, 0].clamp(0, 1).numpy()
    heat = 255 * np.stack([np.ones_like(x), np.clip(2 * x - 1, 0, 1), np.zeros_like(x)], 2)  # (H, W, 3)
    opacity = strength * x[..., None]
    return np.rint((1 - opacity) * image + opacity * heat).astype(np.uint8)


def _groups(groups: Sequence[TokenGroup], name: str, *, by_modality: bool) -> list[TokenGroup]:
    """Find token groups by name, or by modality."""
    found = [group for group in groups if group.name == name or (by_modality and group.modality == name)]
    if not found:
        names = {group.name for group in groups} | ({group.modality for group in groups} if by_modality else set())
        raise missing("tokens", name, names)
    return found

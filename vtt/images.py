"""The one place where images change form: uint8 (..., H, W, C) outside networks, float32 (..., C, H, W) inside.

Axes: H, W rows and columns · C channels. Any axes may come before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["from_network", "resize", "to_network"]


def to_network(image: Tensor) -> Tensor:
    """Turn images into what a network takes.

    Args:
        image: uint8, shape (..., H, W, C).

    Returns:
        float32 in [0, 1], contiguous, shape (..., C, H, W).

    Raises:
        ShapeError: If `image` is not uint8 with at least three axes.

    Example:
        >>> import torch
        >>> to_network(torch.full((2, 48, 64, 3), 255, dtype=torch.uint8)).shape
        torch.Size([2, 3, 48, 64])
    """
    import torch  # what only reads a camera needs none

    if image.dtype != torch.uint8 or image.ndim < 3:
        raise ShapeError(f"image must be uint8 (..., H, W, C), got {image.dtype} {tuple(image.shape)}.")
    return (image.to(torch.float32) / 255).movedim(-1, -3).contiguous()


def from_network(image: Tensor) -> Tensor:
    """Turn a network's images back, clipping what is out of range.

    Args:
        image: Nominally in [0, 1], shape (..., C, H, W).

    Returns:
        uint8, shape (..., H, W, C).
    """
    import torch

    if image.ndim < 3:
        raise ShapeError(f"image must be (..., C, H, W), got {tuple(image.shape)}.")
    return (image.movedim(-3, -1) * 255).round().clamp(0, 255).to(torch.uint8).contiguous()


def resize(image: NDArray[Any], *, height: int, width: int) -> NDArray[Any]:
    """Scale images: by the mean over the area that falls on a pixel when shrinking, bilinearly when growing.

    Args:
        image: uint8 or float32, shape (..., H, W, C).
        height: Rows of the result, in px.
        width: Columns of the result, in px.

    Returns:
        Same dtype, shape (..., height, width, C).

    Raises:
        ShapeError: If `image` has fewer than three axes.
    """
    if image.ndim < 3:
        raise ShapeError(f"image must be (..., H, W, C), got {image.shape}.")
    *leading, rows, columns, channels = image.shape
    if (rows, columns) == (height, width):
        return image
    import cv2  # a robot that is shown images of the right size needs no OpenCV

    shrinks = height <= rows and width <= columns
    resized = np.empty((int(np.prod(leading)), height, width, channels), image.dtype)
    for source, target in zip(image.reshape(-1, rows, columns, channels), resized, strict=True):
        scaled = cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        target[:] = scaled.reshape(target.shape)  # OpenCV drops a single channel
    return resized.reshape(*leading, height, width, channels)

"""How one key is normalised, and how that is measured from samples.

A scale has a floor in physical units, so a channel that stood still during training and moves at test cannot explode.

Axes: N samples · B batch (any number of leading axes) · H, W rows and columns · C channels · n components of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtt.errors import ConfigError, ShapeError
from vtt.streams import StreamKind, StreamSpec

__all__ = ["Affine", "camera", "measure", "tactile"]

# Camera: grey levels 0..255 to -2..2. Tactile: a strong contact changes the rest image by some 25 grey levels, to 1.
_CAMERA_OFFSET, _CAMERA_SCALE, _TACTILE_SCALE = 0.5, 0.25, 0.1

# Below these a channel stands still: 1 mN on a taxel; 1 mm, mrad, mm/s, mN or mN·m in a vector.
_FLOORS = {"force_grid": 1e-3, "vector": 1e-3}

# Samples in double precision at once: 256 force grids of 48x64x3 are 19 MB.
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Affine:
    """How one key is normalised.

    Attributes:
        kind: What a sample is.
        shape: Shape of one sample outside networks: (H, W, C) or (n,).
        offset: In the sample's unit, images in [0, 1]. Shape (C, H, W), (C, 1, 1), (1, 1, 1) or (n,).
        scale: Likewise, positive. One value for an image, (C, 1, 1) for a force grid, (n,) for a vector.
        dead: Names of the channels whose scale is the floor.
    """

    kind: StreamKind
    shape: tuple[int, ...]
    offset: Tensor
    scale: Tensor
    dead: tuple[str, ...] = ()

    @cached_property
    def is_image(self) -> bool:
        """Whether samples are grey levels."""
        return self.kind in ("image", "tactile_image")

    def apply(self, x: Tensor) -> Tensor:
        """Convert and normalise raw samples (B, *shape) in two passes over memory."""
        if self.is_image:
            # Casts, scales and shifts at once, in the order in which the bytes lie.
            return torch.add(self._image_shift, x, alpha=self._image_gain).movedim(-1, -3).contiguous()
        if self.kind == "force_grid":
            return (x.movedim(-1, -3).to(torch.float32) - self.offset) / self.scale
        return (x.to(torch.float32) - self.offset) / self.scale

    @cached_property
    def _image_shift(self) -> Tensor:
        return (-self.offset / self.scale).movedim(0, -1).contiguous()

    @cached_property
    def _image_gain(self) -> float:
        return 1.0 / (255.0 * self.scale.item())


def camera(key: str, spec: StreamSpec) -> Affine:
    """Centre grey levels by constants."""
    _check_image(key, spec)
    return Affine(spec.kind, spec.shape, torch.full((1, 1, 1), _CAMERA_OFFSET), torch.full((1, 1, 1), _CAMERA_SCALE))


def tactile(key: str, spec: StreamSpec, rest_image: NDArray[np.uint8]) -> Affine:
    """Subtract the picture (H, W, C) of the untouched gel."""
    if spec.kind != "tactile_image":
        raise ConfigError(f"rest_images must be of tactile images, got one for '{key}', a {spec.kind}.")
    if rest_image.shape != spec.shape or rest_image.dtype != np.uint8:
        raise ShapeError(
            f"Rest image of '{key}' must be uint8 {spec.shape}, got {rest_image.dtype} {rest_image.shape}."
        )
    return _about(key, spec, rest_image.astype(np.float64))


def measure(key: str, spec: StreamSpec, chunks: Iterable[NDArray[Any]], *, floor: float | None = None) -> Affine:
    """Measure a key from its samples, in double precision and a block at a time.

    Args:
        key: For messages.
        spec: What a sample is. A vector gets mean and standard deviation per component; a force grid the root mean
            square per channel, so that no force stays 0; a tactile image its mean in place of a rest image.
        chunks: Arrays (N, *shape).
        floor: Smallest scale, in the key's unit; by default .001. Images have a constant scale.

    Raises:
        ConfigError: If there are no samples, or not finite ones, or the floor is not positive.
        ShapeError: If samples do not fit the spec.
    """
    floor = _FLOORS.get(spec.kind, 1.0) if floor is None else floor
    if not floor > 0:
        raise ConfigError(f"floor of '{key}' must be positive, got {floor}.")
    # A tactile image keeps its pixels apart, a force grid only its channels.
    axes = (0, 1, 2) if spec.kind == "force_grid" else (0,)
    count, mean, deviation = 0, np.zeros(()), np.zeros(())
    for values in _blocks(key, spec, chunks):
        part = values.mean(axes)
        new = values.size // part.size
        # Chan, Golub & LeVeque 1983, Am. Stat. 37, eqn. 2.1: the sums of two parts.
        deviation = deviation + values.var(axes) * new + (part - mean) ** 2 * (count * new / (count + new))
        mean = mean + (part - mean) * (new / (count + new))
        count += new
    if not count:
        raise ConfigError(f"samples of '{key}' must have at least one sample, got none.")
    if spec.kind == "tactile_image":
        return _about(key, spec, mean)
    variance = deviation / count + (mean**2 if spec.kind == "force_grid" else 0)
    if not np.isfinite(variance).all():
        raise ConfigError(f"samples of '{key}' must be finite, got NaN or infinity.")
    spread = np.sqrt(variance)
    names = spec.names or tuple(map(str, range(spec.shape[-1])))
    dead = tuple(name for name, value in zip(names, spread, strict=True) if value < floor)
    scale = torch.from_numpy(np.maximum(spread, floor).astype(np.float32))
    if spec.kind == "force_grid":
        return Affine(spec.kind, spec.shape, torch.zeros(len(scale), 1, 1), scale[:, None, None], dead)
    return Affine(spec.kind, spec.shape, torch.from_numpy(mean.astype(np.float32)), scale, dead)


def _blocks(key: str, spec: StreamSpec, chunks: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float64]]:
    """Cut chunks into blocks in double precision."""
    for chunk in chunks:
        if chunk.shape[1:] != spec.shape:
            raise ShapeError(f"Samples of '{key}' must be {('N', *spec.shape)}, got {chunk.shape}.")
        for start in range(0, len(chunk), _BLOCK):
            yield chunk[start : start + _BLOCK].astype(np.float64)


def _about(key: str, spec: StreamSpec, image: NDArray[np.float64]) -> Affine:
    """A tactile image as its difference from another (H, W, C), in grey levels."""
    _check_image(key, spec)
    offset = torch.from_numpy((image / 255).astype(np.float32)).movedim(-1, 0).contiguous()
    return Affine(spec.kind, spec.shape, offset, torch.full((1, 1, 1), _TACTILE_SCALE))


def _check_image(key: str, spec: StreamSpec) -> None:
    if spec.dtype != "uint8":
        raise ConfigError(f"'{key}' must be uint8 to be normalised as an image, got {spec.dtype}.")

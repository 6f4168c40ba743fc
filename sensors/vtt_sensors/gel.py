"""Gel mechanics: from what a rigid object overlaps to the surface that the camera sees.

Legend: B images, H rows, W columns; lengths in m, positive into the gel.

Every operation is elementwise (slices, means, maxima), never a matrix product or a library convolution, so that a
result depends on nothing but its own image: a batch equals its single images bit for bit. Means are `lerp` by powers of
two, which no fused multiplication can round differently.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["gel_surface", "surface_slope", "surface_steps"]

# Sweeps of the relaxation on the coarsest grid and on each finer one, and the finest pitch (as a part of the spread
# length) that is relaxed at all; below it the coarser solution is only interpolated. Chosen against a converged
# solution: see tests/sensors/test_gel.py.
_SWEEPS_COARSEST = 4
_SWEEPS = 2
_FINEST_RELAXED = 0.25
# Standard deviation of the blur by the skin and the camera, m. One pixel of the GelSight Mini.
_SKIN_BLUR = 5.9e-5


def gel_surface(indentation: Tensor, *, pixel_pitch: float, spread_length: float) -> Tensor:
    """Find the gel's surface under rigid objects.

    Where an object touches, the gel follows it; elsewhere the surface is that of a membrane on an elastic layer over an
    obstacle, `h >= indentation` and `h = spread_length² ∇²h` beside the contact: it leaves a contact without a kink
    and decays over `spread_length`. The deepest point stays the deepest. It is solved by projected Jacobi sweeps from
    coarse to fine grids.

    Args:
        indentation: Overlap of the rigid object with the flat gel, in m; negative means no overlap. Shape (B, H, W).
        pixel_pitch: Side of one pixel, in m.
        spread_length: Decay length of the dent around a contact, in m.

    Returns:
        Height map, in m, positive into the gel. Shape (B, H, W).

    Source: K. L. Johnson, Contact Mechanics (1985), section 4.3, for a layer as an elastic foundation, with a tension
    added; the coarse-to-fine order, with the contact restored at each level, follows Taxim (Si & Yuan, RA-L 2022).
    """
    rows, columns = indentation.shape[-2:]
    # Coarsen to cells of one to two spread lengths, where few sweeps converge, but to no fewer than 4 cells.
    levels = max(0, math.floor(math.log2(2.0 * spread_length / pixel_pitch)))
    levels = min(levels, math.floor(math.log2(min(rows, columns) / 4)))
    block = 2**levels
    padded = (0, -columns % block, 0, -rows % block)
    obstacles = [indentation.clamp_min(0.0)]
    if any(padded):
        obstacles[0] = F.pad(obstacles[0], padded, mode="replicate")
    for _ in range(levels):
        obstacles.append(_halve(obstacles[-1]))

    surface = obstacles[levels]
    for level in range(levels, -1, -1):
        pitch = pixel_pitch * 2**level
        if level < levels:
            surface = torch.maximum(obstacles[level], _double(surface))
        if level == levels or pitch >= _FINEST_RELAXED * spread_length:
            # Fixed point of h = gain * blur(h): the [1, 2, 1] blur adds pitch²/4 ∇²h.
            gain = 1.0 / (1.0 + (0.5 * pitch / spread_length) ** 2)
            for _ in range(_SWEEPS_COARSEST if level == levels else _SWEEPS):
                surface = torch.maximum(obstacles[level], _blur(surface, passes=1).mul_(gain))
    surface = surface[..., :rows, :columns]
    # Each [1, 2, 1] pass has a variance of half a pixel².
    passes = round(2.0 * (_SKIN_BLUR / pixel_pitch) ** 2)
    return _blur(surface, passes=passes) if passes else surface


def surface_slope(height_map: Tensor, *, pixel_pitch: float) -> tuple[Tensor, Tensor]:
    """Differentiate a height map by central differences.

    Args:
        height_map: In m. Shape (B, H, W).
        pixel_pitch: Side of one pixel, in m.

    Returns:
        Slope along rows and slope along columns, without unit. Shapes (B, H, W).
    """
    step_row, step_column = surface_steps(height_map)
    return step_row.mul_(0.5 / pixel_pitch), step_column.mul_(0.5 / pixel_pitch)


def surface_steps(height_map: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract neighbours two pixels apart, along rows and along columns, in m. Shapes (B, H, W)."""
    padded = F.pad(height_map, (1, 1, 1, 1), mode="replicate")
    return padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]


def _blur(x: Tensor, *, passes: int) -> Tensor:
    """Blur by [1, 2, 1]/4 along both axes, `passes` times; borders repeat the last value."""
    batch, rows, columns = x.shape
    x = F.pad(x, (passes,) * 4, mode="replicate")
    strides = x.stride()
    # In one row of numbers neighbours are a constant step apart. What mixes two rows or images lands in the padding.
    x = x.flatten()
    for step in (strides[2], strides[1]):
        for _ in range(2 * passes):
            x = torch.lerp(x[:-step], x[step:], 0.5)
    return x.as_strided((batch, rows, columns), strides)


def _halve(x: Tensor) -> Tensor:
    """Average blocks of 2 x 2; their maximum would lift the gel off round objects."""
    x = torch.lerp(x[:, 0::2], x[:, 1::2], 0.5)
    return torch.lerp(x[..., 0::2], x[..., 1::2], 0.5)


def _double(x: Tensor) -> Tensor:
    """Double both axes with weights 1/4, 3/4: one step of quadratic B-spline subdivision."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    for axis in (1, 2):
        size = x.shape[axis] - 2
        shape = list(x.shape)
        shape[axis] = 2 * size
        doubled = torch.empty(shape, dtype=x.dtype, device=x.device)
        even, odd = (doubled[:, 0::2], doubled[:, 1::2]) if axis == 1 else (doubled[..., 0::2], doubled[..., 1::2])
        near = x.narrow(axis, 1, size)
        torch.lerp(near, x.narrow(axis, 0, size), 0.25, out=even)
        torch.lerp(near, x.narrow(axis, 2, size), 0.25, out=odd)
        x = doubled
    return x

"""Spread a measured contact force over the taxels that it must have passed through.

Legend: B images, H rows, W columns. Channels: normal, shear along columns (x), shear along rows (y); N per taxel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ShapeError

__all__ = ["spread_contact_force"]


def spread_contact_force(
    indentation: NDArray[np.floating],
    force: NDArray[np.floating],
    *,
    twist: NDArray[np.floating] | None = None,
    taxel_size: tuple[float, float],
) -> NDArray[np.float64]:
    """Spread the force of one contact over a pad, in proportion to indentation.

    A physics engine knows the whole force, with its friction, but not where on the gel; the indentation does.
    The taxels' forces add up to `force`, and their moment about the contact's centre to `twist`, unless the contact is
    smaller than a taxel.

    Args:
        indentation: Overlap of the object with the gel, in m; negative means none. Shape (B, H, W).
        force: Force on the gel: normal (positive into it), along columns, along rows, in N. Shape (B, 3).
        twist: Moment of the shear forces about the gel's inward normal, from columns to rows, in N m. Shape (B,).
            Default: zero.
        taxel_size: Side of a taxel along rows and along columns, in m.

    Returns:
        Force on the gel, in N per taxel; zero where nothing touches. Shape (B, H, W, 3).

    Raises:
        ShapeError: If shapes do not agree.
    """
    if indentation.ndim != 3 or force.shape != (len(indentation), 3):
        raise ShapeError(
            f"indentation and force must have shapes (B, H, W) and (B, 3), got {indentation.shape} and {force.shape}."
        )
    rows, columns = indentation.shape[1:]
    pressure = np.clip(indentation, 0, None).astype(np.float64)
    total = pressure.sum(axis=(1, 2), keepdims=True)
    share = pressure / np.where(total > 0, total, 1)
    field = share[..., None] * force[:, None, None]
    if twist is not None:
        y, x = np.meshgrid(np.arange(rows) * taxel_size[0], np.arange(columns) * taxel_size[1], indexing="ij")
        x = x - (share * x).sum(axis=(1, 2), keepdims=True)
        y = y - (share * y).sum(axis=(1, 2), keepdims=True)
        inertia = (share * (x**2 + y**2)).sum(axis=(1, 2))
        # A contact smaller than a taxel carries its moment inside it; without this floor neighbours carry any force.
        rate = (twist / np.maximum(inertia, (taxel_size[0] ** 2 + taxel_size[1] ** 2) / 12))[:, None, None]
        field[..., 1] -= rate * share * y
        field[..., 2] += rate * share * x
    return field

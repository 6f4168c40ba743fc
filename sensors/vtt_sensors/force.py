"""Force field: what each patch (taxel) of the gel carries.

Legend: B images, H rows, W columns. Channels: normal, shear along columns (x), shear along rows (y); N per taxel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtt.errors import ConfigError, ShapeError

__all__ = ["drag_shear", "force_field"]


def force_field(
    indentation: Tensor,
    shear_displacement: Tensor | None = None,
    *,
    stiffness: float,
    shear_stiffness: float | None = None,
    friction: float = 1.0,
) -> Tensor:
    """Compute the force that an object puts on each taxel of the gel.

    The gel is a bed of springs: normal force `stiffness * indentation`, shear force `shear_stiffness * displacement`,
    not more than friction times normal force. Forces add up to the contact force if `stiffness` is the contact's
    stiffness per taxel. It keeps no state; `drag_shear` carries the displacement from step to step, so that a static
    grasp under load still reads shear.

    Args:
        indentation: Overlap of the object with the gel, in m; negative means none. Shape (B, H, W).
        shear_displacement: Displacement of the skin along columns and rows, in m. Shape (B, H, W, 2). None: no shear.
        stiffness: Normal stiffness of one taxel, in N/m.
        shear_stiffness: Shear stiffness of one taxel, in N/m. Default: a third of `stiffness`, the ratio of shear to
            Young's modulus of an incompressible gel.
        friction: Coulomb's coefficient.

    Returns:
        Force on the gel, in N per taxel. Shape (B, H, W, 3).

    Source: penalty force field of TacSL (Akinola et al., T-RO 2025), in newtons and with an elastic instead of its
    viscous shear term.
    """
    _check(indentation, shear_displacement)
    shear_stiffness = _positive("stiffness", stiffness) / 3.0 if shear_stiffness is None else shear_stiffness
    _positive("shear_stiffness", shear_stiffness)
    force = torch.zeros(*indentation.shape, 3, dtype=indentation.dtype, device=indentation.device)
    normal = force[..., 0]
    torch.mul(indentation.clamp_min(0.0), stiffness, out=normal)
    if shear_displacement is not None:
        shear = _cap(shear_displacement * shear_stiffness, limit=normal * friction)
        force[..., 1:].copy_(shear)
    return force


def drag_shear(
    shear_displacement: Tensor,
    sliding_velocity: Tensor,
    indentation: Tensor,
    *,
    time_step: float,
    friction: float = 1.0,
    stiffness_ratio: float = 3.0,
) -> Tensor:
    """Advance the displacement of the gel's skin by one time step, with stick and slip.

    The skin sticks to the object and moves with it until the shear force would exceed friction; then it slips, keeping
    the largest displacement that friction holds. Without contact it springs back.

    Args:
        shear_displacement: Displacement so far along columns and rows, in m. Shape (B, H, W, 2).
        sliding_velocity: Velocity of the object's surface against the undeformed gel, in m/s. Shape (B, H, W, 2).
        indentation: Overlap of the object with the gel, in m. Shape (B, H, W).
        time_step: In s.
        friction: Coulomb's coefficient.
        stiffness_ratio: Normal over shear stiffness of a taxel, as in `force_field`.

    Returns:
        New displacement, in m. Shape (B, H, W, 2).
    """
    _check(indentation, shear_displacement)
    moved = torch.add(shear_displacement, sliding_velocity, alpha=time_step)
    return _cap(moved, limit=indentation.clamp_min(0.0) * (friction * stiffness_ratio))


def _cap(vector: Tensor, *, limit: Tensor) -> Tensor:
    """Shorten vectors (..., 2) that are longer than `limit` (...)."""
    length = torch.linalg.vector_norm(vector, dim=-1).clamp_min(torch.finfo(vector.dtype).tiny)
    return vector * (limit / length).clamp_max(1.0)[..., None]


def _check(indentation: Tensor, shear_displacement: Tensor | None) -> None:
    if indentation.ndim != 3:
        raise ShapeError(f"indentation must have shape (B, H, W), got {tuple(indentation.shape)}.")
    if shear_displacement is not None and shear_displacement.shape != (*indentation.shape, 2):
        expected = (*indentation.shape, 2)
        raise ShapeError(f"shear_displacement must have shape {expected}, got {tuple(shear_displacement.shape)}.")


def _positive(name: str, value: float) -> float:
    if not value > 0.0:
        raise ConfigError(f"{name} must be positive, got {value}.")
    return value

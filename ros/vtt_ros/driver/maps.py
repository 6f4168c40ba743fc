"""What the gel's surface says, computed only while somebody listens: height map, contact mask, force field, wrench.

Legend: H, W rows and columns of the image; h, w of the force field.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from vtt_sensors.calibration import Calibration
from vtt_sensors.force import force_field
from vtt_sensors.reconstruction import Reconstructor
from vtt_sensors.spec import SensorSpec

__all__ = ["Maps", "Surface", "field_points"]

_TAXELS = (12, 16)


class Surface(NamedTuple):
    """What one frame says.

    Attributes:
        height_map: In m, positive into the gel. Shape (H, W), float32.
        contact_mask: Where the gel is indented. Shape (H, W), bool.
        force: Normal, shear x, shear y in N per taxel; shear is not seen in a single picture and zero. Shape (h, w, 3).
    """

    height_map: NDArray[np.float32]
    contact_mask: NDArray[np.bool_]
    force: NDArray[np.float32]


class Maps:
    """Reconstructs frames against the rest image.

    Args:
        spec: The sensor.
        calibration: How its slopes become colour.
        rest_image: The untouched gel, uint8 (H, W, 3).
    """

    def __init__(self, spec: SensorSpec, calibration: Calibration, *, rest_image: NDArray[np.uint8]) -> None:
        # One core is the driver's share; the policy needs the others.
        torch.set_num_threads(1)
        self._reconstruct = Reconstructor(spec, calibration, rest_image=rest_image)
        stiffness = spec.contact_stiffness
        self._stiffness = None if stiffness is None else stiffness / float(np.prod(_TAXELS))

    def __call__(self, image: NDArray[np.uint8]) -> Surface:
        """Reconstruct one frame, uint8 (H, W, 3)."""
        result = self._reconstruct(torch.from_numpy(np.ascontiguousarray(image))[None])
        height = torch.where(result.contact_mask, result.height_map, 0.0)
        force = torch.zeros(1, *_TAXELS, 3)
        if self._stiffness is not None:
            force = force_field(adaptive_avg_pool2d(height[:, None], _TAXELS)[:, 0], stiffness=self._stiffness)
        return Surface(result.height_map[0].numpy(), result.contact_mask[0].numpy(), force[0].numpy())


def field_points(force: NDArray[np.float32], spec: SensorSpec) -> NDArray[np.float32]:
    """Place a force field's taxels on the gel.

    Args:
        force: Normal, shear x, shear y, N per taxel. Shape (h, w, 3).
        spec: The sensor.

    Returns:
        x, y, z of each taxel in the gel's frame, m (x along columns, y along rows, z out of the gel), and the force on
        the gel along them, N. Shape (h * w, 6).
    """
    rows, columns = force.shape[:2]
    high, wide = spec.sensed_size
    down, across = ((np.arange(rows) + 0.5) / rows - 0.5) * high, ((np.arange(columns) + 0.5) / columns - 0.5) * wide
    y, x = np.meshgrid(down, across, indexing="ij")
    points = np.stack((x, y, np.zeros_like(x), force[..., 1], force[..., 2], -force[..., 0]), axis=-1)
    return points.reshape(-1, 6).astype(np.float32)

"""From a tactile image back to the gel's surface, on real and simulated pictures alike.

Legend: B images, H rows, W columns, K nodes per colour channel of the inverse table.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vtt.errors import ConfigError, ShapeError
from vtt_sensors.calibration import Calibration
from vtt_sensors.optics import illumination
from vtt_sensors.spec import SensorSpec

__all__ = ["Reconstruction", "Reconstructor", "contact_mask", "integrate_slope"]

_INVERSE_NODES = 33
# Deviation of a colour from the table's that is still noise, in grey levels: noise after blurring, and what position
# and shadows change.
_COLOUR_STD = 2.5
# Norm over channels, in grey levels, of a change that noise explains, and of one that is certainly none.
_NOISE, _CHANGE = 3.0, 8.0
# Slopes are small a priori; without unit.
_SLOPE_STD = 0.5
# Blur of the change of colour before it is looked up, in px of a 320-px-long picture.
_BLUR = 1.0
# Dents smaller than this part of the picture are specks; heights below this part of the deepest dent do not count.
_SPECK = 5e-4
_SHALLOW = 0.08
# Blur that continues the untouched gel's height under dents, as a part of the picture's long side.
_BASELINE = 0.12
# A marker is this much darker than its surroundings, in grey levels, and a part of the picture's long side wide.
_MARKER_CONTRAST = 18.0
_MARKER_SIZE = 0.06
_MARKER_AREA = 0.005


class Reconstruction(NamedTuple):
    """What a tactile image says about the gel.

    Attributes:
        slope_row: Slope along rows. Shape (B, H, W).
        slope_column: Slope along columns. Shape (B, H, W).
        height_map: In m, positive into the gel. Shape (B, H, W).
        contact_mask: Where the gel is indented, within regions that a change of colour encloses. Shape (B, H, W), bool.
    """

    slope_row: Tensor
    slope_column: Tensor
    height_map: Tensor
    contact_mask: Tensor


class Reconstructor:
    """Reads slopes and heights from tactile images by inverting a calibration.

    The inverse table holds the mean slope given a change of colour, for a normal prior on slope and normal colour
    noise: where the table is ambiguous, or a colour is impossible (a shadow), it is the nearest plausible slope.

    Args:
        spec: The sensor at the pictures' resolution.
        calibration: How slope becomes colour.
        rest_image: Picture of this unit's untouched gel, uint8, (H, W, 3). Default: the calibration's.
        device: Where to compute.
    """

    def __init__(
        self,
        spec: SensorSpec,
        calibration: Calibration,
        *,
        rest_image: np.ndarray | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.spec = spec
        self.device = torch.device(device)
        rest = calibration.rest_image if rest_image is None else np.asarray(rest_image, np.float32)
        if rest_image is not None and rest.shape != (*spec.image_shape, 3):
            raise ShapeError(f"rest_image must have shape {(*spec.image_shape, 3)}, got {rest.shape}.")
        gain = illumination(rest, spec.image_shape)
        if rest.shape[:2] != spec.image_shape:
            rest = cv2.resize(rest, spec.image_shape[::-1], interpolation=cv2.INTER_CUBIC)
        self._rest = torch.from_numpy(np.ascontiguousarray(rest)).to(self.device)
        self._rest_markers = _markers(self._rest[None])
        self._gain = torch.from_numpy(gain).to(self.device)
        self._reach = float(np.abs(calibration.table).max()) + 2.0 * _COLOUR_STD
        self._inverse = _invert(calibration, self._reach).to(self.device)  # (1, 2, K, K, K)

    def __call__(self, image: Tensor, *, min_indentation: float = 5e-5) -> Reconstruction:
        """Reconstruct the gel's surface.

        Args:
            image: uint8 tactile images. Shape (B, H, W, 3).
            min_indentation: Indentation counted as contact, in m.
        """
        if image.ndim != 4 or tuple(image.shape[1:]) != (*self.spec.image_shape, 3):
            expected = f"(B, {self.spec.image_shape[0]}, {self.spec.image_shape[1]}, 3)"
            raise ShapeError(f"image must have shape {expected}, got {tuple(image.shape)}.")
        change = self._change(image.to(self.device, torch.float32))
        # grid_sample wants the last axis of the table first.
        grid = (change / self._reach).flip(-1)[:, None]  # (B, 1, H, W, 3)
        inverse = self._inverse.expand(len(image), -1, -1, -1, -1)
        slope = F.grid_sample(inverse, grid, padding_mode="border", align_corners=True)[:, :, 0]  # (B, 2, H, W)
        # A change that noise explains is no slope: shrink, or noise adds up to hills far from any contact.
        strength = (change * self._gain).square().sum(dim=-1)
        slope = slope * (1.0 - torch.exp(-0.5 * strength / _NOISE**2))[:, None]
        height_map = integrate_slope(slope[:, 0], slope[:, 1], pixel_pitch=self.spec.pixel_pitch)
        dents = _enclosed(strength > _CHANGE**2)
        height_map = height_map - _baseline(height_map, ~dents)
        # A shallow hill beside a deep dent is a shadow or drift, not a second contact.
        deep = height_map > _SHALLOW * height_map.amax(dim=(1, 2), keepdim=True)
        mask = contact_mask(height_map, min_indentation=min_indentation) & deep & dents
        return Reconstruction(slope[:, 0], slope[:, 1], height_map, mask)

    def _change(self, image: Tensor) -> Tensor:
        """Blurred change of colour against rest, for the mean illumination; markers filled in. (B, H, W, 3)."""
        change = (image - self._rest) / self._gain
        sigma = _BLUR * max(self.spec.image_shape) / 320.0
        markers = _markers(image) | self._rest_markers
        if markers.float().mean() < _MARKER_AREA:
            return _gaussian(change, sigma)
        valid = (~markers)[..., None].float()
        # Normalised convolution: the wide blur fills the markers, the narrow one serves all else.
        wide = _MARKER_SIZE / 3.0 * max(self.spec.image_shape)
        filled = _gaussian(change * valid, wide) / _gaussian(valid, wide).clamp_min(1e-3)
        return _gaussian(torch.where(markers[..., None], filled, change), sigma)


def integrate_slope(slope_row: Tensor, slope_column: Tensor, *, pixel_pitch: float) -> Tensor:
    """Find the surface whose slopes are nearest to the given ones in least squares (Poisson's equation).

    The border is free (Neumann); the cosine transform is a Fourier transform of the mirrored picture. The height's
    free constant is set so that the median of the border is zero.

    Args:
        slope_row: Slope along rows. Shape (B, H, W).
        slope_column: Slope along columns. Shape (B, H, W).
        pixel_pitch: Side of one pixel, in m.

    Returns:
        Height, in m. Shape (B, H, W).

    Source: Simchony, Chellappa & Shao (1990). Eigenvalues are indexed from 0: from 1, as in several tactile SDKs,
    heights come out too small by a third and more.
    """
    if slope_row.ndim != 3 or slope_row.shape != slope_column.shape:
        raise ShapeError(
            "slope_row and slope_column must have one shape (B, H, W), "
            f"got {tuple(slope_row.shape)} and {tuple(slope_column.shape)}."
        )
    rows, columns = slope_row.shape[1:]
    # Differences between neighbours, at the edges between pixels; none across the border.
    step_row = 0.5 * (slope_row[:, 1:] + slope_row[:, :-1])
    step_column = 0.5 * (slope_column[..., 1:] + slope_column[..., :-1])
    divergence = F.pad(step_row, (0, 0, 0, 1)) - F.pad(step_row, (0, 0, 1, 0))
    divergence = divergence + F.pad(step_column, (0, 1)) - F.pad(step_column, (1, 0))
    mirrored = torch.cat([divergence, divergence.flip(1)], dim=1)
    mirrored = torch.cat([mirrored, mirrored.flip(2)], dim=2)
    device = divergence.device
    wave_row = torch.fft.fftfreq(2 * rows, device=device)[:, None] * 2.0 * torch.pi
    wave_column = torch.fft.rfftfreq(2 * columns, device=device) * 2.0 * torch.pi
    eigenvalue = 2.0 * torch.cos(wave_row) + 2.0 * torch.cos(wave_column) - 4.0
    eigenvalue[0, 0] = 1.0
    spectrum = torch.fft.rfft2(mirrored) / eigenvalue
    spectrum[:, 0, 0] = 0.0
    height = torch.fft.irfft2(spectrum, s=(2 * rows, 2 * columns))[:, :rows, :columns] * pixel_pitch
    border = torch.cat([height[:, 0], height[:, -1], height[..., 0], height[..., -1]], dim=1)
    return height - border.median(dim=1).values[:, None, None]


def contact_mask(height_map: Tensor, *, min_indentation: float = 5e-5) -> Tensor:
    """Find where the gel is indented by more than `min_indentation`, in m. Shapes (B, H, W) to (B, H, W), bool."""
    if not min_indentation > 0.0:
        raise ConfigError(f"min_indentation must be positive, got {min_indentation}.")
    return height_map > min_indentation


def _invert(calibration: Calibration, reach: float) -> Tensor:
    """Mean slope given a change of colour, on a grid of colours from -reach to reach. Shape (1, 2, K, K, K)."""
    table = torch.from_numpy(calibration.table.copy())
    axis = torch.linspace(-calibration.slope_max, calibration.slope_max, len(table))
    slope = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    colour = torch.linspace(-reach, reach, _INVERSE_NODES)
    # A cell of the grid blurs the colour too: a uniform error of one cell's width.
    variance = _COLOUR_STD**2 + (2.0 * reach / (_INVERSE_NODES - 1)) ** 2 / 12.0
    prior = -slope.square().sum(dim=1) / (2.0 * _SLOPE_STD**2)
    colours = torch.cartesian_prod(colour, colour, colour)  # (K^3, 3)
    means = []
    for part in colours.split(8192):
        distance = torch.cdist(part, table.reshape(-1, 3)).square()
        means.append(torch.softmax(prior - distance / (2.0 * variance), dim=1) @ slope)
    inverse = torch.cat(means).T.reshape(1, 2, *(_INVERSE_NODES,) * 3)
    middle = _INVERSE_NODES // 2
    return inverse - inverse[:, :, middle, middle, middle, None, None, None]  # no change, no slope


def _enclosed(changed: Tensor) -> Tensor:
    """Close gaps of (B, H, W) masks, drop specks, fill holes: inside a flat contact nothing changes but at its rim."""
    size = max(changed.shape[1:])
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(size / 40) + 1,) * 2)
    filled = []
    for mask in changed.cpu().numpy().astype(np.uint8):
        closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
        contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        large = [contour for contour in contours if cv2.contourArea(contour) > _SPECK * mask.size]
        filled.append(cv2.drawContours(np.zeros_like(mask), large, -1, 1, cv2.FILLED))
    return torch.from_numpy(np.stack(filled)).bool().to(changed.device)


def _baseline(height_map: Tensor, untouched: Tensor) -> Tensor:
    """Continue the height of the untouched gel, which should be zero, smoothly under the dents. Shape (B, H, W)."""
    weight = untouched.float()[..., None]
    sigma = _BASELINE * max(height_map.shape[1:])
    total = _gaussian(weight, sigma)
    # Deep inside a dent wider than the blur there is nothing to continue: fall back to the border's median, zero.
    level = _gaussian(height_map[..., None] * weight, sigma) / (total + 0.02)
    return level[..., 0]


def _markers(image: Tensor) -> Tensor:
    """Find dots that are darker than their surroundings in (B, H, W, 3) pictures. Shape (B, H, W), bool."""
    size = max(image.shape[1:3])
    diameter = int(_MARKER_SIZE * size) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    found = []
    for picture in image.cpu().numpy().mean(axis=-1):
        smooth = cv2.GaussianBlur(picture, (0, 0), size / 320.0)
        dark = (cv2.morphologyEx(smooth, cv2.MORPH_BLACKHAT, kernel) > _MARKER_CONTRAST).astype(np.uint8)
        found.append(cv2.dilate(dark, np.ones((3, 3), np.uint8), iterations=max(1, round(2 * size / 320))))
    return torch.from_numpy(np.stack(found)).bool().to(image.device)


def _gaussian(image: Tensor, sigma: float) -> Tensor:
    """Blur (B, H, W, C) pictures; borders repeat the last value."""
    radius = max(1, round(3.0 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=image.device) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = image.shape[-1]
    planes = image.permute(0, 3, 1, 2).reshape(-1, 1, *image.shape[1:3])
    planes = F.pad(planes, (radius,) * 4, mode="replicate")
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return planes.reshape(-1, channels, *image.shape[1:3]).permute(0, 2, 3, 1)

"""Slope to colour: the calibration's table, looked up once per pixel.

A slope changes the colour in proportion to the light that falls there, which the rest image shows.

Legend: B images, H rows, W columns, N nodes of the calibration's table, M nodes of the refined table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vtt.errors import ConfigError
from vtt_sensors.calibration import Calibration

__all__ = ["ColourTable", "Light", "illumination", "light_table", "rest_image"]

# Nodes per axis of the refined table. At the GelSight Mini's steepest response neighbouring nodes differ by less than
# three grey levels, so no steps show; the table takes 2 MB.
_NODES = 513
# Bounds of the illumination gain and of a change of colour. Their product, in 64ths, fits a 16-bit integer.
_GAIN_RANGE = (0.2, 2.5)
_GAIN_SHIFT = 6
_MAX_CHANGE = 200
# OpenCV drops the fourth channel ten times as fast as torch, and up to so many pixels without threads of its own.
_CV_PIXELS = 2**16


class ColourTable:
    """Turns slopes into pictures: rest image plus the change that a slope makes.

    All three channels are packed into one 64-bit word (four 16-bit integers), so that a pixel costs one look-up.

    Args:
        calibration: Table and rest image.
        image_shape: Rows and columns of the pictures.
        device: Where to compute.
    """

    def __init__(self, calibration: Calibration, *, image_shape: tuple[int, int], device: torch.device) -> None:
        table = torch.from_numpy(calibration.table.copy()).permute(2, 0, 1)[None]
        fine = F.interpolate(table, size=(_NODES, _NODES), mode="bicubic", align_corners=True)[0]
        fine = fine - fine[:, _NODES // 2, _NODES // 2, None, None]  # (3, M, M); zero slope stays zero
        words = torch.zeros(_NODES, _NODES, 4, dtype=torch.int16)
        words[..., :3] = fine.round().clamp(-_MAX_CHANGE, _MAX_CHANGE).permute(1, 2, 0).to(torch.int16)
        self._table = words.view(torch.int64).flatten().to(device)  # (M * M,)
        self._nodes_per_slope = (_NODES // 2) / calibration.slope_max
        rest = torch.zeros(*image_shape, 4, dtype=torch.int16)
        rest[..., :3] = torch.from_numpy(rest_image(calibration, image_shape)).to(torch.int16)
        self._rest = rest.to(device)  # (H, W, 4)
        gain = torch.zeros(*image_shape, 4, dtype=torch.int16)
        gain[..., :3] = (
            torch.from_numpy(illumination(calibration.rest_image, image_shape) * 2**_GAIN_SHIFT).round().short()
        )
        self._gain = gain.to(device)  # (H, W, 4)

    def __call__(
        self, slope_row: Tensor, slope_column: Tensor, *, unit: float = 1.0, out: Tensor | None = None
    ) -> Tensor:
        """Return pictures.

        Args:
            slope_row: Slope along rows. Shape (B, H, W). Overwritten.
            slope_column: Slope along columns. Shape (B, H, W). Overwritten.
            unit: Slope that one unit of the slopes given means.
            out: Where to write. Shape (B, H, W, 3), uint8.

        Returns:
            uint8 pictures. Shape (B, H, W, 3).
        """
        border = _NODES // 2
        row = slope_row.mul_(unit * self._nodes_per_slope).clamp_(-border, border).round_()
        column = slope_column.mul_(unit * self._nodes_per_slope).clamp_(-border, border).round_()
        # Exact in float32: the index stays below 2^24.
        index = column.add_(row, alpha=_NODES).add_(border * (_NODES + 1)).to(torch.int32)
        change = self._table.index_select(0, index.flatten()).view(torch.int16)
        change = change.view(*index.shape, 4).mul_(self._gain).bitwise_right_shift_(_GAIN_SHIFT)
        image = change.add_(self._rest).clamp_(0, 255).to(torch.uint8)
        out = torch.empty(*index.shape, 3, dtype=torch.uint8, device=image.device) if out is None else out
        if image.device.type == "cpu":
            rows = max(1, _CV_PIXELS // image.shape[2])
            for four, three in zip(image.flatten(0, 1).split(rows), out.flatten(0, 1).split(rows), strict=True):
                cv2.cvtColor(four.numpy(), cv2.COLOR_BGRA2BGR, dst=three.numpy())
        else:
            out.copy_(image[..., :3])
        return out


def rest_image(calibration: Calibration, image_shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Resample a calibration's rest image.

    Returns:
        uint8 picture of the untouched gel. Shape (H, W, 3).
    """
    return np.clip(np.rint(_resize(calibration.rest_image, image_shape)), 0, 255).astype(np.uint8)


def illumination(rest: NDArray[np.float32], image_shape: tuple[int, int]) -> NDArray[np.float32]:
    """Estimate how much light of each colour falls on each place, relative to the mean, from the rest image.

    Dust, markers and pixel noise are blurred away.

    Returns:
        Gain of a slope's change of colour, 0.2 to 2.5. Shape (H, W, 3).
    """
    sigma = rest.shape[1] / 25.0
    smooth = np.asarray(cv2.GaussianBlur(np.array(rest), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
    gain = _resize(smooth / np.maximum(smooth.mean(axis=(0, 1)), 1.0), image_shape)
    return np.clip(gain, *_GAIN_RANGE).astype(np.float32)


def _resize(image: NDArray[np.float32], image_shape: tuple[int, int]) -> NDArray[np.float32]:
    if image.shape[:2] == tuple(image_shape):
        return np.asarray(image)
    shrinks = image.shape[0] > image_shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.asarray(image), image_shape[::-1], interpolation=interpolation), np.float32)


@dataclass(frozen=True)
class Light:
    """One light beside the gel.

    Attributes:
        azimuth: Direction in the picture from which it shines: 0 is the direction of growing columns, pi/2 of growing
            rows. In rad.
        elevation: Angle over the gel at which it arrives, in rad.
        level: Brightness that it gives to the untouched gel, in grey levels (R, G, B).
    """

    azimuth: float
    elevation: float
    level: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 0.0 < self.elevation < math.pi / 2:
            raise ConfigError(f"elevation must lie between 0 and pi/2 rad, got {self.elevation}.")


def light_table(lights: tuple[Light, ...], *, slope_max: float, nodes: int = 65) -> NDArray[np.float32]:
    """Compute a slope-to-colour table from light geometry, for a matt skin without interreflection.

    With the height map positive towards the camera, skin whose height grows by g per metre away from the light reflects
    `(sin e + g cos e) / (sin e sqrt(1 + |slope|^2))` of what the untouched skin reflects, not less than nothing.

    Args:
        lights: Lights beside the gel.
        slope_max: Slope at the table's border.
        nodes: Nodes per axis, odd.

    Returns:
        Change of colour in grey levels. Shape (nodes, nodes, 3).

    Source: Lambert's law, as in the Phong-model GelSight simulation of Gomes et al. (RA-L 2021) without its ambient and
    specular terms.
    """
    slope = np.linspace(-slope_max, slope_max, nodes)
    slope_row, slope_column = np.meshgrid(slope, slope, indexing="ij")
    table = np.zeros((nodes, nodes, 3))
    for light in lights:
        away = -(slope_row * math.sin(light.azimuth) + slope_column * math.cos(light.azimuth))
        shade = np.maximum(math.sin(light.elevation) + away * math.cos(light.elevation), 0.0)
        shade /= math.sin(light.elevation) * np.sqrt(1.0 + slope_row**2 + slope_column**2)
        table += (shade - 1.0)[..., None] * np.array(light.level)
    table[nodes // 2, nodes // 2] = 0.0
    return table.astype(np.float32)

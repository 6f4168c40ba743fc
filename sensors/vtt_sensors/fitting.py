"""Fit a calibration to presses of a ball: which colour belongs to which slope.

Legend: N slope nodes per axis, H rows, W columns; positions in px as (row, column).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vtt.errors import ConfigError, ShapeError
from vtt_sensors.calibration import Calibration
from vtt_sensors.gel import gel_surface, surface_slope
from vtt_sensors.optics import illumination
from vtt_sensors.spec import SensorSpec

__all__ = ["BallPress", "ball_indentation", "calibrate", "sample_table"]

# Half side of the window around a press that is fitted, in units of the ball's radius plus the spread length.
_WINDOW = 2.0
# To refine presses: contact radii that are tried, in units of the annotated one; how often table and presses take
# turns; how far a centre may move, in units of the ball's radius.
_CONTACTS = np.linspace(0.7, 1.3, 25)
_ROUNDS = 3
_REACH = 1.5


@dataclass(frozen=True, eq=False)
class BallPress:
    """One picture of a ball pressed into the gel, annotated.

    Attributes:
        image: uint8 picture. Shape (H, W, 3).
        centre: Row and column of the contact's centre, in px.
        contact_radius: Radius of the contact, in px.
    """

    image: NDArray[np.uint8]
    centre: tuple[float, float]
    contact_radius: float


def ball_indentation(
    image_shape: tuple[int, int], *, centre: tuple[float, float], radius: float, depth: float, pixel_pitch: float
) -> NDArray[np.float32]:
    """Compute the overlap of a ball with the flat gel, in m; negative outside. Shape (H, W).

    Args:
        image_shape: Rows and columns.
        centre: Row and column of the ball's centre, in px.
        radius: Of the ball, in m.
        depth: Of the ball's lowest point, in m.
        pixel_pitch: Side of one pixel, in m.
    """
    row, column = np.mgrid[: image_shape[0], : image_shape[1]]
    distance = pixel_pitch * np.hypot(row - centre[0], column - centre[1])
    cap = np.sqrt(np.maximum(radius**2 - distance**2, 0.0)) + depth - radius
    return np.where(distance < radius, cap, -radius).astype(np.float32)


def calibrate(
    presses: Sequence[BallPress],
    *,
    rest_image: NDArray[np.uint8],
    spec: SensorSpec,
    ball_radius: float,
    source: str,
    refine: bool = False,
    slope_max: float = 1.0,
    nodes: int = 41,
    smoothness: float = 40.0,
) -> Calibration:
    """Fit the table of slope to colour to presses of one ball.

    The gel's surface under each press is computed by `gel_surface`, so that the dent beside the contact counts too.
    The table is the smooth one (second differences) that explains the pictures best in least squares.

    Args:
        presses: Annotated pictures of the size that `spec` says.
        rest_image: uint8 picture of the untouched gel. Shape (H, W, 3).
        spec: The sensor.
        ball_radius: In m.
        source: What the pictures are, in a sentence.
        refine: Take annotations as a first guess and move centres and depths to where they fit best. For rough
            annotations; needs several presses of different depths.
        slope_max: Slope at the table's border.
        nodes: Nodes per axis of the table, odd.
        smoothness: Weight of the second differences, in pixels.

    Returns:
        The calibration.

    Raises:
        ShapeError: If pictures differ from the spec's shape.
        ConfigError: If there are no presses.
    """
    if not presses:
        raise ConfigError("presses must not be empty.")
    for name, image in [("rest_image", rest_image), *(("image of a press", press.image) for press in presses)]:
        if image.shape != (*spec.image_shape, 3):
            raise ShapeError(f"{name} must have shape {(*spec.image_shape, 3)}, got {image.shape}.")
    gain = illumination(rest_image.astype(np.float32), spec.image_shape)
    half = round(_WINDOW * (ball_radius + spec.spread_length) / spec.pixel_pitch)
    problem = _Problem(spec, ball_radius, half, slope_max, nodes, smoothness)
    change = [_pad(press.image.astype(np.float32) - rest_image, half) for press in presses]
    gains = _pad(gain, half)
    inside = _pad(np.ones((*spec.image_shape, 1), np.float32), half)
    centres = [(round(press.centre[0]), round(press.centre[1])) for press in presses]
    radii = np.array([press.contact_radius * spec.pixel_pitch for press in presses])
    radii = np.minimum(radii, 0.95 * ball_radius)
    depths = [float(depth) for depth in _depth(radii, ball_radius)]

    table = problem.fit_table(change, gains, inside, centres, depths)
    for _ in range(_ROUNDS if refine else 0):
        refined = [
            problem.register(picture, gains, centre, radius, table)
            for picture, centre, radius in zip(change, centres, radii, strict=True)
        ]
        centres, depths = [centre for centre, _ in refined], [depth for _, depth in refined]
        table = problem.fit_table(change, gains, inside, centres, depths)
    return Calibration(
        sensor=spec.name,
        source=source,
        table=table.astype(np.float32),
        slope_max=slope_max,
        rest_image=rest_image.astype(np.float32),
    )


def sample_table(
    table: NDArray[np.floating],
    slope_row: NDArray[np.floating],
    slope_column: NDArray[np.floating],
    *,
    slope_max: float,
) -> NDArray[np.float64]:
    """Interpolate a table (N, N, 3) bilinearly at slopes (...); beyond `slope_max` the border's value holds."""
    nodes, weights = _interpolation(table.shape[0], slope_row, slope_column, slope_max)
    flat = table.reshape(-1, 3)
    terms = [weight[..., None] * flat[node] for node, weight in zip(nodes, weights, strict=True)]
    return np.sum(terms, axis=0)


@dataclass(frozen=True)
class _Problem:
    """What all presses have in common."""

    spec: SensorSpec
    ball_radius: float
    half: int
    slope_max: float
    nodes: int
    smoothness: float

    def slopes(self, depth: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Slopes in the window around a ball at `depth`; each (2 half + 1, 2 half + 1)."""
        side = 2 * self.half + 1
        indentation = ball_indentation(
            (side, side),
            centre=(self.half, self.half),
            radius=self.ball_radius,
            depth=depth,
            pixel_pitch=self.spec.pixel_pitch,
        )
        surface = gel_surface(
            torch.from_numpy(indentation)[None],
            pixel_pitch=self.spec.pixel_pitch,
            spread_length=self.spec.spread_length,
        )
        slope_row, slope_column = surface_slope(surface, pixel_pitch=self.spec.pixel_pitch)
        return slope_row[0].numpy(), slope_column[0].numpy()

    def fit_table(
        self,
        change: list[NDArray[np.float32]],
        gains: NDArray[np.float32],
        inside: NDArray[np.float32],
        centres: list[tuple[int, int]],
        depths: list[float],
    ) -> NDArray[np.float64]:
        """Solve for the table by ridge regression; pixels weigh by their illumination."""
        size = self.nodes**2
        matrix, right = np.zeros(size * size), np.zeros((size, 3))
        for picture, centre, depth in zip(change, centres, depths, strict=True):
            window = self._window(centre)
            valid = inside[window][..., 0] > 0
            gain = gains[window][valid]  # (P, 3)
            target = picture[window][valid]
            slope_row, slope_column = self.slopes(depth)
            nodes, weights = _interpolation(self.nodes, slope_row[valid], slope_column[valid], self.slope_max)
            # One matrix for all channels: the illumination enters squared, by its mean over channels.
            square = (gain**2).mean(axis=1)
            for a, weight_a in zip(nodes, weights, strict=True):
                for channel in range(3):
                    values = weight_a * square * target[:, channel] / gain[:, channel]
                    right[:, channel] += np.bincount(a, values, size)
                for b, weight_b in zip(nodes, weights, strict=True):
                    matrix += np.bincount(a * size + b, weight_a * weight_b * square, size * size)
        matrix = matrix.reshape(size, size) + self.smoothness * _roughness(self.nodes)
        middle = size // 2
        keep = np.arange(size) != middle  # no slope, no change
        table = np.zeros((size, 3))
        table[keep] = np.linalg.solve(matrix[np.ix_(keep, keep)], right[keep])
        return table.reshape(self.nodes, self.nodes, 3)

    def register(
        self,
        picture: NDArray[np.float32],
        gains: NDArray[np.float32],
        centre: tuple[int, int],
        contact_radius: float,
        table: NDArray[np.floating],
    ) -> tuple[tuple[int, int], float]:
        """Find the centre and depth at which the table explains a picture best."""
        reach = round(_REACH * self.ball_radius / self.spec.pixel_pitch)
        rows = max(centre[0] - reach, 0), min(centre[0] + reach, picture.shape[0] - 2 * self.half - 1)
        columns = max(centre[1] - reach, 0), min(centre[1] + reach, picture.shape[1] - 2 * self.half - 1)
        area = np.s_[rows[0] : rows[1] + 2 * self.half + 1, columns[0] : columns[1] + 2 * self.half + 1]
        best = (np.inf, centre, 0.0)
        radii = np.minimum(_CONTACTS * contact_radius, self.ball_radius)
        for depth in np.unique(_depth(radii, self.ball_radius)):
            predicted = sample_table(table, *self.slopes(depth), slope_max=self.slope_max)
            predicted = (predicted * gains[self._window(centre)]).astype(np.float32)
            error = cv2.matchTemplate(np.ascontiguousarray(picture[area]), predicted, cv2.TM_SQDIFF)
            lowest, _, (column, row), _ = cv2.minMaxLoc(error)
            if lowest < best[0]:
                best = (lowest, (rows[0] + row, columns[0] + column), depth)
        return best[1], float(best[2])

    def _window(self, centre: tuple[int, int]) -> tuple[slice, slice]:
        """Slices of a padded picture around a centre given in the unpadded one."""
        side = 2 * self.half + 1
        return slice(centre[0], centre[0] + side), slice(centre[1], centre[1] + side)


def _depth(contact_radius: NDArray[np.floating], ball_radius: float) -> NDArray[np.floating]:
    """Depth at which a ball overlaps the flat gel in circles of these radii."""
    return ball_radius - np.sqrt(ball_radius**2 - contact_radius**2)


def _interpolation(
    nodes: int, slope_row: NDArray[np.floating], slope_column: NDArray[np.floating], slope_max: float
) -> tuple[tuple[NDArray[np.int64], ...], tuple[NDArray[np.floating], ...]]:
    """Find the four table nodes around each slope, and their weights."""
    middle = nodes // 2
    row = np.clip((slope_row / slope_max + 1.0) * middle, 0.0, 2 * middle)
    column = np.clip((slope_column / slope_max + 1.0) * middle, 0.0, 2 * middle)
    i = np.minimum(row.astype(np.int64), 2 * middle - 1)
    j = np.minimum(column.astype(np.int64), 2 * middle - 1)
    u, v = row - i, column - j
    corner = i * nodes + j
    return (
        (corner, corner + 1, corner + nodes, corner + nodes + 1),
        ((1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v),
    )


def _roughness(nodes: int) -> NDArray[np.float64]:
    """Quadratic form of second differences along both axes, (N², N²), and a trace of first ones.

    The trace keeps the table flat, not growing, where no press has been.
    """
    second = np.diff(np.eye(nodes), n=2, axis=0)
    first = np.diff(np.eye(nodes), n=1, axis=0)
    form = second.T @ second + 1e-3 * first.T @ first
    return np.kron(form, np.eye(nodes)) + np.kron(np.eye(nodes), form)


def _pad(image: NDArray[np.float32], margin: int) -> NDArray[np.float32]:
    """Surround by zeros, so that every window lies inside."""
    return np.pad(image, ((margin, margin), (margin, margin), (0, 0)))

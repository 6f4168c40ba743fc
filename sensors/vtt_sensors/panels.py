"""Draw panels side by side: titles and colour bar once, then one picture per frame.

Legend: H rows, W columns of a panel; T frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["PanelStrip", "above_average", "colour_height", "nice_limit", "show_change"]

_MARGIN = 12  # px
_HEADER = 30  # px
_BAR = 14  # px, width of the colour bar
_BAR_LABELS = 46  # px
_DPI = 100
_BACKGROUND = "#ffffff"
_INK = "#202124"
_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
# Even steps for the eye, also for the colour-blind.
_COLOURMAP = cv2.COLORMAP_VIRIDIS
# A change of colour is shown twice as strong, around grey.
_CHANGE_GAIN = 2.0


class PanelStrip:
    """A row of equally large panels with titles, and a colour bar for the heights.

    Args:
        titles: One per panel.
        panel_shape: Rows and columns of a panel, in px.
        height_limit: Upper end of the colour bar, in mm.
    """

    def __init__(self, titles: tuple[str, ...], *, panel_shape: tuple[int, int], height_limit: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._titles, self._shape = titles, panel_shape
        rows, columns = panel_shape
        width = _MARGIN + len(titles) * (columns + _MARGIN) + _BAR + _BAR_LABELS
        height = _HEADER + rows + _MARGIN
        width, height = width + width % 2, height + height % 2
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=_BACKGROUND)
        canvas = FigureCanvasAgg(figure)
        size = 9 if columns >= 220 else 7.5
        for index, title in enumerate(titles):
            figure.text(self._left(index) / width, 1 - _HEADER / 2 / height, title, size=size, color=_INK, va="center")
        bar = figure.add_axes(
            (self._left(len(titles)) / width, 1 - (_HEADER + rows) / height, _BAR / width, rows / height)
        )
        ramp = colour_height(np.linspace(height_limit, 0.0, 256)[:, None], limit=height_limit)
        bar.imshow(ramp, aspect="auto", extent=(0.0, 1.0, 0.0, height_limit))
        bar.set_xticks([])
        bar.yaxis.tick_right()
        bar.tick_params(labelsize=size - 1, colors=_INK, length=2)
        bar.set_title("mm", size=size - 1, color=_INK, pad=4)
        canvas.draw()
        self._frame = np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def draw(self, panels: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return one frame. Each panel is uint8, of any size with the panels' aspect; shape (H, W, 3)."""
        frame = self._frame.copy()
        rows, columns = self._shape
        for index, title in enumerate(self._titles):
            left = self._left(index)
            panel = panels[title]
            grows = panel.shape[0] < rows
            panel = cv2.resize(panel, (columns, rows), interpolation=cv2.INTER_LINEAR if grows else cv2.INTER_AREA)
            frame[_HEADER : _HEADER + rows, left : left + columns] = panel
        return frame

    def _left(self, index: int) -> int:
        return _MARGIN + index * (self._shape[1] + _MARGIN)


def show_change(image: NDArray[np.uint8], rest_image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show the difference from rest, around middle grey."""
    change = _CHANGE_GAIN * (image.astype(np.float32) - rest_image)
    return np.clip(128.0 + change, 0, 255).astype(np.uint8)


def colour_height(height: NDArray[np.floating], *, limit: float) -> NDArray[np.uint8]:
    """Colour heights from 0 to `limit` (same unit). Shapes (H, W) to (H, W, 3)."""
    level = np.clip(height / limit * 255.0, 0, 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(level, _COLOURMAP)[..., ::-1], np.uint8)


def above_average(attention: NDArray[np.floating]) -> NDArray[np.floating]:
    """Keep of attention (..., H, W) what exceeds its mean: attention that is everywhere says nothing."""
    return np.maximum(attention - attention.mean(axis=(-2, -1), keepdims=True), 0.0)


def nice_limit(value: float) -> float:
    """Round up to a number with one or two digits.

    Example:
        >>> nice_limit(0.37), nice_limit(0.12)
        (0.4, 0.12)
    """
    power = 10.0 ** np.floor(np.log10(max(value, 1e-3)))
    return float(next(round(step * power, 6) for step in _STEPS if step * power >= value * (1 - 1e-9)))

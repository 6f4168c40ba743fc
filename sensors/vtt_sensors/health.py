"""Notice when a tactile sensor lies: a frame that repeats, a picture blown out or black, light that has changed.

Legend: H rows, W columns.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError

__all__ = ["FrameHealth", "HealthLimits"]

_THUMBNAIL = (16, 16)
# Every fourth pixel tells the share that is blown out, at a sixteenth of the time.
_STRIDE = 4


@dataclass(frozen=True)
class HealthLimits:
    """From when on a picture is suspicious.

    Attributes:
        frozen_frames: Equal frames in a row; a camera's noise never repeats.
        saturated_share: Share of pixels with a channel at 255 or with all channels at 0, 0..1.
        drift: Change of the rest of the picture that no press explains, in grey levels: the smallest fifth of the
            changes over a grid of 16 x 16 patches, because a press leaves most of the gel as it was.
    """

    frozen_frames: int = 5
    saturated_share: float = 0.25
    drift: float = 12.0

    def __post_init__(self) -> None:
        """Refuse limits that nothing or everything breaks."""
        if self.frozen_frames < 2 or not 0.0 < self.saturated_share <= 1.0 or self.drift <= 0.0:
            raise ConfigError(
                "frozen_frames must be at least 2, saturated_share in (0, 1], drift positive, got "
                f"{self.frozen_frames}, {self.saturated_share}, {self.drift}."
            )


class FrameHealth:
    """Looks at every frame of one sensor.

    Args:
        limits: From when on something is wrong.
        rest_image: The untouched gel, uint8 (H, W, 3); without, drift is not looked for.
    """

    def __init__(self, limits: HealthLimits | None = None, *, rest_image: NDArray[np.uint8] | None = None) -> None:
        self.limits = limits or HealthLimits()
        self._digest: int | None = None
        self._equal = 0
        self._rest: NDArray[np.float32] | None = None
        if rest_image is not None:
            self.rest_image(rest_image)

    def rest_image(self, image: NDArray[np.uint8]) -> None:
        """Take a new picture of the untouched gel."""
        self._rest = _thumbnail(image)

    def look(self, image: NDArray[np.uint8]) -> list[str]:
        """Say what is wrong with the next frame; empty if nothing is.

        Args:
            image: uint8 RGB. Shape (H, W, 3).
        """
        wrong = []
        digest = zlib.crc32(np.ascontiguousarray(image).data)
        self._equal = self._equal + 1 if digest == self._digest else 1
        self._digest = digest
        if self._equal >= self.limits.frozen_frames:
            wrong.append(f"frozen: {self._equal} equal frames")
        brightest = image[::_STRIDE, ::_STRIDE].max(axis=-1)
        blown = float(np.mean((brightest == 255) | (brightest == 0)))
        if blown > self.limits.saturated_share:
            wrong.append(f"saturated: {blown:.0%} of the pixels are blown out or black")
        if self._rest is not None:
            change = np.abs(_thumbnail(image) - self._rest).max(axis=-1)
            drift = float(np.quantile(change, 0.2))
            if drift > self.limits.drift:
                wrong.append(f"drifted: even untouched parts changed by {drift:.0f} grey levels. Take a new rest image")
        return wrong


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)

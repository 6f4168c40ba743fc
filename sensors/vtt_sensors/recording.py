"""Read recordings of a real sensor: a picture, a video, or a folder of pictures.

Legend: T frames, H rows, W columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, MissingError, StoreError
from vtt.images import resize
from vtt_sensors.spec import SensorSpec

__all__ = ["PICTURES", "Recording", "fit_frame", "read_picture", "read_recording"]

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Endings of the files that are read as pictures."""

# Stills have no rate; slow enough to look at each.
_STILLS_HZ = 4.0
# Part by which a picture's aspect may differ from the sensor's.
_ASPECT_TOLERANCE = 0.02


class Recording(NamedTuple):
    """Frames of one sensor at its native size.

    Attributes:
        frames: uint8, RGB. Shape (T, H, W, 3).
        names: File name, or number of the frame in a video.
        rate_hz: Frames per second.
        is_picture: Whether the input was one picture.
    """

    frames: NDArray[np.uint8]
    names: tuple[str, ...]
    rate_hz: float
    is_picture: bool


def read_recording(path: Path, spec: SensorSpec, *, max_frames: int, leave_out: Path | None = None) -> Recording:
    """Read a picture, a video or a folder of pictures.

    Args:
        path: What to read.
        spec: The sensor; frames of its aspect are scaled to its size.
        max_frames: Frames to read at most.
        leave_out: Picture in the folder that is not a frame, such as the rest image.

    Raises:
        MissingError: If there is no such file, or no picture in the folder.
        StoreError: If OpenCV cannot read it.
        ConfigError: If frames have another aspect than the sensor.
    """
    if not path.exists():
        raise MissingError(f"No picture, video or folder '{path}'.")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        files = [file for file in files if leave_out is None or file.resolve() != leave_out.resolve()]
        if not files:
            raise MissingError(f"No picture in folder '{path}'. Known endings: {', '.join(PICTURES)}.")
        files = files[:max_frames]
        frames = [read_picture(file, spec) for file in files]
        return Recording(np.stack(frames), tuple(file.name for file in files), _STILLS_HZ, False)
    if path.suffix.lower() in PICTURES:
        return Recording(read_picture(path, spec)[None], (path.name,), _STILLS_HZ, True)
    return _read_video(path, spec, max_frames)


def read_picture(path: Path, spec: SensorSpec) -> NDArray[np.uint8]:
    """Read one picture and scale it to the sensor's size. Returns uint8 RGB, shape (H, W, 3)."""
    if not path.is_file():
        raise MissingError(f"No picture '{path}'.")
    # Not cv2.imread: it warns on stderr about what is reported here.
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if image is None:
        raise StoreError(f"{path} must be a picture, got something that OpenCV cannot read.")
    return fit_frame(np.asarray(image, np.uint8), spec, path)


def _read_video(path: Path, spec: SensorSpec, max_frames: int) -> Recording:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what fails is reported here
    video = cv2.VideoCapture(str(path))
    try:
        frames = []
        while len(frames) < max_frames:
            there, image = video.read()
            if not there:
                break
            frames.append(fit_frame(np.asarray(image, np.uint8), spec, path))
        rate = video.get(cv2.CAP_PROP_FPS)
    finally:
        video.release()
        cv2.utils.logging.setLogLevel(level)
    if not frames:
        raise StoreError(f"{path} must be a picture or a video, got something that OpenCV cannot read.")
    return Recording(np.stack(frames), tuple(map(str, range(len(frames)))), rate if rate > 0 else spec.rate_hz, False)


def fit_frame(image: NDArray[np.uint8], spec: SensorSpec, origin: object) -> NDArray[np.uint8]:
    """Turn OpenCV's BGR into RGB of the sensor's size; `origin` is named if its aspect is another."""
    rows, columns = spec.image_shape
    if abs(image.shape[0] * columns / (image.shape[1] * rows) - 1.0) > _ASPECT_TOLERANCE:
        raise ConfigError(
            f"{origin} must have the aspect of {spec.name} ({rows} x {columns} px, rows x columns), "
            f"got {image.shape[0]} x {image.shape[1]} px."
        )
    return np.asarray(resize(np.ascontiguousarray(image[..., ::-1]), height=rows, width=columns), np.uint8)

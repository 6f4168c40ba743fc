"""Show a recording of a real sensor as vtt sees it: change, contact, height, and what a trained encoder looks at."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vtt.attention import overlay
from vtt.errors import ConfigError
from vtt.files import atomic_write_bytes, atomic_write_text
from vtt.video import write_video
from vtt_sensors.calibration import Calibration
from vtt_sensors.encoder_view import EncoderView, view_through_encoder
from vtt_sensors.panels import PanelStrip, above_average, colour_height, nice_limit, show_change
from vtt_sensors.reconstruction import Reconstructor
from vtt_sensors.recording import Recording, read_picture, read_recording
from vtt_sensors.spec import SensorSpec

__all__ = ["Shown", "show"]

_log = logging.getLogger(__name__)

# Frames at the start that are taken for the untouched gel when no rest image is given.
_REST_FRAMES = 8
_PICTURE_SIDE, _VIDEO_SIDE = 320, 240  # px, long side of a panel
_MM = 1e3
_PANELS = ("input", "encoder attention", "difference from rest", "contact mask", "height map [mm]")


class Shown(NamedTuple):
    """What `show` wrote.

    Attributes:
        picture: The picture, or the frame with the deepest contact.
        video: The video; None for a picture.
        numbers: Numbers of each frame, JSON.
        height_maps: Height maps in m, .npz.
    """

    picture: Path
    video: Path | None
    numbers: Path
    height_maps: Path


def show(
    path: Path,
    *,
    spec: SensorSpec,
    calibration: Calibration,
    rest: Path | None,
    out: Path,
    encoder: Path | None,
    max_frames: int = 500,
) -> Shown:
    """Reconstruct a recording and draw it.

    Args:
        path: Picture, video or folder of pictures.
        spec: The sensor.
        calibration: How its slopes become colour.
        rest: Picture of the untouched gel of this unit. None: the median of a video's first frames.
        out: Folder for the results; made if missing.
        encoder: Trained encoder; None leaves its panel out.
        max_frames: Frames to read at most.

    Raises:
        ConfigError: If a single picture comes without its rest image.
    """
    recording = read_recording(path, spec, max_frames=max_frames, leave_out=rest)
    rest_image = _rest_image(recording, rest, spec, path)
    view = None if encoder is None else view_through_encoder(recording.frames, rest_image, encoder_path=encoder)
    height_maps, masks = _reconstruct(recording, rest_image, spec, calibration)
    out.mkdir(parents=True, exist_ok=True)
    numbers = _numbers(recording, height_maps, masks, spec, view)
    deepest = int(np.argmax([frame["max_indentation_mm"] for frame in numbers["frames"]]))

    limit = nice_limit(_MM * float(np.quantile(height_maps[deepest].astype(np.float32), 0.9995)))
    titles = tuple(title for title in _PANELS if view is not None or title != "encoder attention")
    strips = []
    for side in (_PICTURE_SIDE, _VIDEO_SIDE):
        scale = side / max(spec.image_shape)
        shape = round(spec.image_shape[0] * scale), round(spec.image_shape[1] * scale)
        strips.append(PanelStrip(titles, panel_shape=shape, height_limit=limit))

    attention = None if view is None else above_average(view.attention)
    peak = 0.0 if attention is None else float(np.quantile(attention.max(axis=(1, 2)), 0.95))

    def draw(strip: PanelStrip, index: int) -> NDArray[np.uint8]:
        frame = recording.frames[index]
        mask = np.repeat(masks[index][..., None], 3, axis=2)
        panels = {
            "input": frame,
            "difference from rest": show_change(frame, rest_image),
            "contact mask": np.where(mask, frame, frame // 4).astype(np.uint8),
            "height map [mm]": colour_height(_MM * height_maps[index].astype(np.float32), limit=limit),
        }
        if attention is not None:
            panels["encoder attention"] = overlay(frame // 2, attention[index], peak=peak)
        return strip.draw(panels)

    stem = path.resolve().stem
    picture = out / (f"{stem}.png" if recording.is_picture else f"{stem}_deepest.png")
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(draw(strips[0], deepest)[..., ::-1]))
    atomic_write_bytes(picture, encoded.tobytes())
    video = None
    if not recording.is_picture:
        frames = np.stack([draw(strips[1], index) for index in range(len(recording.frames))])
        video = write_video(out / f"{stem}.mp4", frames, fps=recording.rate_hz)
    numbers_path, height_path = out / f"{stem}.json", out / f"{stem}_height_maps.npz"
    atomic_write_text(numbers_path, json.dumps(numbers, indent=1) + "\n")
    partial = height_path.with_suffix(".npz.partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, height_map=height_maps, names=np.array(recording.names))
    partial.replace(height_path)
    return Shown(picture, video, numbers_path, height_path)


def _rest_image(recording: Recording, rest: Path | None, spec: SensorSpec, path: Path) -> NDArray[np.uint8]:
    if rest is not None:
        return read_picture(rest, spec)
    if recording.is_picture:
        raise ConfigError(f"--rest must name a picture of the untouched gel when the input is one picture ({path}).")
    count = min(_REST_FRAMES, len(recording.frames))
    _log.warning("No --rest: the median of the first %d frames is taken for the untouched gel.", count)
    return np.median(recording.frames[:count], axis=0).astype(np.uint8)


def _reconstruct(
    recording: Recording, rest_image: NDArray[np.uint8], spec: SensorSpec, calibration: Calibration
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Height maps, in m, and contact masks; each (T, H, W)."""
    reconstructor = Reconstructor(spec, calibration, rest_image=rest_image)
    heights, masks = [], []
    for frame in tqdm(recording.frames, desc="reconstruct", unit="frame", disable=None):
        result = reconstructor(torch.from_numpy(frame)[None])
        heights.append(result.height_map[0].numpy().astype(np.float16))
        masks.append(result.contact_mask[0].numpy())
    return np.stack(heights), np.stack(masks)


def _numbers(
    recording: Recording,
    height_maps: NDArray[np.float16],
    masks: NDArray[np.bool_],
    spec: SensorSpec,
    view: EncoderView | None,
) -> dict[str, Any]:
    """Say in numbers what the pictures show."""
    frames: list[dict[str, Any]] = []
    for name, height, mask in zip(recording.names, height_maps, masks, strict=True):
        touched = bool(mask.any())
        centre = [round(float(x), 1) for x in np.argwhere(mask).mean(axis=0)] if touched else None
        frames.append(
            {
                "name": name,
                "max_indentation_mm": round(_MM * float(height[mask].max()), 4) if touched else 0.0,
                "contact_area_mm2": round(float(mask.sum()) * (_MM * spec.pixel_pitch) ** 2, 3),
                "contact_centre_px": centre,
            }
        )
    numbers: dict[str, Any] = {"sensor": spec.name, "pixel_pitch_mm": _MM * spec.pixel_pitch, "frames": frames}
    if view is not None:
        numbers["encoder"] = {"signal": view.key, "trained_on": view.sensor}
    return numbers

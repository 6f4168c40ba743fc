"""Frames as they come: from a sensor on USB, or replayed as if from one. Needs no torch.

Legend: H rows, W columns.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vtt.errors import MissingError, StoreError, missing
from vtt_sensors.recording import PICTURES, fit_frame, read_picture
from vtt_sensors.spec import SensorSpec

__all__ = ["Camera", "Frame", "FrameSource", "Replay", "find_device", "list_devices", "open_source"]

_DEVICES = Path("/sys/class/video4linux")
# Decoded pictures that a replay keeps: decoding takes longer than a frame of a fast sensor. 60 MB of a GelSight Mini.
_KEPT = 256


class Frame(NamedTuple):
    """One frame.

    Attributes:
        image: uint8, RGB. Shape (H, W, 3).
        stamp_ns: When it was captured, ns since the epoch.
    """

    image: NDArray[np.uint8]
    stamp_ns: int


class FrameSource(Protocol):
    """Where frames come from."""

    name: str

    def read(self) -> Frame:
        """Wait for the next frame.

        Raises:
            StoreError: If none comes: unplugged, deleted, unreadable.
        """
        ...

    def close(self) -> None:
        """Let go of the device or file."""
        ...


def open_source(source: str, spec: SensorSpec, *, rate_hz: float | None = None) -> FrameSource:
    """Open a source of frames by its description.

    Args:
        source: "usb:SERIAL" (see `list_devices`), "usb:/dev/video2", or "replay:PATH" of a picture, a folder of
            pictures, a video or an episode store ("replay:PATH#tactile_left").
        spec: The sensor.
        rate_hz: Frames per second of a replay; default: the sensor's.

    Raises:
        MissingError: If there is no such device or file.
        StoreError: If it cannot be opened.
    """
    kind, _, rest = source.partition(":")
    if kind == "usb" and rest:
        return Camera(rest if rest.startswith("/dev/") else find_device(rest), spec)
    if kind == "replay" and rest:
        return Replay(rest, spec, rate_hz=rate_hz or spec.rate_hz)
    raise missing("source", source, ("usb:SERIAL", "usb:/dev/videoN", "replay:PATH"))


def list_devices(root: Path = _DEVICES) -> Mapping[str, str]:
    """List USB cameras: serial number to device, such as "D20273" to "/dev/video2".

    A camera has several device nodes; the first one of each carries the picture.

    Args:
        root: Folder of the kernel's list.
    """
    found: dict[str, str] = {}
    for entry in sorted(root.glob("video*"), key=lambda path: int(path.name.removeprefix("video") or 0)):
        for parent in (entry / "device" / "..", entry / "device" / ".." / ".."):
            serial = parent / "serial"
            if serial.is_file():
                found.setdefault(serial.read_text().strip(), f"/dev/{entry.name}")
                break
    return found


def find_device(serial: str, root: Path = _DEVICES) -> str:
    """Find the device of a serial number.

    Raises:
        MissingError: If no camera of that number is plugged in; lists those that are.
    """
    devices = list_devices(root)
    if serial not in devices:
        raise missing("USB camera with serial number", serial, devices)
    return devices[serial]


class Camera:
    """A sensor on USB, through OpenCV.

    Args:
        device: Its device, "/dev/video2".
        spec: The sensor: frame size and rate that are asked for.
    """

    def __init__(self, device: str, spec: SensorSpec) -> None:
        self.name = device
        self._spec = spec
        if not Path(device).exists():
            raise MissingError(f"No device '{device}'. Is the sensor plugged in?")
        self._video = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not self._video.isOpened():
            raise StoreError(f"{device} must be a camera that nobody else reads, OpenCV cannot open it.")
        rows, columns = spec.image_shape
        for setting, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, max(rows, columns)),
            (cv2.CAP_PROP_FRAME_HEIGHT, min(rows, columns)),
            (cv2.CAP_PROP_FPS, spec.rate_hz),
            (cv2.CAP_PROP_BUFFERSIZE, 1),
        ):
            self._video.set(setting, value)
        self._turned = rows > columns

    def read(self) -> Frame:
        """Wait for the next frame; its stamp is taken when the driver has it, before it is decoded."""
        there = self._video.grab()
        stamp = time.time_ns()
        there, image = self._video.retrieve() if there else (False, None)
        if not there or image is None:
            raise StoreError(f"{self.name} gives no frame. Is the sensor still plugged in?")
        if self._turned and image.shape[1] > image.shape[0]:
            # A DIGIT's picture stands upright; the camera delivers it lying.
            image = np.ascontiguousarray(image.transpose(1, 0, 2)[:, ::-1])
        return Frame(fit_frame(np.asarray(image, np.uint8), self._spec, self.name), stamp)

    def close(self) -> None:
        """Let go of the device."""
        self._video.release()


class Replay:
    """Plays recorded frames at a steady rate, again and again, as if they came from a sensor.

    A file that is removed is a sensor unplugged.

    Args:
        path: Picture, folder of pictures, video, or episode store ("PATH#KEY").
        spec: The sensor.
        rate_hz: Frames per second.
    """

    def __init__(self, path: str, spec: SensorSpec, *, rate_hz: float) -> None:
        self.name = path
        self._spec = spec
        self._period = 1.0 / rate_hz
        self._due = time.monotonic()
        place, _, key = path.partition("#")
        self._place = Path(place)
        if not self._place.exists():
            raise MissingError(f"No recording '{place}'.")
        self._frames = self._store(key) if key else self._files() if self._is_stills() else self._video()

    def read(self) -> Frame:
        """Wait until the next frame is due."""
        image = next(self._frames)
        self._due = max(self._due + self._period, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))
        return Frame(image, time.time_ns())

    def close(self) -> None:
        """Forget the recording."""
        self._frames.close()

    def _is_stills(self) -> bool:
        return self._place.is_dir() or self._place.suffix.lower() in PICTURES

    def _files(self) -> Generator[NDArray[np.uint8]]:
        """Read pictures in the order of their names."""
        decoded: dict[Path, NDArray[np.uint8]] = {}
        while True:
            inside = sorted(self._place.iterdir()) if self._place.is_dir() else [self._place]
            files = [file for file in inside if file.suffix.lower() in PICTURES]
            if not files:
                raise StoreError(f"{self._place} must hold pictures, got none.")
            for file in files:
                if not file.exists():
                    raise StoreError(f"{file} is gone.")
                if file in decoded:
                    yield decoded[file]
                    continue
                image = read_picture(file, self._spec)
                if len(decoded) < _KEPT:
                    decoded[file] = image
                yield image

    def _video(self) -> Generator[NDArray[np.uint8]]:
        """Read a video from beginning to end."""
        while True:
            if not self._place.exists():
                raise StoreError(f"{self._place} is gone.")
            video, count = cv2.VideoCapture(str(self._place)), 0
            try:
                for image in _decode(video):
                    count += 1
                    yield fit_frame(image, self._spec, self._place)
            finally:
                video.release()
            if not count:
                raise StoreError(f"{self._place} must be a video, OpenCV reads no frame from it.")

    def _store(self, key: str) -> Generator[NDArray[np.uint8]]:
        """Read one stream of an episode store, episode by episode."""
        from vtt.store import EpisodeStore

        store = EpisodeStore.open(self._place)
        if key not in store.streams:
            raise missing("stream", key, store.streams)
        while True:
            for index in range(len(store)):
                yield from store.read(index, [key])[key].data


def _decode(video: Any) -> Iterator[NDArray[np.uint8]]:
    while True:
        there, image = video.read()
        if not there:
            return
        yield np.asarray(image, np.uint8)

"""Reads a source on a thread of its own and opens it again when it goes away. No ROS."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from vtt.errors import VttError
from vtt_sensors.live import Frame, FrameSource

__all__ = ["Capture"]


class Capture:
    """Hands every frame on as it comes.

    Args:
        open_source: Opens the source; raises a `VttError` as long as there is none.
        take: Called with each frame, on the capture's thread.
        retry: First and longest wait between attempts to open it, s.
    """

    def __init__(
        self, open_source: Callable[[], FrameSource], take: Callable[[Frame], None], *, retry: tuple[float, float]
    ) -> None:
        self.error = "not opened yet"
        self.frames = 0
        self.reconnects = -1
        self._open, self._take, self._retry = open_source, take, retry
        self._stamps: deque[float] = deque(maxlen=120)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and close the source."""
        self._stopping.set()
        self._thread.join(2.0)

    @property
    def rate(self) -> float:
        """Frames per second of late; 0 while none come."""
        stamps = [stamp for stamp in self._stamps if stamp > time.monotonic() - 2.0]
        return (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 else 0.0

    def _run(self) -> None:
        wait = self._retry[0]
        while not self._stopping.is_set():
            try:
                source = self._open()
            except VttError as error:
                self.error = str(error)
                self._stopping.wait(wait)
                wait = min(2.0 * wait, self._retry[1])
                continue
            wait = self._retry[0]
            self.reconnects += 1
            self._read(source)

    def _read(self, source: FrameSource) -> None:
        """Read until the source goes away."""
        try:
            while not self._stopping.is_set():
                frame = source.read()
                self.error = ""
                self.frames += 1
                self._stamps.append(time.monotonic())
                self._take(frame)
        except VttError as error:
            self.error = str(error)
        finally:
            source.close()

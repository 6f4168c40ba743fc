"""The simulated sensor: indentation in, tactile images, height maps and force fields out.

Legend: B images, H rows, W columns.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from vtt.errors import ShapeError
from vtt_sensors.calibration import Calibration, get_calibration
from vtt_sensors.gel import gel_surface, surface_steps
from vtt_sensors.optics import ColourTable, rest_image
from vtt_sensors.spec import SensorSpec, get_spec

__all__ = ["TactileSimulator"]

# Pixels computed at once. Threads hand Python's lock on after each operation, so maps must be large; larger ones leave
# the caches.
_CPU_PIXELS = 400_000
_GPU_PIXELS = 40_000_000
# A further thread pays from this many pixels on.
_PIXELS_PER_THREAD = 150_000


class TactileSimulator:
    """Simulates one kind of optical tactile sensor for a batch of contacts, on any device.

    An untouched gel gives the rest image exactly, and an image does not depend on the others in its batch.

    Args:
        spec: The sensor, or the name of a built-in one.
        calibration: How slope becomes colour. Default: the one that comes with the sensor.
        image_shape: Rows and columns of the pictures, of the sensor's aspect. Default: its native ones.
        device: Where to compute.
        threads: Threads of the CPU that share the images of a batch. Default: torch's number of threads.

    Attributes:
        spec: The sensor at the simulated resolution.
        calibration: The calibration in use.
        rest_image: Picture of the untouched gel, uint8. Shape (H, W, 3).

    Example:
        >>> simulator = TactileSimulator("gelsight_mini", image_shape=(48, 64))
        >>> indentation = torch.full((2, 48, 64), -1.0)
        >>> indentation[1, 20:28, 30:40] = 5e-4
        >>> image = simulator.render(indentation)
        >>> image.shape, bool((image[0] == simulator.rest_image).all()), bool((image[1] == simulator.rest_image).all())
        (torch.Size([2, 48, 64, 3]), True, False)
    """

    def __init__(
        self,
        spec: SensorSpec | str,
        calibration: Calibration | None = None,
        *,
        image_shape: tuple[int, int] | None = None,
        device: torch.device | str = "cpu",
        threads: int | None = None,
    ) -> None:
        spec = get_spec(spec) if isinstance(spec, str) else spec
        self.spec = spec if image_shape is None else spec.at(*image_shape)
        self.calibration = get_calibration(spec.name) if calibration is None else calibration
        self.device = torch.device(device)
        self.rest_image = torch.from_numpy(rest_image(self.calibration, self.spec.image_shape)).to(self.device)
        self._threads = (threads or torch.get_num_threads()) if self.device.type == "cpu" else 1
        self._colour = ColourTable(self.calibration, image_shape=self.spec.image_shape, device=self.device)

    def render(self, indentation: Tensor) -> Tensor:
        """Simulate tactile images.

        Args:
            indentation: Overlap of rigid objects with the flat gel at each pixel, in m; zero or negative where there is
                none. Shape (B, H, W).

        Returns:
            uint8 tactile images. Shape (B, H, W, 3).
        """
        batch = self._prepare(indentation)
        image = torch.empty(*batch.shape, 3, dtype=torch.uint8, device=self.device)
        self._in_portions(self._render, batch, image)
        return image

    def _render(self, indentation: Tensor, out: Tensor) -> None:
        touched = indentation.amax(dim=(1, 2)) > 0.0
        if touched.all():
            self._shade(indentation, out=out)
        else:
            out.copy_(self.rest_image)
            if touched.any():
                out[touched] = self._shade(indentation[touched])

    def height_map(self, indentation: Tensor) -> Tensor:
        """Find the gel's surface, in m, positive into the gel. Shapes (B, H, W) to (B, H, W)."""
        batch = self._prepare(indentation)
        surface = torch.empty_like(batch)
        self._in_portions(lambda part, out: out.copy_(self._surface(part)), batch, surface)
        return surface

    def _surface(self, indentation: Tensor) -> Tensor:
        return gel_surface(indentation, pixel_pitch=self.spec.pixel_pitch, spread_length=self.spec.spread_length)

    def _shade(self, indentation: Tensor, *, out: Tensor | None = None) -> Tensor:
        step_row, step_column = surface_steps(self._surface(indentation))
        return self._colour(step_row, step_column, unit=0.5 / self.spec.pixel_pitch, out=out)

    def _prepare(self, indentation: Tensor) -> Tensor:
        if indentation.ndim != 3 or tuple(indentation.shape[1:]) != self.spec.image_shape:
            raise ShapeError(
                f"indentation must have shape (B, {self.spec.image_shape[0]}, {self.spec.image_shape[1]}), "
                f"got {tuple(indentation.shape)}."
            )
        return indentation.to(self.device, torch.float32)

    def _in_portions(self, compute: Callable[[Tensor, Tensor], object], batch: Tensor, out: Tensor) -> None:
        """Fill `out` portion by portion.

        Threads take whole portions, not parts of an operation: that gains a third from a second thread at best, and
        loses tenfold when another process keeps its core busy, because every operation waits for it.
        """
        threads = max(1, min(self._threads, batch.numel() // _PIXELS_PER_THREAD))
        pixels = _CPU_PIXELS if self.device.type == "cpu" else _GPU_PIXELS
        portions = threads * math.ceil(batch.numel() / (threads * pixels))
        size = max(1, math.ceil(len(batch) / max(1, portions)))

        def run(part: Tensor, filled: Tensor) -> None:
            # Autograd's bookkeeping is a tenth of the time of small pictures. `out` itself stays an ordinary tensor.
            with torch.inference_mode():
                compute(part, filled)

        pairs = zip(batch.split(size), out.split(size), strict=True)
        if threads > 1:
            list(_workers(threads, os.getpid()).map(run, *zip(*pairs, strict=True)))
            return
        with _one_thread(self.device):
            for part, filled in pairs:
                run(part, filled)


@cache
def _workers(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that each compute alone; a forked process has its own."""
    del process
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Keep torch from sharing operations among threads of the CPU."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

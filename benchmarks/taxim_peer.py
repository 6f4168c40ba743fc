"""The peer of `benchmarks.touch`: runs in the environment of `make peers`, which holds taxim and not vtt.

    python taxim_peer.py SECONDS

Reads lines "BATCH ROWS COLUMNS MM_PER_PIXEL THREADS", answers each with taxim's frames per second for a ball press.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version

import torch

_BALL_RADIUS, _DEPTHS = 4.0, (0.2, 0.6)  # mm, as in touch.py


def main() -> None:
    """Answer until the input ends."""
    seconds = float(sys.argv[1])
    if "+cpu" in version("torch") and "+cpu" not in version("torchvision"):
        # taxim imports torchvision for one resize. Beside a CPU-only torch the CUDA build of torchvision fails to load
        # its operators, and then fails to describe these two; they are never called.
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from taxim import CALIB_GELSIGHT_MINI, Taxim

    taxim = Taxim(calib_folder=CALIB_GELSIGHT_MINI, backend="torch", device="cpu")
    for line in sys.stdin:
        batch, rows, columns, pitch, threads = line.split()
        torch.set_num_threads(int(threads))
        height = _presses(int(batch), int(rows), int(columns), float(pitch))
        with torch.inference_mode():
            for _ in range(3):
                taxim.render(height, with_shadow=False)
            calls, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds:
                taxim.render(height, with_shadow=False)
                calls += 1
        print(calls * int(batch) / elapsed, flush=True)


def _presses(batch: int, rows: int, columns: int, pitch: float) -> torch.Tensor:
    """Height of balls over the highest point of the gel, in mm, negative into it; (B, H, W)."""
    row = pitch * (torch.arange(rows)[:, None] - (rows - 1) / 2)
    column = pitch * (torch.arange(columns) - (columns - 1) / 2)
    distance = torch.hypot(row, column)
    ball = _BALL_RADIUS - (_BALL_RADIUS**2 - distance**2).clamp_min(0.0).sqrt()
    return ball - torch.linspace(*_DEPTHS, batch)[:, None, None]


if __name__ == "__main__":
    main()

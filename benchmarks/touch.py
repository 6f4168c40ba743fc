"""Speed of the tactile simulator against PyPI's taxim 1.4.1, torch back end, without shadows (its faster setting).

Both simulate a ball pressed into a GelSight Mini. taxim needs packages that vtt does not: it runs in the environment
that `make peers` builds, as a process of its own that waits while vtt is measured; rounds alternate. Both get one
thread, which is all that vtt uses; what taxim does with every thread is printed beside. A ratio above 1 says that vtt
is the faster.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vtt_sensors.fitting import ball_indentation
from vtt_sensors.simulator import TactileSimulator

__all__ = ["rows"]

_PEERS = Path(__file__).resolve().parent.parent / ".venv-peers"
_PEER_SCRIPT = Path(__file__).resolve().parent / "taxim_peer.py"
# Name, image shape (rows, columns), batch.
_CASES = (
    ("touch_rgb_240x320_b1_vs_taxim", (240, 320), 1),
    ("touch_rgb_240x320_b64_vs_taxim", (240, 320), 64),
    ("touch_rgb_64x48_b64_vs_taxim", (48, 64), 64),
)
_ROUNDS = 5
_SECONDS = 1.0
_BALL_RADIUS, _DEPTHS = 4e-3, (2e-4, 6e-4)  # m


def rows() -> list[dict[str, Any]]:
    """Measure.

    Returns:
        Rows of "name", "value", "unit", "peer" (taxim's value) and "ratio": tactile frames per second, median of the
        rounds. None without the environment of the peers.
    """
    cases = {name: _case(shape, batch) for name, shape, batch in _CASES}
    if not (_PEERS / "complete").exists():
        print("touch: taxim is not here, so these rows are left out. `make peers` builds its environment.")
        for name, (simulator, indentation) in cases.items():
            rate = _rate(lambda s=simulator, x=indentation: s.render(x), len(indentation))
            print(f"touch: {name.removesuffix('_vs_taxim')} {rate:,.0f} frames/s")
        return []
    measured = []
    with _Peer() as peer:
        for name, (simulator, indentation) in cases.items():
            ours, theirs = [], []
            for _ in range(_ROUNDS):
                ours.append(_rate(lambda s=simulator, x=indentation: s.render(x), len(indentation)))
                theirs.append(peer.rate(indentation.shape, simulator.spec.pixel_pitch, threads=1))
            threads = torch.get_num_threads()
            rate = peer.rate(indentation.shape, simulator.spec.pixel_pitch, threads=threads)
            print(f"touch: {name}: taxim on {threads} threads {rate:,.0f} frames/s")
            value, against = statistics.median(ours), statistics.median(theirs)
            measured.append(
                {"name": name, "value": value, "unit": "frames/s", "peer": against, "ratio": value / against}
            )
    return measured


def _case(image_shape: tuple[int, int], batch: int) -> tuple[TactileSimulator, torch.Tensor]:
    simulator = TactileSimulator("gelsight_mini", image_shape=image_shape)
    centre = ((image_shape[0] - 1) / 2, (image_shape[1] - 1) / 2)
    pitch = simulator.spec.pixel_pitch
    presses = [
        torch.from_numpy(
            ball_indentation(image_shape, centre=centre, radius=_BALL_RADIUS, depth=float(depth), pixel_pitch=pitch)
        )
        for depth in torch.linspace(*_DEPTHS, batch)
    ]
    return simulator, torch.stack(presses)


def _rate(call: Callable[[], object], frames: int) -> float:
    """Frames per second over about a second, after a warm-up."""
    for _ in range(3):
        call()
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < _SECONDS:
        call()
        calls += 1
    return calls * frames / elapsed


class _Peer:
    """The process that runs taxim."""

    def __init__(self) -> None:
        command = [str(_PEERS / "bin" / "python"), str(_PEER_SCRIPT), str(_SECONDS)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> _Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def rate(self, shape: torch.Size, pixel_pitch: float, *, threads: int) -> float:
        """Frames per second of taxim for presses of the same kind."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{shape[0]} {shape[1]} {shape[2]} {1e3 * pixel_pitch} {threads}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("taxim's process ended early; run `make clean peers` to build its environment anew.")
        return float(answer)

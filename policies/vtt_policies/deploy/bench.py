"""How long one `act` of a bundle takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vtt.errors import ConfigError
from vtt_policies.deploy.contract import read_contract
from vtt_policies.deploy.engines import Backend
from vtt_policies.deploy.export import sample_observation
from vtt_policies.deploy.runtime import load

__all__ = ["Latency", "measure_latency", "table"]

_WARMUP = 20


class Latency(NamedTuple):
    """Time of `act`, in s.

    Attributes:
        backend: What computed.
        threads: Its threads.
        median: 50th percentile.
        p99: 99th percentile.
        worst: The longest.
    """

    backend: Backend
    threads: int
    median: float
    p99: float
    worst: float


def measure_latency(folder: Path, *, backend: Backend, threads: int, steps: int = 500) -> Latency:
    """Time `act` on drawn observations, one after the other, with memory and chunks as in use.

    Args:
        folder: The bundle.
        backend: What computes.
        threads: Its threads.
        steps: Control steps that are timed, after some that are not.
    """
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}.")
    policy = load(folder, backend=backend, threads=threads)
    rng = np.random.default_rng(0)
    observations = [sample_observation(policy.contract, rng=rng) for _ in range(16)]
    policy.reset()
    seconds = []
    for step in range(_WARMUP + steps):
        began = time.perf_counter()
        policy.act(observations[step % len(observations)])
        seconds.append(time.perf_counter() - began)
    median, p99 = np.percentile(seconds[_WARMUP:], [50, 99])
    return Latency(backend, threads, float(median), float(p99), max(seconds[_WARMUP:]))


def table(rows: Sequence[Latency], folder: Path) -> str:
    """Lay out latencies as plain text, in ms, beside the control period if the contract tells one."""
    lines = [f"{'backend':<8} threads   p50 ms   p99 ms   max ms"]
    for row in rows:
        times = "  ".join(f"{1e3 * value:>7.2f}" for value in (row.median, row.p99, row.worst))
        lines.append(f"{row.backend:<8} {row.threads:>7}  {times}")
    rate = max(spec.rate_hz for spec in read_contract(folder).observation.values())
    lines.append(f"The fastest observation arrives every {1e3 / rate:g} ms.")
    return "\n".join(lines)

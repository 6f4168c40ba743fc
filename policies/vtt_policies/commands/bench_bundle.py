"""`vtt bench-bundle`: how long a bundle takes to act on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from vtt.cli import parse

__all__ = ["BenchConfig", "main"]


@dataclass(frozen=True)
class BenchConfig:
    """Measure the latency of a bundle's actions.

    Attributes:
        bundle: Folder that `vtt export` wrote.
        threads: Threads of the backend; one row each.
        steps: Control steps that are timed.
    """

    bundle: tyro.conf.Positional[Path]
    threads: tuple[int, ...] = (1,)
    steps: int = 500


def main(argv: Sequence[str]) -> None:
    """Measure how long a bundle takes to act on this machine."""
    config = parse(BenchConfig, argv, prog="vtt bench-bundle")

    from vtt_policies.deploy.bench import measure_latency, table

    backends = ("torch", "onnx") if (config.bundle / "policy.onnx").exists() else ("torch",)
    rows = [
        measure_latency(config.bundle, backend=backend, threads=threads, steps=config.steps)
        for backend in backends
        for threads in config.threads
    ]
    print(table(rows, config.bundle))

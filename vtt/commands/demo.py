"""`vtt demo`: the whole path from nothing to a touch policy and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vtt.cli import parse

__all__ = ["DemoConfig", "main"]


@dataclass(frozen=True)
class DemoConfig:
    """Train a touch policy for peg insertion, prove that it uses touch, and report.

    Expert episodes, pretraining, distillation with and without touch, evaluation, report. An interrupted demo goes on
    where it stopped.

    Attributes:
        out: Folder for everything that is made; by default runs/demo, or runs/demo_full.
        seed: Seed of everything random.
        full: TacSL's socket noise of 5 mm instead of 2 mm, more data and longer training: about an hour.
        n: Held-out episodes of each evaluation.
        device: Torch device of the networks.
    """

    out: Path | None = None
    seed: int = 0
    full: bool = False
    n: int = 200
    device: str = "cpu"


def main(argv: Sequence[str]) -> None:
    """Train a touch policy in minutes, prove that it uses touch, and report."""
    config = parse(DemoConfig, argv, prog="vtt demo")

    from vtt.demo import PLANS, run_demo

    out = config.out or Path("runs") / ("demo_full" if config.full else "demo")
    plan = PLANS["full" if config.full else "demo"]
    print(run_demo(out, plan, seed=config.seed, n=config.n, device=config.device))

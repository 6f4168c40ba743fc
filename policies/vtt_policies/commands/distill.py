"""`vtt distill`: the privileged expert into a student that only senses."""

from __future__ import annotations

from collections.abc import Sequence

from vtt.cli import parse
from vtt_policies.config import DistillConfig

__all__ = ["main"]


def main(argv: Sequence[str]) -> None:
    """Distil the privileged expert into a student that only senses."""
    config = parse(DistillConfig, argv, prog="vtt distill")

    from vtt_policies.distill import distill

    reached = distill(config)
    success = float(reached.metrics["rollout_success"])
    print(f"Stopped after {reached.iterations} iterations, {reached.seconds:.0f} s.", end=" ")
    print("" if reached.finished else f"Time ran out before {config.iterations} iterations.")
    print(f"Success of the latest rollouts: {success:.3f}")
    print(reached.run.path)

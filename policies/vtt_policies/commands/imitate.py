"""`vtt imitate`: behaviour cloning from an episode store."""

from __future__ import annotations

from collections.abc import Sequence

from vtt.cli import parse
from vtt_policies.config import ImitateConfig

__all__ = ["main"]


def main(argv: Sequence[str]) -> None:
    """Clone the behaviour of recorded expert episodes."""
    config = parse(ImitateConfig, argv, prog="vtt imitate")

    from vtt_policies.imitate import imitate

    reached = imitate(config)
    print(f"Stopped after {reached.iterations} iterations, {reached.seconds:.0f} s.")
    print(f"Validation loss: {float(reached.metrics['validation_loss']):.4f}")
    print(reached.run.path)

"""`vtt export`: a policy as a folder that runs on a robot computer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vtt.cli import parse
from vtt.errors import ConfigError

__all__ = ["ExportConfig", "main"]


@dataclass(frozen=True)
class ExportConfig:
    """Write a policy as a bundle that runs without simulator and training libraries.

    Attributes:
        policy: Run, of which the newest checkpoint is taken, or checkpoint.
        out: New folder to write.
        to: "bundle" runs with torch; "onnx" is a bundle that runs with ONNX Runtime too; "lerobot" is a folder that
            lerobot reads, of ACT or a diffusion policy; "checkpoint" reads such a folder, given as `policy`.
        max_magnitude: Largest absolute value of an action's component, of at most 1.
        max_rate: Largest change of a component from one control step to the next; 2 is none.
    """

    policy: Path
    out: Path
    to: Literal["bundle", "onnx", "lerobot", "checkpoint"] = "bundle"
    max_magnitude: float = 1.0
    max_rate: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what would be silently left out."""
        if self.to in ("lerobot", "checkpoint") and (self.max_magnitude, self.max_rate) != (1.0, 2.0):
            raise ConfigError(f"max_magnitude and max_rate must be left alone for {self.to}, which holds no limits.")


def main(argv: Sequence[str]) -> None:
    """Write a policy as a folder that runs on a robot computer."""
    config = parse(ExportConfig, argv, prog="vtt export")

    if config.to in ("lerobot", "checkpoint"):
        from vtt_policies.chunking.lerobot import convert

        convert(config.policy, config.out, to_lerobot_folder=config.to == "lerobot")
        print(config.out)
        return

    from vtt_policies.deploy.export import export_bundle
    from vtt_policies.deploy.limits import Limits

    limits = Limits(max_magnitude=config.max_magnitude, max_rate=config.max_rate)
    contract = export_bundle(config.policy, config.out, onnx=config.to == "onnx", limits=limits)
    keys = ", ".join(contract.observation)
    print(f"A policy of kind {contract.kind} that sees {keys} and acts in {contract.action_dim} dimensions.")
    print(config.out)

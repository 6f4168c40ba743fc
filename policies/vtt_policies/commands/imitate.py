"""`vtt imitate`: behaviour cloning, ACT or diffusion policy from an episode store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from vtt.cli import parse
from vtt.errors import missing
from vtt_policies.chunking.config import (
    ACT_LEARNERS,
    ACT_PRESETS,
    DIFFUSION_LEARNERS,
    DIFFUSION_PRESETS,
    ActTrainingConfig,
    DiffusionTrainingConfig,
)
from vtt_policies.config import BcConfig, ImitateConfig

__all__ = ["main", "read"]


def main(argv: Sequence[str]) -> None:
    """Learn from recorded expert episodes: bc, act or diffusion."""
    config = read(argv)

    from vtt_policies.imitate import imitate

    reached = imitate(config)
    print(f"Stopped after {reached.iterations} iterations, {reached.seconds:.0f} s.")
    print(f"Validation loss: {float(reached.metrics['validation_loss']):.4f}")
    print(reached.run.path)


def read(argv: Sequence[str]) -> ImitateConfig:
    """Read the arguments; settings of network and learner start from the preset that they name."""
    import tyro

    preset = _preset(argv)
    if preset not in ACT_PRESETS:
        raise missing("preset", preset, ACT_PRESETS)

    def method(config_class: type[ImitateConfig], **presets: Mapping[str, Any]) -> Any:
        given = {name: choices[preset] for name, choices in presets.items()}
        # Required settings stay required.
        default = config_class(data=tyro.MISSING, out=tyro.MISSING, **given)
        return Annotated[config_class, tyro.conf.subcommand(name=config_class.method, default=default)]

    bc = method(BcConfig)
    act = method(ActTrainingConfig, network=ACT_PRESETS, learner=ACT_LEARNERS)
    diffusion = method(DiffusionTrainingConfig, network=DIFFUSION_PRESETS, learner=DIFFUSION_LEARNERS)
    return parse(bc | act | diffusion, argv, prog="vtt imitate", description=main.__doc__)


def _preset(argv: Sequence[str]) -> str:
    """Find the preset before the other arguments are read."""
    words = [word for argument in argv for word in argument.split("=", 1)]
    return words[words.index("--preset") + 1] if "--preset" in words[:-1] else "demo"

"""`vtt train`: reinforcement learning on batched environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import tyro

from vtt.cli import parse
from vtt_policies.rl.config import AacdConfig, CrossqConfig, PpoConfig, RecurrentPpoConfig, SacConfig, TqcConfig
from vtt_policies.slac.config import SlacConfig

__all__ = ["main"]

_Command = (
    Annotated[PpoConfig, tyro.conf.subcommand("ppo")]
    | Annotated[RecurrentPpoConfig, tyro.conf.subcommand("recurrent-ppo")]
    | Annotated[SacConfig, tyro.conf.subcommand("sac")]
    | Annotated[TqcConfig, tyro.conf.subcommand("tqc")]
    | Annotated[CrossqConfig, tyro.conf.subcommand("crossq")]
    | Annotated[AacdConfig, tyro.conf.subcommand("aacd")]
    | Annotated[SlacConfig, tyro.conf.subcommand("slac")]
)


def main(argv: Sequence[str]) -> None:
    """Learn a policy by reinforcement: PPO, SAC and their kin, with touch, memory or a privileged critic."""
    config = parse(_Command, argv, prog="vtt train", description=main.__doc__)
    if isinstance(config, SlacConfig):
        _slac(config)
        return

    from vtt_policies.rl.train import train

    reached = train(config)
    print(f"Stopped after {reached.steps} steps.", end=" ")
    print("" if reached.finished else f"Time ran out before {config.steps} steps.")
    if "rollout/success_rate" in reached.metrics:
        print(f"Success of the latest episodes, explored: {reached.metrics['rollout/success_rate']:.3f}")
    print(reached.run.path)


def _slac(config: SlacConfig) -> None:
    """Learn a latent model and act in its latent."""
    from vtt_policies.slac.train import train_slac

    reached = train_slac(config)
    print(f"Stopped after {reached.metrics['env_steps']:.0f} steps.", end=" ")
    print("" if reached.finished else f"Time ran out before {config.steps} steps.")
    if "success" in reached.metrics:
        print(f"Success of the latest episodes, explored: {reached.metrics['success']:.3f}")
    print(reached.run.path)

"""`vtt collect`: expert episodes into a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vtt.cli import parse, parse_key_values

__all__ = ["CollectConfig", "main"]


@dataclass(frozen=True)
class CollectConfig:
    """Record episodes of a task's scripted expert.

    Attributes:
        env: Gymnasium id with its module, "vtt_envs:vtt/PegInsertion-v0".
        out: Folder of the episode store. An interrupted recording there continues.
        episodes: Episodes that the store shall hold.
        seed: Seed of the first episode; the others count up.
        observation: What is recorded.
        env_args: Further options of the environment, each key=value.
        num_envs: Episodes run side by side.
        action_noise: Standard deviation of noise on the executed action; the expert's own is kept as the label.
        ray: Record on a Ray cluster: "auto" for a running one, "local" for this machine, an address.
        workers: Processes on the cluster; without, one for each of its CPUs.
    """

    env: str
    out: Path
    episodes: int = 100
    seed: int = 0
    observation: Literal["oracle", "proprio", "visual", "tactile", "visuotactile", "all"] = "all"
    env_args: tuple[str, ...] = ()
    num_envs: int = 64
    action_noise: float = 0.0
    ray: str | None = None
    workers: int | None = None


def main(argv: Sequence[str]) -> None:
    """Collect expert episodes into an episode store."""
    config = parse(CollectConfig, argv, prog="vtt collect")

    import numpy as np

    from vtt.cluster import Cluster
    from vtt.statistics import wilson
    from vtt_envs.collect import collect

    store = collect(
        config.env,
        config.out,
        episodes=config.episodes,
        env_args=parse_key_values(config.env_args),
        observation=config.observation,
        num_envs=config.num_envs,
        seed=config.seed,
        action_noise=config.action_noise,
        cluster=Cluster(config.ray, config.workers) if config.ray is not None else None,
    )
    outcomes = np.array([store.episode_attributes(index)["success"] for index in range(len(store))])
    low, high = wilson(int(outcomes.sum()), len(outcomes))
    print(f"{len(store)} episodes, expert success {outcomes.mean():.3f} (95 % interval {low:.3f} to {high:.3f})")
    print(config.out)

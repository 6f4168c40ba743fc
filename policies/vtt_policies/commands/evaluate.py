"""`vtt evaluate`: success on held-out seeds, with interval and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vtt.cli import parse
from vtt.errors import ConfigError

__all__ = ["EvaluateConfig", "main"]


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure the success of a policy on held-out seeds.

    Attributes:
        env: Gymnasium id with its module, "vtt_envs:vtt/PegInsertion-v0".
        policy: Run or checkpoint folder, or one of expert, random, zero.
        n: Episodes, one per seed.
        perturb: What is done to touch at test time.
        out: JSON file to write.
        record: Episode store to record the episodes in, with every observation there is, instead of measuring.
        env_args: Further options of the environment, each key=value.
        num_envs: Episodes run side by side.
        first_seed: The seeds count up from here; training draws below 1000000000.
        delay_steps: Control steps that delayed touch lags.
        device: Torch device of the policy.
    """

    env: str
    policy: str
    n: int = 200
    perturb: Literal["none", "touch_shuffled", "touch_off", "touch_frozen", "touch_delayed"] = "none"
    out: Path | None = None
    record: Path | None = None
    env_args: tuple[str, ...] = ()
    num_envs: int = 64
    first_seed: int = 1_000_000_000
    delay_steps: int = 10
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what would be silently left out."""
        if self.record is not None and (self.perturb != "none" or self.out is not None):
            raise ConfigError("record must stand alone, got perturb or out besides.")


def main(argv: Sequence[str]) -> None:
    """Measure success on held-out seeds, with interval and controls."""
    config = parse(EvaluateConfig, argv, prog="vtt evaluate")

    import json

    from vtt.files import atomic_write_text
    from vtt_policies.evaluation import table
    from vtt_policies.trial import evaluate_by_name, record_by_name

    if config.record is not None:
        record_by_name(
            config.env,
            config.policy,
            config.record,
            n=config.n,
            env_args=config.env_args,
            first_seed=config.first_seed,
            device=config.device,
        )
        print(config.record)
        return
    result = evaluate_by_name(
        config.env,
        config.policy,
        n=config.n,
        perturb=config.perturb,
        env_args=config.env_args,
        num_envs=config.num_envs,
        first_seed=config.first_seed,
        delay_steps=config.delay_steps,
        device=config.device,
    )
    name = config.policy if config.perturb == "none" else f"{config.policy}, {config.perturb}"
    print(table({name: result}))
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "env": config.env,
            "env_args": list(config.env_args),
            "policy": config.policy,
            "perturb": config.perturb,
        }
        atomic_write_text(config.out, json.dumps({**facts, **result.to_dict()}, indent=2) + "\n")
        print(config.out)

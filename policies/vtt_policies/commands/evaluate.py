"""`vtt evaluate`: success on held-out seeds, with interval, controls and comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtt.cli import parse
from vtt.errors import ConfigError

if TYPE_CHECKING:
    from vtt_policies.evaluation import Evaluation
    from vtt_policies.trial import Condition, Trial

__all__ = ["EvaluateConfig", "main"]


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure the success of a policy on held-out seeds.

    Attributes:
        policy: Run, checkpoint or bundle, one of expert, random, zero, or a JSON file of --out.
        env: Gymnasium id with its module, "vtt_envs:vtt/PegInsertion-v0"; not needed for JSON files.
        n: Episodes, one per seed.
        perturb: What is done to touch at test time.
        phase: When it is done: always, until the first contact, or while there is contact.
        touch_report: Do everything to touch, always and by phase, on the same seeds, beside touch as it is.
        against: Another policy, or a JSON file of --out, to compare with on the same seeds.
        out: JSON file to write, a folder for several evaluations; what it holds already is not run again.
        report: HTML page to write, with films of failures first.
        record: Episode store to record the episodes in, with every observation there is, instead of measuring.
        env_args: Further options of the environment, each key=value.
        num_envs: Episodes run side by side.
        first_seed: The seeds count up from here; training draws below 1000000000.
        delay_steps: Control steps that delayed touch lags.
        device: Torch device of the policy.
        ray: Spread the episodes over a Ray cluster: "auto" for a running one, "local" for this machine, an address.
        workers: Processes on the cluster; without, one for each of its CPUs.
    """

    policy: str
    env: str | None = None
    n: int = 200
    perturb: Literal["none", "touch_shuffled", "touch_off", "touch_frozen", "touch_delayed"] = "none"
    phase: Literal["always", "before_contact", "in_contact"] = "always"
    touch_report: bool = False
    against: str | None = None
    out: Path | None = None
    report: Path | None = None
    record: Path | None = None
    env_args: tuple[str, ...] = ()
    num_envs: int = 64
    first_seed: int = 1_000_000_000
    delay_steps: int = 10
    device: str = "cpu"
    ray: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would be silently left out."""
        if self.record is not None and (
            self.perturb != "none" or self.touch_report or any((self.out, self.report, self.against, self.ray))
        ):
            raise ConfigError(
                "record must stand alone, got perturb, touch_report, against, out, report or ray besides."
            )
        if self.phase != "always" and self.perturb == "none":
            raise ConfigError(f"phase must come with perturb, got phase {self.phase} alone.")
        if self.touch_report and (self.perturb != "none" or self.against is not None):
            raise ConfigError("touch_report must not come with perturb or against: it is a comparison of its own.")
        for name in ("num_envs", "delay_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        runs = [policy for policy in (self.policy, self.against) if policy is not None and not _is_file(policy)]
        if runs and self.env is None:
            raise ConfigError(f"env must be given to run {', '.join(runs)}, got none.")
        if not runs and (self.out or self.perturb != "none" or self.touch_report or self.record or self.ray):
            raise ConfigError("A JSON file cannot be run: give a policy for out, perturb, touch_report, record or ray.")
        several = self.touch_report or (self.against is not None and len(runs) == 2)
        if self.out is not None and several and self.out.suffix == ".json":
            raise ConfigError(f"out must be a folder for several evaluations, got the file {self.out}.")


def main(argv: Sequence[str]) -> None:
    """Measure success on held-out seeds, with interval, controls and comparison."""
    config = parse(EvaluateConfig, argv, prog="vtt evaluate")

    from vtt_policies.evaluation import compare, table
    from vtt_policies.evaluation_report import (
        comparison_lines,
        film_failures,
        touch_table,
        write_evaluation_report,
    )
    from vtt_policies.trial import TOUCH_REPORT, Condition, record_by_name

    if config.record is not None:
        record_by_name(
            str(config.env),
            config.policy,
            config.record,
            n=config.n,
            env_args=config.env_args,
            first_seed=config.first_seed,
            device=config.device,
        )
        print(config.record)
        return
    conditions = [Condition(config.perturb, config.phase, config.delay_steps)]
    if config.touch_report:
        conditions = [condition._replace(delay_steps=config.delay_steps) for condition in TOUCH_REPORT]
    results, facts, trial = _outcomes(config, config.policy, conditions)
    comparison = None
    if config.touch_report:
        print(table({config.policy: results["none"]}))
        print(touch_table(results))
    else:
        (result,) = results.values()
        name = config.policy if config.perturb == "none" else f"{config.policy}, {conditions[0].name}"
        rows = {name: result}
        if config.against is not None:
            (other,) = _outcomes(config, config.against, conditions)[0].values()
            rows[config.against] = other
            comparison = (config.policy, config.against, compare(result, other))
        print(table(rows))
        if comparison is not None:
            print(comparison_lines(*comparison))
        results = rows if config.report is not None else results
    if config.out is not None:
        print(config.out)
    if config.report is not None:
        films, note = [], ""
        if trial is not None and config.perturb == "none":
            films, note = film_failures(trial, next(iter(results.values())))
        write_evaluation_report(config.report, results, facts=facts, films=films, comparison=comparison, note=note)
        print(config.report)


def _outcomes(
    config: EvaluateConfig, policy: str, conditions: Sequence[Condition]
) -> tuple[dict[str, Evaluation], dict[str, Any], Trial | None]:
    """Read a JSON file, or run a policy; what is known of it, and how to film it, come besides."""
    from vtt.cluster import Cluster
    from vtt_policies.campaign import read_evaluation, run_conditions
    from vtt_policies.trial import Trial, side_by_side

    if _is_file(policy):
        result, held = read_evaluation(Path(policy))
        known = ("env", "env_args", "policy", "weights", "perturb", "phase", "first_seed")
        return {policy: result}, {name: held[name] for name in known if name in held}, None
    num_envs = side_by_side(config.num_envs, config.n)
    trial = Trial(str(config.env), policy, config.env_args, num_envs, config.device)
    out = config.out
    if out is not None and config.against is not None and not _is_file(config.against):
        out = out / ("policy.json" if policy == config.policy else "against.json")
    results = run_conditions(
        trial,
        conditions,
        n=config.n,
        first_seed=config.first_seed,
        out=out,
        cluster=Cluster(config.ray, config.workers) if config.ray is not None else None,
    )
    return results, {**trial.facts(), "n": config.n, "first_seed": config.first_seed}, trial


def _is_file(policy: str) -> bool:
    """Whether a policy is named by the results it had."""
    return policy.endswith(".json")

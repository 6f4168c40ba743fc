"""`vtt ros`: run and try the graph of nodes without the launch package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vtt.cli import parse
from vtt.errors import ConfigError, DependencyError

__all__ = ["Drill", "Up", "main"]


@dataclass(frozen=True)
class Drill:
    """Break a graph of gate, robot model, sensor and policy on purpose, and measure how fast the robot stops.

    Attributes:
        repeats: How often each fault is tried.
        stress: Processes that keep a core busy meanwhile; time-outs may then take 30 ms longer.
        storm: Unrelated processes that are killed and stopped at the end, while the robot is driven.
        only: Names of faults, or parts of them; all by default.
        out: JSON file to write.
        domain: ROS_DOMAIN_ID of the drill; nothing else may use it.
    """

    repeats: int = 3
    stress: int = 0
    storm: int = 0
    only: tuple[str, ...] = ()
    out: Path | None = None
    domain: int = 95

    def __post_init__(self) -> None:
        """Refuse counts that measure nothing."""
        if self.repeats < 1 or self.stress < 0 or self.storm < 0:
            raise ConfigError("repeats must be at least 1, stress and storm not negative.")
        if not 0 <= self.domain <= 232:
            raise ConfigError(f"domain must be in [0, 232], got {self.domain}.")


@dataclass(frozen=True)
class Up:
    """Run a policy through the whole graph: simulated robot, safety gate, policy and operator, each a process.

    Attributes:
        bundle: Folder written by `vtt export`.
        robot: What stands behind the topics of the robot.
        episodes: Episodes, one per seed.
        env: Gymnasium id with its module.
        env_args: Further options of the environment, each key=value.
        first_seed: The seeds count up from here.
        backend: What computes the policy.
        compare: Run the same seeds in one process too, without ROS.
        domain: ROS_DOMAIN_ID; nothing else may use it.
        out: JSON file to write.
    """

    bundle: Path
    robot: tyro.conf.Positional[Literal["sim"]] = "sim"
    episodes: int = 20
    env: str = "vtt_envs:vtt/PegInsertion-v0"
    env_args: tuple[str, ...] = ()
    first_seed: int = 1_000_000_000
    backend: Literal["torch", "onnx"] = "torch"
    compare: bool = True
    domain: int = 94
    out: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.episodes < 1:
            raise ConfigError(f"episodes must be at least 1, got {self.episodes}.")
        if not 0 <= self.domain <= 232:
            raise ConfigError(f"domain must be in [0, 232], got {self.domain}.")


_Command = Annotated[Up, tyro.conf.subcommand("up")] | Annotated[Drill, tyro.conf.subcommand("drill")]


def main(argv: Sequence[str]) -> None:
    """Run a policy as ROS 2 nodes, or break such a graph on purpose."""
    command = parse(_Command, argv, prog="vtt ros", description="Run a policy as ROS 2 nodes, or break such a graph.")
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise DependencyError(f"ROS 2 must be installed ({error}). Run `pip install 'vtt-stack[ros]'`.") from error
    if isinstance(command, Drill):
        _drill(command)
    else:
        _up(command)


def _up(config: Up) -> None:
    """Run episodes through the graph, and the same seeds without it."""
    import json
    from dataclasses import asdict

    from tqdm import tqdm

    from vtt.files import atomic_write_text
    from vtt.statistics import wilson
    from vtt_ros.up import run_sim

    with tqdm(total=config.episodes, unit="episode", disable=None) as bar:
        trials, policy = run_sim(
            config.bundle,
            env=config.env,
            env_args=config.env_args,
            episodes=config.episodes,
            first_seed=config.first_seed,
            domain=config.domain,
            backend=config.backend,
            progress=bar.update,
        )
    rows = {"through the graph": [trial.success for trial in trials]}
    if config.compare:
        from vtt_policies.trial import evaluate_by_name

        alone = evaluate_by_name(
            config.env,
            str(config.bundle),
            n=config.episodes,
            env_args=config.env_args,
            num_envs=min(16, config.episodes),
            first_seed=config.first_seed,
        )
        rows["in one process"] = list(alone.outcomes)
    for name, outcomes in rows.items():
        n, successes = len(outcomes), sum(outcomes)
        low, high = wilson(successes, n)
        print(f"{name:<18} {successes}/{n} = {successes / n:.3f} ({low:.3f} to {high:.3f})")
    print(f"observation to command: p50 {policy.get('latency_p50_ms')} ms, p99 {policy.get('latency_p99_ms')} ms")
    for trial in trials:
        if trial.fault:
            print(f"seed {trial.seed}: the gate stopped the robot: {trial.fault}")
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"trials": [asdict(trial) for trial in trials], "policy": policy, "success": rows}
        atomic_write_text(config.out, json.dumps(result, indent=2) + "\n")
        print(config.out)


def _drill(config: Drill) -> None:
    """Run the drill and print its table."""
    import json
    import tempfile
    from dataclasses import asdict

    from tqdm import tqdm

    from vtt.errors import missing
    from vtt.files import atomic_write_text
    from vtt_ros.drill import run
    from vtt_ros.drill.faults import FAULTS

    chosen = [fault for fault in FAULTS if not config.only or any(word in fault.name for word in config.only)]
    if not chosen:
        raise missing("fault", ", ".join(config.only), [fault.name for fault in FAULTS])
    outcomes: list[run.Outcome] = []
    storm: run.Storm | None = None
    with run.cpu_hogs(config.stress), tempfile.TemporaryDirectory() as folder:
        bar = tqdm(total=config.repeats * len(chosen), unit="fault", disable=None)
        for joints in (False, True):
            faults = [fault for fault in chosen if fault.joints == joints]
            wanted = bool(config.storm) and not joints
            if not faults and not wanted:
                continue
            place = Path(folder) / ("joints" if joints else "twist")
            place.mkdir()
            with run.Drill(place, domain=config.domain, joints=joints) as drill:
                for _ in range(config.repeats):
                    for fault in faults:
                        outcomes.append(drill.break_by(fault))
                        bar.update()
                if wanted:
                    storm = drill.storm(config.storm)
        bar.close()
    print(run.table(outcomes, chosen))
    if storm is not None:
        print(
            f"storm of {storm.events}: longest gap between commands {storm.longest_gap * 1e3:.0f} ms, "
            f"{storm.gaps} above 150 ms; fault: {storm.fault or 'none'}"
        )
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "repeats": config.repeats,
            "stress": config.stress,
            "outcomes": [asdict(outcome) for outcome in outcomes],
            "storm": None if storm is None else asdict(storm),
        }
        atomic_write_text(config.out, json.dumps(result, indent=2) + "\n")
        print(config.out)

"""`vtt ros`: run and try the graph of nodes without the launch package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vtt.cli import parse
from vtt.errors import ConfigError, DependencyError

__all__ = ["Drill", "main"]


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


def main(argv: Sequence[str]) -> None:
    """Break a running graph on purpose and measure how fast the robot stops."""
    words = list(argv)
    if words and words[0] == "drill":
        words = words[1:]
    elif not words or words[0] not in ("-h", "--help"):
        raise ConfigError(f"The first word must be drill, got '{words[0] if words else ''}'.")
    _drill(parse(Drill, words, prog="vtt ros drill"))


def _drill(config: Drill) -> None:
    """Run the drill and print its table."""
    import json
    import tempfile
    from dataclasses import asdict

    from tqdm import tqdm

    from vtt.errors import missing
    from vtt.files import atomic_write_text

    try:
        from vtt_ros.drill import run
        from vtt_ros.drill.faults import FAULTS
    except ImportError as error:
        raise DependencyError(f"ROS 2 must be installed ({error}). pip install 'vtt-stack[ros]'.") from error

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
            "outcomes": run.to_json(outcomes),
            "storm": None if storm is None else asdict(storm),
        }
        atomic_write_text(config.out, json.dumps(result, indent=2) + "\n")
        print(config.out)

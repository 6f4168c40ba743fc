"""The demo: a chain of `vtt` commands, each finished once, and a report of what came out.

It composes commands and environment ids as a shell script would, so it needs no import of environments or policies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vtt.cli import run
from vtt.errors import ConfigError
from vtt.files import atomic_write_text

__all__ = ["PLANS", "Plan", "run_demo"]

_ENV = "vtt_envs:vtt/PegInsertion-v0"
# The aim on held-out seeds, and by how much touch must matter. TacSL's DAgger: .908 with touch, .053 without.
_AIM, _MARGIN = 0.9, 0.5


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Attributes:
        socket_noise: Largest error of the observed socket position, per axis, in m.
        episodes: Expert episodes.
        pretrain_seconds: Time for pretraining, in s.
        distill_seconds: Time for distilling the student, in s.
        control_seconds: Most time for the student without touch, which gets the student's iterations if time allows.
    """

    socket_noise: float
    episodes: int
    pretrain_seconds: int
    distill_seconds: int
    control_seconds: int


PLANS = {
    "demo": Plan(socket_noise=0.002, episodes=192, pretrain_seconds=45, distill_seconds=260, control_seconds=140),
    "full": Plan(socket_noise=0.005, episodes=1024, pretrain_seconds=420, distill_seconds=1800, control_seconds=900),
}


def run_demo(out: Path, plan: Plan, *, seed: int, n: int, device: str) -> Path:
    """Do what is not done yet, and write `report.html` and `summary.json`.

    Args:
        out: Folder for everything.
        plan: How much of everything.
        seed: Seed of everything random.
        n: Held-out episodes of each evaluation.
        device: Torch device of the networks.

    Returns:
        The report.

    Raises:
        ConfigError: If `out` holds a demo with other settings.
    """
    progress = _Progress(out, {"seed": seed, "n": n, **asdict(plan)})
    episodes, encoder, student, control = (out / name for name in ("episodes", "encoder", "student", "no_touch"))
    env = ["--env", _ENV]
    env_args = ["--env-args", f"socket_noise={plan.socket_noise}"]
    # Evaluation seeds start at a thousand million: whatever the seed, demonstrations stay below.
    first_seed = seed % 99 * 10_000_000

    def collect() -> None:
        count = ["--episodes", str(plan.episodes), "--seed", str(first_seed)]
        camera = ["renderer=auto"]
        run(["collect", *env, "--out", str(episodes), *count, "--action-noise", "0.1", *env_args, *camera])

    def pretrain() -> None:
        limits = ["--seconds", str(plan.pretrain_seconds), "--seed", str(seed), "--device", device]
        run(["pretrain", "--data", str(episodes), "--out", str(encoder), *limits])

    def distill() -> None:
        given = ["--data", str(episodes), "--encoder", str(encoder), "--student", "tactile"]
        limits = ["--seconds", str(plan.distill_seconds), "--seed", str(seed), "--device", device]
        run(["distill", *env, "--out", str(student), *given, *limits, *env_args])

    def distill_control() -> None:
        given = ["--data", str(episodes), "--encoder", str(encoder), "--student", "tactile", "--without", "touch"]
        rounds = str(int(_metrics(student)[-1]["iteration"]))
        limits = [
            "--iterations",
            rounds,
            "--seconds",
            str(plan.control_seconds),
            "--seed",
            str(seed),
            "--device",
            device,
        ]
        run(["distill", *env, "--out", str(control), *given, *limits, *env_args])

    def evaluate(name: str, policy: str, *more: str) -> Callable[[], None]:
        target = ["--out", str(out / f"evaluation_{name}.json"), "--n", str(n)]
        return lambda: run(["evaluate", *env, "--policy", policy, *target, *more, *env_args])

    def record() -> None:
        target = ["--n", "4", "--record", str(out / "video_episodes")]
        run(["evaluate", *env, "--policy", str(student), *target, *env_args, "renderer=auto"])

    stages: dict[str, tuple[str, Callable[[], None]]] = {
        "collect": ("The expert demonstrates", collect),
        "pretrain": ("The encoder learns what touch and vision say about each other", pretrain),
        "distill": ("The student learns from the expert, with touch", distill),
        "control": ("The control learns from the expert, without touch", distill_control),
        "expert": ("Evaluate the expert", evaluate("expert", "expert")),
        "student": ("Evaluate the student", evaluate("student", str(student))),
        "no_touch": ("Evaluate the student without touch", evaluate("no_touch", str(control))),
        "shuffled": (
            "Evaluate the student with the touch of another episode",
            evaluate("shuffled", str(student), "--perturb", "touch_shuffled"),
        ),
        "random": ("Evaluate random actions", evaluate("random", "random")),
        "record": ("Record the student for the video", record),
    }
    for index, (name, (title, stage)) in enumerate(stages.items(), start=1):
        progress.do(name, stage, title=f"[{index}/{len(stages)}] {title}")

    from vtt.demo_report import write_report

    summary = _summary(out, progress, seed=seed)
    atomic_write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    verdict = _verdict(summary, longer=plan is PLANS["demo"])
    print(f"\n{verdict}")
    return write_report(out, summary, verdict=verdict, settings=progress.settings, seconds=progress.seconds)


class _Progress:
    """Which stages are finished and how long they took, kept on disk."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self._path = out / "progress.json"
        out.mkdir(parents=True, exist_ok=True)
        kept = json.loads(self._path.read_text()) if self._path.exists() else {}
        if kept and kept["settings"] != self.settings:
            different = [key for key, value in self.settings.items() if kept["settings"].get(key) != value]
            raise ConfigError(f"{out} holds a demo with another {', '.join(different)}. Choose another --out.")
        self.seconds: dict[str, float] = kept.get("seconds", {})
        self._finished: list[str] = kept.get("finished", [])

    def do(self, name: str, stage: Callable[[], None], *, title: str) -> None:
        """Run a stage unless it is finished; time spent before an interruption counts."""
        if name in self._finished:
            print(f"{title}: done before.", flush=True)
            return
        print(f"\n{title}", flush=True)
        began = time.perf_counter()
        try:
            stage()
            self._finished.append(name)
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - began, 1)
            kept = {"settings": self.settings, "seconds": self.seconds, "finished": self._finished}
            atomic_write_text(self._path, json.dumps(kept, indent=2) + "\n")


def _metrics(run_folder: Path) -> list[dict[str, str]]:
    """Read a run's metrics."""
    import csv

    with (run_folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _summary(out: Path, progress: _Progress, *, seed: int) -> dict[str, Any]:
    """Gather the numbers; rates lie in 0..1, `env_steps` are the control steps that the student was trained on."""
    results = {
        name: json.loads((out / f"evaluation_{name}.json").read_text())
        for name in ("expert", "student", "no_touch", "shuffled", "random")
    }
    return {
        "task": _ENV.removeprefix("vtt_envs:"),
        "n": results["student"]["n"],
        **{name: result["rate"] for name, result in results.items()},
        "seconds": round(sum(progress.seconds.values()), 1),
        "env_steps": int(float(_metrics(out / "student")[-1]["env_steps"])),
        "seed": seed,
    }


def _verdict(summary: Mapping[str, Any], *, longer: bool) -> str:
    """Say in a sentence what was reached; `longer` tells whether there is a longer plan."""
    reached = (
        f"The student succeeds in {summary['student']:.1%} of {summary['n']} held-out episodes, "
        f"without touch in {summary['no_touch']:.1%}, with another episode's touch in {summary['shuffled']:.1%}."
    )
    if summary["student"] >= _AIM and summary["student"] - summary["no_touch"] >= _MARGIN:
        return reached
    cure = " `vtt demo --full` trains longer." if longer else ""
    return f"{reached} The aim was {_AIM:.0%}, and {_MARGIN:.0%} more than without touch; its time was up.{cure}"

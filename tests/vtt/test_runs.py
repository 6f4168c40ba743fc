from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from vtt.errors import ConfigError, StoreError
from vtt.runs import Metrics, RunFolder


@dataclass(frozen=True)
class _Optimiser:
    rate: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)


def make_run(path: Path) -> RunFolder:
    return RunFolder.create(path, config={"task": "peg: ±2 mm", "steps": 10, "optimiser": _Optimiser()}, seed=3)


def test_a_run_says_what_was_asked_and_where(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a")
    assert RunFolder.open(run.path).config == {
        "task": "peg: ±2 mm",
        "steps": 10,
        "optimiser": {"rate": 1e-5, "betas": [0.9, 0.999]},
    }
    facts = json.loads((run.path / "environment.json").read_text())
    assert facts["seed"] == 3
    assert facts["cpus"] >= 1
    assert "torch" in facts["versions"]
    assert (run.path / "command.txt").read_text().strip()


def test_settings_are_yaml_that_reads_the_same(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    run = make_run(tmp_path / "a")
    assert yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8")) == run.config


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    assert [make_run(tmp_path / "a").path.name for _ in range(3)] == ["a", "a-2", "a-3"]


def test_a_setting_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for value in (object(), float("nan"), {"inner": [float("inf")]}):
        with pytest.raises(ConfigError, match="Setting 'x' must be a plain, finite value"):
            RunFolder.create(tmp_path / "a", config={"x": value}, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="must be the folder of a run"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.yaml").write_text("task:\n  name: peg\n")
    with pytest.raises(StoreError, match="one name and JSON value per line"):
        _ = RunFolder.open(tmp_path).config


def test_last_points_to_the_newest_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    assert run.last() is None
    for step in (100, 200):
        run.set_last(step)
    assert run.last() == run.checkpoint(200)
    moved = run.path.rename(tmp_path / "moved")
    assert RunFolder.open(moved).last() == moved / "checkpoints" / "00000200"


def test_metrics_read_back_exactly(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.csv")
    metrics.add(1, {"loss": 0.1 + 0.2})
    metrics.add(2, {"loss": 1e-300, "success": 1.0})
    metrics.add(3, {"success": 0.5})
    rows = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": 1e-300, "success": 1.0}, {"step": 3, "success": 0.5}]
    assert metrics.rows() == rows
    assert Metrics(tmp_path / "metrics.csv").rows() == rows
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == "step,loss,success"


def test_a_resumed_run_drops_steps_that_it_takes_again(tmp_path: Path) -> None:
    for step in range(5):
        Metrics(tmp_path / "metrics.csv").add(step, {"loss": float(step)})
    resumed = make_run(tmp_path / "a")
    (tmp_path / "metrics.csv").rename(resumed.path / "metrics.csv")
    metrics = resumed.metrics(through_step=2)
    metrics.add(3, {"loss": 30.0})
    assert [row["loss"] for row in metrics.rows()] == [0.0, 1.0, 2.0, 30.0]


def test_a_row_cut_in_half_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    metrics = Metrics(path)
    for step in range(3):
        metrics.add(step, {"loss": 0.25, "success": 0.5})
    path.write_bytes(path.read_bytes()[:-3])
    resumed = Metrics(path)
    resumed.add(2, {"loss": 0.75, "success": 0.5})
    assert [row["loss"] for row in resumed.rows()] == [0.25, 0.25, 0.75]
    path.write_text("ste")
    assert Metrics(path).rows() == []

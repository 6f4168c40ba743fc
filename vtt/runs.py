"""The folder of one run: what was asked, on what machine, what came of it.

config.yaml         settings, one name and JSON value per line (YAML reads both)
command.txt         the command line
environment.json    versions, commit, machine, seed, and the folder that the command's paths are relative to
metrics.csv         one row per step
checkpoints/<step>  see `checkpoint`
last                where the newest checkpoint is
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vtt.errors import ConfigError, StoreError
from vtt.files import atomic_write_text

__all__ = ["Metrics", "RunFolder", "environment"]

_LIBRARIES = ("vtt-stack", "torch", "numpy", "mujoco", "gymnasium", "stable-baselines3", "zarr", "safetensors")


class RunFolder:
    """The folder of one run.

    Attributes:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        """Use `create` or `open`."""
        self.path = path

    @classmethod
    def create(cls, path: str | Path, *, config: Mapping[str, Any], seed: int) -> RunFolder:
        """Begin a run. If `path` is taken, it gets the next free name of `<path>-2`, `<path>-3` and so on.

        Args:
            path: The folder wanted.
            config: Settings; JSON-ready values, dataclasses or paths.
            seed: What all randomness comes from.

        Raises:
            ConfigError: If a setting cannot be written.
        """
        lines = "".join(f"{name}: {_flow(value, name)}\n" for name, value in config.items())
        wanted, number = Path(path), 1
        free = wanted
        while True:
            try:
                free.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
                free = wanted.with_name(f"{wanted.name}-{number}")
        atomic_write_text(free / "command.txt", shlex.join(sys.argv) + "\n")
        facts = environment() | {"seed": seed, "directory": str(Path.cwd())}
        atomic_write_text(free / "environment.json", json.dumps(facts, indent=2) + "\n")
        # Last: its presence says that the folder is a run.
        atomic_write_text(free / "config.yaml", lines)
        return cls(free)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open the folder of a run.

        Raises:
            StoreError: If there is none.
        """
        if not (Path(path) / "config.yaml").exists():
            raise StoreError(f"{path} must be the folder of a run, got one without config.yaml.")
        return cls(Path(path))

    @property
    def config(self) -> dict[str, Any]:
        """The settings, as plain values.

        Raises:
            StoreError: If they were written by other means.
        """
        path = self.path / "config.yaml"
        pairs = [line.partition(": ") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        try:
            return {name: json.loads(value) for name, _, value in pairs}
        except ValueError as error:
            raise StoreError(f"{path} must have one name and JSON value per line ({error}).") from error

    def metrics(self, *, through_step: int | None = None) -> Metrics:
        """Open the metrics to add to them; see `Metrics`."""
        return Metrics(self.path / "metrics.csv", through_step=through_step)

    def checkpoint(self, step: int) -> Path:
        """Name the checkpoint of a step."""
        return self.path / "checkpoints" / f"{step:08d}"

    def set_last(self, step: int) -> None:
        """Make the checkpoint of a step the one that a resumed run starts from."""
        atomic_write_text(self.path / "last", self.checkpoint(step).relative_to(self.path).as_posix() + "\n")

    def last(self) -> Path | None:
        """Find the newest checkpoint; None before the first."""
        pointer = self.path / "last"
        return self.path / pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None


class Metrics:
    """A table that grows by one row per call and survives the death of the process.

    Args:
        path: The CSV file.
        through_step: Last step to keep, for a run that resumes from a checkpoint; None keeps all whole rows.

    Example:
        >>> import tempfile
        >>> metrics = Metrics(Path(tempfile.mkdtemp()) / "metrics.csv")
        >>> metrics.add(1, {"loss": 0.5})
        >>> metrics.rows()
        [{'step': 1.0, 'loss': 0.5}]
    """

    def __init__(self, path: Path, *, through_step: int | None = None) -> None:
        self._path = path
        self._columns: list[str] = ["step"]
        if path.exists():
            # Without the row that was cut in half, and without steps that will be taken again.
            kept = [row for row in self.rows() if through_step is None or row["step"] <= through_step]
            self._rewrite(kept)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row; a name not seen before adds a column."""
        row = {"step": step, **values}
        if not self._path.exists() or not set(row) <= set(self._columns):
            rows = self.rows()
            self._columns += [name for name in row if name not in self._columns]
            self._rewrite([*rows, row])
            return
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._lines([row]))

    def rows(self) -> list[dict[str, float]]:
        """Read all whole rows; empty cells are left out."""
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        columns, *rows = list(csv.reader(whole)) or [self._columns]
        self._columns = columns
        return [
            {name: float(cell) for name, cell in zip(columns, row, strict=True) if cell}
            for row in rows
            if len(row) == len(columns)
        ]

    def _rewrite(self, rows: list[dict[str, float]]) -> None:
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(self._columns)
        atomic_write_text(self._path, header.getvalue() + self._lines(rows))

    def _lines(self, rows: list[dict[str, float]]) -> str:
        """Format rows; a float's repr reads back exactly."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writerows({name: _number(value) for name, value in row.items()} for row in rows)
        return text.getvalue()


def environment() -> dict[str, Any]:
    """Say what a result was computed with: versions, commit, machine."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {name: found for name in _LIBRARIES if (found := _version(name))},
        "git": _git(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _git() -> dict[str, Any]:
    """Commit of the source, and whether it was changed since; empty for an installed package."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        # An installed package may lie inside somebody's repository: only a tracked file speaks for it.
        ask("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _flow(value: Any, name: str) -> str:
    """Write a value as JSON that YAML 1.1 reads the same: its floats need a point, where JSON says 1e-05."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {_flow(v, name)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item, name) for item in value) + "]"
    if isinstance(value, float) and math.isfinite(value):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if isinstance(value, Path):
        value = str(value)
    if value is None or isinstance(value, bool | int | str):
        return json.dumps(value)
    raise ConfigError(f"Setting '{name}' must be a plain, finite value to be written, got {value!r}.")


def _number(value: float) -> str:
    """Write an integer as such and any other number exactly."""
    return str(value) if isinstance(value, int) else repr(float(value))

"""`vtt resume`: go on with a run, whatever began it."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vtt.cli import parse, run
from vtt.errors import StoreError

__all__ = ["Resume", "main", "recorded_command"]

# What begins a run that goes on when its command is run again. A demo consists of several.
_BEGIN = ("vtt train", "vtt distill", "vtt imitate", "vtt pretrain")


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was interrupted: its own command again, on its own folder.

    Options after the folder are added to that command, such as a larger budget: vtt resume RUN --steps 2000000.

    Attributes:
        path: Folder of the run, wherever it is now.
    """

    path: Annotated[Path, tyro.conf.Positional]


def main(argv: Sequence[str]) -> None:
    """Go on with an interrupted run: train, distill, imitate or pretrain."""
    folder = parse(Resume, argv[:1], prog="vtt resume").path
    command, directory = recorded_command(folder)
    print(f"In {directory}: vtt {shlex.join([*command, *argv[1:]])}")
    with contextlib.chdir(directory):
        run([*command, *argv[1:]])


def recorded_command(folder: Path) -> tuple[list[str], Path]:
    """Read what began a run.

    Args:
        folder: The run's folder. It may have been moved: the command's `--out` becomes where it is now.

    Returns:
        The arguments after `vtt`, and the folder that their paths are relative to.

    Raises:
        StoreError: If there is no run, or another command began it, or the folder that it was begun in is gone.
    """
    folder = folder.resolve()
    if not (folder / "config.yaml").exists():
        raise StoreError(f"{folder} must be the folder of a run, got one without config.yaml.")
    program, *words = shlex.split((folder / "command.txt").read_text(encoding="utf-8"))
    began = " ".join([Path(program).stem, *words[:1]])
    if began not in _BEGIN:
        raise StoreError(f"{folder} must be a run of {', '.join(_BEGIN)}, got one of {began}. Run that again.")
    facts = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    directory = Path(facts.get("directory", "."))
    if not directory.is_dir():
        raise StoreError(f"{folder} was begun in {directory}, which is gone. Run the command in command.txt elsewhere.")
    return _at(words, folder), directory


def _at(words: Sequence[str], folder: Path) -> list[str]:
    """Put a folder in the place of what follows `--out`."""
    placed: list[str] = []
    for word in words:
        if placed and placed[-1] == "--out":
            placed.append(str(folder))
        elif word.startswith("--out="):
            placed.append(f"--out={folder}")
        else:
            placed.append(word)
    return placed

"""`vtt data`: look at an episode store, prove that it is whole, mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vtt.cli import parse
from vtt.errors import StoreError

__all__ = ["Info", "Repair", "Verify", "main"]


@dataclass(frozen=True)
class Info:
    """Show what a store holds: episodes, streams, success.

    Attributes:
        store: Folder of the store.
    """

    store: tyro.conf.Positional[Path]


@dataclass(frozen=True)
class Verify:
    """Read every committed byte and name what is damaged. Fails if anything is.

    Attributes:
        store: Folder of the store.
    """

    store: tyro.conf.Positional[Path]


@dataclass(frozen=True)
class Repair:
    """Make a damaged store readable, keeping every intact episode. Deletes nothing that was committed.

    Attributes:
        store: Folder of the store.
    """

    store: tyro.conf.Positional[Path]


_Command = (
    Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Repair, tyro.conf.subcommand("repair")]
)


def main(argv: Sequence[str]) -> None:
    """Look at an episode store, verify it, repair it."""
    command = parse(_Command, argv, prog="vtt data", description="Look at an episode store, verify it, repair it.")
    if isinstance(command, Info):
        _info(command.store)
    elif isinstance(command, Verify):
        _verify(command.store)
    else:
        _repair(command.store)


def _info(path: Path) -> None:
    from vtt.store import EpisodeStore

    store = EpisodeStore.open(path)
    attributes = [store.episode_attributes(index) for index in range(len(store))]
    print(f"{path}: {_count(len(store), 'episode')}, {_size(path) / 1e6:.1f} MB on disk")
    for name, value in store.attributes.items():
        print(f"  {name}: {value}")
    outcomes = [bool(facts["success"]) for facts in attributes if "success" in facts]
    if outcomes:
        print(f"  success: {sum(outcomes)} of {len(outcomes)}")
    rows = [("stream", "kind", "shape", "dtype", "unit", "rate", "samples", "sensor")]
    for key, spec in sorted(store.streams.items()):
        samples = str(store.episode_ends(key)[-1]) if len(store) else "0"
        shape = "x".join(map(str, spec.shape)) or "-"
        rate = f"{spec.rate_hz:g} Hz"
        rows.append((key, spec.kind, shape, spec.dtype, spec.unit or "-", rate, samples, spec.sensor or "-"))
    print()
    _print_table(rows)


def _verify(path: Path) -> None:
    from vtt.store_check import verify

    report = verify(path)
    for leftover in report.leftovers:
        print(f"  left by an interrupted recording, harmless: {leftover}")
    for problem in report.problems:
        print(f"  damaged: {problem}")
    if not report.intact:
        damaged = len(report.damaged_episodes)
        raise StoreError(
            f"{path} is damaged: {damaged} of {_count(report.episodes, 'episode')} cannot be read in full. "
            f"`vtt data repair {path}` keeps the others."
        )
    print(f"{path}: {_count(report.episodes, 'episode')}, every committed byte is intact.")


def _repair(path: Path) -> None:
    from vtt.store_check import repair

    report = repair(path)
    for rebuilt in report.rebuilt:
        print(f"  rebuilt without loss: {rebuilt}")
    for kind, dropped in (
        ("episodes", report.dropped_episodes),
        ("streams", report.dropped_streams),
        ("attributes of episodes", report.dropped_attributes),
    ):
        if dropped:
            print(f"  dropped {kind}: {', '.join(map(str, dropped))}")
    if report.aside is not None:
        print(f"  the damaged store is kept at {report.aside}")
    print(f"{path}: {_count(report.episodes, 'episode')}, every committed byte is intact.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _size(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

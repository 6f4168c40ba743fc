"""Prove that an episode store is whole, and bring back one that is not.

Nothing that was committed is deleted: when episodes must be dropped, the store they were in stays beside the new one.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from vtt import _store_layout as layout
from vtt._store_scan import StoreScan, last, read_root
from vtt.errors import StoreError
from vtt.store import EpisodeStore

__all__ = ["RepairReport", "StoreReport", "repair", "verify"]

# Episodes copied with one commit, which costs as much as writing several.
_COPY_BATCH = 16


@dataclass(frozen=True)
class StoreReport:
    """What `verify` found.

    Attributes:
        path: The store.
        episodes: Number of committed episodes.
        problems: One phrase per damage; none if every committed byte is intact.
        damaged_episodes: Indices of the episodes that cannot be read in full.
        leftovers: What an interrupted recording left behind; harmless, the next append writes over it.
    """

    path: Path
    episodes: int
    problems: tuple[str, ...]
    damaged_episodes: tuple[int, ...]
    leftovers: tuple[str, ...]

    @property
    def intact(self) -> bool:
        """Whether every committed byte is as it was written."""
        return not self.problems


@dataclass(frozen=True)
class RepairReport:
    """What `repair` did.

    Attributes:
        path: The store, readable again.
        episodes: Number of episodes that it holds now.
        rebuilt: One phrase per thing that was rebuilt without loss.
        dropped_episodes: Indices, before the repair, of the episodes that it no longer holds.
        dropped_streams: Streams of which no episode was intact.
        dropped_attributes: Indices, before the repair, of the kept episodes whose attributes were lost.
        aside: Where the damaged store was moved, or None if it was mended in place.
    """

    path: Path
    episodes: int
    rebuilt: tuple[str, ...]
    dropped_episodes: tuple[int, ...]
    dropped_streams: tuple[str, ...]
    dropped_attributes: tuple[int, ...]
    aside: Path | None


def verify(path: str | Path) -> StoreReport:
    """Read every committed byte of a store.

    Raises:
        StoreError: If there is no store at `path`, or nothing says what it held.
    """
    path = Path(path)
    root, problems = read_root(path)
    scan = StoreScan(path, root)
    scan.scan()
    damaged = set(scan.unrecorded).union(*scan.damaged.values())
    return StoreReport(path, len(scan), (*problems, *scan.problems), tuple(sorted(damaged)), tuple(scan.leftovers))


def repair(path: str | Path) -> RepairReport:
    """Make a damaged store readable, keeping every episode that is intact.

    Lost metadata are rebuilt and leftovers of interrupted recordings cut off in place. If committed data are lost, what
    is intact is copied into a new store that takes the old one's place, and the old one becomes `<name>.damaged`. A
    stream of which no episode is intact is dropped; so is an episode that is damaged in any of the remaining streams.

    Raises:
        StoreError: If there is no store at `path`, nothing in it is intact, or there is no space for the copy. Every
            committed chunk is then where it was.
    """
    path = Path(path)
    root, rebuilt = read_root(path)
    with layout.lock(path):
        rebuilt += _mend(StoreScan(path, root))
        scan = StoreScan(path, root)
        scan.scan()
        every = set(range(len(scan)))
        lost = {key for key, damaged in scan.damaged.items() if every and damaged == every}
        if len(lost) == len(root["streams"]):
            raise StoreError(f"{path} holds no intact episode. It was left as it is.")
        dropped = {index for key in root["streams"] if key not in lost for index in scan.damaged[key]}
        aside = _copy_intact(scan, without=lost, episodes=sorted(every - dropped)) if scan.problems else None
    return RepairReport(
        path,
        episodes=len(every - dropped),
        rebuilt=tuple(rebuilt),
        dropped_episodes=tuple(sorted(dropped)),
        dropped_streams=tuple(sorted(lost)),
        dropped_attributes=tuple(index for index in scan.unrecorded if index not in dropped),
        aside=aside,
    )


def _mend(scan: StoreScan) -> list[str]:
    """Rebuild metadata and cut off what was not committed; chunks of committed data are not touched."""
    path, streams = scan.path, scan.root["streams"]
    rebuilt = []
    for place, (dtype, row_shape) in layout.array_specs(streams).items():
        try:
            scan.array(place)
        except StoreError:
            torn = path / place / "zarr.json"
            if torn.exists():
                torn.replace(torn.with_name("zarr.json.damaged"))
            layout.create_array(path, place, dtype, row_shape)
            rebuilt.append(f"'{place}/zarr.json' is missing or torn")
    layout.write_groups(path, streams)
    layout.write_root(path, scan.root, place="backup")
    layout.write_root(path, scan.root)

    _set_rows(scan, layout.RECORD_ENDS, len(scan))
    record_ends = scan.ends(layout.RECORD_ENDS)
    if record_ends is not None:
        _set_rows(scan, layout.RECORDS, last(record_ends))
    for key in streams:
        _set_rows(scan, layout.stream_path(key, "episode_ends"), len(scan))
        ends = scan.stream_ends(key)
        if ends is not None:
            _set_rows(scan, layout.stream_path(key, "data"), last(ends))
            _set_rows(scan, layout.stream_path(key, "stamp_ns"), last(ends))
    for partial in path.rglob("*.partial"):
        partial.unlink()
    return rebuilt


def _set_rows(scan: StoreScan, place: str, rows: int) -> None:
    """Cut an array behind its committed rows, or give back the rows that its metadata forgot."""
    array = scan.array(place)
    if array.shape[0] != rows:
        array.resize((rows, *array.shape[1:]))


def _copy_intact(scan: StoreScan, *, without: set[str], episodes: list[int]) -> Path:
    """Put a store of the intact episodes in the place of this one, and return where this one went."""
    path, root = scan.path, scan.root
    streams = {key: spec for key, spec in root["streams"].items() if key not in without}
    fresh = path.with_name(f".{path.name}.repairing")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        store = EpisodeStore.create(fresh, streams=streams, attributes=root["attributes"])
        for at in range(0, len(episodes), _COPY_BATCH):
            batch = episodes[at : at + _COPY_BATCH]
            records = [scan.records[index] or {"attributes": {}} for index in batch]
            store.extend(
                [scan.read(index, streams) for index in batch], attributes=[record["attributes"] for record in records]
            )
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    aside, number = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(aside)
    fresh.rename(path)
    return aside

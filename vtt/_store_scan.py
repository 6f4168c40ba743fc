"""Read a store that may be damaged anywhere, and note what is lost. `store_check` turns this into reports and repairs.

Axes: E committed episodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from vtt import _store_layout as layout
from vtt.errors import StoreError
from vtt.streams import Stream

__all__ = ["StoreScan", "last", "read_root"]


class StoreScan:
    """A store as far as it can be read; `scan` reads every committed byte.

    Attributes:
        problems: One phrase per damage.
        leftovers: One phrase per thing that was written but not committed.
        damaged: The episodes that have lost samples, by stream.
    """

    def __init__(self, path: Path, root: Mapping[str, Any]) -> None:
        self.path = path
        self.root = root
        self.problems: list[str] = []
        self.leftovers: list[str] = []
        self.damaged: dict[str, set[int]] = {key: set() for key in root["streams"]}
        self._places = layout.array_specs(root["streams"])
        self._ends: dict[str, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        """Number of committed episodes."""
        return self.root["episodes_committed"]

    def scan(self) -> None:
        """Read every committed byte."""
        self.leftovers += [f"'{partial.relative_to(self.path)}'" for partial in sorted(self.path.rglob("*.partial"))]
        if self.unrecorded or self.ends(layout.RECORD_ENDS) is None:
            self.problems.append(f"the attributes of some episodes are unreadable{_listing(self.unrecorded)}")
        for key in self.root["streams"]:
            if self.ends(layout.stream_path(key, "episode_ends")) is None:
                self.problems.append(f"'{layout.stream_path(key, 'episode_ends')}' is unreadable")
            ends = self.stream_ends(key)
            if ends is None:
                self.damaged[key] = set(range(len(self)))
                continue
            self._ends[key] = ends
            for part in ("data", "stamp_ns"):
                self.damaged[key] |= self._scan_part(key, part, ends)

    def array(self, place: str) -> zarr.Array:
        """Open one array, or raise `StoreError`."""
        return layout.open_array(self.path, place, *self._places[place])

    def ends(self, place: str) -> NDArray[np.int64] | None:
        """Read the committed part of an array of cumulative ends, None if it is unreadable. Shape (E,)."""
        try:
            ends = layout.read_rows(self.path, place, self.array(place), 0, len(self))
        except StoreError:
            return None
        return ends if (np.diff(ends, prepend=0) > 0).all() else None

    def stream_ends(self, key: str) -> NDArray[np.int64] | None:
        """Read where the episodes of a stream end, if need be from the records; None if neither says. Shape (E,)."""
        ends = self.ends(layout.stream_path(key, "episode_ends"))
        if ends is None and not self.unrecorded:
            return np.cumsum([record["rows"][key] for record in self.records if record], dtype=np.int64)
        return ends

    def read(self, index: int, keys: Iterable[str]) -> dict[str, Stream]:
        """Read one episode that `scan` found intact in the given streams."""
        episode = {}
        for key in keys:
            ends = self._ends[key]
            rows = (int(ends[index - 1]) if index else 0, int(ends[index]))
            data, stamp_ns = (
                layout.read_rows(self.path, place, self.array(place), *rows)
                for place in (layout.stream_path(key, "data"), layout.stream_path(key, "stamp_ns"))
            )
            episode[key] = Stream(data, stamp_ns)
        return episode

    @property
    def unrecorded(self) -> list[int]:
        """Episodes whose record is unreadable."""
        return [index for index, record in enumerate(self.records) if record is None]

    @cached_property
    def records(self) -> list[dict[str, Any] | None]:
        """The record of every episode, None where it is unreadable."""
        lost: list[dict[str, Any] | None] = [None] * len(self)
        try:
            array = self.array(layout.RECORDS)
        except StoreError:
            return lost
        written = np.zeros(array.shape[0], np.uint8)
        for start in range(0, len(written), array.chunks[0]):
            stop = min(start + array.chunks[0], len(written))
            try:
                written[start:stop] = layout.read_rows(self.path, layout.RECORDS, array, start, stop)
            except StoreError:
                continue
        text = written.tobytes()
        ends = self.ends(layout.RECORD_ENDS)
        if ends is not None:
            return [_parse(text[start:stop]) for start, stop in zip([0, *ends[:-1]], ends, strict=False)]
        records = [_parse(line) for line in text.splitlines()[: len(self)]]
        # Without the ends, a line swallowed by damage would shift all that follow.
        return lost if None in records or len(records) < len(self) else records

    def _scan_part(self, key: str, part: str, ends: NDArray[np.int64]) -> set[int]:
        """Read one array chunk by chunk and return the episodes that have lost rows."""
        place = layout.stream_path(key, part)
        rows = last(ends)
        try:
            array = self.array(place)
        except layout.DamageError as error:
            self.problems.append(error.what)
            return set(range(len(self)))
        if array.shape[0] > rows:
            self.leftovers.append(f"{array.shape[0] - rows} rows of '{place}'")
        damaged: set[int] = set()
        before = np.int64(0)
        for start in range(0, rows, array.chunks[0]):
            stop = min(start + array.chunks[0], rows)
            first, final = np.searchsorted(ends, [start, stop - 1], "right").tolist()
            try:
                values = layout.read_rows(self.path, place, array, start, stop)
            except layout.DamageError as error:
                self.problems.append(f"{error.what}{_listing(range(first, final + 1))}")
                damaged |= set(range(first, final + 1))
                continue
            if part == "stamp_ns":
                stuck = start + np.flatnonzero(np.diff(values, prepend=before) <= 0)
                # The first sample of an episode may follow any other.
                stuck = stuck[(stuck > 0) & ~np.isin(stuck, ends)]
                wrong = np.unique(np.searchsorted(ends, stuck, "right")).tolist()
                if wrong:
                    self.problems.append(f"the stamps of '{key}' do not increase{_listing(wrong)}")
                damaged |= set(wrong)
                before = values[-1]
        return damaged


def read_root(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read the root attributes, if need be from their backup, and say which of the two is unreadable.

    Raises:
        StoreError: If there is no store, or both are unreadable.
    """
    try:
        root = layout.read_root(path)
    except StoreError:
        if not (path / "backup" / "zarr.json").exists():
            raise
        return layout.read_root(path, place="backup"), ["'zarr.json' is missing or torn, its backup is intact"]
    try:
        layout.read_root(path, place="backup")
    except StoreError:
        return root, ["'backup/zarr.json' is missing or torn"]
    return root, []


def last(ends: NDArray[np.int64]) -> int:
    """Return the number of committed rows."""
    return int(ends[-1]) if len(ends) else 0


def _parse(line: bytes) -> dict[str, Any] | None:
    """Parse one record, None if it is damaged."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"attributes", "rows"} <= set(record) else None


def _listing(episodes: Iterable[int]) -> str:
    """Name the first episodes of some, as the end of a sentence."""
    named = [str(index) for index in episodes]
    return f" (episodes {', '.join(named[:8])}{', …' if len(named) > 8 else ''})" if named else ""

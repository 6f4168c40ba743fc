"""The episode store: many streams with their own clocks, appended episode by episode, safe against `kill -9`.

An episode's data are written first. Then one file, the root's `zarr.json`, is replaced, and its `episodes_committed` is
the commit: readers see nothing beyond it, and the next writer writes over what an interrupted one left there.

Axes: T samples of one stream in one episode, N samples of one stream in all episodes, E episodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from vtt import _store_layout as layout
from vtt.errors import ConfigError, MissingError, StoreError, missing
from vtt.files import atomic_folder, is_disk_full
from vtt.streams import Stream, StreamSpec, check_episode, check_key

__all__ = ["EpisodeStore", "Stream", "StreamSpec"]


class EpisodeStore:
    """Episodes on disk, to read and to append to.

    Several processes may append to one store: each append holds a lock. A reader sees the episodes that were committed
    when it opened the store.

    Example:
        >>> import tempfile, numpy as np
        >>> path = tempfile.mkdtemp() + "/pushes"
        >>> store = EpisodeStore.create(path, streams={"goal": StreamSpec("vector", (3,), "float32", "m", 20.0)})
        >>> stamps = np.arange(4, dtype=np.int64) * 50_000_000
        >>> store.append({"goal": Stream(np.zeros((4, 3), np.float32), stamps)}, attributes={"seed": 7})
        0
        >>> EpisodeStore.open(path).read(0)["goal"].data.shape
        (4, 3)
    """

    def __init__(self, path: Path, root: dict[str, Any]) -> None:
        """Use `create` or `open`."""
        self._path = path
        self._root = root
        self._places = layout.array_specs(root["streams"])
        self._forget()

    @classmethod
    def create(
        cls, path: str | Path, *, streams: Mapping[str, StreamSpec], attributes: Mapping[str, Any] | None = None
    ) -> EpisodeStore:
        """Make an empty store.

        Args:
            path: Folder that must not exist yet.
            streams: What every episode will hold.
            attributes: JSON-ready facts about all episodes, such as the environment's id.

        Raises:
            StoreError: If `path` exists, or the disk is full.
            ConfigError: If there are no streams, or a name is unusable.
        """
        path = Path(path)
        if not streams:
            raise ConfigError("streams must name at least one stream, got none.")
        for key in streams:
            check_key(key)
        if path.exists():
            raise StoreError(f"{path} exists already. Open it to append, or choose another name.")
        root: dict[str, Any] = {
            "format": layout.FORMAT,
            "version": layout.VERSION,
            "episodes_committed": 0,
            "streams": dict(streams),
            "attributes": _as_json(attributes or {}),
        }
        with _explained(path, committed=0), atomic_folder(path) as folder:
            layout.write_groups(folder, streams)
            for place, (dtype, row_shape) in layout.array_specs(streams).items():
                layout.create_array(folder, place, dtype, row_shape)
            layout.write_root(folder, root, place="backup")
            layout.write_root(folder, root)
        return cls(path, root)

    @classmethod
    def open(cls, path: str | Path) -> EpisodeStore:
        """Open a store to read and to append.

        Raises:
            StoreError: If it is missing, damaged or of a later version. Damage inside the data shows when it is read.
        """
        store = cls(Path(path), layout.read_root(Path(path)))
        for key in store.streams:
            rows = store._rows(key)
            for part in ("data", "stamp_ns"):
                place = layout.stream_path(key, part)
                if store._array(place).shape[0] < rows:
                    raise layout.damaged(
                        store._path, f"'{place}' has {store._array(place).shape[0]} rows instead of {rows}"
                    )
        return store

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self._path

    @property
    def streams(self) -> Mapping[str, StreamSpec]:
        """Spec of every stream."""
        return MappingProxyType(self._root["streams"])

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Facts about all episodes, as given to `create`."""
        return MappingProxyType(self._root["attributes"])

    def __len__(self) -> int:
        """Number of committed episodes."""
        return self._root["episodes_committed"]

    def append(self, episode: Mapping[str, Stream], *, attributes: Mapping[str, Any] | None = None) -> int:
        """Write one episode and commit it; see `extend`.

        Returns:
            Its index.
        """
        return self.extend([episode], attributes=[attributes or {}])[0]

    def extend(
        self, episodes: Sequence[Mapping[str, Stream]], *, attributes: Sequence[Mapping[str, Any]] | None = None
    ) -> range:
        """Write several episodes with one commit: all of them are stored, or none.

        Args:
            episodes: Each holds every stream of the store.
            attributes: JSON-ready facts about each episode, such as its seed and whether it succeeded.

        Returns:
            Their indices.

        Raises:
            ShapeError: If an episode does not hold exactly the store's streams; nothing is written.
            StoreError: If the disk is full or the store damaged; the committed episodes are as before.
        """
        attributes = [{} for _ in episodes] if attributes is None else attributes
        if len(attributes) != len(episodes):
            raise ConfigError(f"attributes must be one per episode ({len(episodes)}), got {len(attributes)}.")
        for episode in episodes:
            check_episode(self.streams, episode)
        records = [
            _record(_as_json(facts), {key: len(stream.data) for key, stream in episode.items()})
            for episode, facts in zip(episodes, attributes, strict=True)
        ]
        if not episodes:
            return range(len(self), len(self))
        with self._writing():
            first = len(self)
            for key in self.streams:
                parts = [episode[key] for episode in episodes]
                start = self._rows(key)
                lengths = np.cumsum([len(part.data) for part in parts])
                self._put(layout.stream_path(key, "data"), start, np.concatenate([part.data for part in parts]))
                self._put(layout.stream_path(key, "stamp_ns"), start, np.concatenate([part.stamp_ns for part in parts]))
                self._put(layout.stream_path(key, "episode_ends"), first, start + lengths)
            start = self._end(layout.RECORD_ENDS)
            self._put(layout.RECORDS, start, np.frombuffer(b"".join(records), np.uint8))
            self._put(layout.RECORD_ENDS, first, start + np.cumsum([len(record) for record in records]))
            self._commit(first + len(episodes))
        return range(first, len(self))

    def read(self, index: int, keys: Sequence[str] | None = None) -> dict[str, Stream]:
        """Read one episode.

        Args:
            index: 0 to the number of episodes less 1.
            keys: The streams to read; None reads all.

        Raises:
            MissingError: If there is no such episode or stream.
            StoreError: If its data are damaged.
        """
        self._check_index(index)
        episode = {}
        for key in self.streams if keys is None else keys:
            ends = self.episode_ends(key)
            episode[key] = self._read_stream(key, int(ends[index - 1]) if index else 0, int(ends[index]))
        return episode

    def read_all(self, key: str) -> Stream:
        """Read one stream of all episodes, one after the other; `episode_ends` says where they part.

        Returns:
            Data of shape (N, ...), stamps of shape (N,).
        """
        self._check_key(key)
        return self._read_stream(key, 0, self._rows(key))

    def episode_ends(self, key: str) -> NDArray[np.int64]:
        """Return where each episode of one stream ends in `read_all`, cumulative. Shape (E,)."""
        self._check_key(key)
        return self._ends(layout.stream_path(key, "episode_ends"))

    def episode_attributes(self, index: int) -> dict[str, Any]:
        """Return the facts about one episode, as given to `append`."""
        self._check_index(index)
        if self._records is None:
            place = layout.RECORDS
            written = layout.read_rows(self._path, place, self._array(place), 0, self._end(layout.RECORD_ENDS))
            self._records = [json.loads(line) for line in written.tobytes().splitlines()]
        return dict(self._records[index]["attributes"])

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise MissingError(f"No episode {index} in {self._path}, which holds {len(self)}, counted from 0.")

    def _check_key(self, key: str) -> None:
        if key not in self.streams:
            raise missing("stream", key, self.streams)

    def _read_stream(self, key: str, start: int, stop: int) -> Stream:
        data, stamp_ns = (
            layout.read_rows(self._path, place, self._array(place), start, stop)
            for place in (layout.stream_path(key, "data"), layout.stream_path(key, "stamp_ns"))
        )
        return Stream(data, stamp_ns)

    def _rows(self, key: str) -> int:
        """Committed rows of one stream."""
        return self._end(layout.stream_path(key, "episode_ends"))

    def _end(self, place: str) -> int:
        """Last committed value of an array of cumulative ends."""
        return int(self._ends(place)[-1]) if len(self) else 0

    def _ends(self, place: str) -> NDArray[np.int64]:
        """Committed values of an array of cumulative ends."""
        if place not in self._known_ends:
            ends = layout.read_rows(self._path, place, self._array(place), 0, len(self))
            if (np.diff(ends, prepend=0) <= 0).any():
                raise layout.damaged(self._path, f"'{place}' does not increase")
            self._known_ends[place] = _frozen(ends)
        return self._known_ends[place]

    def _array(self, place: str) -> zarr.Array:
        """Open an array once."""
        if place not in self._arrays:
            self._arrays[place] = layout.open_array(self._path, place, *self._places[place])
        return self._arrays[place]

    def _forget(self) -> None:
        """Drop what was read from disk."""
        self._arrays: dict[str, zarr.Array] = {}
        self._known_ends: dict[str, NDArray[np.int64]] = {}
        self._records: list[dict[str, Any]] | None = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the store's lock, starting from what is committed by now; on failure forget the half-written state."""
        try:
            with layout.lock(self._path):
                root = layout.read_root(self._path)
                if root["episodes_committed"] != len(self):
                    self._forget()
                self._root = root
                with _explained(self._path, committed=len(self)):
                    # A backup ahead of the commit, left by an interrupted one, must not outlive the data it counts.
                    if layout.read_root(self._path, place="backup")["episodes_committed"] != len(self):
                        layout.write_root(self._path, root, place="backup")
                    yield
        except BaseException:
            self._forget()
            raise

    def _put(self, place: str, start: int, rows: NDArray[Any]) -> None:
        """Write rows from `start` on and cut the array behind them."""
        array = self._array(place)
        chunk, shared = divmod(start, array.chunks[0])
        if shared and not layout.chunk_path(self._path, place, chunk, array.ndim).exists():
            # zarr would take its committed rows for zeros.
            raise layout.damaged(self._path, f"chunk {chunk} of '{place}' is missing")
        array.resize((start + len(rows), *array.shape[1:]))
        array[start:] = rows
        if place in self._known_ends:
            self._known_ends[place] = _frozen(np.concatenate([self._known_ends[place], rows]))

    def _commit(self, episodes: int) -> None:
        """Make the episodes visible: the replacement of the root's file is the commit."""
        root: dict[str, Any] = {**self._root, "episodes_committed": episodes}
        layout.write_root(self._path, root, place="backup")
        layout.write_root(self._path, root)
        self._root, self._records = root, None


@contextmanager
def _explained(path: Path, *, committed: int) -> Iterator[None]:
    """Say what a full disk means for the store; name the store when its last chunk, written again, proves damaged."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        kept = f"The {committed} episodes committed before are intact."
        cause = "the disk is full" if is_disk_full(error) else error.strerror or str(error)
        raise StoreError(f"Nothing more could be written to {path}: {cause}. {kept}") from error
    except (ValueError, RuntimeError) as error:
        raise layout.damaged(path, f"its last chunk cannot be extended ({error})") from error


def _frozen(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make an array that is handed out read-only."""
    array.flags.writeable = False
    return array


def _as_json(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in plain values."""
    try:
        return json.loads(json.dumps(dict(facts), default=layout.plain))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"attributes must be JSON-ready values, got {dict(facts)!r} ({error}).") from error


def _record(facts: dict[str, Any], rows: dict[str, int]) -> bytes:
    """One line per episode; its row counts let `repair` rebuild lost `episode_ends`."""
    return json.dumps({"attributes": facts, "rows": rows}, separators=(",", ":")).encode() + b"\n"

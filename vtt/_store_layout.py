"""How an episode store lies on disk. Only `store` and `store_check` use this.

A store is a zarr v3 directory that any zarr v3 reader opens::

    zarr.json                        root attributes: format, version, streams, attributes, episodes_committed
    streams/<key>/data               (rows, ...)  all episodes, one after the other
    streams/<key>/stamp_ns           (rows,)      int64
    streams/<key>/episode_ends       (E,)         int64, cumulative
    episodes/records                 (bytes,)     uint8: one JSON line per episode (its attributes, its rows per stream)
    episodes/record_ends             (E,)         int64, cumulative
    backup/zarr.json                 the root attributes once more, written just before them

Every chunk ends in a CRC-32C and every committed chunk exists, so damage is found instead of being read as zeros.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from vtt.errors import StoreError
from vtt.files import atomic_write_text
from vtt.streams import StreamSpec

FORMAT = "vtt-episodes"
VERSION = 1

RECORDS = "episodes/records"
RECORD_ENDS = "episodes/record_ends"

# Bytes of a full chunk before compression: two megabytes keep files few and the rewriting of the last chunk cheap.
# Part of the format, as are the rows below: `repair` rebuilds a lost zarr.json from them.
_CHUNK_BYTES = 2 << 20
_MAX_CHUNK_ROWS = {"data": 4096, "stamp_ns": 4096, "episode_ends": 4096, "records": 65536, "record_ends": 4096}


def stream_path(key: str, part: str) -> str:
    """Return where a part ("data", "stamp_ns" or "episode_ends") of a stream lies in the store."""
    return f"streams/{key}/{part}"


def array_specs(streams: Mapping[str, StreamSpec]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return dtype and shape of one row of every array of a store, by its place."""
    index = (np.dtype(np.int64), ())
    places = {RECORDS: (np.dtype(np.uint8), ()), RECORD_ENDS: index}
    for key, spec in streams.items():
        places[stream_path(key, "data")] = (np.dtype(spec.dtype), spec.shape)
        places[stream_path(key, "stamp_ns")] = index
        places[stream_path(key, "episode_ends")] = index
    return places


class DamageError(StoreError):
    """A store has lost something; `what` says it without the store's name and the advice."""

    def __init__(self, message: str, *, what: str = "") -> None:
        super().__init__(message)
        self.what = what


def create_array(root: Path, place: str, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> zarr.Array:
    """Write the metadata of one array without rows; chunks that lie there already are left alone."""
    row_bytes = dtype.itemsize * int(np.prod(row_shape, dtype=np.int64))
    fitting = 1 << (max(1, _CHUNK_BYTES // row_bytes).bit_length() - 1)
    return zarr.create_array(
        root / place,
        shape=(0, *row_shape),
        chunks=(min(fitting, _MAX_CHUNK_ROWS[place.rsplit("/", 1)[1]]), *row_shape),
        dtype=dtype,
        # Lossless. Level 1 costs a third of level 3 and gives a tenth away; shuffling bytes helps floats.
        compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec()],
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def open_array(root: Path, place: str, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> zarr.Array:
    """Open one array and check what it holds."""
    try:
        array = zarr.open_array(root / place, mode="r+", zarr_format=3)
    except Exception as error:  # zarr raises whatever its parser met
        raise damaged(root, f"'{place}' cannot be opened ({_first_line(error)})") from error
    if array.dtype != dtype or array.shape[1:] != row_shape:
        raise damaged(root, f"'{place}' must be {dtype} {('rows', *row_shape)}, got {array.dtype} {array.shape}")
    # A chunk of zeros must exist too: a missing one is damage.
    return array.with_config({"write_empty_chunks": True})


def read_rows(root: Path, place: str, array: zarr.Array, start: int, stop: int) -> NDArray[Any]:
    """Read rows [start, stop) of one array.

    Raises:
        StoreError: If a chunk is missing or damaged, or the array is shorter.
    """
    if stop > array.shape[0]:
        raise damaged(root, f"'{place}' has {array.shape[0]} rows instead of {stop}")
    step = array.chunks[0]
    for chunk in range(start // step, -(-stop // step)):
        if not chunk_path(root, place, chunk, array.ndim).exists():
            raise damaged(root, f"chunk {chunk} of '{place}' is missing")
    try:
        return np.asarray(array[start:stop])
    except Exception as error:  # the codecs raise whatever their library does
        raise damaged(root, f"rows {start} to {stop} of '{place}' are unreadable ({_first_line(error)})") from error


def chunk_path(root: Path, place: str, chunk: int, ndim: int) -> Path:
    """Return the file of one chunk; only the first axis is chunked."""
    return root.joinpath(place, "c", str(chunk), *["0"] * (ndim - 1))


def read_root(root: Path, *, place: str = "") -> dict[str, Any]:
    """Read the root attributes, or their backup.

    Raises:
        StoreError: If there is no store, or it is damaged or of a later version.
    """
    path = root / place / "zarr.json"
    if not path.exists() and not (root / "streams").exists():
        raise StoreError(f"{root} must be an episode store, got {'another folder' if root.exists() else 'nothing'}.")
    try:
        attributes = json.loads(path.read_bytes())["attributes"]
        if attributes.get("format") != FORMAT:
            raise StoreError(f"{root} must be an episode store, got something else.")
        if attributes["version"] > VERSION:
            raise StoreError(f"{root} must have version {VERSION} or lower, got {attributes['version']}. Upgrade vtt.")
        if not isinstance(attributes["attributes"], dict) or int(attributes["episodes_committed"]) < 0:
            raise ValueError("bad values")
        return attributes | {"streams": {key: StreamSpec.from_dict(v) for key, v in attributes["streams"].items()}}
    except StoreError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged(root, f"'{path.relative_to(root)}' is missing or torn ({_first_line(error)})") from error


def write_root(root: Path, attributes: Mapping[str, Any], *, place: str = "") -> None:
    """Replace the root attributes, or their backup, in one step."""
    streams = {key: spec.to_dict() for key, spec in attributes["streams"].items()}
    _write_group(root / place, dict(attributes) | {"streams": streams})


def write_groups(root: Path, keys: Iterable[str]) -> None:
    """Write the metadata of the groups below the root."""
    for place in ("streams", "episodes", *(f"streams/{key}" for key in keys)):
        _write_group(root / place, {})


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Keep other writers out; the system releases the lock when the process dies."""
    folder = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def damaged(root: Path, what: str) -> DamageError:
    """Build the error for a store that has lost something."""
    message = f"Store {root} is damaged: {what}. `vtt data repair {root}` keeps what is intact."
    return DamageError(message, what=what)


def plain(value: Any) -> Any:
    """Turn NumPy's values and paths into what JSON knows."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _write_group(folder: Path, attributes: dict[str, Any]) -> None:
    """Write a group's zarr.json (zarr v3 core specification, "Group metadata")."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes})
    atomic_write_text(folder / "zarr.json", text)


def _first_line(error: BaseException) -> str:
    """What went wrong in few words."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

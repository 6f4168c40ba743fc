"""What one recorded signal is (`StreamSpec`) and what one episode holds of it (`Stream`).

Axes: T samples of one stream in one episode. Every stream has its own clock and rate.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, ShapeError

__all__ = ["Stream", "StreamKind", "StreamSpec", "check_episode", "check_key", "check_observation"]

StreamKind = Literal["image", "tactile_image", "force_grid", "vector", "scalar"]

# Number of axes of one sample.
_AXES = {"image": 3, "tactile_image": 3, "force_grid": 3, "vector": 1, "scalar": 0}
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

# What a policy relies on. The rate is only nominal, and a name left empty on one side says nothing.
_COMPARED = ("kind", "shape", "dtype", "unit")
_COMPARED_IF_GIVEN = ("names", "sensor", "calibration_hash")


class Stream(NamedTuple):
    """The samples of one stream in one episode.

    Attributes:
        data: Samples, of the dtype and shape of the stream's spec. Shape (T, ...).
        stamp_ns: Time of capture, in ns, strictly increasing. Shape (T,), int64.
    """

    data: NDArray[Any]
    stamp_ns: NDArray[np.int64]


@dataclass(frozen=True)
class StreamSpec:
    """The contract of one stream.

    Attributes:
        kind: What a sample is. Images and force grids are (rows, columns, channels).
        shape: Shape of one sample; () for a scalar.
        dtype: NumPy's name of the dtype.
        unit: Unit of the values, "" for none. One per name, comma separated, where they differ.
        rate_hz: Nominal rate, in Hz. The stamps say when a sample was really taken.
        sensor: Name of the sensor that produced it.
        calibration_hash: Hash of that sensor's calibration.
        names: Name of each component of a vector, in order, or ().
    """

    kind: StreamKind
    shape: tuple[int, ...]
    dtype: str
    unit: str
    rate_hz: float
    sensor: str = ""
    calibration_hash: str = ""
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Lists arrive from JSON.
        object.__setattr__(self, "shape", tuple(int(side) for side in self.shape))
        object.__setattr__(self, "names", tuple(self.names))
        if self.kind not in get_args(StreamKind):
            raise ConfigError(f"kind must be one of {', '.join(get_args(StreamKind))}, got '{self.kind}'.")
        if len(self.shape) != _AXES[self.kind] or any(side < 1 for side in self.shape):
            raise ConfigError(
                f"shape of a {self.kind} must have {_AXES[self.kind]} axes of at least 1, got {self.shape}."
            )
        if not _is_plain_dtype(self.dtype):
            raise ConfigError(f"dtype must be a boolean, integer or float dtype such as 'float32', got '{self.dtype}'.")
        if not self.rate_hz > 0:
            raise ConfigError(f"rate_hz must be positive, got {self.rate_hz}.")
        if self.names and (self.kind != "vector" or len(self.names) != self.shape[0]):
            raise ConfigError(f"names must name each component of a vector of shape {self.shape}, got {self.names}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON-ready values."""
        return dataclasses.asdict(self) | {"shape": list(self.shape), "names": list(self.names)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StreamSpec:
        """Rebuild a spec; fields of a later version are ignored."""
        fields = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in fields})


def check_key(key: str) -> None:
    """Refuse a stream name that could not be a folder on every system."""
    if not _KEY.fullmatch(key):
        raise ConfigError(f"A stream's name must be letters, digits and underscores after a letter, got '{key}'.")


def check_observation(
    expected: Mapping[str, StreamSpec], arriving: Mapping[str, StreamSpec], *, ignore: Collection[str] = ()
) -> None:
    """Refuse observations that a model was not trained on.

    Args:
        expected: What the model expects.
        arriving: What an environment, a store or a robot offers.
        ignore: Keys that may arrive without being used.

    Raises:
        ConfigError: If a key is missing, another one arrives, or a spec differs; names both sides.
    """
    missing = [key for key in expected if key not in arriving]
    surplus = [key for key in arriving if key not in expected and key not in ignore]
    if missing or surplus:
        raise ConfigError(
            f"The model expects {', '.join(sorted(expected))}, but {', '.join(sorted(arriving)) or 'nothing'} arrives. "
            f"Missing: {', '.join(sorted(missing)) or 'none'}. Neither used nor ignored: "
            f"{', '.join(sorted(surplus)) or 'none'}."
        )
    for key, want in expected.items():
        got = arriving[key]
        for name in (*_COMPARED, *_COMPARED_IF_GIVEN):
            mine, theirs = getattr(want, name), getattr(got, name)
            if mine != theirs and (name in _COMPARED or (mine and theirs)):
                word = name.replace("_", " ")
                raise ShapeError(f"The model expects '{key}' with {word} {mine}, but it arrives with {word} {theirs}.")


def check_episode(streams: Mapping[str, StreamSpec], episode: Mapping[str, Stream]) -> None:
    """Refuse an episode that does not hold exactly the given streams.

    Args:
        streams: What is expected.
        episode: What arrives.

    Raises:
        ShapeError: If a stream is missing or unknown, or has another shape or dtype, no samples, or stamps that do not
            increase strictly.
    """
    if set(streams) != set(episode):
        absent = ", ".join(sorted(set(streams) - set(episode))) or "none"
        extra = ", ".join(sorted(set(episode) - set(streams))) or "none"
        raise ShapeError(f"An episode must hold exactly the store's streams. Missing: {absent}. Not in store: {extra}.")
    for key, spec in streams.items():
        _check_stream(key, spec, episode[key])


def _check_stream(key: str, spec: StreamSpec, stream: Stream) -> None:
    data, stamp_ns = np.asarray(stream.data), np.asarray(stream.stamp_ns)
    if data.dtype != np.dtype(spec.dtype) or data.shape[1:] != spec.shape or data.ndim != len(spec.shape) + 1:
        sides = ", ".join(["T", *map(str, spec.shape)])
        raise ShapeError(f"Stream '{key}' must be {spec.dtype} ({sides}), got {data.dtype} {data.shape}.")
    if stamp_ns.dtype != np.int64 or stamp_ns.shape != data.shape[:1]:
        raise ShapeError(
            f"Stamps of stream '{key}' must be int64 ({len(data)},) like its data, "
            f"got {stamp_ns.dtype} {stamp_ns.shape}."
        )
    if not len(data):
        raise ShapeError(f"Stream '{key}' must have at least one sample, got none.")
    steps = np.diff(stamp_ns)
    if (steps <= 0).any():
        at = int(np.argmax(steps <= 0))
        raise ShapeError(
            f"Stamps of stream '{key}' must increase strictly, "
            f"got {stamp_ns[at]} then {stamp_ns[at + 1]} ns at sample {at}."
        )


def _is_plain_dtype(name: str) -> bool:
    """Whether the name is NumPy's for a boolean, integer or float."""
    try:
        return np.dtype(name).kind in "buif"
    except TypeError:
        return False

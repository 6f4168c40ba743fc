"""How one sensor's gel becomes colour: the one file that simulator, reconstruction and driver share.

Legend: N slope nodes per axis, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, MissingError, ShapeError, missing
from vtt_sensors.spec import list_specs

__all__ = ["Calibration", "NoiseParameters", "get_calibration"]

_DATA = Path(__file__).parent / "data"
_FORMAT = 1


@dataclass(frozen=True)
class NoiseParameters:
    """Sensor noise, as parts of full scale (255 grey levels).

    Attributes:
        frame_std: Standard deviation of the noise of each frame.
        frame_exponent: Its power spectrum falls as 1 / f^exponent.
        channel_correlation: Correlation of the frame noise between colour channels.
        pattern_std: Standard deviation of a pattern that stays for an episode.
        pattern_exponent: Its power spectrum falls as 1 / f^exponent.
        gain_std: Standard deviation of an episode's gain per channel, without unit.
        offset_std: Standard deviation of an episode's offset per channel.

    Source: measured on GelSight Minis by tactile-mnist 0.13 (SensorNoiseConfig).
    """

    frame_std: float = 0.0038
    frame_exponent: float = 1.4
    channel_correlation: float = 0.3
    pattern_std: float = 0.0093
    pattern_exponent: float = 4.0
    gain_std: float = 0.047
    offset_std: float = 0.0094

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not (math.isfinite(value) and value >= 0.0):
                raise ConfigError(f"{name} must be finite and not negative, got {value}.")
        if self.channel_correlation > 1.0:
            raise ConfigError(f"channel_correlation must be at most 1, got {self.channel_correlation}.")


@dataclass(frozen=True, eq=False)
class Calibration:
    """How slope becomes colour on one sensor.

    Attributes:
        sensor: Name of the sensor model.
        source: What the numbers came from, in a sentence.
        table: Change of colour against rest, in grey levels (R, G, B), over slope along rows and slope along columns,
            both from -slope_max to slope_max. The middle node (no slope) is exactly zero. Shape (N, N, 3), N odd.
        slope_max: Slope at the table's border, without unit.
        rest_image: Picture of the untouched gel, in grey levels 0 to 255; any resolution. Shape (H, W, 3).
        noise: Noise of the sensor.
    """

    sensor: str
    source: str
    table: NDArray[np.float32]
    slope_max: float
    rest_image: NDArray[np.float32]
    noise: NoiseParameters = field(default_factory=NoiseParameters)

    def __post_init__(self) -> None:
        table = np.array(self.table, dtype=np.float32)
        rest = np.array(self.rest_image, dtype=np.float32)
        if table.ndim != 3 or table.shape[0] != table.shape[1] or table.shape[2] != 3 or table.shape[0] % 2 == 0:
            raise ShapeError(f"table must have shape (N, N, 3) with N odd, got {table.shape}.")
        if table.shape[0] < 3:
            raise ShapeError(f"table must have at least 3 nodes per axis, got {table.shape[0]}.")
        if rest.ndim != 3 or rest.shape[2] != 3 or 0 in rest.shape:
            raise ShapeError(f"rest_image must have shape (H, W, 3), got {rest.shape}.")
        if not (np.isfinite(table).all() and np.isfinite(rest).all()):
            raise ConfigError("table and rest_image must be finite, got NaN or infinity.")
        if rest.min() < 0.0 or rest.max() > 255.0:
            raise ConfigError(f"rest_image must lie in 0 to 255, got {rest.min():g} to {rest.max():g}.")
        middle = table[table.shape[0] // 2, table.shape[0] // 2]
        if middle.any():
            raise ConfigError(f"table must be zero where the slope is zero, got {middle.tolist()}.")
        if not 0.01 <= self.slope_max <= 20.0:
            raise ConfigError(f"slope_max must be between 0.01 and 20, got {self.slope_max}.")
        for name, value in (("table", table), ("rest_image", rest)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @property
    def hash(self) -> str:
        """SHA-256 of all numbers that change a picture, in hexadecimal."""
        digest = hashlib.sha256(self._header(with_source=False).encode())
        digest.update(np.ascontiguousarray(self.table, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(self.rest_image, dtype="<f4").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write one .npz file, under a temporary name first."""
        path = Path(path)
        temporary = path.with_name(path.name + ".partial")
        with temporary.open("wb") as file:
            np.savez_compressed(
                file, header=np.array(self._header(with_source=True)), table=self.table, rest_image=self.rest_image
            )
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote; no pickle is involved.

        Raises:
            MissingError: If there is no such file.
            ConfigError: If the file is not a calibration.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingError(f"No calibration file '{path}'.")
        try:
            with np.load(path, allow_pickle=False) as data:
                header = json.loads(str(data["header"]))
                table, rest_image = data["table"], data["rest_image"]
            if header["format"] != _FORMAT:
                raise ConfigError(f"{path} must have format {_FORMAT}, got {header['format']}. Update vtt.")
            return cls(
                sensor=header["sensor"],
                source=header["source"],
                table=table,
                slope_max=header["slope_max"],
                rest_image=rest_image,
                noise=NoiseParameters(**header["noise"]),
            )
        except (zipfile.BadZipFile, KeyError, TypeError, EOFError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path} must be a calibration written by vtt: {error}.") from error

    def _header(self, *, with_source: bool) -> str:
        header = {
            "format": _FORMAT,
            "sensor": self.sensor,
            "slope_max": self.slope_max,
            "noise": dataclasses.asdict(self.noise),
        }
        if with_source:
            header["source"] = self.source
        return json.dumps(header, sort_keys=True)


def get_calibration(name: str) -> Calibration:
    """Return the calibration that comes with a built-in sensor.

    Raises:
        MissingError: If there is none of that name.
    """
    if name not in list_specs():
        raise missing("calibration", name, list_specs())
    return Calibration.load(_DATA / f"{name}.npz")

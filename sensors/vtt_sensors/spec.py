"""What one optical tactile sensor is: geometry, mechanics and timing, as data.

The simulator, the reconstruction and a driver read the same `SensorSpec`. Built-in sensors are the TOML files of
`data/`, which also name the source of every number; your own sensor is a file of the same form (`load_spec`).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtt.errors import ConfigError, MissingError, missing

__all__ = ["SensorSpec", "get_spec", "list_specs", "load_spec"]

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class SensorSpec:
    """Geometry, mechanics and timing of one optical tactile sensor.

    Attributes:
        name: Name of the sensor model.
        image_shape: Rows and columns of a tactile image, in px.
        pixel_pitch: Side of one (square) pixel on the gel, in m.
        gel_size: Extent of the gel along rows and along columns, in m. May exceed what the camera sees.
        gel_thickness: Thickness of the gel, in m.
        rate_hz: Frame rate, in Hz.
        spread_length: Decay length of the dent around a contact, in m.
        contact_stiffness: Normal stiffness of a whole contact, in N/m; None where no source gives one.
        latency: Time from exposure to arrival, in s; None where no source gives one.
    """

    name: str
    image_shape: tuple[int, int]
    pixel_pitch: float
    gel_size: tuple[float, float]
    gel_thickness: float
    rate_hz: float
    spread_length: float
    contact_stiffness: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        if min(self.image_shape) < 4:
            raise ConfigError(f"image_shape must be at least 4 x 4 px, got {self.image_shape}.")
        # Bounds that any fingertip sensor meets and that a value in mm (instead of m) does not.
        for field, low, high in (
            ("pixel_pitch", 1e-6, 5e-3),
            ("gel_thickness", 1e-4, 5e-2),
            ("spread_length", 1e-5, 2e-2),
            ("rate_hz", 0.1, 1e4),
            ("contact_stiffness", 1.0, 1e6),
            ("latency", 0.0, 1.0),
        ):
            value = getattr(self, field)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{field} must be between {low:g} and {high:g} (SI units), got {value:g}.")
        if not all(1e-3 <= side <= 0.5 for side in self.gel_size):
            raise ConfigError(f"gel_size must be between 0.001 and 0.5 m per side, got {self.gel_size}.")

    @property
    def sensed_size(self) -> tuple[float, float]:
        """Extent that the camera sees, along rows and along columns, in m."""
        return self.image_shape[0] * self.pixel_pitch, self.image_shape[1] * self.pixel_pitch

    def at(self, rows: int, columns: int) -> SensorSpec:
        """Return the same sensor with its picture resampled to `rows` x `columns` px.

        Raises:
            ConfigError: If the aspect differs, because pixels must stay square.

        Example:
            >>> get_spec("gelsight_mini").at(48, 64).image_shape
            (48, 64)
        """
        factor = columns / self.image_shape[1]
        if abs(self.image_shape[0] * factor - rows) > 0.5:
            expected = f"{round(self.image_shape[0] * factor)} x {columns}"
            raise ConfigError(
                f"image_shape must keep the aspect of {self.name} ({self.image_shape[0]} x {self.image_shape[1]} px), "
                f"got {rows} x {columns} px. Use {expected}."
            )
        return dataclasses.replace(self, image_shape=(rows, columns), pixel_pitch=self.pixel_pitch / factor)


def list_specs() -> tuple[str, ...]:
    """Name the built-in sensors."""
    return tuple(sorted(path.stem for path in _DATA.glob("*.toml")))


def get_spec(name: str) -> SensorSpec:
    """Return a built-in sensor.

    Raises:
        MissingError: If there is no sensor of that name.

    Example:
        >>> get_spec("digit").image_shape
        (320, 240)
    """
    if name not in list_specs():
        raise missing("sensor", name, list_specs())
    return load_spec(_DATA / f"{name}.toml")


def load_spec(path: str | Path) -> SensorSpec:
    """Read a sensor of your own from a TOML file with the fields of `SensorSpec`.

    Raises:
        MissingError: If there is no such file.
        ConfigError: If a field is unknown, absent, of the wrong type or out of range.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingError(f"No sensor file '{path}'.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be a TOML file: {error}.") from error
    fields = {field.name: field for field in dataclasses.fields(SensorSpec)}
    for key in raw:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" Known fields: {', '.join(fields)}."
            raise ConfigError(f"{path}: unknown field '{key}'.{hint}")
    for key, field in fields.items():
        if key not in raw and field.default is dataclasses.MISSING:
            raise ConfigError(f"{path}: field '{key}' is absent.")
    try:
        return SensorSpec(**{key: _value(key, value) for key, value in raw.items()})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _value(key: str, value: Any) -> Any:
    """Check one field's type; TOML arrays become tuples, integers become floats where a float is meant."""
    if key == "name":
        if isinstance(value, str) and value:
            return value
        raise ConfigError(f"name must be a non-empty text, got {value!r}.")
    if key in ("image_shape", "gel_size"):
        number = int if key == "image_shape" else (int, float)
        if (
            isinstance(value, list)
            and len(value) == 2
            and all(type(x) is not bool and isinstance(x, number) for x in value)
        ):
            return tuple(value) if key == "image_shape" else tuple(float(x) for x in value)
        kind = "integers" if key == "image_shape" else "numbers"
        raise ConfigError(f"{key} must be two {kind} (rows, columns), got {value!r}.")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ConfigError(f"{key} must be a finite number, got {value!r}.")

"""`vtt sensor`: look at a recording of a real tactile sensor; list the sensors that are built in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vtt.cli import parse

__all__ = ["List", "Show", "main"]

_log = logging.getLogger(__name__)
_DEMO_ENCODER = Path("runs/demo/encoder")


@dataclass(frozen=True)
class Show:
    """Show a recording: difference from rest, contact mask, height map, and a trained encoder's attention.

    Attributes:
        recording: Picture, video, or folder of pictures.
        sensor: Built-in sensor (see `vtt sensor list`) or a TOML file that describes yours.
        rest: Picture of this unit's untouched gel. Default: the median of a video's first frames.
        out: Folder for the results: a picture or video, and the numbers.
        calibration: Calibration of your unit. Default: the one that comes with the sensor.
        encoder: Checkpoint or run folder of `vtt pretrain`. Default: that of the demo, if there is one.
        max_frames: Frames to read at most.
    """

    recording: tyro.conf.Positional[Path]
    out: Path
    sensor: str = "gelsight_mini"
    rest: Path | None = None
    calibration: Path | None = None
    encoder: Path | None = None
    max_frames: int = 500


@dataclass(frozen=True)
class List:
    """List the built-in sensors."""


_Command = Annotated[Show, tyro.conf.subcommand("show")] | Annotated[List, tyro.conf.subcommand("list")]


def main(argv: Sequence[str]) -> None:
    """Look at a recording of a real tactile sensor; list the built-in sensors."""
    command = parse(
        _Command,
        argv,
        prog="vtt sensor",
        description="Look at a recording of a real tactile sensor; list the built-in sensors.",
    )
    if isinstance(command, Show):
        _show(command)
    else:
        _list()


def _show(command: Show) -> None:
    from vtt.errors import ConfigError
    from vtt_sensors.calibration import Calibration, get_calibration
    from vtt_sensors.show import show
    from vtt_sensors.spec import get_spec, list_specs, load_spec

    if command.max_frames < 1:
        raise ConfigError(f"--max-frames must be at least 1, got {command.max_frames}.")
    own = command.sensor.endswith(".toml")
    spec = load_spec(command.sensor) if own else get_spec(command.sensor)
    if command.calibration is not None:
        calibration = Calibration.load(command.calibration)
    elif spec.name in list_specs():
        calibration = get_calibration(spec.name)
    else:
        raise ConfigError(f"--calibration must be given for the sensor '{spec.name}': none comes with it.")
    encoder = command.encoder
    if encoder is None and _DEMO_ENCODER.is_dir():
        encoder = _DEMO_ENCODER
    written = show(
        command.recording,
        spec=spec,
        calibration=calibration,
        rest=command.rest,
        out=command.out,
        encoder=encoder,
        max_frames=command.max_frames,
    )
    if encoder is None:
        _log.warning("No encoder at %s, so its attention is left out. Run `make demo` to train one.", _DEMO_ENCODER)
    for path in written:
        if path is not None:
            print(path)


def _list() -> None:
    from vtt_sensors.calibration import get_calibration
    from vtt_sensors.spec import get_spec, list_specs

    for name in list_specs():
        spec = get_spec(name)
        rows, columns = spec.image_shape
        height, width = (1e3 * side for side in spec.sensed_size)
        print(
            f"{name}: {rows} x {columns} px, {1e3 * spec.pixel_pitch:.4f} mm/px, sees {height:.1f} x {width:.1f} mm, "
            f"{spec.rate_hz:g} Hz"
        )
        print(f"  {get_calibration(name).source}")

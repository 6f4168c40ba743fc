"""Parameters of the driver."""

from __future__ import annotations

from dataclasses import dataclass

from vtt_ros.parameters import between, described

__all__ = ["DriverConfig"]


@dataclass(frozen=True)
class DriverConfig:
    """Which sensor, and when its picture is suspicious."""

    finger: str = described("left", "Name of the finger: topics are tactile/<finger>/..., the frame is <finger>_gel.")
    sensor: str = described("gelsight_mini", "Sensor model (see vtt sensor list) or a TOML file that describes yours.")
    source: str = described(
        "", "usb:SERIAL, usb:/dev/videoN, or replay:PATH of pictures, a video, or PATH#KEY of a store."
    )
    rate: float = between(0.0, 0.0, 240.0, "Frames per second of a replay; 0 takes the sensor's, Hz.")
    rest: str = described("", "Picture of the untouched gel of this unit; empty: taken by the service tare.")
    calibration: str = described("", "Calibration file of this unit; empty: the one that comes with the model.")
    tare_frames: int = between(15, 1, 300, "Frames whose median is the rest image taken by tare.")
    map_rate: float = between(15.0, 0.5, 60.0, "Largest rate of height map, mask and force field, Hz.")
    jpeg_quality: int = between(90, 10, 100, "Quality of the compressed image.")
    frozen_frames: int = between(5, 2, 1000, "Equal frames in a row that are told as frozen.")
    saturated_share: float = between(0.25, 0.01, 1.0, "Share of blown out or black pixels that is told as saturated.")
    drift: float = between(12.0, 0.5, 255.0, "Change of untouched parts that is told as drift, grey levels.")
    retry_low: float = between(0.2, 0.05, 10.0, "First wait before the source is opened again, s.")
    retry_high: float = between(2.0, 0.05, 60.0, "Longest wait before the source is opened again, s.")

"""Make the calibrations that come with the package, from public recordings.

    python -m vtt_sensors.built_in REALDATA [--out FOLDER]

Only numbers derived from the recordings are shipped: the fitted table and the rest image reduced to 24 x 32 px.

REALDATA holds `taxim_gelsight_mini_ball/` (`background.png`, `press_*.png`, `annotations.csv`: 12 of the 24 presses in
`calib/gelsight_mini` of the PyPI wheel taxim 1.4.1, MIT) and `fots_digit/` (`background.png`, `00*.png`: presses in
`mlp_calib/digit` of Rancho-zhao/FOTS, MIT by its README).

How good they are, fitted to every second press and tried on the others, both ways (window of two ball radii and spread
lengths around the press; centre and depth registered, because annotations are rough or absent): the simulated change of
colour correlates with the real one by 0.975 (GelSight Mini; 95 % of its square explained; mean error 1.7 grey levels,
5.6 for "no change") and by 0.89 (DIGIT; 79 %; 6.9, 12.9), whose cast shadows the simulator does not know.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import logging
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vtt.errors import MissingError
from vtt_sensors.calibration import Calibration
from vtt_sensors.fitting import BallPress, calibrate
from vtt_sensors.optics import Light, light_table
from vtt_sensors.spec import SensorSpec, get_spec

__all__ = [
    "DIGIT_BALL_RADIUS",
    "MINI_BALL_RADIUS",
    "digit_presses",
    "fit_digit",
    "fit_gelsight_mini",
    "gelsight_mini_presses",
    "main",
    "nominal_gelsight_r15",
]

_log = logging.getLogger(__name__)

# m. Recorded nowhere. 0.6 to 0.9 mm explain held-out presses about equally well (0.96 to 0.95 of their squared change;
# 2 mm: 0.8). Of these 0.9 mm alone gives a response that is linear at small slopes, as Lambert's law demands.
MINI_BALL_RADIUS = 0.9e-3
# m. FOTS names a ball of 4.70 mm; the ball's outline in the deepest presses agrees at FOTS's pixel pitch.
DIGIT_BALL_RADIUS = 2.35e-3


def gelsight_mini_presses(folder: Path) -> tuple[NDArray[np.uint8], list[BallPress]]:
    """Read the rest image and the annotated presses, reduced to the spec's 240 x 320 px."""
    spec = get_spec("gelsight_mini")
    presses = []
    with (folder / "annotations.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            image = _read(folder / row["file"], spec)
            scale = spec.image_shape[1] / 640.0  # annotations are in px of the 640 x 480 originals
            centre = (float(row["center_y_px"]) * scale, float(row["center_x_px"]) * scale)
            presses.append(BallPress(image, centre, float(row["contact_radius_px"]) * scale))
    return _read(folder / "background.png", spec), presses


def digit_presses(folder: Path) -> tuple[NDArray[np.uint8], list[BallPress]]:
    """Read the rest image and the presses.

    Nobody annotated them: a press is guessed where the colour changes most, with a contact radius of 2 mm.
    """
    spec = get_spec("digit")
    rest = _read(folder / "background.png", spec)
    presses = []
    for path in sorted(folder.glob("00*.png")):
        image = _read(path, spec)
        change = image.astype(np.float32) - rest
        change -= np.median(change.reshape(-1, 3), axis=0)
        strength = cv2.GaussianBlur(np.linalg.norm(change, axis=2), (0, 0), 0.9e-3 / spec.pixel_pitch)
        row, column = np.unravel_index(strength.argmax(), strength.shape)
        presses.append(BallPress(image, (float(row), float(column)), 2.0e-3 / spec.pixel_pitch))
    return rest, presses


def fit_gelsight_mini(folder: Path, *, presses: slice = slice(None)) -> Calibration:
    """Fit the GelSight Mini's calibration; the annotated circles, up to 20 px off, are refined."""
    rest, annotated = gelsight_mini_presses(folder)
    return calibrate(
        annotated[presses],
        rest_image=rest,
        spec=get_spec("gelsight_mini"),
        ball_radius=MINI_BALL_RADIUS,
        source="Fitted to ball presses in the middle of one GelSight Mini (calib/gelsight_mini of taxim 1.4.1, MIT); "
        "the ball's radius is not recorded and was fitted too (0.9 mm).",
        refine=True,
    )


def fit_digit(folder: Path, *, presses: slice = slice(None)) -> Calibration:
    """Fit the DIGIT's calibration."""
    rest, found = digit_presses(folder)
    return calibrate(
        found[presses],
        rest_image=rest,
        spec=get_spec("digit"),
        ball_radius=DIGIT_BALL_RADIUS,
        source="Fitted to presses of a ball on one DIGIT (mlp_calib/digit of Rancho-zhao/FOTS). Nobody annotated them: "
        "centres and depths were fitted too. Units differ: calibrate your own.",
        refine=True,
        smoothness=300.0,
    )


def nominal_gelsight_r15() -> Calibration:
    """Compute a stand-in for the GelSight R1.5: three equal lights, 120 degrees apart, 25 degrees over the gel."""
    spec = get_spec("gelsight_r15")
    angles = (math.radians(-90.0), math.radians(30.0), math.radians(150.0))
    levels = ((95.0, 20.0, 20.0), (20.0, 95.0, 20.0), (20.0, 20.0, 95.0))
    lights = tuple(Light(angle, math.radians(25.0), level) for angle, level in zip(angles, levels, strict=True))
    row, column = np.mgrid[-1:1:32j, -1:1:24j]
    rest = sum(
        # A light is brighter on its own side; by how much is a guess, like the levels.
        (1.0 + 0.3 * (row * math.sin(light.azimuth) + column * math.cos(light.azimuth)))[..., None] * light.level
        for light in lights
    )
    return Calibration(
        sensor=spec.name,
        source="Nominal: computed from a guessed light geometry; no recording of this sensor was used.",
        table=light_table(lights, slope_max=1.5, nodes=41),
        slope_max=1.5,
        rest_image=np.asarray(rest, np.float32),
    )


def _read(path: Path, spec: SensorSpec) -> NDArray[np.uint8]:
    image = cv2.imread(str(path))
    if image is None:
        raise MissingError(f"No picture '{path}'.")
    return np.asarray(cv2.resize(image[..., ::-1], spec.image_shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _reduced(calibration: Calibration) -> Calibration:
    """Keep of the rest image what lights make, not the picture."""
    portrait = calibration.rest_image.shape[0] > calibration.rest_image.shape[1]
    size = (24, 32) if portrait else (32, 24)
    rest = cv2.resize(calibration.rest_image, size, interpolation=cv2.INTER_AREA)
    return dataclasses.replace(
        calibration, rest_image=rest.astype(np.float16), table=calibration.table.astype(np.float16)
    )


def main() -> None:
    """Write the three calibrations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("realdata", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for calibration in (
        fit_gelsight_mini(arguments.realdata / "taxim_gelsight_mini_ball"),
        fit_digit(arguments.realdata / "fots_digit"),
        nominal_gelsight_r15(),
    ):
        path = arguments.out / f"{calibration.sensor}.npz"
        _reduced(calibration).save(path)
        _log.info("%s: %d bytes", path, path.stat().st_size)


if __name__ == "__main__":
    main()

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vtt.errors import ConfigError, ShapeError
from vtt_sensors.built_in import fit_gelsight_mini, gelsight_mini_presses
from vtt_sensors.calibration import get_calibration
from vtt_sensors.fitting import BallPress, ball_indentation, calibrate, sample_table
from vtt_sensors.optics import rest_image
from vtt_sensors.simulator import TactileSimulator
from vtt_sensors.spec import get_spec

_RADIUS = 2e-3
_SPEC = get_spec("gelsight_mini").at(120, 160)


@pytest.fixture(scope="module")
def presses(calibration):
    """Presses of a ball by the simulator, whose table is known; circles are exact."""
    simulator = TactileSimulator(_SPEC, calibration)
    made = []
    for number, contact_radius in enumerate((8e-4, 1e-3, 1.2e-3, 1.4e-3)):
        centre = (40.0 + 12 * number, 110.0 - 20 * number)
        depth = _RADIUS - np.sqrt(_RADIUS**2 - contact_radius**2)
        indentation = ball_indentation(
            _SPEC.image_shape, centre=centre, radius=_RADIUS, depth=depth, pixel_pitch=_SPEC.pixel_pitch
        )
        image = simulator.render(torch.from_numpy(indentation)[None])[0].numpy()
        made.append(BallPress(image, centre, contact_radius / _SPEC.pixel_pitch))
    return made


def _fit(presses, calibration, **options):
    rest = rest_image(calibration, _SPEC.image_shape)
    return calibrate(presses, rest_image=rest, spec=_SPEC, ball_radius=_RADIUS, source="test", **options)


def _table_error(fitted, true) -> float:
    """Mean error in grey levels over slopes that the presses reach."""
    angle, size = np.meshgrid(np.linspace(0, 2 * np.pi, 24), np.linspace(0.02, 0.4, 12))
    slopes = size * np.sin(angle), size * np.cos(angle)
    found = sample_table(fitted.table, *slopes, slope_max=fitted.slope_max)
    return float(np.abs(found - sample_table(true.table, *slopes, slope_max=true.slope_max)).mean())


def test_calibration_recovers_the_table_that_made_the_pictures(presses, calibration):
    assert np.abs(calibration.table).max() > 50
    assert _table_error(_fit(presses, calibration, smoothness=1.0), calibration) < 1.0


def test_rough_annotations_are_refined(presses, calibration):
    rng = np.random.default_rng(0)
    rough = [
        dataclasses.replace(
            press,
            centre=(press.centre[0] + rng.uniform(-6, 6), press.centre[1] + rng.uniform(-6, 6)),
            contact_radius=press.contact_radius * rng.uniform(0.9, 1.1),
        )
        for press in presses
    ]
    refined = _table_error(_fit(rough, calibration, smoothness=1.0, refine=True), calibration)
    assert refined < 4.0
    assert refined < 0.5 * _table_error(_fit(rough, calibration, smoothness=1.0), calibration)


def test_wrong_presses_are_refused(presses, calibration):
    with pytest.raises(ConfigError, match="presses must not be empty"):
        _fit([], calibration)
    with pytest.raises(ShapeError, match="image of a press must have shape"):
        _fit([dataclasses.replace(presses[0], image=np.zeros((8, 8, 3), np.uint8))], calibration)


def test_a_ball_overlaps_by_its_depth_and_in_its_circle():
    indentation = ball_indentation((101, 101), centre=(50, 50), radius=3e-3, depth=5e-4, pixel_pitch=5e-5)
    assert indentation.max() == pytest.approx(5e-4)
    radius = np.sqrt((indentation > 0).sum() / np.pi) * 5e-5
    assert radius == pytest.approx(np.sqrt(2 * 3e-3 * 5e-4 - 5e-4**2), rel=0.02)


def test_the_calibration_explains_real_presses_that_it_has_not_seen(realdata):
    folder = realdata / "taxim_gelsight_mini_ball"
    fitted = fit_gelsight_mini(folder, presses=slice(0, None, 2))
    # The shipped one, made of all presses, says the same.
    shipped = get_calibration("gelsight_mini")
    assert np.abs(fitted.table[12:29, 12:29] - shipped.table[12:29, 12:29]).mean() < 4.0

    rest, presses = gelsight_mini_presses(folder)
    simulator = TactileSimulator("gelsight_mini", dataclasses.replace(fitted, rest_image=rest.astype(np.float32)))
    pitch = simulator.spec.pixel_pitch
    for press in presses[1::4]:
        change = press.image.astype(np.float32) - rest
        # The centre lies up to 10 px from the annotation, and nobody wrote the depth down: register both.
        shifts = [(row, column) for row in range(-24, 13, 2) for column in range(-8, 25, 2)]
        best = 0.0
        for depth in (4e-4, 5.5e-4, 7e-4):
            indentation = ball_indentation((240, 320), centre=(120, 160), radius=9e-4, depth=depth, pixel_pitch=pitch)
            predicted = simulator.render(torch.from_numpy(indentation)[None])[0].numpy().astype(np.float32) - rest
            window = predicted[85:155, 125:195].ravel()
            row, column = round(press.centre[0]), round(press.centre[1])
            for y, x in shifts:
                part = change[row + y - 35 : row + y + 35, column + x - 35 : column + x + 35].ravel()
                best = max(best, float(np.corrcoef(window, part)[0, 1]))
        assert best > 0.92

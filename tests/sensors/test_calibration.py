from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vtt.errors import ConfigError, MissingError, ShapeError
from vtt_sensors.calibration import Calibration, NoiseParameters, get_calibration
from vtt_sensors.spec import list_specs


def test_a_calibration_survives_its_file(calibration, tmp_path):
    calibration.save(tmp_path / "unit.npz")
    loaded = Calibration.load(tmp_path / "unit.npz")
    assert loaded.hash == calibration.hash
    assert loaded.source == calibration.source
    assert [path.name for path in tmp_path.iterdir()] == ["unit.npz"]


def test_the_hash_changes_with_every_number_and_not_with_words(calibration):
    table = calibration.table.copy()
    table[0, 0, 0] += 1
    others = [
        dataclasses.replace(calibration, table=table),
        dataclasses.replace(calibration, slope_max=1.1),
        dataclasses.replace(calibration, rest_image=calibration.rest_image + 1),
        dataclasses.replace(calibration, noise=NoiseParameters(frame_std=0.1)),
        dataclasses.replace(calibration, sensor="digit"),
    ]
    assert len({calibration.hash, *(other.hash for other in others)}) == 6
    assert dataclasses.replace(calibration, source="other words").hash == calibration.hash


def test_a_calibration_cannot_be_changed(calibration):
    with pytest.raises(ValueError, match="read-only"):
        calibration.table[0, 0, 0] = 1.0


@pytest.mark.parametrize("name", list_specs())
def test_every_built_in_sensor_has_a_small_calibration_of_its_own(name):
    calibration = get_calibration(name)
    assert calibration.sensor == name
    assert calibration.table.size + calibration.rest_image.size < 10_000
    assert calibration.source


def test_an_unknown_calibration_lists_those_that_exist():
    with pytest.raises(MissingError, match=r"No calibration 'mini'\. Available: digit"):
        get_calibration("mini")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"table": np.zeros((4, 4, 3))}, ShapeError, "table must have shape"),
        ({"table": np.ones((5, 5, 3))}, ConfigError, "table must be zero where the slope is zero"),
        ({"table": np.full((5, 5, 3), np.nan)}, ConfigError, "must be finite"),
        ({"rest_image": np.full((4, 4, 3), 300.0)}, ConfigError, "rest_image must lie in 0 to 255"),
        ({"rest_image": np.zeros((4, 4))}, ShapeError, "rest_image must have shape"),
        ({"slope_max": 0.0}, ConfigError, "slope_max must be between"),
    ],
)
def test_impossible_numbers_are_refused(calibration, changes, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(calibration, **changes)


def test_impossible_noise_is_refused():
    with pytest.raises(ConfigError, match="gain_std must be finite and not negative"):
        NoiseParameters(gain_std=-0.1)


def test_a_file_that_is_no_calibration_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(ConfigError, match="must be a calibration written by vtt"):
        Calibration.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ConfigError, match="must be a calibration written by vtt"):
        Calibration.load(tmp_path / "other.npz")
    with pytest.raises(MissingError, match="No calibration file"):
        Calibration.load(tmp_path / "none.npz")

from __future__ import annotations

import pytest

from vtt.errors import ConfigError, MissingError
from vtt_sensors.spec import get_spec, list_specs, load_spec

_OWN = """
name = "mine"
image_shape = [120, 160]
pixel_pitch = 1e-4
gel_size = [0.02, 0.02]
gel_thickness = 4e-3
rate_hz = 30
spread_length = 1e-3
"""


def test_three_sensors_are_built_in():
    assert list_specs() == ("digit", "gelsight_mini", "gelsight_r15")


@pytest.mark.parametrize("name", list_specs())
def test_what_the_camera_sees_is_about_as_large_as_the_gel(name):
    spec = get_spec(name)
    for seen, gel in zip(spec.sensed_size, spec.gel_size, strict=True):
        assert 0.5 < seen / gel < 1.05


def test_the_gelsight_mini_has_its_native_size():
    spec = get_spec("gelsight_mini")
    assert spec.image_shape == (240, 320)
    assert spec.sensed_size == pytest.approx((14.16e-3, 18.88e-3))


def test_downsampling_keeps_what_is_seen():
    spec = get_spec("gelsight_mini")
    assert spec.at(48, 64).sensed_size == pytest.approx(spec.sensed_size)


def test_downsampling_to_another_aspect_is_refused():
    with pytest.raises(ConfigError, match=r"got 64 x 64 px\. Use 48 x 64"):
        get_spec("gelsight_mini").at(64, 64)


def test_an_unknown_sensor_lists_those_that_exist():
    with pytest.raises(MissingError, match=r"No sensor 'gelsite'\. Available: digit, gelsight_mini, gelsight_r15"):
        get_spec("gelsite")


def test_a_users_own_sensor_is_read_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(_OWN)
    spec = load_spec(path)
    assert (spec.name, spec.image_shape, spec.rate_hz, spec.latency) == ("mine", (120, 160), 30.0, None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pixel_pitch", "pixel_pich", r"unknown field 'pixel_pich'\. Did you mean 'pixel_pitch'"),
        ("pixel_pitch = 1e-4", "pixel_pitch = 0.1", "pixel_pitch must be between"),
        ("gel_thickness = 4e-3", "gel_thickness = 4", "gel_thickness must be between"),
        ("pixel_pitch = 1e-4", "pixel_pitch = nan", "pixel_pitch must be a finite number"),
        ("[120, 160]", "[120]", "image_shape must be two integers"),
        ("[120, 160]", "[1, 160]", "image_shape must be at least 4 x 4"),
        ("rate_hz = 30", "rate_hz = '30'", "rate_hz must be a finite number"),
        ("rate_hz = 30", "", "field 'rate_hz' is absent"),
        ("[120, 160]", "[120, ", "must be a TOML file"),
    ],
)
def test_a_wrong_file_is_refused_with_its_fault(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    path.write_text(_OWN.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_spec(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"No sensor file '.*none\.toml'"):
        load_spec(tmp_path / "none.toml")

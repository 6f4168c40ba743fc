from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtt.errors import ConfigError, ShapeError
from vtt_sensors.optics import Light, light_table
from vtt_sensors.simulator import TactileSimulator
from vtt_sensors.spec import list_specs


@pytest.mark.parametrize("name", list_specs())
@pytest.mark.parametrize("divisor", [1, 5])
def test_an_untouched_gel_gives_the_rest_image_exactly(name, divisor):
    native = TactileSimulator(name).spec.image_shape
    simulator = TactileSimulator(name, image_shape=(native[0] // divisor, native[1] // divisor))
    image = simulator.render(torch.full((2, *simulator.spec.image_shape), -1e-3))
    assert image.dtype == torch.uint8
    assert (image == simulator.rest_image).all()


def test_far_from_a_contact_the_rest_image_is_exact_too(ball):
    simulator = TactileSimulator("gelsight_mini")
    indentation = ball((240, 320), pixel_pitch=simulator.spec.pixel_pitch, radius=1e-3, centre=(60, 60))
    image = simulator.render(indentation)[0]
    assert (image[-40:, -60:] == simulator.rest_image[-40:, -60:]).all()
    assert (image[50:70, 50:70] != simulator.rest_image[50:70, 50:70]).any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), batch=st.integers(2, 70), shape=st.sampled_from([(48, 64), (24, 32), (51, 68)]))
def test_an_image_does_not_depend_on_its_batch(seed, batch, shape):
    simulator = TactileSimulator("gelsight_mini", image_shape=shape)
    generator = torch.Generator().manual_seed(seed)
    indentation = 1e-3 * torch.rand(batch, *shape, generator=generator) - 8e-4
    indentation[batch // 2] = -1.0
    together, surfaces = simulator.render(indentation), simulator.height_map(indentation)
    for index in (0, batch // 2, batch - 1):
        alone = slice(index, index + 1)
        assert torch.equal(simulator.render(indentation[alone])[0], together[index])
        assert torch.equal(simulator.height_map(indentation[alone])[0], surfaces[index])


def test_native_images_do_not_depend_on_their_batch(ball):
    simulator = TactileSimulator("gelsight_mini")
    indentation = torch.cat([ball((240, 320), pixel_pitch=5.9e-5, depth=depth) for depth in (2e-4, 4e-4, 6e-4)])
    together = simulator.render(indentation)
    assert all(
        torch.equal(simulator.render(each[None])[0], image) for each, image in zip(indentation, together, strict=True)
    )


def test_a_slope_has_the_colour_of_the_light_that_it_faces(calibration, ball):
    simulator = TactileSimulator("gelsight_mini", calibration)
    change = simulator.render(ball((240, 320), pixel_pitch=5.9e-5))[0].int() - simulator.rest_image.int()
    # Red shines from above (rows grow downwards): the upper side of a dent, seen from inside a hill, is bright.
    assert change[95, 160, 0] > 15
    assert change[145, 160, 0] < -15


def test_the_picture_of_a_plane_is_what_the_table_says(calibration, lights):
    simulator = TactileSimulator("gelsight_mini", calibration)
    slope = 0.3
    row = torch.arange(240.0)[:, None].expand(240, 320)
    indentation = (slope * simulator.spec.pixel_pitch * (row + 1))[None]
    change = simulator.render(indentation)[0, 120, 160].int() - simulator.rest_image[120, 160].int()
    # Lambert: the light of azimuth -90 degrees gains, the two others lose.
    shade = [
        (np.sin(light.elevation) - slope * np.sin(light.azimuth) * np.cos(light.elevation))
        / (np.sin(light.elevation) * np.hypot(1, slope))
        for light in lights
    ]
    expected = sum((factor - 1) * np.array(light.level) for factor, light in zip(shade, lights, strict=True))
    np.testing.assert_allclose(change.numpy(), expected, atol=1.5)


def test_colours_have_no_steps(calibration, ball):
    simulator = TactileSimulator("gelsight_mini", calibration)
    flat = ball((240, 320), pixel_pitch=5.9e-5, radius=20e-3, depth=3e-4)
    image = simulator.render(flat)[0, 120, 120:200].int()
    # The slope grows by 0.003 per pixel, which is worth less than one grey level.
    assert image.diff(dim=0).abs().max() <= 2


def test_colours_change_in_proportion_to_the_light_that_falls(calibration, ball):
    rest = calibration.rest_image.copy()
    rest[:, :4] /= 2
    simulator = TactileSimulator("gelsight_mini", dataclasses.replace(calibration, rest_image=rest))
    left, right = (ball((240, 320), pixel_pitch=5.9e-5, radius=1.5e-3, centre=(120, c)) for c in (50, 270))
    change = [(simulator.render(x)[0].float() - simulator.rest_image).abs().sum() for x in (left, right)]
    assert change[0] / change[1] == pytest.approx(0.5, rel=0.1)


def test_low_resolution_looks_like_the_native_picture_scaled_down(ball):
    native, small = TactileSimulator("gelsight_mini"), TactileSimulator("gelsight_mini", image_shape=(48, 64))
    images = [
        simulator.render(ball(simulator.spec.image_shape, pixel_pitch=simulator.spec.pixel_pitch, depth=6e-4))
        for simulator in (native, small)
    ]
    scaled = images[0].float().reshape(48, 5, 64, 5, 3).mean(dim=(1, 3)) - small.rest_image
    change = images[1][0].float() - small.rest_image
    correlation = torch.corrcoef(torch.stack([scaled.flatten(), change.flatten()]))[0, 1]
    assert correlation > 0.97


def test_the_wrong_shape_is_refused():
    simulator = TactileSimulator("gelsight_mini", image_shape=(48, 64))
    with pytest.raises(ShapeError, match=r"must have shape \(B, 48, 64\), got \(48, 64\)"):
        simulator.render(torch.zeros(48, 64))


def test_a_flat_light_is_refused():
    with pytest.raises(ConfigError, match="elevation must lie between"):
        Light(azimuth=0.0, elevation=0.0, level=(1.0, 1.0, 1.0))


def test_a_light_table_is_zero_without_slope(lights):
    table = light_table(lights, slope_max=1.0, nodes=9)
    assert not table[4, 4].any()
    assert np.abs(table).max() > 50

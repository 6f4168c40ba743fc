from __future__ import annotations

import numpy as np
import pytest
import torch

from vtt.errors import ConfigError, ShapeError
from vtt_sensors.built_in import gelsight_mini_presses
from vtt_sensors.calibration import get_calibration
from vtt_sensors.reconstruction import Reconstructor, contact_mask, integrate_slope
from vtt_sensors.simulator import TactileSimulator
from vtt_sensors.spec import get_spec

_PITCH = 6e-5


@pytest.fixture(scope="module")
def reconstructor(calibration):
    return Reconstructor(get_spec("gelsight_mini"), calibration)


def _dent(sigma: float, depth: float = 5e-4):
    """A Gaussian dent, whose slopes are known, off the centre. Shapes (240, 320)."""
    row, column = torch.meshgrid(torch.arange(240.0) - 110, torch.arange(320.0) - 170, indexing="ij")
    height = depth * torch.exp(-(row**2 + column**2) / (2 * sigma**2))
    scale = -height / (sigma**2 * _PITCH)
    return height, scale * row, scale * column


@pytest.mark.parametrize("sigma", [12.0, 20.0, 35.0])
def test_the_gain_of_the_integration_is_one(sigma):
    height, slope_row, slope_column = _dent(sigma)
    found = integrate_slope(slope_row[None], slope_column[None], pixel_pitch=_PITCH)[0]
    assert float(found.max() / height.max()) == pytest.approx(1.0, abs=1.5e-3)
    assert float((found - height).square().mean().sqrt()) < 0.5e-6


def test_any_surface_comes_back_from_its_own_differences():
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(2, 30, 41, generator=generator)
    # Slopes at pixels whose means between neighbours are the surface's differences exist along one axis at a time.
    plane = torch.linspace(0, 1, 41).expand(2, 30, 41)
    slope = torch.full((2, 30, 41), float(plane[0, 0, 1]))
    found = integrate_slope(torch.zeros(2, 30, 41), slope, pixel_pitch=1.0)
    torch.testing.assert_close(found - found.mean(), plane - plane.mean(), rtol=0, atol=1e-5)
    together = integrate_slope(rough, 1 - rough, pixel_pitch=1.0)
    alone = integrate_slope(rough[1:], 1 - rough[1:], pixel_pitch=1.0)
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [2e-4, 5e-4])
def test_a_simulated_dent_comes_back(calibration, reconstructor, ball, depth):
    simulator = TactileSimulator("gelsight_mini", calibration)
    indentation = ball((240, 320), pixel_pitch=simulator.spec.pixel_pitch, depth=depth)
    height = simulator.height_map(indentation)
    found = reconstructor(simulator.render(indentation))
    assert float(found.height_map.max() / height.max()) == pytest.approx(1.0, abs=0.12)
    assert float((found.height_map - height).square().mean().sqrt()) < 0.03 * depth
    overlap = (found.contact_mask & (height > 5e-5)).sum() / (found.contact_mask | (height > 5e-5)).sum()
    assert overlap > 0.7


def test_an_untouched_gel_is_flat(calibration, reconstructor):
    simulator = TactileSimulator("gelsight_mini", calibration)
    found = reconstructor(simulator.rest_image[None])
    assert found.height_map.abs().max() < 1e-7
    assert not found.contact_mask.any()


def test_a_flat_contact_is_filled_although_its_middle_does_not_change(calibration, reconstructor):
    simulator = TactileSimulator("gelsight_mini", calibration)
    indentation = torch.full((1, 240, 320), -1.0)
    indentation[:, 80:160, 100:220] = 4e-4
    found = reconstructor(simulator.render(indentation))
    assert found.contact_mask[0, 90:150, 110:210].all()
    assert not found.contact_mask[0, :40].any()


def test_markers_are_not_taken_for_dents(calibration):
    simulator = TactileSimulator("gelsight_mini", calibration)
    rest, moved = simulator.rest_image.clone(), simulator.rest_image.clone()
    for row in range(20, 230, 30):
        for column in range(20, 310, 30):
            rest[row : row + 7, column : column + 7] = 30
            moved[row + 2 : row + 9, column + 1 : column + 8] = 30
    found = Reconstructor(simulator.spec, calibration, rest_image=rest.numpy())(moved[None])
    assert not found.contact_mask.any()
    assert found.height_map.abs().max() < 3e-5


def test_real_presses_are_found_where_they_are(realdata):
    rest, presses = gelsight_mini_presses(realdata / "taxim_gelsight_mini_ball")
    reconstructor = Reconstructor(get_spec("gelsight_mini"), get_calibration("gelsight_mini"), rest_image=rest)
    for press in presses[::4]:
        found = reconstructor(torch.from_numpy(press.image.copy())[None])
        assert 2e-4 < float(found.height_map.max()) < 1e-3
        centre = np.argwhere(found.contact_mask[0].numpy()).mean(axis=0)
        # The annotated circle contains it.
        assert np.hypot(*(centre - press.centre)) < press.contact_radius
    untouched = reconstructor(torch.from_numpy(rest.copy())[None])
    assert not untouched.contact_mask.any()


def test_wrong_input_is_refused(calibration, reconstructor):
    spec = get_spec("gelsight_mini")
    with pytest.raises(ShapeError, match=r"rest_image must have shape \(240, 320, 3\)"):
        Reconstructor(spec, calibration, rest_image=np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ShapeError, match=r"image must have shape \(B, 240, 320, 3\)"):
        reconstructor(torch.zeros(240, 320, 3, dtype=torch.uint8))
    with pytest.raises(ShapeError, match="must have one shape"):
        integrate_slope(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5), pixel_pitch=1.0)
    with pytest.raises(ConfigError, match="min_indentation must be positive"):
        contact_mask(torch.zeros(1, 4, 4), min_indentation=0.0)

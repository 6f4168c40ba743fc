from __future__ import annotations

import pytest
import torch

from vtt_sensors.gel import gel_surface, surface_slope

_SPREAD = 1e-3


def _membrane(indentation, *, pixel_pitch, sweeps=4000):
    """Converged solution of the obstacle problem by plain relaxation, in double precision."""
    obstacle = indentation.clamp_min(0).double()
    surface = obstacle
    gain = 1 / (1 + (pixel_pitch / 2 / _SPREAD) ** 2)
    for _ in range(sweeps):
        padded = torch.nn.functional.pad(surface, (1, 1, 1, 1), mode="replicate")
        rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
        blurred = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16
        surface = torch.maximum(obstacle, gain * blurred)
    return surface.float()


@pytest.mark.parametrize("image_shape", [(48, 64), (60, 80), (37, 53)])
def test_the_surface_is_that_of_a_membrane_over_an_elastic_layer(ball, image_shape):
    pitch = 3e-4
    indentation = ball(image_shape, pixel_pitch=pitch)
    surface = gel_surface(indentation, pixel_pitch=pitch, spread_length=_SPREAD)
    error = (surface - _membrane(indentation, pixel_pitch=pitch)).abs()
    assert error.max() < 0.04 * 4e-4
    assert error.mean() < 0.005 * 4e-4


def test_under_a_ball_the_gel_follows_the_ball(ball):
    pitch = 6e-5
    indentation = ball((241, 321), pixel_pitch=pitch)
    surface = gel_surface(indentation, pixel_pitch=pitch, spread_length=_SPREAD)
    inside = indentation > 3e-4  # beyond, the gel leaves the ball before the ball ends
    # The skin's blur of one pixel lowers a sphere of radius R by pitch² / R.
    torch.testing.assert_close(surface[inside], indentation[inside], rtol=0, atol=1.5 * pitch**2 / 3e-3)


def test_beside_a_contact_the_dent_decays_over_the_spread_length(ball):
    pitch = 1e-4
    indentation = ball((160, 400), pixel_pitch=pitch, centre=(80, 60))
    surface = gel_surface(indentation, pixel_pitch=pitch, spread_length=_SPREAD)[0, 80]
    # Far from the contact a membrane falls as exp(-r / spread) / sqrt(r).
    first, second = surface[60 + 30], surface[60 + 40]
    expected = torch.exp(torch.tensor(-1.0)) * (30 / 40) ** 0.5
    assert float(second / first) == pytest.approx(float(expected), rel=0.05)


def test_the_deepest_point_stays_the_deepest(ball):
    indentation = ball((48, 64), pixel_pitch=3e-4)
    surface = gel_surface(indentation, pixel_pitch=3e-4, spread_length=_SPREAD)
    assert surface.max() == indentation.max()
    assert surface.argmax() == indentation.argmax()


def test_what_does_not_touch_leaves_the_gel_flat():
    surface = gel_surface(torch.full((2, 40, 40), -1e-3), pixel_pitch=1e-4, spread_length=_SPREAD)
    assert not surface.any()


def test_a_gel_indented_evenly_up_to_its_border_has_no_slope():
    surface = gel_surface(torch.full((1, 50, 70), 3e-4), pixel_pitch=1e-4, spread_length=_SPREAD)
    slope_row, slope_column = surface_slope(surface, pixel_pitch=1e-4)
    assert slope_row.abs().max() < 1e-5
    assert slope_column.abs().max() < 1e-5


def test_the_slope_of_a_plane_is_its_slope():
    row, column = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    plane = (0.3 * row - 0.2 * column)[None] * 1e-4
    slope_row, slope_column = surface_slope(plane, pixel_pitch=1e-4)
    torch.testing.assert_close(slope_row[:, 1:-1], torch.full((1, 18, 30), 0.3), rtol=0, atol=1e-4)
    torch.testing.assert_close(slope_column[..., 1:-1], torch.full((1, 20, 28), -0.2), rtol=0, atol=1e-4)

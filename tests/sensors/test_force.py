from __future__ import annotations

import math

import pytest
import torch

from vtt.errors import ConfigError, ShapeError
from vtt_sensors.force import drag_shear, force_field


def test_taxels_add_up_to_the_force_of_the_contact(ball):
    pitch, radius, depth, modulus = 2e-5, 3e-3, 2e-4, 1e8  # modulus of the bed of springs in N/m^3
    indentation = ball((240, 240), pixel_pitch=pitch, radius=radius, depth=depth).double()
    force = force_field(indentation, stiffness=modulus * pitch**2)
    # Volume of a spherical cap: pi d^2 (3 R - d) / 3.
    cap = math.pi * depth**2 * (3 * radius - depth) / 3
    assert float(force[..., 0].sum()) == pytest.approx(modulus * cap, rel=1e-3)
    assert not force[..., 1:].any()


def test_where_nothing_touches_there_is_no_force():
    force = force_field(torch.full((1, 4, 4), -1.0), torch.ones(1, 4, 4, 2), stiffness=100.0)
    assert not force.any()


def test_shear_is_elastic_until_friction_holds_no_more():
    indentation = torch.full((1, 1, 3), 1e-3)
    displacement = torch.tensor([0.0, 1e-3, 1.0])[:, None] * torch.tensor([0.6, 0.8])
    force = force_field(indentation, displacement[None, None], stiffness=300.0, friction=0.5)
    torch.testing.assert_close(force[0, 0, :, 0], torch.full((3,), 0.3))
    torch.testing.assert_close(force[0, 0, :, 1:].norm(dim=-1), torch.tensor([0.0, 0.1, 0.15]))
    torch.testing.assert_close(force[0, 0, 2, 1:], 0.15 * torch.tensor([0.6, 0.8]))


def test_a_static_grasp_keeps_its_shear():
    indentation, moving, still = torch.full((1, 2, 2), 1e-3), torch.ones(1, 2, 2, 2) * 1e-3, torch.zeros(1, 2, 2, 2)
    displacement = drag_shear(still, moving, indentation, time_step=0.05)
    torch.testing.assert_close(displacement, 0.05 * moving)
    assert torch.equal(drag_shear(displacement, still, indentation, time_step=0.05), displacement)


def test_slip_and_the_force_field_agree_on_friction():
    indentation, velocity = torch.full((1, 1, 1), 1e-3), torch.tensor([[[[3.0, 4.0]]]])
    displacement = drag_shear(torch.zeros(1, 1, 1, 2), velocity, indentation, time_step=1.0, friction=0.7)
    capped = force_field(indentation, displacement, stiffness=300.0, friction=0.7)
    torch.testing.assert_close(capped[..., 1:].norm(dim=-1), 0.7 * capped[..., 0])
    free = force_field(indentation, displacement, stiffness=300.0, friction=100.0)
    torch.testing.assert_close(capped, free)


def test_without_contact_the_skin_springs_back():
    gone = drag_shear(torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2), -1e-4), time_step=0.05)
    assert not gone.any()


def test_wrong_input_is_refused():
    with pytest.raises(ConfigError, match="stiffness must be positive"):
        force_field(torch.zeros(1, 2, 2), stiffness=0.0)
    with pytest.raises(ShapeError, match=r"shear_displacement must have shape \(1, 2, 2, 2\)"):
        force_field(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), stiffness=1.0)
    with pytest.raises(ShapeError, match=r"indentation must have shape \(B, H, W\)"):
        force_field(torch.zeros(2, 2), stiffness=1.0)

"""A measured contact force, spread over the taxels: laws and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vtt.errors import ShapeError
from vtt_sensors.contact_force import spread_contact_force

_TAXEL = (0.002, 0.001)  # m, along rows and along columns

_indentation = arrays(np.float64, (2, 5, 7), elements=st.floats(-1e-3, 1e-3))
_force = arrays(np.float64, (2, 3), elements=st.floats(-50, 50))
_twist = arrays(np.float64, (2,), elements=st.floats(-0.1, 0.1))


def _moment(field: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Moment of the shear forces about `centre` (B, 2: row, column), in N m. Shape (B,)."""
    y, x = np.meshgrid(np.arange(5) * _TAXEL[0], np.arange(7) * _TAXEL[1], indexing="ij")
    return ((x - centre[:, 1, None, None]) * field[..., 2] - (y - centre[:, 0, None, None]) * field[..., 1]).sum((1, 2))


@given(indentation=_indentation, force=_force, twist=_twist)
def test_the_taxels_add_up_to_the_force(indentation: np.ndarray, force: np.ndarray, twist: np.ndarray) -> None:
    field = spread_contact_force(indentation, force, twist=twist, taxel_size=_TAXEL)

    touched = (indentation > 0).any(axis=(1, 2))
    np.testing.assert_allclose(field.sum(axis=(1, 2)), np.where(touched[:, None], force, 0), atol=1e-6)
    assert (field[indentation <= 0] == 0).all()


@given(force=_force, twist=_twist, seed=st.integers(0, 100))
def test_the_moment_about_the_centre_of_pressure_is_the_twist(force: np.ndarray, twist: np.ndarray, seed: int) -> None:
    indentation = np.random.default_rng(seed).uniform(1e-5, 1e-3, (2, 5, 7))
    share = indentation / indentation.sum(axis=(1, 2), keepdims=True)
    y, x = np.meshgrid(np.arange(5) * _TAXEL[0], np.arange(7) * _TAXEL[1], indexing="ij")
    centre = np.stack([(share * y).sum(axis=(1, 2)), (share * x).sum(axis=(1, 2))], axis=1)

    field = spread_contact_force(indentation, force, twist=twist, taxel_size=_TAXEL)

    np.testing.assert_allclose(_moment(field, centre), twist, atol=1e-9)


def test_force_goes_where_the_gel_is_indented_in_proportion() -> None:
    indentation = np.zeros((1, 5, 7))
    indentation[0, 1, 2], indentation[0, 3, 4] = 1e-4, 3e-4

    field = spread_contact_force(indentation, np.array([[8.0, 4.0, -2.0]]), taxel_size=_TAXEL)

    np.testing.assert_allclose(field[0, 1, 2], [2.0, 1.0, -0.5])
    np.testing.assert_allclose(field[0, 3, 4], [6.0, 3.0, -1.5])
    assert np.count_nonzero(field) == 6


def test_a_twist_turns_from_columns_to_rows() -> None:
    indentation = np.zeros((1, 5, 7))
    indentation[0, 2, 1] = indentation[0, 2, 5] = 1e-4  # 4 mm apart along columns

    field = spread_contact_force(indentation, np.zeros((1, 3)), twist=np.array([0.008]), taxel_size=_TAXEL)

    np.testing.assert_allclose(field[0, 2, 5], [0.0, 0.0, 2.0], atol=1e-12)  # 2 mm * 2 N, twice
    np.testing.assert_allclose(field[0, 2, 1], [0.0, 0.0, -2.0], atol=1e-12)


def test_a_single_taxel_carries_no_twist() -> None:
    indentation = np.zeros((1, 5, 7))
    indentation[0, 2, 3] = 1e-4

    field = spread_contact_force(indentation, np.array([[1.0, 0, 0]]), twist=np.array([0.01]), taxel_size=_TAXEL)

    np.testing.assert_allclose(field[0, 2, 3], [1.0, 0.0, 0.0])


@pytest.mark.parametrize(("indentation", "force"), [((5, 7), (1, 3)), ((2, 5, 7), (1, 3)), ((2, 5, 7), (2, 2))])
def test_other_shapes_are_refused(indentation: tuple[int, ...], force: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"indentation and force must have shapes \(B, H, W\) and \(B, 3\), got"):
        spread_contact_force(np.zeros(indentation), np.zeros(force), taxel_size=_TAXEL)

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError
from vtt.statistics import difference, wilson

Z = 1.959963984540054


def test_wilson_of_81_in_263_is_newcombes_printed_value() -> None:
    # Newcombe 1998, Stat. Med. 17, 857-872, table I, method 3: 81/263 -> .2553, .3662.
    low, high = wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_wilson_of_no_success_in_20_is_newcombes_printed_value() -> None:
    low, high = wilson(0, 20)
    assert low == 0.0
    assert round(high, 4) == 0.1611
    assert high == pytest.approx(Z**2 / (20 + Z**2), rel=1e-12)


@given(st.integers(1, 500), st.data())
def test_wilson_ends_solve_the_score_equation(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    rate = successes / n
    for end in wilson(successes, n):
        assert (rate - end) ** 2 == pytest.approx(Z**2 * end * (1 - end) / n, rel=1e-6, abs=1e-12)


@given(st.integers(1, 500), st.data())
def test_wilson_mirrors_when_success_and_failure_swap(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


def test_no_trials_say_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert difference((0, 0), (3, 4)) == (-1.0, 1.0)


def test_difference_of_56_in_70_and_48_in_80_is_newcombes_printed_value() -> None:
    # Newcombe 1998, Stat. Med. 17, 873-890, table II, case (a), method 10: .0524, .3339.
    low, high = difference((56, 70), (48, 80))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_difference_combines_the_two_intervals() -> None:
    low, high = difference((10, 10), (0, 10))
    upper = Z**2 / (10 + Z**2)
    assert high == pytest.approx(1.0)
    assert low == pytest.approx(1 - math.hypot(upper, upper))


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ConfigError, match="successes must be between 0 and n"):
        wilson(successes, n)


def test_a_confidence_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="confidence must be between 0 and 1"):
        wilson(1, 2, confidence=1.0)

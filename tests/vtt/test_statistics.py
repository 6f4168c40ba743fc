from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError
from vtt.statistics import difference, mcnemar, paired_difference, wilson

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


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        # Twice the tail of a fair coin: 2 (1 + 6) / 2^6, 2 (1 + 10 + 45) / 2^10, 2 / 2^9.
        (1, 5, 14 / 64),
        (8, 2, 112 / 1024),
        (0, 9, 2 / 512),
        (4, 4, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_is_twice_the_tail_of_a_fair_coin(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == mcnemar(only_second, only_first) == p


def test_mcnemar_is_exact_where_floats_overflow() -> None:
    assert 0.0 < mcnemar(4000, 5000) < 1e-20


def test_the_paired_interval_is_the_formula_worked_by_hand() -> None:
    # 3 and 1 of 10 become 3.5 and 1.5 of 12: 2 / 12 +- 1.96 sqrt(5 - 4 / 12) / 12.
    low, high = paired_difference(3, 1, 10)
    half = Z * math.sqrt(5 - 4 / 12) / 12
    assert (low, high) == pytest.approx((2 / 12 - half, 2 / 12 + half), rel=1e-12)
    assert (round(low, 3), round(high, 3)) == (-0.186, 0.52)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 100))
def test_the_paired_interval_holds_the_estimate_and_turns_with_its_sides(b: int, c: int, agreed: int) -> None:
    low, high = paired_difference(b, c, b + c + agreed)
    turned = paired_difference(c, b, b + c + agreed)
    assert -1.0 <= low <= high <= 1.0
    assert (-turned.high, -turned.low) == pytest.approx((low, high))


def test_paired_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="counts must be of n = 3 trials, got 2 and 2"):
        paired_difference(2, 2, 3)
    with pytest.raises(ConfigError, match="counts must not be negative, got -1 and 2"):
        mcnemar(-1, 2)

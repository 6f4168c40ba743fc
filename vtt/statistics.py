"""Intervals for success rates."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

from vtt.errors import ConfigError

__all__ = ["Interval", "difference", "mcnemar", "paired_difference", "wilson"]


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Bound a success rate by the Wilson score interval, which holds for small n and for rates near 0 and 1.

    Args:
        successes: Number of successes, 0 to n.
        n: Number of trials. With none the interval is (0, 1).
        confidence: Probability that the interval covers the true rate, between 0 and 1.

    Returns:
        The interval, within [0, 1].

    Raises:
        ConfigError: If the counts or the confidence are impossible.

    Example:
        >>> low, high = wilson(181, 200)
        >>> f"{low:.3f} to {high:.3f}"
        '0.856 to 0.938'

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212; Brown, Cai & DasGupta 2001, Stat. Sci. 16, eqn. 4.
    """
    if n < 0 or not 0 <= successes <= n:
        raise ConfigError(f"successes must be between 0 and n, got {successes} of {n}.")
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence must be between 0 and 1, got {confidence}.")
    if n == 0:
        return Interval(0.0, 1.0)
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    rate = successes / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # Exactly 0 and 1 at the ends, where rounding would leave 1e-17.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def difference(first: tuple[int, int], second: tuple[int, int], *, confidence: float = 0.95) -> Interval:
    """Bound the difference of two independent success rates, `first` minus `second`.

    Args:
        first: Successes and number of trials.
        second: Successes and number of trials.
        confidence: Probability that the interval covers the true difference.

    Returns:
        The interval, within [-1, 1].

    Source: Newcombe 1998, Stat. Med. 17, 873-890, method 10 (two Wilson intervals combined).
    """
    p1, (l1, u1) = first[0] / max(first[1], 1), wilson(*first, confidence=confidence)
    p2, (l2, u2) = second[0] / max(second[1], 1), wilson(*second, confidence=confidence)
    if not (first[1] and second[1]):
        return Interval(-1.0, 1.0)
    low = p1 - p2 - math.hypot(p1 - l1, u2 - p2)
    high = p1 - p2 + math.hypot(u1 - p1, p2 - l2)
    return Interval(low, high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Test whether two methods that met the same trials succeed equally often: exact and two-sided.

    Args:
        only_first: Trials in which only the first succeeded.
        only_second: Trials in which only the second did.

    Returns:
        The probability, if they were equally good, of a split at least as uneven: twice the tail of a binomial with
        one half, at most 1.

    Example:
        >>> mcnemar(1, 5), mcnemar(3, 3), mcnemar(0, 0)
        (0.21875, 1.0, 1.0)

    Source: McNemar 1947, Psychometrika 12, 153-157; exact form: Mosteller 1952, Biometrics 8, 220-226.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if fewer < 0:
        raise ConfigError(f"counts must not be negative, got {only_first} and {only_second}.")
    # Whole numbers of any size, divided once: a tail of 9000 trials has no float on the way.
    tail = term = 1
    for k in range(fewer):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)


def paired_difference(only_first: int, only_second: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Bound the difference of the success rates, first minus second, of two methods that met the same `n` trials.

    Args:
        only_first: Trials in which only the first succeeded.
        only_second: Trials in which only the second did.
        n: All trials.
        confidence: Probability that the interval covers the true difference.

    Returns:
        The interval, within [-1, 1].

    Source: Agresti & Min 2005, Stat. Med. 24, 729-740: Wald's interval after half a trial is added to each of the four
    outcomes.
    """
    if min(only_first, only_second) < 0 or only_first + only_second > n:
        raise ConfigError(f"counts must be of n = {n} trials, got {only_first} and {only_second}.")
    first, second, total = only_first + 0.5, only_second + 0.5, n + 2
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * math.sqrt(first + second - (first - second) ** 2 / total) / total
    centre = (first - second) / total
    return Interval(max(-1.0, centre - half), min(1.0, centre + half))

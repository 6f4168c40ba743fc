"""Ranges that a knob of the randomisation is drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError

__all__ = ["Bernoulli", "Integers", "LogUniform", "Range", "Uniform"]


def _check_order(low: float, high: float) -> None:
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ConfigError(f"low and high must be finite and in this order, got {low} and {high}.")


@dataclass(frozen=True)
class Uniform:
    """Any number between `low` and `high` with equal density."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    def draw(self, generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Draw numbers. Shape (size,)."""
        return self.low + (self.high - self.low) * generator.random(size)

    def scaled(self, factor: float, nominal: float) -> Uniform:
        """Shrink the range towards a value."""
        return Uniform(nominal + factor * (self.low - nominal), nominal + factor * (self.high - nominal))


@dataclass(frozen=True)
class LogUniform:
    """Any number between `low` and `high`, both positive, whose logarithm has equal density: for factors."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.low <= 0:
            raise ConfigError(f"low must be positive, got {self.low}. Use Uniform for ranges that reach 0.")

    def draw(self, generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Draw numbers. Shape (size,)."""
        return self.low * (self.high / self.low) ** generator.random(size)

    def scaled(self, factor: float, nominal: float) -> LogUniform:
        """Shrink the range towards a value."""
        return LogUniform(nominal * (self.low / nominal) ** factor, nominal * (self.high / nominal) ** factor)


@dataclass(frozen=True)
class Integers:
    """Any whole number from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.low != int(self.low) or self.high != int(self.high):
            raise ConfigError(f"low and high must be whole numbers, got {self.low} and {self.high}.")

    def draw(self, generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Draw numbers. Shape (size,)."""
        return np.floor(self.low + (self.high + 1 - self.low) * generator.random(size))

    def scaled(self, factor: float, nominal: float) -> Integers:
        """Shrink the range towards a value."""
        return Integers(*(round(nominal + factor * (end - nominal)) for end in (self.low, self.high)))


@dataclass(frozen=True)
class Bernoulli:
    """1 with a probability, else 0."""

    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"probability must be in [0, 1], got {self.probability}.")

    @property
    def low(self) -> float:
        """Smallest value."""
        return float(self.probability == 1)

    @property
    def high(self) -> float:
        """Largest value."""
        return float(self.probability > 0)

    def draw(self, generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Draw numbers. Shape (size,)."""
        return (generator.random(size) < self.probability).astype(np.float64)

    def scaled(self, factor: float, nominal: float) -> Bernoulli:
        """Shrink the probability."""
        del nominal
        return Bernoulli(factor * self.probability)


Range = Uniform | LogUniform | Integers | Bernoulli

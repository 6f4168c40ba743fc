"""What a policy may ask of a robot, whatever its network says. A action dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError

__all__ = ["Limits", "Verdict", "limit"]


@dataclass(frozen=True)
class Limits:
    """Bounds of an action, which is in [-1, 1].

    Attributes:
        max_magnitude: Largest absolute value of a component.
        max_rate: Largest change of a component from one control step to the next; 2 is none.
    """

    max_magnitude: float = 1.0
    max_rate: float = 2.0

    def __post_init__(self) -> None:
        """Refuse bounds that let nothing through, or more than a policy was trained to do."""
        for name, most in (("max_magnitude", 1.0), ("max_rate", 2.0)):
            if not 0.0 < getattr(self, name) <= most:
                raise ConfigError(f"{name} must be in (0, {most:g}], got {getattr(self, name)}.")


class Verdict(NamedTuple):
    """What the limits did to an action.

    Attributes:
        asked: What the network said. Shape (A,).
        action: What may be executed. Shape (A,).
        refused: The network said NaN or infinity, and the action is zero, which holds the robot where it is.
        cut: Components that were cut, by magnitude or by rate. Shape (A,).
    """

    asked: NDArray[np.float32]
    action: NDArray[np.float32]
    refused: bool
    cut: NDArray[np.bool_]


def limit(asked: NDArray[np.float32], previous: NDArray[np.float32], limits: Limits) -> Verdict:
    """Apply limits to an action.

    Args:
        asked: What the network said. Shape (A,).
        previous: What was executed one step earlier. Shape (A,).
        limits: The bounds. Stopping is never slowed down: a refused action is zero at once.

    Example:
        >>> limit(np.array([0.9, -0.2]), np.array([0.0, 0.0]), Limits(max_rate=0.5)).action.tolist()
        [0.5, -0.20000000298023224]
        >>> limit(np.array([np.nan, 0.1]), np.array([0.3, 0.3]), Limits()).action.tolist()
        [0.0, 0.0]
    """
    asked = np.asarray(asked, np.float32)
    if not np.isfinite(asked).all():
        return Verdict(asked, np.zeros_like(asked), True, np.zeros(asked.shape, bool))
    slow = np.clip(asked, previous - limits.max_rate, previous + limits.max_rate)
    action = np.clip(slow, -limits.max_magnitude, limits.max_magnitude).astype(np.float32)
    return Verdict(asked, action, False, action != asked)

"""Controls: what a policy does when its touch lies. Each maps the observations so far to what the policy sees.

`history` holds the observations of the running episodes, the newest last, each of shape (B, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, missing
from vtt_policies.observations import TOUCH
from vtt_policies.policy import Observation

__all__ = [
    "PERTURBATIONS",
    "derangement",
    "make_perturbation",
    "touch_delayed",
    "touch_frozen",
    "touch_off",
    "touch_shuffled",
]

PERTURBATIONS = ("touch_shuffled", "touch_off", "touch_frozen", "touch_delayed")
"""Names that `make_perturbation` knows."""


def touch_shuffled(history: Sequence[Observation], *, donor: NDArray[np.int64]) -> Observation:
    """Give environment i what environment `donor[i]` feels at the same time: real touch of another episode."""
    return {**history[-1], **{key: value[donor] for key, value in _touch(history[-1]).items()}}


def touch_off(history: Sequence[Observation], *, rest: Mapping[str, NDArray]) -> Observation:
    """Replace touch by the untouched gel: `rest` for tactile images, zero for forces."""
    touch = _touch(history[-1])
    for key in touch:
        if fnmatch(key, "tactile_*") and key not in rest:
            raise missing("rest image", key, rest)
    quiet = {key: np.broadcast_to(rest.get(key, 0), value.shape).astype(value.dtype) for key, value in touch.items()}
    return {**history[-1], **quiet}


def touch_frozen(history: Sequence[Observation]) -> Observation:
    """Keep the touch of the first step."""
    return {**history[-1], **_touch(history[0])}


def touch_delayed(history: Sequence[Observation], *, steps: int) -> Observation:
    """Show the touch of `steps` control steps ago, or the first while there is no older one."""
    return {**history[-1], **_touch(history[max(0, len(history) - 1 - steps)])}


def derangement(count: int, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a permutation without fixed points, a single random cycle. Shape (count,).

    Source: Sattolo 1986.
    """
    if count < 2:
        raise ConfigError(f"count must be at least 2 to shuffle among environments, got {count}.")
    order = rng.permutation(count)
    donor = np.empty(count, np.int64)
    donor[order] = np.roll(order, 1)
    return donor


def make_perturbation(
    name: str,
    *,
    num_envs: int,
    rng: np.random.Generator,
    rest: Mapping[str, NDArray] | None = None,
    delay_steps: int = 10,
) -> Callable[[Sequence[Observation]], Observation]:
    """Build a control by name.

    Args:
        name: One of `PERTURBATIONS`.
        num_envs: Environments that run side by side.
        rng: Draws who gets whose touch.
        rest: Images of the untouched gel, uint8, by key; `touch_off` needs one for each tactile image.
        delay_steps: Control steps that `touch_delayed` lags.

    Returns:
        A function from the history to what the policy sees.
    """
    if name == "touch_shuffled":
        return partial(touch_shuffled, donor=derangement(num_envs, rng=rng))
    if name == "touch_off":
        return partial(touch_off, rest=rest or {})
    if name == "touch_frozen":
        return touch_frozen
    if name == "touch_delayed":
        return partial(touch_delayed, steps=delay_steps)
    raise missing("perturbation", name, PERTURBATIONS)


def _touch(observation: Observation) -> dict[str, NDArray]:
    """Pick the touch streams."""
    touch = {key: value for key, value in observation.items() if any(fnmatch(key, pattern) for pattern in TOUCH)}
    if not touch:
        raise ConfigError(f"A control of touch must have touch to act on, got only {', '.join(sorted(observation))}.")
    return touch

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
from vtt_policies.rollout import CONTACT

__all__ = [
    "PERTURBATIONS",
    "PHASES",
    "Perturbation",
    "derangement",
    "in_phase",
    "make_perturbation",
    "phase_mask",
    "touch_delayed",
    "touch_frozen",
    "touch_off",
    "touch_shuffled",
]

PERTURBATIONS = ("touch_shuffled", "touch_off", "touch_frozen", "touch_delayed")
"""Names that `make_perturbation` knows."""

PHASES = ("always", "before_contact", "in_contact")
"""When touch lies: always, until the first contact, or while there is contact."""

Perturbation = Callable[[Sequence[Observation]], Observation]
"""From all observations of the running episodes, the newest last, to what the policy sees."""


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
    phase: str = "always",
) -> Perturbation:
    """Build a control by name.

    Args:
        name: One of `PERTURBATIONS`.
        num_envs: Environments that run side by side.
        rng: Draws who gets whose touch.
        rest: Images of the untouched gel, uint8, by key; `touch_off` needs one for each tactile image.
        delay_steps: Control steps that `touch_delayed` lags.
        phase: One of `PHASES`.

    Returns:
        A function from the history to what the policy sees.
    """
    if phase not in PHASES:
        raise missing("phase", phase, PHASES)
    perturbation = _named(name, num_envs=num_envs, rng=rng, rest=rest or {}, delay_steps=delay_steps)
    return perturbation if phase == "always" else partial(in_phase, perturbation=perturbation, phase=phase)


def in_phase(history: Sequence[Observation], *, perturbation: Perturbation, phase: str) -> Observation:
    """Perturb only environments that are in a phase of their episode."""
    lying = phase_mask(history, phase)
    seen = perturbation(history)
    return {
        key: np.where(lying.reshape(-1, *[1] * (value.ndim - 1)), seen[key], value)
        for key, value in history[-1].items()
    }


def phase_mask(history: Sequence[Observation], phase: str) -> NDArray[np.bool_]:
    """Tell which environments are in a phase.

    Contact is any that was not there when the episode began: an object that is held from the start, or lies on a
    table, tells nothing by that.

    Args:
        history: All observations of the episodes, with `contact`.
        phase: "before_contact": there was none yet. "in_contact": there is some now.

    Returns:
        Shape (B,).

    Raises:
        ConfigError: If the environment does not tell contact.
    """
    if CONTACT not in history[-1]:
        raise ConfigError(f"info must hold contact for the phase '{phase}', got an environment that does not tell it.")
    new = np.stack([frame[CONTACT] for frame in history]) & ~history[0][CONTACT]  # (T, B, n)
    touching: NDArray[np.bool_] = np.any(new, axis=2)  # (T, B)
    return touching[-1] if phase == "in_contact" else ~np.any(touching, axis=0)


def _named(
    name: str, *, num_envs: int, rng: np.random.Generator, rest: Mapping[str, NDArray], delay_steps: int
) -> Perturbation:
    """Build a control that always acts."""
    if name == "touch_shuffled":
        return partial(touch_shuffled, donor=derangement(num_envs, rng=rng))
    if name == "touch_off":
        return partial(touch_off, rest=rest)
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

"""Which observation keys a policy may see: words, groups, and the checks between them and an environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from vtt.errors import ConfigError, missing

__all__ = [
    "TOUCH",
    "WORDS",
    "ObservationGroups",
    "environment_word",
    "is_privileged",
    "resolve_keys",
    "student_keys",
    "without_keys",
]

TOUCH = ("tactile_*", "force_*", "wrench")
"""Patterns of the keys that carry touch."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "proprio": ("proprioception", "goal"),
    "oracle": ("proprioception", "goal", "privileged"),
    "visual": ("proprioception", "goal", "camera_*"),
    "tactile": ("proprioception", "goal", "tactile_*"),
    "visuotactile": ("proprioception", "goal", "camera_*", "tactile_*"),
    "all": ("*",),
}
"""Patterns of the keys behind each observation word, from the smallest set to the largest."""

_PRIVILEGED = ("privileged", "privileged_*")
_MODALITIES = {"nothing": (), "touch": TOUCH, "vision": ("camera_*",)}


def resolve_keys(selection: str, available: Iterable[str]) -> tuple[str, ...]:
    """Turn observation words and keys, joined by commas, into keys.

    Args:
        selection: A word of `WORDS`, or words and keys such as `"proprio,force_left"`.
        available: Keys that the environment or the store offers.

    Returns:
        The keys, in the order of `available`.

    Raises:
        MissingError: If a key does not exist, or none of the word's does.

    Example:
        >>> resolve_keys("tactile", ["camera_front", "goal", "proprioception", "tactile_left"])
        ('goal', 'proprioception', 'tactile_left')
    """
    offered = tuple(available)
    wanted: set[str] = set()
    for name in (part.strip() for part in selection.split(",") if part.strip()):
        if name not in WORDS and name not in offered:
            raise missing("observation word or key", name, {*WORDS, *offered})
        keys = [key for key in offered if _matches(key, WORDS.get(name, (name,)))]
        if not keys:
            raise missing("observation key for the word", name, offered)
        wanted.update(keys)
    return tuple(key for key in offered if key in wanted)


def is_privileged(key: str) -> bool:
    """Tell whether an observation is one that only a simulator knows."""
    return _matches(key, _PRIVILEGED)


def without_keys(keys: Iterable[str], modality: str) -> tuple[str, ...]:
    """Drop the keys of one modality: `touch`, `vision` or `nothing`."""
    dropped = _patterns(modality)
    return tuple(key for key in keys if not _matches(key, dropped))


def student_keys(selection: str, offered: Iterable[str], *, without: str = "nothing") -> tuple[str, ...]:
    """Choose what a deployable policy sees; the rest is ignored on purpose.

    Args:
        selection: A word of `WORDS`, or keys.
        offered: Keys that the environment or the store offers.
        without: Modality that is taken away.

    Raises:
        MissingError: If a key is not offered.
        ConfigError: If nothing is left, or something that only a simulator knows.
    """
    offered = tuple(offered)
    keys = without_keys(resolve_keys(selection, offered), without)
    ObservationGroups(student=keys, ignore=tuple(key for key in offered if key not in keys)).check(offered)
    return keys


def environment_word(selection: str, *, without: str = "nothing") -> str:
    """Find the smallest observation word that holds a selection, so that nothing unused is simulated.

    Example:
        >>> environment_word("tactile"), environment_word("tactile", without="touch"), environment_word("force_left")
        ('tactile', 'proprio', 'all')
    """
    # The pattern of a word matches itself, so words and keys are told apart no further.
    wanted = without_keys(WORDS.get(selection) or selection.split(","), without)
    return next(word for word, patterns in WORDS.items() if all(_matches(key, patterns) for key in wanted))


@dataclass(frozen=True)
class ObservationGroups:
    """Who sees what. A key that no group consumes must be ignored on purpose.

    Attributes:
        student: Keys that the deployable policy sees.
        teacher: Keys that the teacher sees; an expert that lives in the environment needs none.
        ignore: Keys that are offered and not used.
    """

    student: tuple[str, ...]
    teacher: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an empty student and one that sees what only a simulator knows."""
        if not self.student:
            raise ConfigError("student must name at least one observation key, got none.")
        leaked = [key for key in self.student if is_privileged(key)]
        if leaked:
            raise ConfigError(f"student must not see privileged observations, got {', '.join(leaked)}.")
        both = sorted(set(self.ignore) & {*self.student, *self.teacher})
        if both:
            raise ConfigError(f"ignore must name keys that no group consumes, got {', '.join(both)}.")

    def check(self, offered: Iterable[str]) -> None:
        """Compare with what an environment offers.

        Raises:
            MissingError: If a consumed key is not offered.
            ConfigError: If an offered key is neither consumed nor ignored.
        """
        keys = tuple(offered)
        for key in (*self.student, *self.teacher):
            if key not in keys:
                raise missing("observation", key, keys)
        unused = sorted(set(keys) - {*self.student, *self.teacher, *self.ignore})
        if unused:
            raise ConfigError(
                f"Observations must be consumed or ignored, got unused {', '.join(unused)}. List them under ignore."
            )

    def select(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Keep what the student sees."""
        return {key: observation[key] for key in self.student}


def _patterns(modality: str) -> tuple[str, ...]:
    """Look up the keys of a modality."""
    if modality not in _MODALITIES:
        raise missing("modality", modality, _MODALITIES)
    return _MODALITIES[modality]


def _matches(key: str, patterns: Iterable[str]) -> bool:
    """Tell whether a key fits one of the patterns."""
    return any(fnmatch(key, pattern) for pattern in patterns)

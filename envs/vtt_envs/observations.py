"""Which observations an environment offers, and which of them a word stands for."""

from __future__ import annotations

from collections.abc import Sequence

from vtt.errors import missing

__all__ = ["CAMERAS", "FORCE", "PAD", "WORDS", "keys_of"]

CAMERAS = ("camera_front",)  # one key for each camera that is asked for stands in their place
# One key for each finger: prefix and its name.
PAD = "tactile_"
FORCE = "force_"
_PROPRIO = ("proprioception", "goal")

WORDS: dict[str, tuple[str, ...]] = {
    "oracle": (*_PROPRIO, "privileged"),
    "proprio": _PROPRIO,
    "visual": (*_PROPRIO, *CAMERAS),
    "tactile": (*_PROPRIO, PAD),
    "visuotactile": (*_PROPRIO, *CAMERAS, PAD),
    "all": (*_PROPRIO, *CAMERAS, PAD, FORCE, "wrench", "privileged"),
}


def keys_of(
    word: str, fingers: Sequence[str] = ("left", "right"), cameras: Sequence[str] = ("front",)
) -> tuple[str, ...]:
    """Return the observation keys that a word stands for, for a robot with touch on `fingers` and these cameras.

    Args:
        word: A word of `WORDS`, or several words and keys, joined by commas.
        fingers: Which fingers feel.
        cameras: Which cameras there are.

    Raises:
        MissingError: If there is no such word or key.

    Example:
        >>> keys_of("tactile")
        ('proprioception', 'goal', 'tactile_left', 'tactile_right')
        >>> keys_of("proprio,wrench")
        ('proprioception', 'goal', 'wrench')
    """
    if word in WORDS:
        return _expand(WORDS[word], fingers, cameras)
    known = _expand(WORDS["all"], fingers, cameras)
    wanted: set[str] = set()
    for name in word.split(","):
        if name not in WORDS and name not in known:
            raise missing("observation", name, WORDS)
        wanted.update(_expand(WORDS[name], fingers, cameras) if name in WORDS else [name])
    return tuple(key for key in known if key in wanted)


def _expand(keys: Sequence[str], fingers: Sequence[str], cameras: Sequence[str]) -> tuple[str, ...]:
    """Put the keys of each finger and camera in the place of what stands for them."""
    return tuple(
        full
        for key in keys
        for full in (
            [f"{key}{finger}" for finger in fingers]
            if key in (PAD, FORCE)
            else [f"camera_{camera}" for camera in cameras]
            if key in CAMERAS
            else [key]
        )
    )

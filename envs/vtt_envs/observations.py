"""Which observations an environment offers, and which of them a word stands for."""

from __future__ import annotations

from vtt.errors import missing

__all__ = ["CAMERAS", "FORCES", "PADS", "WORDS", "keys_of"]

CAMERAS = ("camera_front",)
PADS = ("tactile_left", "tactile_right")
FORCES = ("force_left", "force_right")
_PROPRIO = ("proprioception", "goal")

WORDS: dict[str, tuple[str, ...]] = {
    "oracle": (*_PROPRIO, "privileged"),
    "proprio": _PROPRIO,
    "visual": (*_PROPRIO, *CAMERAS),
    "tactile": (*_PROPRIO, *PADS),
    "visuotactile": (*_PROPRIO, *CAMERAS, *PADS),
    "all": (*_PROPRIO, *CAMERAS, *PADS, *FORCES, "wrench", "privileged"),
}


def keys_of(word: str) -> tuple[str, ...]:
    """Return the observation keys that a word stands for.

    Raises:
        MissingError: If there is no such word or key.

    Example:
        >>> keys_of("tactile")
        ('proprioception', 'goal', 'tactile_left', 'tactile_right')
    """
    if word not in WORDS:
        raise missing("observation", word, WORDS)
    return WORDS[word]

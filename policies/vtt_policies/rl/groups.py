"""Who sees what in reinforcement learning: an actor that is deployed, and a critic that may know more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vtt.errors import ConfigError
from vtt_policies.observations import WORDS, ObservationGroups, environment_word, is_privileged, resolve_keys
from vtt_policies.rl.config import RlConfig

__all__ = ["Seen", "seen_by", "word_for"]


class Seen(NamedTuple):
    """Observation keys, in the environment's order.

    Attributes:
        actor: What the actor sees.
        critic: What the critic sees.
    """

    actor: tuple[str, ...]
    critic: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """What either sees, each once."""
        return tuple(dict.fromkeys((*self.actor, *self.critic)))


def word_for(config: RlConfig) -> str:
    """Choose what an environment is asked to observe: one word where one is enough, else those of actor and critic.

    Example:
        >>> from pathlib import Path
        >>> from vtt_policies.rl.config import PpoConfig
        >>> [word_for(PpoConfig("Push", Path("run"), actor="tactile", critic=c)) for c in (None, "proprio", "oracle")]
        ['tactile', 'tactile', 'tactile,oracle']
    """
    if config.observation:
        return config.observation
    asked = list(dict.fromkeys((config.actor, config.critic or config.actor)))
    smallest = environment_word(",".join(pattern for word in asked for pattern in WORDS.get(word, (word,))))
    return smallest if smallest != "all" or "all" in asked else ",".join(asked)


def seen_by(config: RlConfig, offered: Iterable[str]) -> Seen:
    """Decide what actor and critic see of what an environment offers.

    An actor that is asked to see privileged observations is a teacher, or the source of a critic: it works in
    simulation, and `vtt export` refuses it.

    Raises:
        MissingError: If a key is not offered.
        ConfigError: If the environment was asked for a word, and one of its keys is neither seen nor ignored.
    """
    keys = tuple(offered)
    seen = Seen(resolve_keys(config.actor, keys), resolve_keys(config.critic or config.actor, keys))
    deployable = tuple(key for key in seen.actor if not is_privileged(key))
    if not deployable:
        raise ConfigError(f"actor must see something besides privileged observations, got {', '.join(seen.actor)}.")
    ignore = config.ignore if config.observation else tuple(key for key in keys if key not in seen.all)
    ObservationGroups(deployable, seen.all, ignore).check(keys)
    return seen

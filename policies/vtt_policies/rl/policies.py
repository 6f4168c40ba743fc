"""stable-baselines3's policies with an actor and a critic that see different things.

SB3 builds one features extractor for both; these build one for each. Source of the recipe: the order in which
`ActorCriticPolicy.__init__` makes extractors (actor, then critic; SB3 2.9), and `make_actor` and `make_critic` of the
SAC family. A test holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn

from vtt.normalizer import Normalizer
from vtt_policies.rl.features import Features

__all__ = [
    "AsymmetricCrossq",
    "AsymmetricPpo",
    "AsymmetricRecurrentPpo",
    "AsymmetricSac",
    "AsymmetricTqc",
    "Extractor",
    "Extractors",
]


class Extractor(nn.Module):
    """A features extractor of SB3: raw observations to features, the normaliser within.

    Args:
        features: Works on normalised observations.
        normalizer: Knows what `features` sees.
    """

    def __init__(self, features: Features, normalizer: Normalizer) -> None:
        super().__init__()
        self.features = features
        self.normalizer = normalizer
        self.features_dim = features.features_dim

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Extract. Shape (B, features_dim)."""
        # SB3 has turned images into floats of 0..255, so `prepare`, which insists on bytes, is not for it.
        entries = self.normalizer.to(observation[self.features.keys[0]].device).entries
        return self.features({key: entries[key].apply(observation[key]) for key in self.features.keys})


class Extractors:
    """Makes the extractors of a policy.

    Attributes:
        actor: Makes the actor's.
        critic: Makes the critic's; None shares the actor's.
    """

    def __init__(self, actor: Callable[[], Extractor], critic: Callable[[], Extractor] | None) -> None:
        self.actor = actor
        self.critic = critic


# What the two classes below are mixed with; they stand before it, so that their methods call its own.
_Policy: Any = object


class _AsymmetricOnPolicy(_Policy):
    """Gives actor and critic their extractors in a policy of the PPO family."""

    def __init__(self, *args: Any, extractors: Extractors, **kwargs: Any) -> None:
        self._makers = iter([extractors.actor, extractors.critic or extractors.actor])
        super().__init__(*args, normalize_images=False, share_features_extractor=extractors.critic is None, **kwargs)

    def make_features_extractor(self) -> Any:
        """Make the actor's the first time, the critic's the second."""
        return next(self._makers)()

    def _build(self: Any, lr_schedule: Any) -> None:
        """Build, but begin the extractors as they came: SB3's orthogonal start would undo what an encoder learned."""
        parts = (self.pi_features_extractor, self.vf_features_extractor)
        kept = [{name: value.clone() for name, value in part.state_dict().items()} for part in parts]
        super()._build(lr_schedule)
        for part, state in zip(parts, kept, strict=True):
            part.load_state_dict(state)


class AsymmetricPpo(_AsymmetricOnPolicy, ActorCriticPolicy):
    """PPO's policy with an extractor for the actor and one for the critic."""

    def _build_mlp_extractor(self) -> None:
        """Build layers on features of two widths; SB3 assumes one."""

        def build(width: int) -> MlpExtractor:
            return MlpExtractor(width, self.net_arch, self.activation_fn, self.device)

        self.mlp_extractor = build(self.pi_features_extractor.features_dim)
        self.mlp_extractor.value_net = build(self.vf_features_extractor.features_dim).value_net


class AsymmetricRecurrentPpo(_AsymmetricOnPolicy, RecurrentActorCriticPolicy):
    """RecurrentPPO's policy with an extractor for the actor and one for the critic."""

    def __init__(self, observation_space: Any, action_space: Any, lr_schedule: Any, **kwargs: Any) -> None:
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        # SB3 gives both memories the actor's width.
        width = self.vf_features_extractor.features_dim
        self.lstm_critic = nn.LSTM(width, self.lstm_actor.hidden_size, self.lstm_actor.num_layers)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # pyright: ignore[reportCallIssue]


class _AsymmetricOffPolicy(_Policy):
    """Gives actor and critics their extractors in a policy of the SAC family."""

    def __init__(self, *args: Any, extractors: Extractors, **kwargs: Any) -> None:
        self._extractors = extractors
        super().__init__(*args, normalize_images=False, **kwargs)

    def make_actor(self, features_extractor: Any = None) -> Any:
        """Make the actor."""
        return super().make_actor(self._extractors.actor())

    def make_critic(self, features_extractor: Any = None) -> Any:
        """Make a critic, or the target of one."""
        made = (self._extractors.critic or self._extractors.actor)()
        return super().make_critic(made)


class AsymmetricSac(_AsymmetricOffPolicy, SACPolicy):
    """SAC's policy with an extractor for the actor and one for the critic."""


class AsymmetricTqc(_AsymmetricOffPolicy, TQCPolicy):
    """TQC's policy with an extractor for the actor and one for the critic."""


class AsymmetricCrossq(_AsymmetricOffPolicy, CrossQPolicy):
    """CrossQ's policy with an extractor for the actor and one for the critic."""

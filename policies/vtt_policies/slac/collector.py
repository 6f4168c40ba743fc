"""Steps a batch of environments and cuts what happens into episodes.

B environments · A action dimensions · C contacts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from vtt.errors import ConfigError
from vtt_policies.evaluation import FIRST_EVALUATION_SEED
from vtt_policies.policy import Observation
from vtt_policies.slac.replay import Transitions

__all__ = ["Collector", "Ended"]


class Ended(NamedTuple):
    """An episode that came to its end.

    Attributes:
        episode: Its transitions.
        success: Whether it succeeded; False where the environment does not tell.
    """

    episode: Transitions
    success: bool


class Collector:
    """Runs environments without pause: whichever is done begins anew at once.

    Args:
        env: Environments with autoreset disabled.
        keys: Observations to keep.
        rng: Draws the environments' seeds, all below those of evaluation.

    Attributes:
        observation: What the environments show now.
        num_contacts: Length of the `contact` that their info tells; 0 if it tells none.
    """

    def __init__(self, env: VectorEnv, keys: Sequence[str], *, rng: np.random.Generator) -> None:
        if env.metadata.get("autoreset_mode") != AutoresetMode.DISABLED:
            raise ConfigError(f"autoreset_mode must be DISABLED, got {env.metadata.get('autoreset_mode')}.")
        self._env = env
        self._keys = tuple(keys)
        self._rng = rng
        self._tapes = [_Tape() for _ in range(env.num_envs)]
        self.observation: Observation = {}
        self.num_contacts = 0
        self._reset(np.ones(env.num_envs, bool))

    def step(self, action: NDArray[np.float32]) -> tuple[list[Ended], NDArray[np.bool_]]:
        """Execute actions (B, A).

        Returns:
            The episodes that ended, and which environments began anew. Shape (B,).
        """
        observation, reward, terminated, truncated, info = self._env.step(action)
        done = np.asarray(terminated | truncated)
        success = np.asarray(info.get("success", np.zeros(len(done), bool)))
        self._show(observation, info, np.ones(len(done), bool))
        ended = []
        for index, tape in enumerate(self._tapes):
            tape.act(action[index], float(reward[index]), bool(terminated[index]), bool(success[index]))
            if done[index]:
                ended.append(Ended(tape.cut(), tape.success))
                self._tapes[index] = _Tape()
        if done.any():
            self._reset(done)
        return ended, done

    def cut(self) -> list[Transitions]:
        """Return the episodes in progress as far as they have come; whoever calls this steps no further."""
        return [tape.cut() for tape in self._tapes if tape.actions]

    def _reset(self, mask: NDArray[np.bool_]) -> None:
        """Begin new episodes."""
        seeds = self._rng.integers(FIRST_EVALUATION_SEED, size=len(mask)).tolist()
        # A list is allowed by Gymnasium's own vector environments, though not by the signature of their base class.
        observation, info = self._env.reset(seed=seeds, options={"reset_mask": mask})  # pyright: ignore[reportArgumentType]
        self._show(observation, info, mask)

    def _show(self, observation: Observation, info: dict[str, Any], mask: NDArray[np.bool_]) -> None:
        """Take note of the frames of some environments."""
        # Copied, because environments may reuse their arrays.
        self.observation = {key: np.array(observation[key]) for key in self._keys}
        contact = np.asarray(info.get("contact", np.zeros((len(mask), 0), bool)))
        self.num_contacts = contact.shape[1]
        for index in np.flatnonzero(mask):
            frame = {key: array[index] for key, array in self.observation.items()}
            self._tapes[index].see({**frame, "contact": contact[index]})


class _Tape:
    """One episode in progress."""

    def __init__(self) -> None:
        self._frames: list[dict[str, NDArray]] = []
        self.actions: list[NDArray[np.float32]] = []
        self._rewards: list[float] = []
        self._terminated: list[bool] = []
        self.success = False

    def see(self, frame: dict[str, NDArray]) -> None:
        """Append a frame."""
        self._frames.append(frame)

    def act(self, action: NDArray[np.float32], reward: float, terminated: bool, success: bool) -> None:
        """Append what led to the latest frame."""
        self.actions.append(np.array(action, np.float32))
        self._rewards.append(reward)
        self._terminated.append(terminated)
        self.success |= success

    def cut(self) -> Transitions:
        """Stack it."""
        return {
            **{key: np.stack([frame[key] for frame in self._frames]) for key in self._frames[0]},
            "action": np.stack(self.actions),
            "reward": np.array(self._rewards, np.float32),
            "terminated": np.array(self._terminated),
        }

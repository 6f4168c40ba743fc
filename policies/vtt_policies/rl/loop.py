"""What happens around stable-baselines3's own loop: cuts, logs, checkpoints, the bar, and the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from vtt.runs import RunFolder
from vtt.streams import StreamSpec
from vtt_policies.bundle import save_policy
from vtt_policies.rl.actor import ActorPolicy
from vtt_policies.rl.auxiliary import Auxiliary
from vtt_policies.rl.config import RlConfig
from vtt_policies.rl.frame_buffer import FrameReplayBuffer
from vtt_policies.rl.guard import check_training
from vtt_policies.rl.state import capture
from vtt_policies.rl.vec_env import BatchVecEnv
from vtt_policies.rl.video import Film

__all__ = ["REPLAY", "Loop"]

REPLAY = "replay.safetensors"
"""File of a checkpoint that holds the replay buffer."""


class Loop(BaseCallback):
    """Stands between rollouts: after each, it looks at the losses; after some, it logs; after a cut, it saves.

    SB3 calls `_on_rollout_start` when the update on the rollout before is done, which is the only moment at which
    nothing is half done.

    Args:
        config: When to do what.
        run: Where everything goes.
        vec: The environments.
        deployed: Gives the actor as it is deployed.
        facts: What a checkpoint holds besides weights, generators and environments.
        specs: What the actor sees.
        auxiliary: Trains the encoder beside the policy.
        film: Films the actor at checkpoints.
        spent: Wall time of earlier runs, in s.
        show_progress: Show a bar on a terminal.
    """

    def __init__(
        self,
        config: RlConfig,
        run: RunFolder,
        vec: BatchVecEnv,
        *,
        deployed: Callable[[], ActorPolicy],
        facts: Mapping[str, Any],
        specs: Mapping[str, StreamSpec],
        auxiliary: Auxiliary | None,
        film: Film,
        spent: float,
        show_progress: bool,
    ) -> None:
        super().__init__()
        self.seconds_before = spent
        self.saved = -1
        self._config = config
        self._run = run
        self._vec = vec
        self._deployed = deployed
        self._facts = facts
        self._specs = specs
        self._auxiliary = auxiliary
        self._film = film
        self._show_progress = show_progress
        self._every = config.whole(config.checkpoint_every)
        self._total = config.whole(config.steps)
        self._bar: tqdm | None = None

    @property
    def seconds(self) -> float:
        """Wall time over all interruptions, in s."""
        return self.seconds_before + time.perf_counter() - self._began

    def _on_training_start(self) -> None:
        self._began = time.perf_counter()
        self._first = self._logged = self._step
        self._stopping = False
        self._bar = tqdm(
            total=self._total * self._vec.num_envs,
            initial=self.model.num_timesteps,
            unit="step",
            disable=None if self._show_progress else True,
        )
        self._plan(self._step)

    @property
    def _step(self) -> int:
        """Control steps of each environment so far."""
        return self.model.num_timesteps // self._vec.num_envs

    def _on_step(self) -> bool:
        if self._stopping:
            return False
        if self._bar is not None:
            self._bar.update(self._vec.num_envs)
        self._plan(self._step)
        return True

    def _plan(self, step: int) -> None:
        """Cut the episodes with the next step where a checkpoint follows it."""
        following = step + 1
        if following % self._every == 0 or following == self._total or (self._over and self._ends_rollout(following)):
            self._vec.cut()

    def _ends_rollout(self, step: int) -> bool:
        return step % self._config.rollout == 0

    @property
    def _over(self) -> bool:
        """Whether the time is up."""
        return self._config.seconds is not None and self.seconds >= self._config.seconds

    def _on_rollout_end(self) -> None:
        if self._auxiliary is not None:
            self._auxiliary.fit(self.model, self.logger)

    def _on_rollout_start(self) -> None:
        if self._step == self._first:
            return
        self._look()
        if (self._step - self._logged) * self._vec.num_envs >= self._config.log_every:
            self._log()
        if self._vec.state()["begun"] is not None:  # a cut has just passed
            self._save()
            self._stopping = self._over

    def _on_training_end(self) -> None:
        if self._step > self._first and not self._stopping:
            self._look()
            self._log()
            self._save()

    def close(self) -> None:
        """Let go of the bar, the filmed environment and the logs, however training ended."""
        self._film.close()
        self.logger.close()
        if self._bar is not None:
            self._bar.close()

    def _look(self) -> None:
        """Stop if what was just learned is worse than nothing."""
        check_training(
            self.logger.name_to_value,
            largest_reward=self._vec.largest_reward,
            gamma=self._config.gamma,
            action_dim=int(self._vec.action_space.shape[0]),  # pyright: ignore[reportOptionalSubscript]
            step=self.model.num_timesteps,
        )

    def _log(self) -> None:
        """Write one row to all logs."""
        episodes, successes = self.model.ep_info_buffer or (), self.model.ep_success_buffer or ()
        values = {"time/seconds": self.seconds}
        values["time/fps"] = (self._step - self._first) * self._vec.num_envs / (self.seconds - self.seconds_before)
        if episodes:
            values["rollout/ep_rew_mean"] = sum(episode["r"] for episode in episodes) / len(episodes)
            values["rollout/ep_len_mean"] = sum(episode["l"] for episode in episodes) / len(episodes)
        if successes:
            values["rollout/success_rate"] = sum(successes) / len(successes)
        for name, value in values.items():
            self.logger.record(name, value)
        rate = self.logger.name_to_value.get("train/learning_rate", self._config.learning_rate)
        if self._bar is not None:
            success = values.get("rollout/success_rate", float("nan"))
            self._bar.set_postfix(lr=f"{rate:.1e}", success=f"{success:.2f}")
        self.logger.dump(self.model.num_timesteps)
        self._logged = self._step

    def _save(self) -> None:
        """Write a checkpoint, which counts from the moment that the run's `last` names it."""
        step = self.model.num_timesteps
        if self.saved == step:
            return
        policy = self._deployed()
        state = {
            **self._facts,
            "seconds": self.seconds,
            "learner": capture(self.model),
            "env": self._vec.state(),
            "auxiliary": self._auxiliary.state() if self._auxiliary is not None else None,
        }
        folder = self._run.checkpoint(step)
        save_policy(folder, policy, specs=self._specs, run=self._run.config, training_state=state)
        buffer = getattr(self.model, "replay_buffer", None)
        if isinstance(buffer, FrameReplayBuffer):
            buffer.save(folder / REPLAY)
        self._run.set_last(step)
        for old in folder.parent.iterdir():
            if old != folder:
                shutil.rmtree(old)
        self.saved = step
        self._film.record(policy, self._run.path / "videos" / f"{step:08d}.mp4")

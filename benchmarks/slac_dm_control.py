"""SLAC without touch on one task of the DeepMind Control Suite, against the curves shipped with SLAC's code.

    pip install "dm-control==1.0.34" "mujoco==3.3.7"     # into an environment of its own: vtt wants a newer MuJoCo
    python benchmarks/slac_dm_control.py --out runs/slac_cartpole --seconds 1500

Prints the greedy return at each checkpoint beside the shipped one, and draws both into curve.png of the run.
`--reference` reads the shipped CSV, file `data/slac/dm_control_<domain>_<task>_slac.csv` of alexlee-gk/slac; without it
two of its ten trials of cartpole-swingup stand in.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from dm_control import suite
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from vtt.images import resize
from vtt.runs import RunFolder
from vtt.store import StreamSpec
from vtt_policies.slac.config import AgentConfig, ModelConfig, SlacConfig
from vtt_policies.slac.train import train_slac

# Shipped returns of cartpole-swingup by environment steps: decoder variance .1, trials 0 and 1 of 10, rounded.
SHIPPED: dict[int, list[float]] = {
    0: [111, 114],
    10_000: [124, 99],
    20_000: [142, 75],
    30_000: [216, 205],
    40_000: [262, 210],
    50_000: [224, 174],
    60_000: [273, 218],
    70_000: [316, 278],
    80_000: [344, 322],
    90_000: [311, 358],
    100_000: [350, 320],
}
# Pixels of SLAC's images; smaller ones are made of these.
SIDE = 64


class SuiteEnv(VectorEnv):
    """Tasks of the suite side by side, seen through their first camera; an episode is 1000 control steps."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        num_envs: int = 1,
        *,
        observation: str = "visual",
        task: str = "cartpole-swingup",
        action_repeat: int = 4,
        side: int = SIDE,
    ) -> None:
        self.num_envs = num_envs
        self._side = side
        self._repeat = action_repeat
        self._names = task.split("-", 1)
        self._envs = [suite.load(*self._names, task_kwargs={"random": index}) for index in range(num_envs)]
        self.horizon = 1000 // action_repeat
        for env in self._envs:  # shadows cost ten times the rest of the picture without a graphics card
            env.physics.model.vis.quality.shadowsize = env.physics.model.vis.quality.offsamples = 0
        image = spaces.Box(0, 255, (side, side, 3), np.uint8)
        action = self._envs[0].action_spec()
        self.single_observation_space = spaces.Dict({"camera_front": image})
        self.single_action_space = spaces.Box(-1.0, 1.0, action.shape, np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._last = [env.reset() for env in self._envs]

    def stream_specs(self) -> dict[str, StreamSpec]:
        """Describe the camera."""
        rate = 1.0 / (self._envs[0].control_timestep() * self._repeat)
        return {"camera_front": StreamSpec("image", (self._side, self._side, 3), "uint8", "1", rate)}

    def reset(self, *, seed=None, options=None):
        """Begin episodes, each from a seed of its own."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        for index in np.flatnonzero(mask):
            if seed is not None:
                self._envs[index].task.random.seed(seed[index] % 2**32)
            self._last[index] = self._envs[index].reset()
        return self._observe(), {}

    def step(self, actions):
        """Repeat each action; an episode that is over stays."""
        reward = np.zeros(self.num_envs)
        for index, env in enumerate(self._envs):
            for _ in range(self._repeat):
                if self._last[index].last():
                    break
                self._last[index] = env.step(actions[index])
                reward[index] += self._last[index].reward
        over = np.array([last.last() for last in self._last])
        # The suite's episodes end by the clock alone.
        return self._observe(), reward, np.zeros(self.num_envs, bool), over, {}

    def _observe(self):
        images = np.stack([env.physics.render(SIDE, SIDE, camera_id=0) for env in self._envs])
        return {"camera_front": resize(images, height=self._side, width=self._side)}


def shipped(path: Path, *, decoder_variance: float) -> dict[int, list[float]]:
    """Read the shipped curve: environment steps to the return of each trial."""
    found: dict[int, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if float(row["decoder_var"]) == decoder_variance:
                found.setdefault(int(float(row["OriginalEnvironmentSteps"])), []).append(
                    float(row["AverageReturnEvalPolicy"])
                )
    return found


def draw(
    rows: list[dict[str, float]], reference: dict[int, list[float]], path: Path, *, action_repeat: int, task: str
) -> None:
    """Draw the greedy return of a run over the shipped one."""
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    measured = [(row["env_steps"] * action_repeat, row["greedy_return"]) for row in rows if "greedy_return" in row]
    axes.plot(*zip(*measured, strict=True), "o-", label="vtt, 5 episodes")
    known = {at: returns for at, returns in sorted(reference.items()) if at <= 2 * measured[-1][0]}
    if known:
        axes.plot(list(known), [np.mean(returns) for returns in known.values()], "k--", label="shipped, mean of trials")
    axes.set(xlabel="environment steps", ylabel="return", title=task)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train within a budget, print the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", default="cartpole-swingup")
    parser.add_argument("--action-repeat", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=10_000, help="agent steps: the suite's over the action repeat")
    parser.add_argument("--start-steps", type=int, default=2_000)
    parser.add_argument("--pretrain-updates", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=1500.0)
    parser.add_argument("--side", type=int, default=32, help="pixels; SLAC's are 64")
    parser.add_argument("--width", type=int, default=8, help="channels next to the image; SLAC's is 32")
    parser.add_argument("--model-windows", type=int, default=16, help="SLAC's is 32")
    parser.add_argument("--agent-windows", type=int, default=32, help="SLAC's is 256")
    parser.add_argument("--model-rate", type=float, default=1e-3, help="SLAC's is 1e-4")
    # A quarter of the pixels weighs what SLAC's 64 x 64 do with a variance of .04, which it also ships curves for.
    parser.add_argument("--image-variance", type=float, default=0.16, help="in normalised units: SLAC's .1 is 1.6")
    parser.add_argument("--reference", type=Path)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    gym.register("vtt_benchmark/Suite-v0", vector_entry_point=SuiteEnv)
    train_slac(
        SlacConfig(
            env="vtt_benchmark/Suite-v0",
            out=wanted.out,
            student="camera_front",
            env_args=(f"task={wanted.task}", f"action_repeat={wanted.action_repeat}", f"side={wanted.side}"),
            seed=wanted.seed,
            num_envs=1,
            steps=wanted.steps,
            seconds=wanted.seconds,
            start_steps=wanted.start_steps,
            pretrain_updates=wanted.pretrain_updates,
            checkpoint_every=1_000,
            evaluation_episodes=5,
            model=ModelConfig(
                encoder="conv",
                width=wanted.width,
                batch_windows=wanted.model_windows,
                learning_rate=wanted.model_rate,
                image_variance=wanted.image_variance,
                contact=0.0,
                align=0.0,
            ),
            agent=AgentConfig(batch_windows=wanted.agent_windows),
        )
    )
    reference = SHIPPED if wanted.task == "cartpole-swingup" else {}
    if wanted.reference:
        reference = shipped(wanted.reference, decoder_variance=0.1)
    rows = RunFolder.open(wanted.out).metrics().rows()
    draw(rows, reference, wanted.out / "curve.png", action_repeat=wanted.action_repeat, task=wanted.task)
    print("suite steps  model updates  agent updates  greedy return  training return  shipped (mean, min-max)")
    for row in rows:
        at = int(row["env_steps"] * wanted.action_repeat)
        known = reference.get(round(at, -4), [])
        beside = f"{np.mean(known):.0f} ({min(known):.0f}-{max(known):.0f})" if known else "-"
        numbers = [row["model_updates"], row["agent_updates"], row.get("greedy_return"), row.get("return")]
        shown = "  ".join(f"{'-' if number is None else f'{number:.0f}':>13}" for number in numbers)
        print(f"{at:>11}  {shown}  {beside}")


if __name__ == "__main__":
    main()

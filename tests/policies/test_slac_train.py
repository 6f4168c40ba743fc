"""A toy for which touch is needed: the camera shows where the hand is, the pad on which side the goal lies."""

import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from safetensors.torch import load_file

from vtt.errors import ConfigError, StateError
from vtt.streams import StreamSpec
from vtt_policies.bundle import load_as, load_policy
from vtt_policies.commands.train import main
from vtt_policies.environments import make_environments
from vtt_policies.evaluation import FIRST_EVALUATION_SEED, evaluate, evaluation_seeds
from vtt_policies.observations import resolve_keys
from vtt_policies.policy import PREVIOUS_ACTION
from vtt_policies.slac.collector import Collector
from vtt_policies.slac.config import AgentConfig, ModelConfig, SlacConfig
from vtt_policies.slac.policy import SlacPolicy
from vtt_policies.slac.train import train_slac

SIDES_ID = "vtt_toy/Sides-v0"
_IMAGE = spaces.Box(0, 255, (16, 16, 3), np.uint8)
_SPACES = {"camera_front": _IMAGE, "tactile_left": _IMAGE}


class SidesEnv(VectorEnv):
    """Move along a line to the goal at its left or right end; the other end is a failure."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own form)
    horizon = 8

    def __init__(self, num_envs: int = 1, *, observation: str = "all", fail_at: int = -1, tells: bool = True) -> None:
        self.num_envs = num_envs
        self._keys, self._fail_at, self._tells = resolve_keys(observation, _SPACES), fail_at, tells
        self.single_observation_space = spaces.Dict({key: _SPACES[key] for key in self._keys})
        self.single_action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._place, self._goal = np.zeros((2, num_envs))
        self._time = np.zeros(num_envs, np.int64)
        self._steps = 0
        self.seeds: list[int] = []

    def stream_specs(self):
        kinds = {"camera_front": "image", "tactile_left": "tactile_image"}
        return {key: StreamSpec(kinds[key], (16, 16, 3), "uint8", "1", 20.0) for key in self._keys}

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        for index in np.flatnonzero(mask):
            self.seeds.append(seed[index])
            rng = np.random.default_rng(seed[index])
            self._place[index], self._goal[index] = rng.uniform(-0.3, 0.3), rng.choice([-1.0, 1.0])
        self._time[mask] = 0
        return self._observe(), self._info(np.zeros(self.num_envs, bool))

    def step(self, actions):
        before = self._place.copy()
        self._place += 0.3 * np.clip(actions[:, 0], -1.0, 1.0)
        self._time += 1
        self._steps += 1
        success = self._place * self._goal > 0.9
        terminated = np.abs(self._place) > 0.9
        reward = np.where(terminated, np.where(success, 1.0, -1.0), self._goal * (self._place - before))
        if self._steps == self._fail_at:
            reward[0] = np.nan
        return self._observe(), reward, terminated, (self._time >= self.horizon) & ~terminated, self._info(success)

    def _info(self, success):
        contact = np.stack([self._goal < 0, self._goal > 0], 1)
        return {"success": success, **({"contact": contact} if self._tells else {})}

    def _observe(self):
        camera = np.full((self.num_envs, 16, 16, 3), 60, np.uint8)
        touch = np.full((self.num_envs, 16, 16, 3), 100, np.uint8)
        for index in range(self.num_envs):
            column = int(np.clip(np.round(self._place[index] * 6 + 7), 0, 14))
            camera[index, 6:10, column : column + 2] = 255
            half = slice(0, 8) if self._goal[index] < 0 else slice(8, 16)
            touch[index, :, half] = 150
        return {key: value for key, value in (("camera_front", camera), ("tactile_left", touch)) if key in self._keys}


if SIDES_ID not in gym.registry:
    gym.register(SIDES_ID, vector_entry_point=SidesEnv)

MODEL = ModelConfig(
    width=4, z1_dim=4, z2_dim=8, hidden_dim=32, sequence=3, batch_windows=8, feature_dim=16, learning_rate=1e-3
)
TINY = {
    "env": SIDES_ID,
    "student": "visuotactile",
    "num_envs": 4,
    "steps": 80,
    "start_steps": 32,
    "pretrain_updates": 3,
    "updates_per_step": 0.25,
    "checkpoint_every": 24,
    "model": MODEL,
    "agent": AgentConfig(hidden_dim=32, batch_windows=8),
}


def weights(run):
    """Everything that a checkpoint holds in tensors."""
    folder = run.last()
    return {name: load_file(folder / f"{name}.safetensors") for name in ("model", "training_state")}


def same(one, two):
    return all(torch.equal(one[file][name], two[file][name]) for file in one for name in one[file])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run the tiny training once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("slac") / "run"
    reached = train_slac(SlacConfig(out=out, evaluation_episodes=2, **TINY), show_progress=False)
    torch.set_num_threads(threads)
    return reached


def test_a_run_leaves_metrics_board_replay_and_checkpoint(trained):
    rows = trained.run.metrics().rows()
    assert [row["env_steps"] for row in rows] == [32, 32, 56, 80]
    assert [row["agent_updates"] for row in rows] == [0, 0, 6, 12]
    assert [row["model_updates"] for row in rows] == [0, 3, 9, 15]
    for name in (
        "kl",
        "image",
        "touch",
        "reward",
        "contact",
        "align",
        "critic",
        "entropy",
        "greedy_return",
        "gradient_align",
    ):
        assert np.isfinite(rows[-1][name]), name
    assert trained.finished
    assert list((trained.run.path / "tensorboard").iterdir())
    assert list((trained.run.path / "replay").iterdir())
    assert len(list((trained.run.path / "checkpoints").iterdir())) == 1


def test_a_run_that_was_interrupted_ends_bit_by_bit_as_one_that_was_not(trained, tmp_path):
    config = SlacConfig(out=tmp_path / "run", evaluation_episodes=2, **{**TINY, "steps": 56})
    train_slac(config, show_progress=False)
    # What a killed process leaves of a round that it did not finish.
    shutil.copy(tmp_path / "run/replay/00000000.safetensors", tmp_path / "run/replay/00000003.safetensors")
    resumed = train_slac(replace(config, steps=80), show_progress=False)
    assert same(weights(trained.run), weights(resumed.run))
    mine, theirs = (dict(run.metrics) for run in (trained, resumed))
    for row in (mine, theirs):
        for name in ("seconds", "steps_per_second"):
            del row[name]
    assert mine == theirs


def test_another_seed_gives_another_run(trained, tmp_path):
    other = train_slac(SlacConfig(out=tmp_path / "run", evaluation_episodes=2, seed=1, **TINY), show_progress=False)
    assert not same(weights(trained.run), weights(other.run))


def test_a_finished_run_is_left_as_it_is(trained):
    before = weights(trained.run)
    again = train_slac(SlacConfig(out=trained.run.path, evaluation_episodes=2, **TINY), show_progress=False)
    assert again.iterations == trained.iterations
    assert same(before, weights(again.run))


def test_other_settings_in_the_same_folder_are_refused(trained):
    config = SlacConfig(out=trained.run.path, evaluation_episodes=2, **{**TINY, "num_envs": 2})
    with pytest.raises(ConfigError, match=r"holds a run with other settings: num_envs 4 \(now 2\)"):
        train_slac(config, show_progress=False)


def test_a_loaded_policy_acts_and_remembers(trained):
    policy, specs = load_policy(trained.run.path)
    assert tuple(specs) == ("camera_front", "tactile_left")
    env = make_environments(SIDES_ID, num_envs=3, observation="visuotactile")
    result = evaluate(env, policy, evaluation_seeds(3))
    assert result.n == 3
    assert policy.rest_images()["tactile_left"].shape == (16, 16, 3)


def test_acting_sees_what_training_shows_the_actor(trained):
    policy, _ = load_as(SlacPolicy, trained.run.path)
    env = make_environments(SIDES_ID, num_envs=2, observation="visuotactile")
    observation, _ = env.reset(seed=[1, 2])
    policy.reset(2)
    network, frames, actions = policy.network.eval(), [], []
    for _ in range(5):
        frames.append(network.frames(policy.normalizer.prepare(observation))[0])
        acted = policy.act(observation)
        seen = torch.stack([torch.zeros_like(frames[0])] * (3 - len(frames)) + frames[-3:], 1)
        before = torch.stack([torch.zeros(2, 1)] * max(0, 2 - len(actions)) + actions[-2:], 1)
        np.testing.assert_allclose(acted, network.actor(seen, before)[0].tanh().detach().numpy(), atol=1e-6)
        actions.append(torch.from_numpy(acted))
        observation, *_ = env.step(acted)


def test_forgetting_one_environment_leaves_the_other(trained):
    policy, _ = load_as(SlacPolicy, trained.run.path)
    env = make_environments(SIDES_ID, num_envs=2, observation="visuotactile")
    observation, _ = env.reset(seed=[1, 2])
    policy.reset(2)
    policy.sample(observation, generator=torch.Generator().manual_seed(0))
    before = {name: memory.clone() for name, memory in policy._remembered("test").items()}
    policy.forget(np.array([True, False]))
    for name, memory in policy._remembered("test").items():
        assert not memory[0].any(), name
        assert torch.equal(memory[1], before[name][1]), name
    assert before[PREVIOUS_ACTION][1].abs() > 0


def test_acting_before_reset_is_refused(trained):
    policy, _ = load_policy(trained.run.path)
    with pytest.raises(StateError, match="act needs reset to be called first"):
        policy.act({key: np.zeros((1, 16, 16, 3), np.uint8) for key in policy.keys})


def test_a_reward_that_is_no_number_stops_the_run_with_its_cause(tmp_path):
    config = SlacConfig(out=tmp_path / "run", env_args=("fail_at=5",), **TINY)
    with pytest.raises(StateError, match=r"got reward at update \d+ of the model: reward of the batch hold"):
        train_slac(config, show_progress=False)


def test_diverging_critics_stop_with_their_cause(trained, tmp_path):
    agent = AgentConfig(hidden_dim=32, batch_windows=8, learning_rate=1e3)
    config = SlacConfig(out=tmp_path / "run", **{**TINY, "agent": agent})
    with pytest.raises(StateError, match=r"(The critics diverge|the weights have diverged).*Lower agent.learning_rate"):
        train_slac(config, show_progress=False)


def test_losses_without_labels_are_refused_before_anything_is_stepped(tmp_path):
    with pytest.raises(ConfigError, match=r"model.contact must be 0"):
        train_slac(SlacConfig(out=tmp_path / "a", env_args=("tells=false",), **TINY), show_progress=False)
    with pytest.raises(ConfigError, match=r"model.align must be 0"):
        train_slac(SlacConfig(out=tmp_path / "b", **{**TINY, "without": "touch"}), show_progress=False)
    assert not list(tmp_path.iterdir())


def test_vtt_train_slac_tells_where_the_run_is(tmp_path, capsys):
    lengths = ["--steps", "48", "--start-steps", "32", "--pretrain-updates", "1", "--updates-per-step", "0.1"]
    sizes = [
        "--model.width",
        "4",
        "--model.hidden-dim",
        "16",
        "--model.batch-windows",
        "4",
        "--agent.batch-windows",
        "4",
    ]
    main(["slac", "--env", SIDES_ID, "--out", str(tmp_path / "run"), "--num-envs", "4", *lengths, *sizes])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Stopped after 48 steps.")
    assert told[-1] == str(tmp_path / "run")
    assert load_policy(tmp_path / "run")[0].kind == "slac"


def test_training_never_sees_the_seeds_of_evaluation():
    env = SidesEnv(3)
    collector = Collector(env, ("camera_front",), rng=np.random.default_rng(0))
    for _ in range(20):
        collector.step(np.ones((3, 1), np.float32))
    assert len(env.seeds) > 6
    assert len(set(env.seeds)) == len(env.seeds)
    assert max(env.seeds) < FIRST_EVALUATION_SEED


def test_collected_episodes_are_those_that_happened():
    env = SidesEnv(2)
    collector = Collector(env, ("camera_front", "tactile_left"), rng=np.random.default_rng(0))
    shown = [collector.observation["camera_front"][0]]
    ended = []
    while not ended:
        new, begun = collector.step(np.array([[0.5], [-0.1]], np.float32))
        ended += [end for end in new if end.episode["action"][0, 0] == np.float32(0.5)]
        if not begun[0]:
            shown.append(collector.observation["camera_front"][0])
    found = ended[0].episode
    assert found["terminated"].tolist() == [False] * (len(shown) - 1) + [True]
    assert np.array_equal(found["camera_front"][:-1], np.stack(shown))
    assert len(found["camera_front"]) == len(found["action"]) + 1
    assert abs(found["reward"][-1]) == 1.0
    assert found["contact"].shape == (len(shown) + 1, 2)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"start_steps": 80}, r"steps must exceed start_steps \(80\), got 80"),
        ({"capacity": 10}, r"capacity must hold start_steps \(32\), got 10"),
        ({"updates_per_step": 0.0}, "updates_per_step must be positive, got 0.0"),
        ({"pretrain_updates": -1}, "pretrain_updates must not be negative, got -1"),
    ],
)
def test_impossible_configurations_are_refused(tmp_path, settings, match):
    with pytest.raises(ConfigError, match=match):
        SlacConfig(out=tmp_path, **{**TINY, **settings})


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vtt", "concat"])
def test_slac_learns_to_go_where_touch_says(tmp_path, encoder):
    model = replace(MODEL, encoder=encoder, z1_dim=8, z2_dim=32, hidden_dim=64, batch_windows=16)
    config = SlacConfig(
        env=SIDES_ID,
        out=tmp_path / "run",
        student="visuotactile",
        num_envs=8,
        steps=1600,
        start_steps=800,
        pretrain_updates=200,
        updates_per_step=0.25,
        checkpoint_every=800,
        model=model,
        agent=AgentConfig(hidden_dim=64, batch_windows=64, learning_rate=1e-3, temperature=0.1, target_rate=0.02),
    )
    train_slac(config, show_progress=False)
    policy, _ = load_policy(config.out)
    env = make_environments(SIDES_ID, num_envs=64, observation="visuotactile")
    # Who ignores touch gets one half.
    assert evaluate(env, policy, evaluation_seeds(64)).rate > 0.9

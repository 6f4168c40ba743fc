import numpy as np
import pytest
import torch

from vtt.checkpoint import load_training_state
from vtt.errors import ConfigError, DependencyError, StateError
from vtt.runs import RunFolder
from vtt_policies.bundle import load_policy
from vtt_policies.rl.config import CrossqConfig, PpoConfig, RecurrentPpoConfig, SacConfig, TqcConfig
from vtt_policies.rl.loop import REPLAY
from vtt_policies.rl.train import train

REACH = "vtt_toy/Reach-v0"
_ON = {"num_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 2, "checkpoint_every": 128, "log_every": 64}
_OFF = {"num_envs": 4, "buffer_size": 100, "learning_starts": 20, "batch_size": 16, "gradient_steps": 1}
SMALL = {
    PpoConfig: {**_ON, "steps": 256},
    RecurrentPpoConfig: {**_ON, "steps": 256, "lstm": 16},
    SacConfig: {**_OFF, "steps": 160, "checkpoint_every": 80, "log_every": 40},
    TqcConfig: {**_OFF, "steps": 160, "checkpoint_every": 80, "log_every": 40},
    CrossqConfig: {**_OFF, "steps": 160, "checkpoint_every": 80, "log_every": 40},
}


def small(kind, out, **changes):
    """The settings of a run that takes about a second."""
    common = {"actor": "proprio", "hidden": (16,), "video": False}
    return kind(env=REACH, out=out, **{**common, **SMALL[kind], **changes})


def run(config):
    return train(config, show_progress=False)


def _weights(folder):
    return load_training_state(RunFolder.open(folder).last())["learner"]


def _same(one, two):
    """Whether two trees hold the same numbers."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two)
    return one == two


@pytest.mark.parametrize(
    "kind",
    [
        PpoConfig,
        SacConfig,
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in (RecurrentPpoConfig, TqcConfig, CrossqConfig)),
    ],
)
def test_a_run_that_was_interrupted_ends_as_an_uninterrupted_one(kind, tmp_path):
    steps = SMALL[kind]["steps"]
    whole = run(small(kind, tmp_path / "whole", critic="oracle"))
    run(small(kind, tmp_path / "parts", critic="oracle", steps=steps // 2))
    parts = run(small(kind, tmp_path / "parts", critic="oracle"))
    assert whole.finished
    assert parts.finished
    assert whole.steps == parts.steps == steps
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "parts"))
    for name in whole.metrics.keys() - {"time/seconds", "time/fps"}:
        assert whole.metrics[name] == parts.metrics[name]


@pytest.mark.parametrize("kind", [PpoConfig, SacConfig])
def test_the_critic_and_not_the_actor_sees_what_only_a_simulator_knows(kind, tmp_path, reach):
    reached = run(small(kind, tmp_path / "run", critic="oracle"))
    policy, specs = load_policy(reached.run.path)
    assert policy.keys == tuple(specs) == ("goal", "proprioception")
    observation, _ = reach(4).reset(seed=list(range(4)))
    policy.reset(4)
    action = policy.act(observation)
    policy.reset(4)
    assert np.array_equal(policy.act({**observation, "privileged": observation["privileged"] + 1e6}), action)
    policy.reset(4)
    assert not np.array_equal(policy.act({**observation, "goal": observation["goal"] + 0.1}), action)
    assert "privileged" not in policy.normalizer.entries


def test_a_checkpoint_is_the_newest_alone_and_holds_no_pickle(tmp_path):
    reached = run(small(SacConfig, tmp_path / "run"))
    (folder,) = (reached.run.path / "checkpoints").iterdir()
    assert folder == reached.run.last()
    assert {file.suffix for file in folder.iterdir()} == {".json", ".md", ".safetensors"}
    assert (folder / REPLAY).exists()


def test_metrics_and_tensorboard_tell_the_same(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reached = run(small(PpoConfig, tmp_path / "run"))
    rows = reached.run.metrics().rows()
    assert [row["step"] for row in rows] == [64, 128, 192, 256]
    board = EventAccumulator(str(reached.run.path / "tensorboard")).Reload()
    for name in ("train/value_loss", "train/learning_rate", "rollout/success_rate"):
        told = [(event.step, event.value) for event in board.Scalars(name)]
        assert told == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows if name in row]


def test_time_that_runs_out_leaves_a_checkpoint_to_go_on_from(tmp_path):
    reached = run(small(PpoConfig, tmp_path / "run", seconds=1e-6))
    assert not reached.finished
    assert reached.steps == 64
    assert run(small(PpoConfig, tmp_path / "run")).finished


def test_a_finished_run_is_not_trained_further(tmp_path):
    first = run(small(PpoConfig, tmp_path / "run"))
    before = _weights(first.run.path)
    assert run(small(PpoConfig, tmp_path / "run"))[1:] == first[1:]
    assert _same(before, _weights(first.run.path))


def test_a_run_with_other_settings_is_not_continued(tmp_path):
    run(small(PpoConfig, tmp_path / "run", steps=64))
    with pytest.raises(ConfigError, match=r"another run|other settings: gamma 0.99 \(now 0.9\)"):
        run(small(PpoConfig, tmp_path / "run", gamma=0.9))


def test_an_environment_that_breaks_is_told_from_a_learner_that_diverges(tmp_path):
    with pytest.raises(StateError, match="environment's reward must be finite"):
        run(small(PpoConfig, tmp_path / "broken", env_args=("fail_at=40",)))
    with pytest.raises(StateError, match=r"Lower learning_rate"):
        run(small(PpoConfig, tmp_path / "wild", learning_rate=1e30))
    with pytest.raises(StateError, match=r"Lower learning_rate"):
        run(small(SacConfig, tmp_path / "wilder", learning_rate=1e30))


def test_an_observation_that_nobody_sees_must_be_ignored_on_purpose(tmp_path):
    options = {"observation": "oracle", "critic": None}
    with pytest.raises(ConfigError, match="got unused privileged"):
        run(small(PpoConfig, tmp_path / "run", **options))
    assert run(small(PpoConfig, tmp_path / "run", **options, ignore=("privileged",), steps=64)).steps == 64


def test_a_log_whose_package_is_missing_stops_before_training(tmp_path, monkeypatch):
    import sys

    for name, package in (("wandb", "wandb"), ("rerun", "rerun-sdk")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(DependencyError, match=f"--{name} needs the package {package}"):
            run(small(PpoConfig, tmp_path / name, **{name: "project" if name == "wandb" else True}))


def test_a_buffer_that_does_not_fit_into_memory_is_refused_with_one_that_does(tmp_path):
    with pytest.raises(ConfigError, match=r"buffer_size must fit into .* Take \d+"):
        run(small(SacConfig, tmp_path / "run", buffer_size=10**12))
    assert not (tmp_path / "run").exists()


def test_a_video_shows_what_the_environment_draws_beside_what_the_actor_sees(tmp_path):
    reached = run(small(PpoConfig, tmp_path / "run", actor="visual", steps=64, video=True))
    (video,) = (reached.run.path / "videos").iterdir()
    assert video.name == "00000064.mp4"
    assert video.stat().st_size > 500

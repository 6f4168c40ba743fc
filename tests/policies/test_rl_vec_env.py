import numpy as np
import pytest

from vtt.errors import ConfigError, MissingError, StateError
from vtt_policies.evaluation import FIRST_EVALUATION_SEED
from vtt_policies.rl.vec_env import BatchVecEnv

_KEYS = ("proprioception", "privileged")


def _adapt(reach, num_envs=8, seed=0, **options):
    return BatchVecEnv(reach(num_envs, **options), _KEYS, seed=seed)


def _drive(vec, steps, *, towards_mark=True):
    """Step; return every observation, reward, done and info."""
    taken = []
    observation = vec.reset()
    for _ in range(steps):
        offset = observation["privileged"] if towards_mark else np.zeros((vec.num_envs, 2))
        observation, reward, done, infos = vec.step(np.clip(offset / 0.3, -1, 1).astype(np.float32))
        taken.append((observation, reward, done, infos))
    return taken


def test_what_ended_begins_anew_in_the_same_step_and_leaves_its_last_observation(reach):
    for observation, _, done, infos in _drive(_adapt(reach), 10):
        assert set(observation) == set(_KEYS)
        for row in np.flatnonzero(done):
            last = infos[row]["terminal_observation"]
            assert np.linalg.norm(last["privileged"]) < 0.15
            assert infos[row]["is_success"]
            assert not infos[row]["TimeLimit.truncated"]
            assert not np.array_equal(last["privileged"], observation["privileged"][row])
        for row in np.flatnonzero(~done):
            assert infos[row] == {}


def test_a_horizon_truncates_and_an_episode_tells_its_return_and_length(reach):
    taken = _drive(_adapt(reach), 12, towards_mark=False)
    done, infos = taken[-1][2:]
    rows = [row for row in np.flatnonzero(done) if infos[row]["episode"]["l"] == 12]
    assert rows
    for row in rows:
        assert infos[row]["TimeLimit.truncated"]
        assert not infos[row]["is_success"]
        assert infos[row]["episode"]["r"] == pytest.approx(sum(step[1][row] for step in taken), rel=1e-5)


def test_a_cut_ends_all_episodes_and_counts_none(reach):
    vec = _adapt(reach)
    vec.reset()
    vec.cut()
    _, _, done, infos = vec.step(np.zeros((8, 2), np.float32))
    assert done.all()
    running = [info for info in infos if "episode" not in info]
    assert running
    assert all(info["TimeLimit.truncated"] and "is_success" not in info for info in running)
    _, _, done, _ = vec.step(np.zeros((8, 2), np.float32))
    assert not done.all()


def test_a_continued_run_repeats_what_follows_a_cut(reach):
    first = _adapt(reach)
    first.reset()
    first.step(np.zeros((8, 2), np.float32))
    first.cut()
    begun, *_ = first.step(np.zeros((8, 2), np.float32))
    second = _adapt(reach, seed=99)
    second.load_state(first.state())
    again = second.reset()
    for _ in range(15):
        for key in _KEYS:
            assert np.array_equal(begun[key], again[key])
        action = np.clip(begun["privileged"] / 0.3, -1, 1).astype(np.float32)
        (begun, reward, done, _), (again, reward_2, done_2, _) = first.step(action), second.step(action)
        assert np.array_equal(reward, reward_2)
        assert np.array_equal(done, done_2)


def test_training_never_sees_a_seed_of_evaluation(reach):
    vec = _adapt(reach, 1000)
    vec.reset()
    assert max(vec.state()["begun"]) < FIRST_EVALUATION_SEED


def test_a_reward_that_is_no_number_stops_where_it_arises(reach):
    with pytest.raises(StateError, match=r"reward must be finite, got NaN or infinity in environment 0 after 3 steps"):
        _drive(_adapt(reach, fail_at=3), 5, towards_mark=False)


def test_an_environment_that_does_not_fit_is_refused(reach):
    with pytest.raises(MissingError, match="No observation 'wrench'"):
        BatchVecEnv(reach(), ("wrench",), seed=0)
    wide = reach()
    wide.unwrapped.single_action_space.high[:] = 2.0
    with pytest.raises(ConfigError, match=r"must be a Box in \[-1, 1\]"):
        BatchVecEnv(wide, _KEYS, seed=0)
    resets = reach()
    resets.unwrapped.metadata = {"autoreset_mode": "next_step"}
    with pytest.raises(ConfigError, match="must leave resets to its caller"):
        BatchVecEnv(resets, _KEYS, seed=0)


def test_a_step_needs_an_action(reach):
    with pytest.raises(StateError, match="needs step_async"):
        _adapt(reach).step_wait()

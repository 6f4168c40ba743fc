import numpy as np
import pytest

from vtt.errors import ConfigError, StateError
from vtt_policies.policy import ExpertPolicy, Policy, RandomPolicy, ZeroPolicy
from vtt_policies.rollout import mix_actions, rollout


def test_every_policy_keeps_the_protocol():
    policies = [ZeroPolicy(2), RandomPolicy(2, rng=np.random.default_rng(0)), ExpertPolicy()]
    assert all(isinstance(policy, Policy) for policy in policies)


def test_the_expert_succeeds_always_and_idling_never(corners):
    env = corners(8)
    assert rollout(env, ExpertPolicy(), range(8)).success.all()
    idle = rollout(env, ZeroPolicy(2), range(8))
    assert not idle.success.any()
    assert (idle.steps == env.horizon).all()


def test_episodes_are_cut_where_they_ended(corners):
    env = corners(16)
    driven = rollout(env, RandomPolicy(2, rng=np.random.default_rng(0)), range(16), record=("proprioception",))
    for episode, steps, success in zip(driven.episodes, driven.steps, driven.success, strict=True):
        assert {len(stream) for stream in episode.values()} == {steps}
        assert episode["success"].any() == success
        assert not episode["success"][:-1].any()


def test_a_row_holds_the_observation_and_what_was_done_about_it(corners):
    episode = rollout(corners(1), ExpertPolicy(), [5], record=("proprioception",)).episodes[0]
    moved = episode["proprioception"][:-1] + 0.25 * episode["action"][:-1]
    np.testing.assert_allclose(moved, episode["proprioception"][1:], atol=1e-6)
    np.testing.assert_array_equal(episode["action"], episode["expert_action"])


def test_the_same_seeds_give_the_same_episodes(corners):
    first, second = (
        rollout(corners(4), ExpertPolicy(), [3, 1, 4, 1], record=("tactile_left", "proprioception")).episodes
        for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in one)
    np.testing.assert_array_equal(first[1]["proprioception"], first[3]["proprioception"])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_expert_drives_its_share_of_the_steps(share):
    rng = np.random.default_rng(0)
    mixed = mix_actions(np.zeros((20_000, 3), np.float32), np.ones((20_000, 3), np.float32), share=share, rng=rng)
    # A whole action comes from one driver; 5 sigma of a binomial share.
    assert (mixed == mixed[:, :1]).all()
    assert abs(mixed[:, 0].mean() - share) <= 5 * np.sqrt(share * (1 - share) / 20_000)


def test_what_is_recorded_as_action_was_executed(corners):
    env = corners(32)
    driven = rollout(
        env, ZeroPolicy(2), range(32), record=("proprioception",), expert_share=0.5, rng=np.random.default_rng(1)
    )
    for episode in driven.episodes:
        by_expert = (episode["action"] == episode["expert_action"]).all(1)
        assert (by_expert | (episode["action"] == 0).all(1)).all()
    assert sum(episode["action"].any() for episode in driven.episodes) > 0


def test_a_policy_that_lets_ended_environments_go_acts_on_the_right_rows(corners):
    class Recorder(ExpertPolicy):
        """The expert, checked against what it sees."""

        rows: list[int]

        def reset(self, num_envs):
            super().reset(num_envs)
            self.rows = [num_envs]

        def keep(self, rows):
            super().keep(rows)
            self.rows.append(len(rows))

        def act(self, observation):
            action = super().act(observation)
            self.rows[-1] = len(observation["proprioception"])
            return action

    policy = Recorder()
    driven = rollout(corners(64), policy, range(64), expert_share=0.0)
    assert driven.success.all()
    assert policy.rows == sorted(policy.rows, reverse=True)
    assert policy.rows[-1] < 64


def test_mistakes_of_the_caller_end_in_a_sentence(corners):
    with pytest.raises(ConfigError, match=r"seeds must be one per environment \(4\), got 3"):
        rollout(corners(4), ZeroPolicy(2), range(3))
    with pytest.raises(ConfigError, match=r"rng must be given to mix the expert in with share 0\.5"):
        rollout(corners(4), ZeroPolicy(2), range(4), expert_share=0.5)
    env = corners(1)
    env.metadata = {"autoreset_mode": "NextStep"}
    with pytest.raises(ConfigError, match="autoreset_mode must be DISABLED, got NextStep"):
        rollout(env, ZeroPolicy(2), [0])
    with pytest.raises(StateError, match="act needs advise to be called first"):
        ExpertPolicy().act({})

import numpy as np
import pytest
import torch

from vtt.errors import StateError
from vtt_policies.policy import Policy, Recalls
from vtt_policies.replay import EpisodeBuffer


def batch_of(policy, episodes):
    buffer = EpisodeBuffer(policy.keys, capacity=10**9)
    for episode in episodes:
        buffer.add(episode)
    return buffer.gather(range(len(buffer)))


def forward(policy, batch):
    prepared = policy.normalizer.prepare(batch.observation)
    with torch.no_grad():
        return policy.network(
            policy.network.encode(prepared),
            prepared,
            torch.from_numpy(batch.previous_action),
            torch.from_numpy(batch.lengths),
        ).numpy()


def test_a_student_is_a_policy(fresh_student):
    policy, _ = fresh_student()
    assert isinstance(policy, Policy)
    assert isinstance(policy, Recalls)


@pytest.mark.parametrize("network", [{}, {"recurrent": False}, {"previous_action": True}, {"encoder": "poe"}])
def test_training_and_acting_agree_step_by_step(fresh_student, network):
    policy, episodes = fresh_student(**network)
    episode = episodes[0]
    learned = forward(policy, batch_of(policy, [episode])).clip(-1.0, 1.0)
    policy.reset(1)
    for step, action in enumerate(learned):
        acted = policy.act({key: value[step : step + 1] for key, value in episode.items()})
        np.testing.assert_allclose(acted[0], action, atol=1e-5)
        policy.recall(episode["action"][step : step + 1])


def test_an_episode_is_decided_alike_alone_and_beside_longer_ones(fresh_student):
    policy, episodes = fresh_student()
    short = {key: value[:3] for key, value in episodes[0].items()}
    together = forward(policy, batch_of(policy, [episodes[1], short]))[-3:]
    np.testing.assert_allclose(forward(policy, batch_of(policy, [short])), together, atol=1e-5)


def test_privileged_observations_cannot_reach_the_student(fresh_student):
    policy, episodes = fresh_student()
    actions = []
    for privileged in (0.0, 1e6, np.nan):
        policy.reset(1)
        actions.append(
            [
                policy.act(
                    {**{k: v[t : t + 1] for k, v in episodes[0].items()}, "privileged": np.full((1, 2), privileged)}
                )
                for t in range(len(episodes[0]["action"]))
            ]
        )
    np.testing.assert_array_equal(actions[0], actions[1])
    np.testing.assert_array_equal(actions[0], actions[2])
    # Not because nothing matters: what it senses does.
    policy.reset(1)
    seen = {k: v[:1] for k, v in episodes[0].items()}
    assert (policy.act({**seen, "tactile_left": 255 - seen["tactile_left"]}) != actions[0][0]).any()


def test_acting_is_deterministic_and_bounded(fresh_student):
    first, episodes = fresh_student(seed=3)
    second, _ = fresh_student(seed=3)
    seen = {key: np.stack([episode[key][0] for episode in episodes]) for key in first.keys}
    wild = {**seen, "proprioception": 1e3 * seen["proprioception"]}
    for policy in (first, second):
        policy.reset(8)
    np.testing.assert_array_equal(first.act(wild), second.act(wild))
    assert np.abs(first.act(wild)).max() <= 1.0


def test_letting_environments_go_keeps_the_memory_of_the_others(fresh_student):
    policy, episodes = fresh_student(previous_action=True)
    steps = [{key: np.stack([episode[key][t] for episode in episodes]) for key in policy.keys} for t in range(2)]
    policy.reset(8)
    policy.act(steps[0])
    all_actions = policy.act(steps[1])
    policy.reset(8)
    policy.act(steps[0])
    rows = np.array([2, 5])
    policy.keep(rows)
    some = policy.act({key: value[rows] for key, value in steps[1].items()})
    np.testing.assert_allclose(some, all_actions[rows], atol=1e-5)


def test_the_rest_image_is_that_of_the_normaliser(fresh_student):
    policy, episodes = fresh_student()
    mean = np.concatenate([episode["tactile_left"] for episode in episodes]).mean(0)
    np.testing.assert_array_equal(policy.rest_images()["tactile_left"], np.round(mean).astype(np.uint8))


def test_acting_before_reset_says_so(fresh_student):
    policy, _ = fresh_student()
    with pytest.raises(StateError, match="act needs reset to be called first"):
        policy.act({})

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError, StateError
from vtt_policies.config import Budget, LearnerConfig
from vtt_policies.learner import Learner, imitation_loss, rate_factor
from vtt_policies.replay import Batch, EpisodeBuffer


def batch_of(policy, episodes) -> Batch:
    buffer = EpisodeBuffer(policy.keys, capacity=10**9)
    for episode in episodes:
        buffer.add(episode)
    return buffer.gather(range(len(buffer)))


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=9), st.floats(0.05, 2.0))
def test_the_loss_is_hubers(errors, delta):
    error = torch.tensor(errors, dtype=torch.float64)[:, None]
    closed = [e * e / (2 * delta) if abs(e) <= delta else abs(e) - delta / 2 for e in errors]
    assert float(imitation_loss(error, torch.zeros_like(error), delta=delta)) == pytest.approx(
        np.mean(closed), abs=1e-9
    )


def test_every_step_of_a_batch_weighs_the_same(fresh_student):
    policy, episodes = fresh_student()
    learner = Learner(policy.network, policy.normalizer, config=LearnerConfig())
    short = {key: value[:2] for key, value in episodes[0].items()}
    long = episodes[1]
    alone = [float(learner.loss(batch_of(policy, [episode])).detach()) for episode in (short, long)]
    weights = [2, len(long["action"])]
    together = float(learner.loss(batch_of(policy, [short, long])).detach())
    assert together == pytest.approx(np.average(alone, weights=weights), rel=1e-5)


def test_the_step_size_rises_then_falls_to_zero_with_the_budget():
    factors = [rate_factor(step, progress=step / 100, warmup=10, fall_from=0.4) for step in range(101)]
    assert factors[0] == 0.1
    assert factors[9:41] == [1.0] * 32
    assert (np.diff(factors[40:]) < 0).all()
    assert factors[70] == pytest.approx(0.5)
    assert factors[-1] == 0.0


def test_progress_is_that_of_the_budget_which_runs_out_first():
    assert Budget(10, 100.0).progress(1, 50.0) == 0.5
    assert Budget(None, 100.0).progress(99, 25.0) == 0.25
    assert Budget(10, None).progress(20, 0.0) == 1.0
    with pytest.raises(ConfigError, match="A budget must end"):
        Budget(None, None)
    with pytest.raises(ConfigError, match="seconds must be positive, got 0"):
        Budget(None, 0)


def test_updates_fit_the_labels(fresh_student):
    policy, episodes = fresh_student()
    learner = Learner(policy.network, policy.normalizer, config=LearnerConfig(warmup=5, learning_rate=3e-3))
    batch = batch_of(policy, episodes)
    losses = [learner.update(batch, progress=0.0) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(("rate", "moves"), [(0.0, False), (0.1, True)])
def test_an_encoder_moves_unless_it_is_frozen(fresh_student, rate, moves):
    policy, episodes = fresh_student()
    learner = Learner(policy.network, policy.normalizer, config=LearnerConfig(encoder_rate=rate))
    before = {name: value.clone() for name, value in policy.network.state_dict().items()}
    for _ in range(3):
        learner.update(batch_of(policy, episodes), progress=0.0)
    moved = {name for name, value in policy.network.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("encoder.") for name in moved) == moves
    assert "inlet.0.weight" in moved


def test_what_a_frozen_encoder_said_stands_for_the_images(fresh_student):
    policy, episodes = fresh_student()
    learner = Learner(policy.network, policy.normalizer, config=LearnerConfig(encoder_rate=0.0))
    buffer = EpisodeBuffer((*policy.network.vector_keys, "latent"), capacity=10**9)
    for episode in episodes:
        buffer.add({**episode, "latent": policy.encode_episode(episode)})
    remembered = learner.loss(buffer.gather(range(len(buffer))))
    seen = learner.loss(batch_of(policy, episodes))
    assert float(remembered.detach()) == pytest.approx(float(seen.detach()), rel=1e-5)


def test_a_resumed_learner_takes_the_same_steps(fresh_student):
    policy, episodes = fresh_student()
    batch = batch_of(policy, episodes)
    learner = Learner(policy.network, policy.normalizer, config=LearnerConfig(warmup=3))
    learner.update(batch, progress=0.0)
    other, _ = fresh_student()
    other.network.load_state_dict(policy.network.state_dict())
    resumed = Learner(other.network, other.normalizer, config=LearnerConfig(warmup=3))
    resumed.load_state(copy.deepcopy(learner.state()))
    for progress in (0.1, 0.2, 0.3):
        assert learner.update(batch, progress=progress) == resumed.update(batch, progress=progress)
    for one, two in zip(policy.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_loss_that_is_not_finite_names_its_cause(fresh_student):
    policy, episodes = fresh_student()
    learner = Learner(policy.network, policy.normalizer, config=LearnerConfig())
    batch = batch_of(policy, episodes)
    spoilt = batch._replace(expert_action=np.full_like(batch.expert_action, np.nan))
    with pytest.raises(StateError, match="gradient step 0: expert_action of the batch hold values that are not"):
        learner.update(spoilt, progress=0.0)
    with torch.no_grad():
        policy.network.head[0].weight.fill_(torch.inf)
    with pytest.raises(StateError, match=r"the weights have diverged\. Lower learning_rate"):
        learner.update(batch, progress=0.0)


def test_settings_that_cannot_learn_are_refused():
    with pytest.raises(ConfigError, match="learning_rate must be positive, got 0"):
        LearnerConfig(learning_rate=0)
    with pytest.raises(ConfigError, match="encoder_rate must not be negative, got -1"):
        LearnerConfig(encoder_rate=-1)
    with pytest.raises(ConfigError, match=r"fall_from must be in \[0, 1\), got 1"):
        LearnerConfig(fall_from=1.0)

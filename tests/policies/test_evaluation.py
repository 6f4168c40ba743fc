import json
import math

import numpy as np
import pytest

from vtt.errors import ConfigError
from vtt_policies.evaluation import (
    FIRST_EVALUATION_SEED,
    Evaluation,
    batches_of,
    compare,
    evaluate,
    evaluation_seeds,
    table,
)
from vtt_policies.policy import ExpertPolicy, RandomPolicy, ZeroPolicy


def outcome(successes: int, n: int, **known) -> Evaluation:
    flags = tuple(index < successes for index in range(n))
    return Evaluation(tuple(range(n)), flags, tuple(3 if flag else 9 for flag in flags), 1.0, **known)


def test_the_interval_is_wilsons():
    # Wilson 1927 written out for 9 of 10.
    n, p, z = 10, 0.9, 1.959963984540054
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert outcome(9, 10).interval == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_counts_follow_from_the_outcomes():
    result = outcome(2, 5, peak_force=(1.0, None, 7.0, 4.0, None))
    assert (result.n, result.successes, result.rate, result.env_steps) == (5, 2, 0.4, 33)
    assert result.steps_to_success == 3
    assert result.median_peak_force == 4.0
    assert math.isnan(outcome(0, 5).steps_to_success)
    assert math.isnan(outcome(0, 5).median_peak_force)


def test_an_evaluation_comes_back_from_json():
    result = outcome(2, 4, dropped=(False, True, False, False), peak_force=(1.5, None, 2.0, 0.0), control_dt=0.05)
    facts = json.loads(json.dumps(result.to_dict()))
    assert (facts["n"], facts["steps_to_success"], facts["median_peak_force"]) == (4, 3, 1.5)
    assert Evaluation.from_dict(facts) == result
    assert json.loads(json.dumps(outcome(0, 3).to_dict()))["steps_to_success"] is None
    assert result.first(1).then(outcome(1, 2)).outcomes == (True, True, False)


@pytest.mark.parametrize("n", [1, 8, 11])
def test_each_seed_counts_once_whatever_the_batch(corners, n):
    result = evaluate(corners(8), ExpertPolicy(), evaluation_seeds(n))
    assert result.seeds == tuple(range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + n))
    assert result.rate == 1.0
    assert result.control_dt == 0.05


def test_the_batch_size_does_not_change_an_outcome(corners):
    seeds = evaluation_seeds(24)
    one, other = (evaluate(corners(size), ExpertPolicy(), seeds) for size in (5, 24))
    assert (one.outcomes, one.steps) == (other.outcomes, other.steps)


def test_doing_nothing_fails_and_chance_seldom_wins(corners):
    assert evaluate(corners(16), ZeroPolicy(2), evaluation_seeds(16)).rate == 0.0
    assert evaluate(corners(16), RandomPolicy(2, rng=np.random.default_rng(0)), evaluation_seeds(64)).rate < 0.3


def test_a_wrong_corner_is_an_early_end_and_a_horizon_is_not(corners):
    wandering = evaluate(corners(16), RandomPolicy(2, rng=np.random.default_rng(0)), evaluation_seeds(64))
    assert sum(wandering.dropped) > 0
    assert not any(dropped and success for dropped, success in zip(wandering.dropped, wandering.outcomes, strict=True))
    resting = evaluate(corners(8), ZeroPolicy(2), evaluation_seeds(8))
    assert not any(resting.dropped)


def test_random_actions_depend_on_the_batch_alone(corners):
    seeds = evaluation_seeds(16)
    policy = RandomPolicy(2, rng=np.random.default_rng(0))
    whole = evaluate(corners(8), policy, seeds)
    last = evaluate(corners(8), policy, seeds[8:])
    assert (last.outcomes, last.steps) == (whole.outcomes[8:], whole.steps[8:])


def test_the_peak_force_is_that_of_the_wrench_and_else_of_the_fingers(corners):
    class Pressed:
        """The toy, pressed harder at every step: two fingers with 2 x 2 taxels, or a wrist."""

        def __init__(self, keys):
            self.env, self.keys, self.time = corners(2), keys, 0

        def __getattr__(self, name):
            return getattr(self.env, name)

        def reset(self, **options):
            self.time = 0
            observation, info = self.env.reset(**options)
            return self.press(observation), info

        def step(self, action):
            self.time += 1
            observation, *rest = self.env.step(action)
            return self.press(observation), *rest

        def press(self, observation):
            wrench = np.array([[3.0, 4.0, 0.0, 99.0, 0.0, 0.0]] * 2, np.float32) * self.time
            taxels = np.full((2, 2, 2, 3), [0.0, 0.0, 0.25], np.float32) * self.time
            forces = {"wrench": wrench, "force_left": taxels, "force_right": 2 * taxels}
            return {**observation, **{key: forces[key] for key in self.keys}}

    for keys, newtons in (
        (("wrench", "force_left"), 5.0),
        (("force_left", "force_right"), 2.0),
        ((), None),
    ):
        pressed = evaluate(Pressed(keys), ZeroPolicy(2), [1, 2])  # pyright: ignore[reportArgumentType]
        assert pressed.peak_force == ((newtons * 12,) * 2 if newtons else (None, None))


def test_the_table_has_every_row_with_its_interval():
    known = {"control_dt": 0.05, "dropped": (False,) * 9 + (True,), "peak_force": (12.34,) * 10}
    text = table({"expert": outcome(10, 10, **known), "random": outcome(0, 10)})
    header, expert, random = text.splitlines()
    names = ["policy", "success", "95", "%", "interval", "successes/n", "time,", "s", "peak", "force,", "N", "dropped"]
    assert header.split() == names
    assert expert.split() == ["expert", "1.000", "0.722", "-", "1.000", "10/10", "0.15", "12.3", "1"]
    assert random.split() == ["random", "0.000", "0.000", "-", "0.278", "0/10", "-", "-", "-"]
    assert len(header) == len(expert) == len(random)


def test_two_policies_are_compared_on_the_seeds_they_share():
    first = Evaluation((1, 2, 3, 4), (True, True, True, False), (1, 1, 1, 1), 1.0)
    second = Evaluation((4, 3, 2, 9), (True, False, False, True), (1, 1, 1, 1), 1.0)
    held = compare(first, second)
    assert (held.n, held.only_first, held.only_second) == (3, 2, 1)
    assert held.difference == pytest.approx(1 / 3)
    assert held.p == 1.0
    with pytest.raises(ConfigError, match="must share seeds to be compared, got none in common"):
        compare(first, Evaluation((7,), (True,), (1,), 1.0))


def test_an_evaluation_without_episodes_is_refused(corners):
    with pytest.raises(ConfigError, match="n must be at least 1, got 0"):
        evaluation_seeds(0)
    with pytest.raises(ConfigError, match="seeds must name at least one episode"):
        evaluate(corners(2), ZeroPolicy(2), [])
    assert [batch.counted for batch in batches_of(range(5), 2)] == [2, 2, 1]

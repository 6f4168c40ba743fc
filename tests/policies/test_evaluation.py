import json
import math

import numpy as np
import pytest

from vtt.errors import ConfigError
from vtt_policies.evaluation import FIRST_EVALUATION_SEED, Evaluation, evaluate, evaluation_seeds, table
from vtt_policies.policy import ExpertPolicy, RandomPolicy, ZeroPolicy


def outcome(successes: int, n: int) -> Evaluation:
    flags = tuple(index < successes for index in range(n))
    return Evaluation(tuple(range(n)), flags, tuple(3 if flag else 9 for flag in flags), 1.0)


def test_the_interval_is_wilsons():
    # Wilson 1927 written out for 9 of 10.
    n, p, z = 10, 0.9, 1.959963984540054
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert outcome(9, 10).interval == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_counts_follow_from_the_outcomes():
    result = outcome(2, 5)
    assert (result.n, result.successes, result.rate, result.env_steps) == (5, 2, 0.4, 33)
    assert result.steps_to_success == 3
    assert math.isnan(outcome(0, 5).steps_to_success)


def test_json_holds_counts_and_seeds():
    facts = json.loads(json.dumps(outcome(0, 3).to_dict()))
    assert facts["n"] == 3
    assert facts["seeds"] == [0, 1, 2]
    assert facts["steps_to_success"] is None


@pytest.mark.parametrize("n", [1, 8, 11])
def test_each_seed_counts_once_whatever_the_batch(corners, n):
    result = evaluate(corners(8), ExpertPolicy(), evaluation_seeds(n))
    assert result.seeds == tuple(range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + n))
    assert result.rate == 1.0


def test_the_batch_size_does_not_change_an_outcome(corners):
    seeds = evaluation_seeds(24)
    one, other = (evaluate(corners(size), ExpertPolicy(), seeds) for size in (5, 24))
    assert (one.outcomes, one.steps) == (other.outcomes, other.steps)


def test_doing_nothing_fails_and_chance_seldom_wins(corners):
    assert evaluate(corners(16), ZeroPolicy(2), evaluation_seeds(16)).rate == 0.0
    assert evaluate(corners(16), RandomPolicy(2, rng=np.random.default_rng(0)), evaluation_seeds(64)).rate < 0.3


def test_the_table_has_every_row_with_its_interval():
    text = table({"expert": outcome(10, 10), "random": outcome(0, 10)})
    header, expert, random = text.splitlines()
    assert header.split() == ["policy", "success", "95", "%", "interval", "successes/n", "median", "steps"]
    assert expert.split() == ["expert", "1.000", "0.722", "-", "1.000", "10/10", "3"]
    assert random.split() == ["random", "0.000", "0.000", "-", "0.278", "0/10", "-"]


def test_an_evaluation_without_episodes_is_refused(corners):
    with pytest.raises(ConfigError, match="n must be at least 1, got 0"):
        evaluation_seeds(0)
    with pytest.raises(ConfigError, match="seeds must name at least one episode"):
        evaluate(corners(2), ZeroPolicy(2), [])

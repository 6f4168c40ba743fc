import pytest

from vtt.errors import StateError
from vtt_policies.rl.guard import check_training

_RUN = {"largest_reward": 2.0, "gamma": 0.9, "action_dim": 3, "step": 100}


def test_a_loss_that_is_no_number_is_named():
    check_training({"train/loss": 1.0, "train/explained_variance": float("nan")}, **_RUN)
    with pytest.raises(StateError, match=r"train/ent_coef_loss must be finite, got nan after 100 steps"):
        check_training({"train/ent_coef_loss": float("nan")}, **_RUN)


def test_a_value_that_no_reward_explains_is_stopped():
    # 10 times the largest sum of rewards, 2 / (1 - 0.9), on either side of zero: (2 * 10 * 20)^2.
    check_training({"train/value_loss": 159_000.0}, **_RUN)
    with pytest.raises(StateError, match=r"train/value_loss must stay below 1.6e\+05, 10 times what rewards up to 2"):
        check_training({"train/value_loss": 161_000.0}, **_RUN)


def test_the_entropy_bonus_of_sac_is_part_of_its_values():
    check_training({"train/critic_loss": 161_000.0, "train/ent_coef": 1.0}, **_RUN)
    with pytest.raises(StateError, match="Lower learning_rate or gamma"):
        check_training({"train/critic_loss": 161_000.0, "train/ent_coef": 0.0}, **_RUN)

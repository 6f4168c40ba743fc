import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError, MissingError
from vtt_policies.perturbation import derangement, make_perturbation, phase_mask

REST = {"tactile_left": np.full((2, 2, 3), 7, np.uint8)}


def history(steps: int = 4, num_envs: int = 3) -> list[dict[str, np.ndarray]]:
    """Touch that tells its step and environment: 10 * step + environment."""
    code = [10 * step + np.arange(num_envs) for step in range(steps)]
    image = [np.broadcast_to(c[:, None, None, None], (num_envs, 2, 2, 3)).astype(np.uint8) for c in code]
    force = [c[:, None].astype(np.float32) + 0.5 for c in code]
    return [{"goal": f.copy(), "tactile_left": i, "force_left": f} for i, f in zip(image, force, strict=True)]


def perturbed(name: str, **options) -> dict[str, np.ndarray]:
    perturb = make_perturbation(name, num_envs=3, rng=np.random.default_rng(0), rest=REST, **options)
    return dict(perturb(history()))


@pytest.mark.parametrize("name", ["touch_shuffled", "touch_off", "touch_frozen", "touch_delayed"])
def test_controls_of_touch_leave_all_else_as_it_is(name):
    np.testing.assert_array_equal(perturbed(name)["goal"], history()[-1]["goal"])


def test_shuffled_touch_is_another_environments_touch_of_the_same_moment():
    seen = perturbed("touch_shuffled")
    donor = seen["tactile_left"][:, 0, 0, 0] - 30
    assert sorted(donor) == [0, 1, 2]
    assert (donor != np.arange(3)).all()
    np.testing.assert_array_equal(seen["force_left"][:, 0], donor + 30.5)


def test_touch_switched_off_is_the_rest_image_and_no_force():
    seen = perturbed("touch_off")
    assert (seen["tactile_left"] == 7).all()
    assert seen["tactile_left"].dtype == np.uint8
    assert (seen["force_left"] == 0).all()


def test_frozen_touch_is_that_of_the_first_step():
    np.testing.assert_array_equal(perturbed("touch_frozen")["tactile_left"], history()[0]["tactile_left"])


@pytest.mark.parametrize(("delay", "step"), [(0, 3), (2, 1), (9, 0)])
def test_delayed_touch_is_that_of_some_steps_ago(delay, step):
    seen = perturbed("touch_delayed", delay_steps=delay)
    np.testing.assert_array_equal(seen["tactile_left"], history()[step]["tactile_left"])


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_a_derangement_moves_everyone(count, seed):
    donor = derangement(count, rng=np.random.default_rng(seed))
    assert sorted(donor) == list(range(count))
    assert (donor != np.arange(count)).all()


def test_controls_that_cannot_be_made_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="count must be at least 2 to shuffle"):
        make_perturbation("touch_shuffled", num_envs=1, rng=rng)
    with pytest.raises(MissingError, match=r"No perturbation 'touch_numb'\. Available: touch_delayed"):
        make_perturbation("touch_numb", num_envs=2, rng=rng)
    with pytest.raises(ConfigError, match="must have touch to act on, got only goal"):
        make_perturbation("touch_frozen", num_envs=2, rng=rng)([{"goal": np.zeros((2, 1))}])
    with pytest.raises(MissingError, match=r"No rest image 'tactile_left'\. Available: none"):
        make_perturbation("touch_off", num_envs=3, rng=rng)(history())


def touching(*steps: list[list[int]]) -> list[dict[str, np.ndarray]]:
    """A history whose contact is given, step by step, as environments by sensors."""
    frames = history(len(steps), num_envs=3)
    return [{**frame, "contact": np.array(contact, bool)} for frame, contact in zip(frames, steps, strict=True)]


# Three environments with two sensors each: never in contact; in contact now; held from the start, touched once.
EPISODE = touching([[0, 0], [0, 0], [1, 0]], [[0, 0], [0, 0], [1, 1]], [[0, 0], [0, 1], [1, 0]])


def test_phases_are_told_by_contact_that_was_not_there_from_the_start():
    assert phase_mask(EPISODE, "before_contact").tolist() == [True, False, False]
    assert phase_mask(EPISODE, "in_contact").tolist() == [False, True, False]
    assert phase_mask(EPISODE[:1], "before_contact").all()


@pytest.mark.parametrize(
    ("phase", "lied_to"), [("always", [1, 1, 1]), ("before_contact", [1, 0, 0]), ("in_contact", [0, 1, 0])]
)
def test_touch_lies_only_in_its_phase(phase, lied_to):
    perturb = make_perturbation("touch_off", num_envs=3, rng=np.random.default_rng(0), rest=REST, phase=phase)
    seen = perturb(EPISODE)
    np.testing.assert_array_equal((seen["tactile_left"] == 7).all((1, 2, 3)), np.array(lied_to, bool))
    np.testing.assert_array_equal((seen["force_left"] == 0).all(1), np.array(lied_to, bool))
    np.testing.assert_array_equal(seen["goal"], EPISODE[-1]["goal"])
    assert seen["tactile_left"].dtype == np.uint8


def test_a_phase_needs_an_environment_that_tells_contact():
    with pytest.raises(ConfigError, match="info must hold contact for the phase 'in_contact'"):
        perturbed("touch_frozen", phase="in_contact")
    with pytest.raises(MissingError, match=r"No phase 'after_lunch'\. Available: always, before_contact, in_contact"):
        perturbed("touch_frozen", phase="after_lunch")

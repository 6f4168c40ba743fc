import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError, ShapeError, StateError
from vtt_policies.replay import EpisodeBuffer


def episode(steps: int, code: int) -> dict[str, np.ndarray]:
    action = (100 * code + np.arange(steps, dtype=np.float32))[:, None]
    return {"image": np.full((steps, 2, 2, 3), code, np.uint8), "action": action, "expert_action": -action}


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_a_batch_lays_whole_episodes_one_after_the_other(lengths, seed):
    buffer = EpisodeBuffer(("image",), capacity=10**6)
    for code, steps in enumerate(lengths):
        buffer.add(episode(steps, code))
    batch = buffer.sample(4, rng=np.random.default_rng(seed))
    codes = []
    for start, stop in zip(np.cumsum(batch.lengths) - batch.lengths, np.cumsum(batch.lengths), strict=True):
        code = int(batch.observation["image"][start, 0, 0, 0])
        codes.append(code)
        assert stop - start == lengths[code]
        assert (batch.observation["image"][start:stop] == code).all()
        np.testing.assert_array_equal(batch.expert_action[start:stop], -episode(stop - start, code)["action"])
        previous = batch.previous_action[start:stop]
        assert previous[0] == 0
        np.testing.assert_array_equal(previous[1:], episode(stop - start, code)["action"][:-1])
    assert len(set(codes)) == len(codes) == min(4, len(lengths))


def test_the_oldest_episodes_are_forgotten_when_memory_is_full():
    size = sum(array.nbytes for array in episode(5, 0).values())
    buffer = EpisodeBuffer(("image",), capacity=3 * size)
    for code in range(5):
        buffer.add(episode(5, code))
    assert buffer.nbytes == 3 * size
    assert buffer.steps == 15
    batch = buffer.gather(range(3))
    assert batch.observation["image"][::5, 0, 0, 0].tolist() == [2, 3, 4]


def test_images_stay_uint8():
    buffer = EpisodeBuffer(("image",), capacity=10**6)
    buffer.add(episode(3, 1))
    assert buffer.sample(1, rng=np.random.default_rng(0)).observation["image"].dtype == np.uint8


def test_mistakes_of_the_caller_end_in_a_sentence():
    with pytest.raises(ConfigError, match="capacity must be positive, got 0"):
        EpisodeBuffer((), capacity=0)
    buffer = EpisodeBuffer(("image",), capacity=10)
    with pytest.raises(StateError, match="sample needs add to be called first"):
        buffer.sample(1, rng=np.random.default_rng(0))
    with pytest.raises(ShapeError, match="equally many steps of each stream"):
        buffer.add({**episode(3, 1), "image": np.zeros((2, 2, 2, 3), np.uint8)})


def test_reduced_episodes_keep_vectors_and_what_was_said_of_the_images():
    buffer = EpisodeBuffer(["goal", "camera_front"], capacity=10**6)
    actions = {"action": np.zeros((4, 2), np.float32), "expert_action": np.ones((4, 2), np.float32)}
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    buffer.add({"goal": np.arange(4.0)[:, None], "camera_front": images, **actions})
    before = buffer.nbytes
    buffer.reduce(["goal"], lambda episode: episode["camera_front"].mean((1, 2, 3))[:, None].astype(np.float32))
    buffer.add({"goal": np.zeros((2, 1)), "latent": np.full((2, 1), 9.0), **{k: v[:2] for k, v in actions.items()}})
    assert buffer.nbytes < before + 200
    batch = buffer.gather([0, 1])
    assert set(batch.observation) == {"goal", "latent"}
    assert batch.observation["latent"].ravel().tolist() == [0, 1, 2, 3, 9, 9]

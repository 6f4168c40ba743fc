import numpy as np
import pytest

from vtt.errors import StateError
from vtt.streams import Stream
from vtt_policies.chunking.windows import ChunkWindows

CONTROL = 50_000_000


def episode(first: int, steps: int, *, rate: int = 1) -> dict[str, Stream]:
    """Actions first, first + 1, ...; `wrench` counts likewise, `rate` times as often."""
    clock = np.arange(steps, dtype=np.int64) * CONTROL
    fast = np.arange(steps * rate, dtype=np.int64) * (CONTROL // rate)
    return {
        "action": Stream((first + np.arange(steps, dtype=np.float32))[:, None], clock),
        "wrench": Stream((10 * first + np.arange(steps * rate, dtype=np.float32))[:, None], fast),
    }


def windows(*episodes, **sizes) -> ChunkWindows:
    return ChunkWindows(episodes, ["wrench"], label="action", period=0.05, **sizes)


def test_windows_at_the_ends_are_padded_as_by_hand():
    found = windows(episode(0, 4), episode(100, 2), obs_horizon=3, prediction_horizon=3)
    assert len(found) == 6
    batch = found.gather(np.arange(6))
    assert batch.observation["wrench"][:, :, 0].tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 2],
        [1, 2, 3],
        [1000, 1000, 1000],
        [1000, 1000, 1001],
    ]
    assert batch.action[:, :, 0].tolist() == [
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 3],
        [3, 3, 3],
        [100, 101, 101],
        [101, 101, 101],
    ]
    assert batch.valid.tolist() == [
        [True, True, True],
        [True, True, True],
        [True, True, False],
        [True, False, False],
        [True, True, False],
        [True, False, False],
    ]


def test_a_chunk_that_begins_in_the_past_is_padded_at_the_start():
    found = windows(episode(5, 3), obs_horizon=2, prediction_horizon=4, first_step=-1)
    batch = found.gather(np.arange(3))
    assert batch.action[:, :, 0].tolist() == [[5, 5, 6, 7], [5, 6, 7, 7], [6, 7, 7, 7]]
    assert batch.valid.tolist() == [[False, True, True, True], [True, True, True, False], [True, True, False, False]]


def test_a_faster_stream_is_looked_up_by_time():
    found = windows(episode(0, 3, rate=5), obs_horizon=2, prediction_horizon=1)
    assert found.gather(np.arange(3)).observation["wrench"][:, :, 0].tolist() == [[0, 0], [0, 5], [5, 10]]


def test_stamps_that_jitter_find_their_own_action():
    clean = episode(0, 5)
    late = clean["action"].stamp_ns + np.array([0, 9_000_000, -9_000_000, 9_000_000, 0])
    jittered = {"action": Stream(clean["action"].data, late), "wrench": Stream(clean["wrench"].data, late)}
    batch = windows(jittered, obs_horizon=1, prediction_horizon=3).gather(np.arange(5))
    assert batch.action[:3, :, 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert batch.valid.sum(1).tolist() == [3, 3, 3, 2, 1]


def test_batches_are_drawn_from_all_moments_and_repeat_with_the_seed():
    found = windows(episode(0, 4), episode(100, 2), obs_horizon=1, prediction_horizon=2)
    first = found.sample(200, rng=np.random.default_rng(3))
    assert set(first.action[:, 0, 0].tolist()) == {0, 1, 2, 3, 100, 101}
    again = found.sample(200, rng=np.random.default_rng(3))
    assert np.array_equal(first.action, again.action)
    with pytest.raises(StateError, match="sample needs at least one episode"):
        windows(obs_horizon=1, prediction_horizon=2).sample(1, rng=np.random.default_rng(0))

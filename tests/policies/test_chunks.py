import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError, ShapeError, StateError
from vtt_policies.chunks import ActionQueue, ObservationHistory, TemporalEnsemble, chunk_executor


@given(st.integers(1, 6), st.floats(-1.0, 1.0), st.integers(1, 12), st.integers(0, 99))
def test_an_ensemble_is_the_weighted_mean_of_all_chunks_that_still_speak(length, decay, steps, seed):
    chunks = np.random.default_rng(seed).normal(size=(steps, 2, length, 3)).astype(np.float32)
    ensemble = TemporalEnsemble(decay)
    for now in range(steps):
        ensemble.add(chunks[now])
        # Zhao et al. 2023: w_i = exp(-m i), i = 0 for the oldest prediction of this step.
        speaking = range(max(0, now - length + 1), now + 1)
        weight = [np.exp(-decay * i) for i in range(len(speaking))]
        closed = sum(w * chunks[born][:, now - born] for w, born in zip(weight, speaking, strict=True)) / sum(weight)
        assert ensemble.next() == pytest.approx(closed, abs=1e-5)


def test_a_queue_executes_the_beginning_of_each_chunk():
    queue = ActionQueue(3)
    executed = []
    for step in range(7):
        if queue.due:
            queue.add(10.0 * step + np.arange(5.0).reshape(1, 5, 1))
        executed.append(queue.next().item())
    assert executed == [0, 1, 2, 30, 31, 32, 60]
    queue.reset()
    assert queue.due


def test_fewer_environments_go_on_with_what_was_theirs():
    chunk = np.arange(24.0).reshape(4, 3, 2)
    rows = np.array([3, 1])
    for executor in (ActionQueue(3), TemporalEnsemble(0.1)):
        executor.add(chunk)
        executor.next()
        executor.keep(rows)
        if executor.due:
            executor.add(chunk[rows, 1:])
        assert executor.next() == pytest.approx(chunk[rows, 1])
    history = ObservationHistory(2)
    history.add({"goal": np.arange(4)[:, None]})
    history.keep(rows)
    stacked = history.add({"goal": np.array([[30], [10]])})["goal"]
    assert stacked[:, :, 0].tolist() == [[3, 30], [1, 10]]


def test_frames_are_copies_and_the_first_is_repeated():
    history = ObservationHistory(3)
    reused = np.zeros((1, 2), np.float32)
    for value, expected in ((1, [1, 1, 1]), (2, [1, 1, 2]), (3, [1, 2, 3]), (4, [2, 3, 4])):
        reused[:] = value
        assert history.add({"goal": reused})["goal"][0, :, 1].tolist() == expected
    history.reset()
    assert history.add({"goal": reused})["goal"].shape == (1, 3, 2)


def test_what_cannot_be_executed_is_refused():
    with pytest.raises(ConfigError, match="action_horizon must be 1 for a temporal ensemble, got 8"):
        chunk_executor(8, ensemble=0.01)
    with pytest.raises(ShapeError, match=r"K at least 4, got \(1, 3, 2\)"):
        chunk_executor(4).add(np.zeros((1, 3, 2), np.float32))
    with pytest.raises(StateError, match="next needs add to be called first"):
        chunk_executor(1, ensemble=0.01).next()


def test_chunks_need_no_torch():
    code = "import sys, vtt_policies.chunks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

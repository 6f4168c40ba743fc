from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError, MissingError, ShapeError
from vtt.streams import Stream
from vtt.windows import Window, look_up

MS = 1_000_000


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """A stream with an uneven clock whose data are the row numbers."""
    gaps = draw(st.lists(st.integers(1, 200 * MS), min_size=1, max_size=30))
    stamps = np.cumsum(gaps).astype(np.int64) + draw(st.integers(-(10**9), 10**15))
    return Stream(np.arange(len(stamps)), stamps)


@st.composite
def queries(draw: st.DrawFn, stream: Stream) -> np.ndarray:
    low, high = int(stream.stamp_ns[0]) - 10**9, int(stream.stamp_ns[-1]) + 10**9
    return np.array(draw(st.lists(st.integers(low, high), min_size=1, max_size=20)), np.int64)


@given(st.data())
def test_a_valid_sample_is_never_from_the_future(data: st.DataObject) -> None:
    stream = data.draw(streams())
    times = data.draw(queries(stream))
    found = look_up(stream, times)
    assert (stream.stamp_ns[found.data][found.valid] <= times[found.valid]).all()
    assert (found.age_s >= 0).all()


@given(st.data())
def test_the_sample_after_the_one_found_is_from_the_future(data: st.DataObject) -> None:
    stream = data.draw(streams())
    times = data.draw(queries(stream))
    found = look_up(stream, times)
    following = found.data[found.valid] + 1
    inside = following < len(stream.stamp_ns)
    assert (stream.stamp_ns[following[inside]] > times[found.valid][inside]).all()


@given(st.data())
def test_before_the_first_sample_the_first_repeats_and_is_invalid(data: st.DataObject) -> None:
    stream = data.draw(streams())
    times = data.draw(queries(stream))
    found = look_up(stream, times)
    early = times < stream.stamp_ns[0]
    np.testing.assert_array_equal(found.valid, ~early)
    assert (found.data[early] == 0).all()
    assert np.isposinf(found.age_s[early]).all()


@given(st.data())
def test_a_sample_is_valid_up_to_its_greatest_age(data: st.DataObject) -> None:
    stream = data.draw(streams())
    times = data.draw(queries(stream))
    limit = data.draw(st.floats(0, 1))
    found = look_up(stream, times, max_age_s=limit)
    np.testing.assert_array_equal(found.valid, found.age_s <= limit)


@given(st.data())
def test_samples_taken_later_change_nothing(data: st.DataObject) -> None:
    stream = data.draw(streams())
    times = data.draw(queries(stream))
    now = int(times.max())
    known = max(1, int((stream.stamp_ns <= now).sum()))
    before, after = look_up(Stream(stream.data[:known], stream.stamp_ns[:known]), times), look_up(stream, times)
    for mine, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@given(st.data())
def test_at_its_own_stamps_a_stream_returns_itself(data: st.DataObject) -> None:
    stream = data.draw(streams())
    found = look_up(stream, stream.stamp_ns)
    np.testing.assert_array_equal(found.data, stream.data)
    assert found.valid.all()
    assert (found.age_s == 0).all()


def test_streams_of_different_rates_meet_at_the_query_times() -> None:
    camera = Stream(np.arange(4) * 50, np.arange(4) * 50 * MS)  # data: time in ms
    touch = Stream(np.arange(30)[:, None] * 7, np.arange(30) * 7 * MS)
    window = Window({"camera": (-0.05, 0.0), "touch": (-0.02, -0.01, 0.0)})
    found = window.read({"camera": camera, "touch": touch, "unused": touch}, [0, 60 * MS, 140 * MS])
    assert found["camera"].data.tolist() == [[0, 0], [0, 50], [50, 100]]
    assert found["camera"].valid.tolist() == [[False, True], [True, True], [True, True]]
    assert found["touch"].data[..., 0].tolist() == [[0, 0, 0], [35, 49, 56], [119, 126, 140]]
    assert found["touch"].data.shape == (3, 3, 1)
    np.testing.assert_allclose(found["touch"].age_s[1], [0.005, 0.001, 0.004])


def test_a_chunk_of_actions_ends_with_the_episode() -> None:
    actions = Stream(np.arange(3), np.arange(3) * 50 * MS)
    found = Window({"action": (0.0, 0.05, 0.1)}, max_age_s=0.04).read({"action": actions}, actions.stamp_ns)["action"]
    assert found.data.tolist() == [[0, 1, 2], [1, 2, 2], [2, 2, 2]]
    assert found.valid.tolist() == [[True, True, True], [True, True, False], [True, False, False]]


def test_a_missing_stream_is_named() -> None:
    with pytest.raises(MissingError, match=r"No stream 'touch'\. Available: camera\."):
        Window({"touch": (0.0,)}).read({"camera": Stream(np.zeros(1), np.zeros(1, np.int64))}, [0])


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(ShapeError, match="stream must have at least one sample"):
        look_up(Stream(np.zeros(0), np.zeros(0, np.int64)), np.zeros(1, np.int64))


def test_a_negative_age_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_age_s must not be negative"):
        Window({}, max_age_s=-1.0)

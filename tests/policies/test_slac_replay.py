import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError, ShapeError, StateError, StoreError
from vtt_policies.slac.archive import ReplayArchive
from vtt_policies.slac.replay import SequenceReplay


def episode(length, number=0, *, terminal=True):
    """Frames and actions that tell their episode and step."""
    frame = 100 * number + np.arange(length + 1)
    return {
        "image": np.repeat(frame.astype(np.uint8)[:, None, None, None], 2, 1),
        "contact": np.zeros((length + 1, 2), bool),
        "action": 100.0 * number + np.arange(length, dtype=np.float32)[:, None] + 0.5,
        "reward": np.arange(length, dtype=np.float32),
        "terminated": np.arange(length) == (length - 1 if terminal else -1),
    }


def filled(*lengths, capacity=1000, sequence=4):
    replay = SequenceReplay(("image",), capacity=capacity, sequence=sequence)
    for number, length in enumerate(lengths):
        replay.add(episode(length, number))
    return replay


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), sequence=st.integers(1, 6), seed=st.integers(0, 99)
)
def test_windows_are_consecutive_and_inside_one_episode(lengths, sequence, seed):
    replay = filled(*lengths, sequence=sequence)
    drawn = replay.sample(20, rng=np.random.default_rng(seed))
    for b in range(20):
        first, number = drawn.first[b], drawn.episode[b]
        frames = drawn.observation["image"][b, first:, 0, 0, 0].astype(int)
        begin = max(0, drawn.start[b])
        assert frames.tolist() == [(100 * number + begin + k) % 256 for k in range(len(frames))]
        assert drawn.action[b, first:, 0].tolist() == [100 * number + begin + k + 0.5 for k in range(len(frames) - 1)]
        assert begin + len(frames) - 1 <= lengths[number]
        assert first == max(0, -drawn.start[b])
        assert not drawn.action[b, :first].any()
        assert not drawn.reward[b, :first].any()
        assert not drawn.terminated[b, :first].any()


def test_every_transition_is_drawn_as_often_as_any_other():
    replay = filled(1, 7, 2)
    drawn = replay.sample(20_000, rng=np.random.default_rng(0))
    last = drawn.action[:, -1, 0]
    _, counts = np.unique(last, return_counts=True)
    assert len(counts) == 10
    # Five standard deviations of a binomial with p = .1.
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(20_000 * 0.1 * 0.9)


def test_terminal_transitions_and_their_rewards_are_drawn():
    drawn = filled(3).sample(200, rng=np.random.default_rng(0))
    ends = drawn.terminated[:, -1]
    assert ends.any()
    assert (drawn.reward[ends, -1] == 2.0).all()
    assert not drawn.terminated[:, :-1].any()


def test_episodes_shorter_than_a_window_are_drawn():
    drawn = filled(1, sequence=8).sample(4, rng=np.random.default_rng(0))
    assert (drawn.first == 7).all()
    assert drawn.observation["image"][:, 7:, 0, 0, 0].tolist() == [[0, 1]] * 4


def test_oldest_episodes_are_forgotten_and_the_newest_never():
    replay = filled(5, 5, 5, capacity=10)
    assert (len(replay), replay.steps, replay.forgotten) == (2, 10, 1)
    assert set(replay.sample(100, rng=np.random.default_rng(0)).episode.tolist()) == {1, 2}
    replay.add(episode(30, 3))
    assert (len(replay), replay.steps) == (1, 30)


def test_images_are_held_once_as_bytes():
    replay = filled(10)
    held = replay.frames("image")
    assert sum(array.nbytes for array in held) == 11 * 2
    assert held[0].dtype == np.uint8


def test_sampling_from_nothing_is_refused():
    with pytest.raises(StateError, match="sample needs add to be called first"):
        SequenceReplay(("image",), capacity=10, sequence=2).sample(1, rng=np.random.default_rng(0))


def test_an_episode_without_its_last_frame_is_refused():
    cut = episode(3)
    cut["image"] = cut["image"][:-1]
    with pytest.raises(ShapeError, match=r"one frame more than those, got lengths \{'image': 3\}"):
        filled(2).add(cut)


def test_empty_replay_is_refused():
    with pytest.raises(ConfigError, match="capacity and sequence must be positive, got 0 and 2"):
        SequenceReplay(("image",), capacity=0, sequence=2)


def test_archive_gives_back_what_the_replay_held(tmp_path):
    replay = SequenceReplay(("image",), capacity=12, sequence=3)
    archive = ReplayArchive(tmp_path / "replay", replay)
    for number, lengths in enumerate([(4, 3), (5,), (1, 1)]):
        for length in lengths:
            archive.add(episode(length, number))
        archive.commit(number)
        archive.clean()
    other = SequenceReplay(("image",), capacity=12, sequence=3)
    ReplayArchive(tmp_path / "replay", other).load(before=3)
    one, two = (each.sample(50, rng=np.random.default_rng(1)) for each in (replay, other))
    for name, mine, theirs in zip(one._fields, one, two, strict=True):
        if name == "observation":
            assert np.array_equal(mine["image"], theirs["image"])
        elif name != "episode":
            assert np.array_equal(mine, theirs), name


def test_archive_leaves_out_a_round_that_was_not_finished(tmp_path):
    replay = SequenceReplay(("image",), capacity=100, sequence=3)
    archive = ReplayArchive(tmp_path, replay)
    for number in range(2):
        archive.add(episode(4, number))
        archive.commit(number)
    other = SequenceReplay(("image",), capacity=100, sequence=3)
    ReplayArchive(tmp_path, other).load(before=1)
    assert len(other) == 1


def test_archive_removes_files_whose_episodes_are_forgotten(tmp_path):
    archive = ReplayArchive(tmp_path, SequenceReplay(("image",), capacity=8, sequence=3))
    for number in range(4):
        archive.add(episode(4, number))
        archive.commit(number)
        archive.clean()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000002.safetensors", "00000003.safetensors"]


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "00000000.safetensors").write_bytes(b"nothing")
    with pytest.raises(StoreError, match=r"00000000.safetensors is missing or damaged"):
        ReplayArchive(tmp_path, SequenceReplay(("image",), capacity=8, sequence=3)).load(before=1)

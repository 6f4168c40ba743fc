import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import DictReplayBuffer

from vtt.errors import StoreError
from vtt_policies.rl.frame_buffer import FrameReplayBuffer, Frames

_SPACE = spaces.Dict(
    {"camera": spaces.Box(0, 255, (4, 5, 3), np.uint8), "pose": spaces.Box(-np.inf, np.inf, (2,), np.float32)}
)
_ACTIONS = spaces.Box(-1.0, 1.0, (2,), np.float32)


def _fill(buffers, *, steps, num_envs, end_rate, seed):
    """Add the same steps to all buffers; some end an episode, half of those by their horizon."""
    rng = np.random.default_rng(seed)

    def look(count):
        return {
            "camera": rng.integers(256, size=(count, 4, 5, 3), dtype=np.uint8),
            "pose": rng.normal(size=(count, 2)).astype(np.float32),
        }

    now = look(num_envs)
    for _ in range(steps):
        begun = look(num_envs)
        done = rng.random(num_envs) < end_rate
        last = look(num_envs)
        mask = {key: done.reshape(-1, *[1] * (begun[key].ndim - 1)) for key in begun}
        following = {key: np.where(mask[key], last[key], begun[key]) for key in begun}
        action = rng.uniform(-1, 1, (num_envs, 2)).astype(np.float32)
        reward = rng.normal(size=num_envs).astype(np.float32)
        infos = [{"TimeLimit.truncated": bool(rng.random() < 0.5)} if ended else {} for ended in done]
        for buffer in buffers:
            buffer.add({**now}, {**following}, action, reward, done, infos)
        now = begun


def _draw(buffer, seed):
    np.random.seed(seed)  # noqa: NPY002 (SB3 draws from it)
    return buffer.sample(64)


def _assert_equal(one, two):
    for key in _SPACE.spaces:
        assert one.observations[key].dtype == two.observations[key].dtype
        assert torch.equal(one.observations[key], two.observations[key])
        assert torch.equal(one.next_observations[key], two.next_observations[key])
    for name in ("actions", "dones", "rewards"):
        assert torch.equal(getattr(one, name), getattr(two, name))


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(6, 60),
    steps=st.integers(1, 50),
    num_envs=st.integers(1, 4),
    end_rate=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_every_sample_is_that_of_the_buffer_of_sb3(size, steps, num_envs, end_rate, seed):
    options = {"device": "cpu", "n_envs": num_envs}
    ours, theirs = (kind(size, _SPACE, _ACTIONS, **options) for kind in (FrameReplayBuffer, DictReplayBuffer))
    _fill([ours, theirs], steps=steps, num_envs=num_envs, end_rate=end_rate, seed=seed)
    assert ours.size() == theirs.size()
    _assert_equal(_draw(ours, seed), _draw(theirs, seed))


def test_an_image_is_stored_once_in_bytes():
    buffer = FrameReplayBuffer(1000, _SPACE, _ACTIONS, device="cpu", n_envs=2)
    _fill([buffer], steps=600, num_envs=2, end_rate=0.02, seed=0)
    frame = 4 * 5 * 3 + 2 * 4
    held = [*buffer.observations.values(), buffer.actions, buffer.rewards, buffer.dones, buffer.timeouts]
    told = FrameReplayBuffer.nbytes(1000, _SPACE, action_dim=2, horizon=50)
    assert sum(array.nbytes for array in held) == 1000 * (frame + 4 * 5)
    assert told == 1000 * (frame + frame // 50 + 4 * 5)
    assert 5 < len(buffer._last) < 40


@pytest.mark.parametrize("steps", [0, 5, 40])
def test_a_buffer_comes_back_from_disk_as_it_was(steps, tmp_path):
    before, after = (FrameReplayBuffer(24, _SPACE, _ACTIONS, device="cpu", n_envs=2) for _ in range(2))
    _fill([before], steps=steps, num_envs=2, end_rate=0.3, seed=0)
    before.save(tmp_path / "replay.safetensors")
    after.load(tmp_path / "replay.safetensors")
    assert (after.pos, after.full) == (before.pos, before.full)
    if steps:
        _assert_equal(_draw(before, 1), _draw(after, 1))
    _fill([before, after], steps=7, num_envs=2, end_rate=0.3, seed=1)
    _assert_equal(_draw(before, 2), _draw(after, 2))


def test_a_damaged_or_other_buffer_is_refused(tmp_path):
    path = tmp_path / "replay.safetensors"
    FrameReplayBuffer(24, _SPACE, _ACTIONS, device="cpu", n_envs=2).save(path)
    with pytest.raises(StoreError, match="must hold 24 slots of 1 environments"):
        FrameReplayBuffer(24, _SPACE, _ACTIONS, device="cpu").load(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="missing or damaged"):
        FrameReplayBuffer(24, _SPACE, _ACTIONS, device="cpu", n_envs=2).load(path)
    with pytest.raises(StoreError, match="missing or damaged"):
        FrameReplayBuffer(24, _SPACE, _ACTIONS, device="cpu", n_envs=2).load(tmp_path / "nothing")


def test_batches_of_frames_join_key_by_key_and_do_nothing_else():
    frames = Frames({"pose": torch.ones(2, 3)})
    assert torch.cat([frames, frames], dim=0)["pose"].shape == (4, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="stack"):
        torch.stack([frames, frames])  # pyright: ignore[reportArgumentType]

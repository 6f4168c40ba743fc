"""The camera on the tool: only where it is asked for, and it goes where the tool goes."""

from __future__ import annotations

import numpy as np
import pytest

from vtt.errors import ConfigError
from vtt_envs.core import BatchedEnv
from vtt_envs.observations import keys_of
from vtt_envs.randomisation import Randomisation, Uniform
from vtt_envs.tasks import PegInsertion

_BOTH = ("front", "wrist")


def _make(num_envs: int = 2, **kwargs: object) -> BatchedEnv:
    settings = {"observation": "visual", "renderer": "rays", "num_threads": 1, **kwargs}
    return BatchedEnv(PegInsertion(), num_envs=num_envs, **settings)  # type: ignore[arg-type]


def test_it_stands_in_the_words_only_where_it_is_asked_for() -> None:
    assert keys_of("visual") == ("proprioception", "goal", "camera_front")
    assert keys_of("visual", cameras=_BOTH) == ("proprioception", "goal", "camera_front", "camera_wrist")
    assert keys_of("tactile", cameras=_BOTH) == keys_of("tactile")
    assert keys_of("camera_front,oracle", cameras=_BOTH) == ("proprioception", "goal", "camera_front", "privileged")
    env = _make(cameras=["wrist"])
    assert tuple(env.reset([1, 2])) == tuple(env.stream_specs()) == ("proprioception", "goal", "camera_wrist")


def test_the_front_camera_does_not_notice_it() -> None:
    alone, beside = _make(), _make(cameras=_BOTH)

    np.testing.assert_array_equal(alone.reset([1, 2])["camera_front"], beside.reset([1, 2])["camera_front"])
    np.testing.assert_array_equal(alone.engine.qpos, beside.engine.qpos)


def test_it_sees_both_fingers_wherever_the_tool_is() -> None:
    env = _make(8, cameras=["wrist"])
    images = env.reset(range(8))["camera_wrist"]  # type: ignore[arg-type]

    dark = (images.max(axis=-1) < 60).mean(axis=0)  # how often a pixel shows a finger
    assert (dark[50:60, 5:10] == 1).all()
    assert (dark[50:60, 54:59] == 1).all()
    np.testing.assert_allclose(dark[:, ::-1], dark, atol=0.5)  # on either side alike
    assert (images[0] != images[1]).any()


@pytest.mark.parametrize("knob", ["camera_shift", "camera_turn", "camera_view"])
def test_its_pose_is_randomised_apart_from_the_front_camera(knob: str) -> None:
    chosen = Randomisation(**{knob: Uniform(0.9, 1.1) if knob == "camera_view" else Uniform(-0.05, 0.05)})
    plain, both, front = _make(cameras=_BOTH), _make(cameras=_BOTH, randomisation=chosen), _make(randomisation=chosen)
    still, moved, alone = (env.reset([1, 2]).copy() for env in (plain, both, front))

    assert (still["camera_wrist"] != moved["camera_wrist"]).any()
    np.testing.assert_array_equal(moved["camera_front"], alone["camera_front"])
    drawn = both.drawn()
    for name, values in front.drawn().items():
        assert (drawn[name.replace("front", "wrist")] != values).all()
        np.testing.assert_array_equal(drawn[name], values)
    if knob == "camera_shift":
        assert max(np.abs(values).max() for name, values in drawn.items() if "wrist" in name) <= 0.05 / 4


def test_unknown_cameras_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"cameras must be some of front and wrist, once each, got \('side',\)"):
        _make(cameras=["side"])
    with pytest.raises(ConfigError, match="once each"):
        _make(cameras=["front", "front"])
    with pytest.raises(ConfigError, match=r"got \(\)"):
        _make(cameras=[])

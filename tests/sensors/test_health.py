"""A sensor that lies is noticed, one that is pressed is not suspected."""

from pathlib import Path

import numpy as np
import pytest

from vtt.errors import ConfigError
from vtt_sensors.health import FrameHealth, HealthLimits
from vtt_sensors.recording import read_picture, read_recording
from vtt_sensors.spec import get_spec

REAL = Path(__file__).parents[3] / "shared" / "realdata"


def noise(seed: int, level: float = 120.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, 3.0, (240, 320, 3)).clip(0, 255).astype(np.uint8)


def test_equal_frames_are_frozen_and_noise_is_not():
    health = FrameHealth(HealthLimits(frozen_frames=3))
    assert [health.look(noise(seed)) for seed in range(5)] == [[]] * 5
    same = noise(9)
    assert [bool(health.look(same)) for _ in range(4)] == [False, False, True, True]
    assert "frozen: 5 equal frames" in health.look(same)[0]
    assert health.look(noise(10)) == []


@pytest.mark.parametrize("level", [0, 255])
def test_a_picture_that_is_black_or_blown_out_is_saturated(level: int):
    image = noise(0)
    image[:, :120] = level
    assert "saturated: 38%" in FrameHealth().look(image)[0]
    image = noise(0)
    image[:, :40] = level
    assert FrameHealth().look(image) == []


def test_light_that_changes_is_drift_and_a_press_is_not():
    rest = noise(0)
    health = FrameHealth(rest_image=rest)
    pressed = noise(1)
    pressed[60:180, 80:240] = 200  # a quarter of the gel
    assert health.look(pressed) == []
    assert "drifted" in health.look(noise(2, level=140.0))[0]
    health.rest_image(noise(3, level=140.0))
    assert health.look(noise(4, level=140.0)) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="frames of real sensors are not here")
@pytest.mark.parametrize(("folder", "sensor"), [("taxim_gelsight_mini_ball", "gelsight_mini"), ("fots_digit", "digit")])
def test_presses_on_real_sensors_are_not_suspected(folder: str, sensor: str):
    spec = get_spec(sensor)
    rest = REAL / folder / "background.png"
    health = FrameHealth(rest_image=read_picture(rest, spec))
    frames = read_recording(REAL / folder, spec, max_frames=40, leave_out=rest).frames
    assert len(frames) >= 12
    assert [health.look(frame) for frame in frames] == [[]] * len(frames)


@pytest.mark.parametrize("limits", [{"frozen_frames": 1}, {"saturated_share": 0.0}, {"drift": 0.0}])
def test_limits_that_everything_breaks_are_refused(limits: dict):
    with pytest.raises(ConfigError, match="drift positive"):
        HealthLimits(**limits)

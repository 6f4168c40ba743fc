from __future__ import annotations

import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from vtt.errors import ConfigError, ShapeError, StoreError
from vtt.video import write_video


def decode(path) -> np.ndarray:
    """Read a video back, (T, H, W, 3)."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    said = subprocess.run([ffmpeg, "-i", str(path)], capture_output=True, text=True).stderr
    width, height = map(int, re.search(r"Video: h264.*? yuv420p.*?, (\d+)x(\d+)", said).groups())
    raw = subprocess.run(
        [ffmpeg, "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True
    ).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def test_video_keeps_frames_and_colours(tmp_path):
    frames = np.empty((5, 48, 64, 3), np.uint8)
    frames[:] = np.linspace(20, 220, 5, dtype=np.uint8)[:, None, None, None]
    frames[..., :32, 0] = 200
    shown = decode(write_video(tmp_path / "v.mp4", frames, fps=10))
    assert shown.shape == frames.shape
    inside = np.abs(shown.astype(int) - frames)[:, 4:-4, [8, 48]]  # away from the edge, which 4:2:0 blurs
    assert inside.max() < 12


def test_video_with_odd_sides_gains_a_line(tmp_path):
    frames = np.full((2, 33, 47, 3), 128, np.uint8)
    assert decode(write_video(tmp_path / "v.mp4", frames, fps=10)).shape == (2, 34, 48, 3)


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_frames_of_the_wrong_kind_are_refused(tmp_path, frames):
    with pytest.raises(ShapeError, match=r"frames must be uint8 of shape \(T, H, W, 3\), got"):
        write_video(tmp_path / "v.mp4", frames, fps=10)


def test_a_frame_rate_of_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"fps must be above 0, got 0\."):
        write_video(tmp_path / "v.mp4", np.zeros((1, 8, 8, 3), np.uint8), fps=0)


def test_a_failing_encoder_is_quoted(tmp_path, monkeypatch):
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\ncat > /dev/null\necho out of luck >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with pytest.raises(StoreError, match=r"v\.mp4 could not be encoded: out of luck\."):
        write_video(tmp_path / "v.mp4", np.zeros((1, 8, 8, 3), np.uint8), fps=10)
    assert not (tmp_path / "v.mp4").exists()

"""Video files that a browser plays. Axes: T frames, H rows, W columns."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, ShapeError, StoreError
from vtt.files import atomic_write_bytes

__all__ = ["write_video"]


def write_video(path: Path | str, frames: NDArray[np.uint8], *, fps: float) -> Path:
    """Write frames as H.264 in an mp4 container.

    H.264 with 4:2:0 colour is what every browser plays; it wants even sides, so an odd one gains a black line. This is
    for people to look at: the colour of a tactile image does not survive the codec, so never train on such a file.

    Args:
        path: File to write, replaced in one step if it exists.
        frames: Frames in RGB, uint8. Shape (T, H, W, 3), T at least 1.
        fps: Frames per second, above 0.

    Returns:
        The path.

    Raises:
        ShapeError: If `frames` is not such an array.
        ConfigError: If `fps` is not positive.
        StoreError: If the encoder fails; quotes its last words.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or frames.size == 0:
        raise ShapeError(f"frames must be uint8 of shape (T, H, W, 3), got {frames.dtype} {frames.shape}.")
    if not fps > 0:
        raise ConfigError(f"fps must be above 0, got {fps}.")
    import imageio_ffmpeg

    height, width = frames.shape[1:3]
    # Players guess at untagged colours, and differ: convert to BT.709 and say so in full.
    tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    filters = f"pad=ceil(iw/2)*2:ceil(ih/2)*2,scale=out_color_matrix=bt709:out_range=tv,{tags}"
    with TemporaryDirectory() as folder:
        encoded = Path(folder) / "video.mp4"
        command = [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"),
            *("-vf", filters, "-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
            str(encoded),
        ]
        done = subprocess.run(command, input=np.ascontiguousarray(frames).data.cast("B"), capture_output=True)
        if done.returncode != 0:
            last_words = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise StoreError(f"{path} could not be encoded: {last_words[0]}.")
        atomic_write_bytes(Path(path), encoded.read_bytes())
    return Path(path)

"""Frames as they come."""

import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from vtt.errors import MissingError, StoreError
from vtt.store import EpisodeStore
from vtt.streams import Stream, StreamSpec
from vtt_sensors.live import find_device, list_devices, open_source
from vtt_sensors.spec import get_spec

SPEC = get_spec("gelsight_mini")
FAST = 1000.0


def write(folder: Path, levels: list[int]) -> Path:
    folder.mkdir()
    for index, level in enumerate(levels):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((*SPEC.image_shape, 3), (level, 10, 20), np.uint8))
    return folder


def test_a_folder_plays_in_order_and_begins_again(tmp_path: Path):
    source = open_source(f"replay:{write(tmp_path / 'a', [1, 2, 3])}", SPEC, rate_hz=FAST)
    frames = [source.read() for _ in range(5)]
    assert [int(frame.image[0, 0, 2]) for frame in frames] == [1, 2, 3, 1, 2]  # written as BGR, read as RGB
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(stamps)
    assert abs(stamps[-1] - time.time_ns()) < 1e9


def test_frames_come_at_the_rate_asked_for(tmp_path: Path):
    source = open_source(f"replay:{write(tmp_path / 'a', [1])}", SPEC, rate_hz=50.0)
    began = time.monotonic()
    for _ in range(10):
        source.read()
    assert time.monotonic() - began >= 9 / 50.0


def test_a_folder_that_is_removed_is_a_sensor_unplugged(tmp_path: Path):
    folder = write(tmp_path / "a", [1, 2])
    source = open_source(f"replay:{folder}", SPEC, rate_hz=FAST)
    source.read()
    folder.rename(tmp_path / "b")
    with pytest.raises(StoreError, match="is gone"):
        source.read()
    with pytest.raises(MissingError, match="No recording"):
        open_source(f"replay:{folder}", SPEC)


def test_a_video_plays_again_and_again(tmp_path: Path):
    path = tmp_path / "press.avi"
    rows, columns = SPEC.image_shape
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (columns, rows))
    for level in (40, 200):
        video.write(np.full((rows, columns, 3), level, np.uint8))
    video.release()
    source = open_source(f"replay:{path}", SPEC, rate_hz=FAST)
    means = [float(source.read().image.mean()) for _ in range(4)]
    assert means == pytest.approx([40, 200, 40, 200], abs=3)


def test_a_stream_of_a_store_plays(tmp_path: Path):
    spec = StreamSpec("tactile_image", (*SPEC.image_shape, 3), "uint8", "", 25.0)
    store = EpisodeStore.create(tmp_path / "store", streams={"tactile_left": spec})
    images = np.stack([np.full((*SPEC.image_shape, 3), level, np.uint8) for level in (5, 9)])
    store.append({"tactile_left": Stream(images, np.array([0, 40_000_000]))})
    source = open_source(f"replay:{tmp_path / 'store'}#tactile_left", SPEC, rate_hz=FAST)
    assert [int(source.read().image[0, 0, 0]) for _ in range(3)] == [5, 9, 5]
    with pytest.raises(MissingError, match="tactile_left"):
        open_source(f"replay:{tmp_path / 'store'}#tactile_right", SPEC).read()


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("dev:1", "No source"),
        ("usb:", "No source"),
        ("usb:/dev/video97", "plugged in"),
        ("replay:none", "No recording"),
    ],
)
def test_a_source_that_is_not_there_is_named(source: str, match: str):
    with pytest.raises(MissingError, match=match):
        open_source(source, SPEC)


def test_a_device_is_found_by_its_serial_number(tmp_path: Path):
    # As the kernel lays it out: videoN/device points to the interface, the serial number is the USB device's.
    for number, serial in ((0, "D20001"), (1, "D20001"), (2, "D20273")):
        interface = tmp_path / "usb" / serial / f"interface{number}"
        interface.mkdir(parents=True)
        (tmp_path / "usb" / serial / "serial").write_text(f"{serial}\n")
        (tmp_path / "class" / f"video{number}").mkdir(parents=True)
        (tmp_path / "class" / f"video{number}" / "device").symlink_to(interface)
    root = tmp_path / "class"
    assert list_devices(root) == {"D20001": "/dev/video0", "D20273": "/dev/video2"}
    assert find_device("D20273", root) == "/dev/video2"
    with pytest.raises(MissingError, match="D20001, D20273"):
        find_device("D2", root)


def test_reading_a_sensor_needs_no_torch():
    code = "import sys, vtt_sensors.live, vtt_sensors.health, vtt_sensors.calibration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

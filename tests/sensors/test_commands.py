from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from vtt.cli import main as vtt
from vtt.encoders import EncoderConfig, SignalSpec, build_encoder
from vtt.normalizer import Normalizer
from vtt.pretrained import save_encoder
from vtt.streams import StreamSpec
from vtt_sensors.calibration import get_calibration
from vtt_sensors.commands import main
from vtt_sensors.optics import rest_image
from vtt_sensors.simulator import TactileSimulator


@pytest.fixture(scope="module")
def recording(tmp_path_factory, ball):
    """A folder with a rest image and three presses, each deeper, and a video of them."""
    folder = tmp_path_factory.mktemp("recording")
    simulator = TactileSimulator("gelsight_mini")
    frames = [simulator.rest_image.numpy()] * 8
    (folder / "presses").mkdir()
    cv2.imwrite(str(folder / "rest.png"), frames[0][..., ::-1])
    for number, depth in enumerate((2e-4, 4e-4, 6e-4)):
        frames.append(simulator.render(ball((240, 320), pixel_pitch=5.9e-5, radius=2e-3, depth=depth))[0].numpy())
        cv2.imwrite(str(folder / "presses" / f"{number}.png"), frames[-1][..., ::-1])
    writer = cv2.VideoWriter(str(folder / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (320, 240))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """An untrained encoder of touch and proprioception."""
    specs = {
        "tactile_left": StreamSpec("tactile_image", (48, 64, 3), "uint8", "1", 20.0, sensor="gelsight_mini"),
        "proprioception": StreamSpec("vector", (4,), "float32", "m", 20.0),
    }
    rest = rest_image(get_calibration("gelsight_mini"), (48, 64))
    data = {"tactile_left": [rest[None]], "proprioception": [np.zeros((4, 4), np.float32)]}
    normalizer = Normalizer.fit(specs, data, rest_images={"tactile_left": rest})
    torch.manual_seed(0)
    signals = {key: SignalSpec(spec.kind, spec.shape) for key, spec in specs.items()}
    folder = tmp_path_factory.mktemp("encoder") / "checkpoint"
    network = build_encoder(EncoderConfig(), signals)
    return save_encoder(folder, network, normalizer=normalizer, observation=specs, readme="test")


def test_a_picture_becomes_a_picture_and_numbers(recording, encoder, tmp_path, capsys):
    rest, out = recording / "rest.png", tmp_path / "out"
    main(
        [
            "show",
            str(recording / "presses" / "1.png"),
            "--rest",
            str(rest),
            "--out",
            str(out),
            "--encoder",
            str(encoder),
        ]
    )
    assert capsys.readouterr().out.splitlines()[0] == str(out / "1.png")
    picture = cv2.imread(str(out / "1.png"))
    assert picture.shape[0] > 240
    assert picture.shape[1] > 5 * 320
    numbers = json.loads((out / "1.json").read_text())
    (frame,) = numbers["frames"]
    assert frame["max_indentation_mm"] == pytest.approx(0.4, rel=0.15)
    assert frame["contact_centre_px"] == pytest.approx([119.5, 159.5], abs=3)
    assert numbers["encoder"] == {"signal": "tactile_left", "trained_on": "gelsight_mini"}
    with np.load(out / "1_height_maps.npz") as heights:
        assert heights["height_map"].shape == (1, 240, 320)


def test_a_folder_becomes_a_video_without_its_rest_image(recording, tmp_path):
    folder = recording / "presses"
    rest = folder / "rest.png"
    rest.write_bytes((recording / "rest.png").read_bytes())
    main(["show", str(folder), "--rest", str(rest), "--out", str(tmp_path)])
    rest.unlink()
    numbers = json.loads((tmp_path / "presses.json").read_text())
    depths = [frame["max_indentation_mm"] for frame in numbers["frames"]]
    assert [frame["name"] for frame in numbers["frames"]] == ["0.png", "1.png", "2.png"]
    assert depths == sorted(depths)
    assert (tmp_path / "presses.mp4").stat().st_size > 1000
    assert (tmp_path / "presses_deepest.png").exists()


def test_without_a_rest_image_a_videos_first_frames_are_taken(recording, tmp_path, caplog):
    main(["show", str(recording / "video.avi"), "--out", str(tmp_path)])
    assert "median of the first 8 frames" in caplog.text
    frames = json.loads((tmp_path / "video.json").read_text())["frames"]
    assert [frame["max_indentation_mm"] > 0 for frame in frames] == [False] * 8 + [True] * 3


def test_without_the_demos_encoder_a_sentence_tells_the_cure(recording, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rest = str(recording / "rest.png")
    main(["show", str(recording / "presses" / "0.png"), "--rest", rest, "--out", str(tmp_path)])
    assert "Run `make demo`" in caplog.text


def test_a_large_picture_of_the_right_aspect_is_scaled(recording, tmp_path):
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), cv2.resize(cv2.imread(str(recording / "presses" / "2.png")), (640, 480)))
    main(["show", str(large), "--rest", str(recording / "rest.png"), "--out", str(tmp_path / "out")])
    (frame,) = json.loads((tmp_path / "out" / "large.json").read_text())["frames"]
    assert frame["max_indentation_mm"] == pytest.approx(0.6, rel=0.15)


def test_faults_end_in_one_sentence(recording, tmp_path, capsys):
    press, rest = str(recording / "presses" / "0.png"), str(recording / "rest.png")
    square, text = tmp_path / "square.png", tmp_path / "text.avi"
    cv2.imwrite(str(square), np.zeros((64, 64, 3), np.uint8))
    text.write_text("no video")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([press], "--rest must name a picture of the untouched gel"),
        ([press, "--rest", str(tmp_path / "none.png")], "No picture"),
        (
            [str(square), "--rest", rest],
            "must have the aspect of gelsight_mini (240 x 320 px, rows x columns), got 64 x 64",
        ),
        ([str(text)], "must be a picture or a video"),
        ([str(tmp_path / "none.avi")], "No picture, video or folder"),
        ([str(tmp_path / "empty")], "No picture in folder"),
        ([press, "--rest", rest, "--sensor", "gelsite"], "No sensor 'gelsite'. Available: digit"),
        ([press, "--rest", rest, "--encoder", str(tmp_path / "none")], "No checkpoint at"),
        ([press, "--rest", rest, "--calibration", str(tmp_path / "none.npz")], "No calibration file"),
        ([press, "--rest", rest, "--max-frames", "0"], "--max-frames must be at least 1"),
    ):
        assert vtt(["sensor", "show", *arguments, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert message in error[-1]
        assert error[-1].startswith("error: ")


def test_the_list_names_every_sensor_and_what_its_calibration_is(capsys):
    main(["list"])
    printed = capsys.readouterr().out
    assert "gelsight_mini: 240 x 320 px" in printed
    assert "Nominal" in printed


@pytest.mark.parametrize(
    ("sensor", "name", "rest"),
    [
        ("gelsight_mini", "taxim_gelsight_mini_ball/press_006.png", "taxim_gelsight_mini_ball/background.png"),
        ("digit", "fots_digit/0000.png", "fots_digit/background.png"),
    ],
)
def test_real_pictures_are_shown(realdata, encoder, tmp_path, sensor, name, rest):
    files = [str(realdata / name), "--rest", str(realdata / rest)]
    main(["show", *files, "--sensor", sensor, "--out", str(tmp_path), "--encoder", str(encoder)])
    (frame,) = json.loads(next(tmp_path.glob("*.json")).read_text())["frames"]
    assert 0.2 < frame["max_indentation_mm"] < 2.5


def test_a_real_video_with_markers_is_shown(realdata, tmp_path):
    video = realdata / "gsrobotics_marker_video" / "mini_example.avi"
    main(["show", str(video), "--out", str(tmp_path), "--max-frames", "70"])
    frames = json.loads((tmp_path / "mini_example.json").read_text())["frames"]
    touched = [frame["contact_area_mm2"] > 0 for frame in frames]
    assert not any(touched[:20])
    assert any(touched[50:])

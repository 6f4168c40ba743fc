"""The driver in a process of its own, with a replay for a sensor."""

from __future__ import annotations

import math
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import WrenchStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_srvs.srv import Trigger

from vtt_ros.diagnostics import ERROR, OK, WARN
from vtt_ros.graph import Graph
from vtt_ros.messages import SENSOR, read_image, stamp_ns
from vtt_sensors.calibration import get_calibration
from vtt_sensors.simulator import TactileSimulator
from vtt_sensors.spec import get_spec

SPEC = get_spec("gelsight_mini")
BASE = "tactile/left"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module")
def presses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of an untouched gel, and of a ball pressed .8 mm into its middle, by the simulated sensor."""
    import torch

    folder = tmp_path_factory.mktemp("frames")
    rows, columns = SPEC.image_shape
    y, x = np.meshgrid(np.arange(rows) - rows / 2, np.arange(columns) - columns / 2, indexing="ij")
    dip = 0.8e-3 - (x**2 + y**2) * SPEC.pixel_pitch**2 / (2 * 4e-3)
    depths = torch.tensor(np.stack((np.zeros_like(dip), dip.clip(0))), dtype=torch.float32)
    images = TactileSimulator(SPEC, get_calibration("gelsight_mini")).render(depths).numpy()
    for name, image in zip(("rest", "ball"), images, strict=True):
        (folder / name).mkdir()
        rng = np.random.default_rng(0)
        for index in range(8):  # a real camera's noise never repeats
            noisy = (image + rng.normal(0, 1.0, image.shape)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{index}.png"), noisy[..., ::-1])
    return folder


def start(graph: Graph, source: Path, **parameters: object):
    return graph.start(
        "driver", "vtt_ros.driver.node", parameters={"source": f"replay:{source}", "retry_high": 0.3, **parameters}
    )


def test_what_the_driver_says_of_a_pressed_ball_is_that_ball(listener, presses: Path):
    with Graph(domain=90) as graph:
        start(graph, presses / "ball", rest=str(presses / "rest" / "0.png"))
        raw = listener.listen(Image, f"{BASE}/image_raw", SENSOR)
        compressed = listener.listen(CompressedImage, f"{BASE}/image_raw/compressed", SENSOR)
        height = listener.listen(Image, f"{BASE}/height_map", SENSOR)
        mask = listener.listen(Image, f"{BASE}/contact_mask", SENSOR)
        field = listener.listen(PointCloud2, f"{BASE}/force_field", SENSOR)
        wrench = listener.listen(WrenchStamped, f"{BASE}/wrench", SENSOR)
        rest = listener.listen(Image, f"{BASE}/rest_image", LATCHED)
        streams = (raw, compressed, height, mask, field, wrench, rest)
        listener.until(lambda: all(streams), what="every topic", seconds=60.0)

        frame = read_image(raw[-1])
        assert frame.shape == (*SPEC.image_shape, 3)
        assert raw[-1].header.frame_id == "left_gel"
        assert abs(time.time_ns() - stamp_ns(raw[-1].header.stamp)) < 5e9
        unpacked = cv2.imdecode(np.frombuffer(compressed[-1].data, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(unpacked[..., ::-1].astype(float) - frame).mean() < 3.0
        depth = np.frombuffer(height[-1].data, np.float32).reshape(SPEC.image_shape)
        assert 0.5e-3 < depth.max() < 1.1e-3
        touched = read_image(mask[-1]) > 0
        rows, columns = np.argwhere(touched).mean(axis=0)
        assert (rows, columns) == pytest.approx((120, 160), abs=4)
        points = np.frombuffer(field[-1].data, np.float32).reshape(-1, 6)
        assert len(points) == 12 * 16
        deepest = points[np.argmin(points[:, 5])]
        assert np.abs(deepest[:2]).max() < 2e-3
        assert deepest[5] < 0.0
        assert wrench[-1].wrench.force.z == pytest.approx(points[:, 5].sum(), rel=0.3)
        assert math.hypot(wrench[-1].wrench.torque.x, wrench[-1].wrench.torque.y) < 2e-3 * abs(points[:, 5].sum())
        assert len(rest) == 1


def test_a_sensor_that_is_unplugged_is_told_and_comes_back(listener, presses: Path, tmp_path: Path):
    folder = tmp_path / "sensor"
    (presses / "rest").rename(folder)
    try:
        with Graph(domain=90) as graph:
            start(graph, folder)
            raw = listener.listen(Image, f"{BASE}/image_raw", SENSOR)
            diagnostics = listener.listen(DiagnosticArray, "/diagnostics", 10)

            def says(level: bytes, text: str):
                return lambda: diagnostics and (s := diagnostics[-1].status[0]).level == level and text in s.message

            listener.until(says(OK, "streaming"), what="streaming")
            answer = listener.call(Trigger, f"{BASE}/tare", Trigger.Request())
            assert answer.success
            rest = listener.listen(Image, f"{BASE}/rest_image", LATCHED)
            listener.until(lambda: rest, what="the rest image")

            folder.rename(tmp_path / "drawer")
            listener.until(says(ERROR, "No recording"), what="the error")
            answer = listener.call(Trigger, f"{BASE}/tare", Trigger.Request())
            assert not answer.success
            assert "no frames" in answer.message
            count = len(raw)
            (tmp_path / "drawer").rename(folder)
            listener.until(says(OK, "streaming"), what="streaming again")
            assert len(raw) > count
            values = {pair.key: pair.value for pair in diagnostics[-1].status[0].values}
            assert values["reconnects"] == "1"
            assert graph["driver"].end() == 0
    finally:
        folder.rename(presses / "rest")


def test_a_frozen_sensor_is_told(listener, presses: Path, tmp_path: Path):
    cv2.imwrite(str(tmp_path / "same.png"), cv2.imread(str(presses / "rest" / "0.png")))
    with Graph(domain=90) as graph:
        start(graph, tmp_path / "same.png")
        diagnostics = listener.listen(DiagnosticArray, "/diagnostics", 10)
        listener.until(lambda: diagnostics and diagnostics[-1].status[0].level == WARN, what="warning")
        assert "frozen" in diagnostics[-1].status[0].message


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"source": ""}, "source must name the sensor"),
        ({"source": "replay:none", "sensor": "gelsight_max"}, "gelsight_max"),
        ({"source": "replay:none", "calibration": "none.npz"}, "No calibration file"),
        ({"source": "replay:none", "rest": "none.png"}, "No picture"),
        ({"source": "replay:none", "jpeg_quality": 5}, "jpeg_quality must be an integer in [10, 100]"),
    ],
)
def test_a_driver_that_cannot_work_says_why_and_ends(parameters: dict, says: str):
    with Graph(domain=90) as graph:
        driver = graph.start("driver", "vtt_ros.driver.node", parameters=parameters)
        assert driver.process.wait(30.0) == 2
        driver.end()
        assert says in "\n".join(driver.output)

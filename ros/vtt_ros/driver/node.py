"""The driver as a node."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import WrenchStamped
from numpy.typing import NDArray
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_srvs.srv import Trigger

from vtt.errors import ConfigError
from vtt_ros.diagnostics import ERROR, OK, WARN, Report, publish_diagnostics
from vtt_ros.driver.capture import Capture
from vtt_ros.driver.config import DriverConfig
from vtt_ros.messages import LATCHED, ImageWriter, point_cloud, time_message
from vtt_ros.parameters import declare
from vtt_ros.running import run
from vtt_sensors.calibration import Calibration, get_calibration
from vtt_sensors.health import FrameHealth, HealthLimits
from vtt_sensors.live import Frame, open_source
from vtt_sensors.recording import read_picture
from vtt_sensors.spec import get_spec, list_specs, load_spec

if TYPE_CHECKING:
    from vtt_ros.driver.maps import Maps

__all__ = ["TactileDriver", "main"]

_STREAM = QoSProfile(depth=10)


class TactileDriver:
    """Publishes one sensor's frames as they come, and on request what they say.

    Publishes `tactile/<finger>/image_raw` always; `image_raw/compressed`, `height_map`, `contact_mask`, `force_field`
    and `wrench` only while somebody listens; `rest_image` latched. Serves `tactile/<finger>/tare`.
    """

    def __init__(self) -> None:
        self.node = rclpy.create_node("tactile_driver")
        self.config = config = declare(self.node, DriverConfig)
        if not config.source:
            raise ConfigError("source must name the sensor: usb:SERIAL, usb:/dev/videoN or replay:PATH.")
        self.spec = get_spec(config.sensor) if config.sensor in list_specs() else load_spec(Path(config.sensor))
        self.calibration = (
            Calibration.load(Path(config.calibration)) if config.calibration else get_calibration(self.spec.name)
        )
        limits = HealthLimits(config.frozen_frames, config.saturated_share, config.drift)
        self.health = FrameHealth(limits)
        self.wrong: list[str] = []
        self._frame: Frame | None = None
        self._rest: NDArray[np.uint8] | None = None
        self._maps: Maps | None = None
        self._taring: list[NDArray[np.uint8]] | None = None
        self._lock = threading.Lock()
        self._fresh = threading.Event()
        self._stopping = False
        self._advertise()
        if config.rest:
            self._take_rest(read_picture(Path(config.rest), self.spec))
        publish_diagnostics(self.node, self._report, hardware_id=config.source)
        self.capture = Capture(
            lambda: open_source(config.source, self.spec, rate_hz=config.rate or None),
            self._take,
            retry=(config.retry_low, config.retry_high),
        )
        self._worker = threading.Thread(target=self._work, name="maps", daemon=True)
        self._worker.start()
        self.capture.start()

    def stop(self) -> None:
        """Close the sensor."""
        self._stopping = True
        self._fresh.set()
        self.capture.stop()
        self._worker.join(2.0)

    def _advertise(self) -> None:
        node, base, frame = self.node, f"tactile/{self.config.finger}", f"{self.config.finger}_gel"
        self._frame_id = frame
        self._raw = node.create_publisher(Image, f"{base}/image_raw", _STREAM)
        self._compressed = node.create_publisher(CompressedImage, f"{base}/image_raw/compressed", _STREAM)
        self._height = node.create_publisher(Image, f"{base}/height_map", _STREAM)
        self._mask = node.create_publisher(Image, f"{base}/contact_mask", _STREAM)
        self._field = node.create_publisher(PointCloud2, f"{base}/force_field", _STREAM)
        self._wrench = node.create_publisher(WrenchStamped, f"{base}/wrench", _STREAM)
        self._rest_image = node.create_publisher(Image, f"{base}/rest_image", LATCHED)
        self._writers = {
            name: ImageWriter(frame=frame, encoding=encoding)
            for name, encoding in (("raw", "rgb8"), ("rest", "rgb8"), ("mask", "mono8"), ("height", "32FC1"))
        }
        node.create_service(Trigger, f"{base}/tare", self._tare)

    def _take(self, frame: Frame) -> None:
        """Publish a frame; runs on the capture's thread, so that nothing delays it."""
        self._raw.publish(self._writers["raw"].write(frame.image, stamp=frame.stamp_ns))
        if self._compressed.get_subscription_count():
            self._compress(frame)
        self.wrong = self.health.look(frame.image)
        with self._lock:
            self._frame = frame
            if self._taring is not None:
                self._taring.append(frame.image)
        self._fresh.set()

    def _compress(self, frame: Frame) -> None:
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.config.jpeg_quality]
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(frame.image[..., ::-1]), quality)
        message = CompressedImage(format="jpeg")
        message.header.stamp, message.header.frame_id = time_message(frame.stamp_ns), self._frame_id
        message.data = data.tobytes()
        self._compressed.publish(message)

    def _work(self) -> None:
        """Compute maps on a thread of its own, from the newest frame, at most at `map_rate`."""
        while not self._stopping:
            self._fresh.wait()
            self._fresh.clear()
            began = time.monotonic()
            self._finish_tare()
            wanted = [p for p in (self._height, self._mask, self._field, self._wrench) if p.get_subscription_count()]
            if wanted and self._rest is not None and self._frame is not None:
                self._publish_maps(self._frame, wanted)
            time.sleep(max(0.0, 1.0 / self.config.map_rate - (time.monotonic() - began)))

    def _publish_maps(self, frame: Frame, wanted: list[Any]) -> None:
        from vtt_ros.driver.maps import Maps, field_points  # torch, only where it is asked for

        if self._maps is None:
            assert self._rest is not None
            self._maps = Maps(self.spec, self.calibration, rest_image=self._rest)
        surface = self._maps(frame.image)
        if self._height in wanted:
            self._height.publish(self._writers["height"].write(surface.height_map, stamp=frame.stamp_ns))
        if self._mask in wanted:
            mask = surface.contact_mask.astype(np.uint8) * np.uint8(255)
            self._mask.publish(self._writers["mask"].write(mask, stamp=frame.stamp_ns))
        points = field_points(surface.force, self.spec)
        if self._field in wanted:
            names = ("x", "y", "z", "fx", "fy", "fz")
            self._field.publish(point_cloud(points, names, stamp=frame.stamp_ns, frame=self._frame_id))
        if self._wrench in wanted:
            self._wrench.publish(self._wrench_message(points, frame.stamp_ns))

    def _wrench_message(self, points: NDArray[np.float32], stamp: int) -> WrenchStamped:
        """Sum the field: force, N, and torque about the gel's middle, N m."""
        force, torque = points[:, 3:].sum(axis=0), np.cross(points[:, :3], points[:, 3:]).sum(axis=0)
        message = WrenchStamped()
        message.header.stamp, message.header.frame_id = time_message(stamp), self._frame_id
        f, t = message.wrench.force, message.wrench.torque
        f.x, f.y, f.z = map(float, force)
        t.x, t.y, t.z = map(float, torque)
        return message

    def _tare(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Take the median of the next frames for the untouched gel; they are waited for, nothing else is."""
        if self.capture.error:
            response.success, response.message = False, f"no frames: {self.capture.error}"
            return response
        with self._lock:
            self._taring = []
        response.success = True
        response.message = f"taking {self.config.tare_frames} frames; rest_image tells when it is done"
        return response

    def _finish_tare(self) -> None:
        with self._lock:
            frames = self._taring
            if frames is None or len(frames) < self.config.tare_frames:
                return
            self._taring = None
        self._take_rest(np.median(frames, axis=0).astype(np.uint8))

    def _take_rest(self, image: NDArray[np.uint8]) -> None:
        self._rest, self._maps = image, None
        self.health.rest_image(image)
        now = self.node.get_clock().now().nanoseconds
        self._rest_image.publish(self._writers["rest"].write(image, stamp=now))

    def _report(self) -> Report:
        values = {
            "rate_hz": f"{self.capture.rate:.1f}",
            "frames": self.capture.frames,
            "reconnects": max(0, self.capture.reconnects),
            "sensor": self.spec.name,
            "calibration": self.calibration.hash[:8],
            "rest_image": "taken" if self._rest is not None else "none: call tare",
        }
        if self.capture.error:
            return Report(ERROR, self.capture.error, values)
        if self.wrong:
            return Report(WARN, "; ".join(self.wrong), values)
        return Report(OK, "streaming", values)


def main() -> int:
    """Run the driver of one tactile sensor."""
    return run(TactileDriver)


if __name__ == "__main__":
    raise SystemExit(main())

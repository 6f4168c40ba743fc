"""Between messages and plain values, and the quality of service of each kind of topic."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist, TwistStamped
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2, PointField

from vtt.errors import ShapeError

__all__ = [
    "JUDGED",
    "LATCHED",
    "LATEST",
    "SENSOR",
    "ImageWriter",
    "point_cloud",
    "read_image",
    "stamp_ns",
    "time_message",
    "twist_message",
    "twist_values",
]

LATEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Commands and heartbeats: every one arrives, and only the newest waits."""

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""What late joiners need: the newest message waits for them."""

JUDGED = QoSProfile(depth=16, reliability=ReliabilityPolicy.RELIABLE)
"""What the gate must see in full: of two commands in one instant a bad one must not hide behind a good one."""

SENSOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Streams: a late frame is worth less than the next one."""

_MAX_PIXELS = 64_000_000
_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}
_FLOAT32 = 7  # sensor_msgs/msg/PointField


def stamp_ns(stamp: Any) -> int:
    """Read a builtin_interfaces/Time, ns."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def time_message(stamp: int) -> Any:
    """Write a builtin_interfaces/Time from ns."""
    from builtin_interfaces.msg import Time

    return Time(sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000)


def twist_values(twist: Twist) -> tuple[float, ...]:
    """Read velocity (m/s), then angular velocity (rad/s). Six numbers."""
    a, b = twist.linear, twist.angular
    return (a.x, a.y, a.z, b.x, b.y, b.z)


def twist_message(values: Sequence[float], *, stamp: Any, frame: str = "") -> TwistStamped:
    """Write a twist of six numbers, m/s and rad/s."""
    message = TwistStamped()
    message.header.stamp, message.header.frame_id = stamp, frame
    linear, angular = message.twist.linear, message.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = map(float, values)
    return message


def read_image(message: Image) -> NDArray[np.uint8]:
    """View an image message as an array, without a copy; bgr8 is turned into RGB by a reversed view.

    Args:
        message: Encoding rgb8, bgr8 or mono8.

    Returns:
        uint8 (H, W, 3), or (H, W) of a mono8 image.

    Raises:
        ShapeError: If the encoding is another, or the size does not belong to the data.
    """
    height, width, step = message.height, message.width, message.step
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        raise ShapeError(f"An image must be encoded as {', '.join(_CHANNELS)}, got '{message.encoding[:32]}'.")
    if not 0 < height * width <= _MAX_PIXELS or step < width * channels or len(message.data) != height * step:
        raise ShapeError(
            f"An image of {height}x{width} and step {step} must hold {height * step} bytes, got {len(message.data)}."
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, : width * channels]
    if channels == 1:
        return rows
    image = rows.reshape(height, width, channels)
    return image[..., ::-1] if message.encoding == "bgr8" else image


class ImageWriter:
    """Fills image messages through one buffer per size: assigning anything but an array.array copies byte by byte.

    The buffer may be reused as soon as `publish` has returned, because publishing serialises.
    """

    def __init__(self, *, frame: str, encoding: str = "rgb8") -> None:
        self._message = Image(encoding=encoding)
        self._message.header.frame_id = frame
        self._buffer = array("B")
        self._view: NDArray[Any] = np.empty((0,), np.uint8)

    def write(self, image: NDArray[Any], *, stamp: int) -> Image:
        """Fill the message of an image.

        Args:
            image: uint8 (H, W, 3) or (H, W), or float32 (H, W), as the encoding says.
            stamp: When it was taken, ns.

        Returns:
            The message; the next call reuses it.
        """
        if self._view.shape != image.shape:
            self._buffer = array("B", bytes(image.nbytes))
            self._view = np.frombuffer(self._buffer, image.dtype).reshape(image.shape)
            self._message.height, self._message.width = image.shape[0], image.shape[1]
            self._message.step = image.nbytes // image.shape[0]
        self._view[...] = image
        self._message.header.stamp = time_message(stamp)
        self._message.data = self._buffer
        return self._message


def point_cloud(points: NDArray[np.float32], names: Sequence[str], *, stamp: int, frame: str) -> PointCloud2:
    """Write points, one row each, with one float32 field per column. Shape (N, len(names))."""
    fields = [PointField(name=name, offset=4 * i, datatype=_FLOAT32, count=1) for i, name in enumerate(names)]
    message = PointCloud2(height=1, width=len(points), fields=fields, point_step=4 * len(names), is_dense=True)
    message.row_step = message.point_step * len(points)
    message.header.stamp, message.header.frame_id = time_message(stamp), frame
    message.data = array("B", np.ascontiguousarray(points, np.float32).tobytes())
    return message

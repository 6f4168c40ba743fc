"""Messages to plain values and back, through the real serialiser."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from vtt.errors import ShapeError
from vtt_ros.messages import ImageWriter, read_image, stamp_ns, time_message, twist_message, twist_values


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_an_image_survives_the_wire(encoding: str):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    sent = ImageWriter(frame="left_gel", encoding=encoding).write(image, stamp=1_700_000_000_123_456_789)
    got = deserialize_message(serialize_message(sent), Image)
    expected = image if encoding == "rgb8" else image[..., ::-1]
    np.testing.assert_array_equal(read_image(got), expected)
    assert stamp_ns(got.header.stamp) == 1_700_000_000_123_456_789
    assert got.header.frame_id == "left_gel"


def test_a_writer_takes_images_of_another_size():
    writer = ImageWriter(frame="mask", encoding="mono8")
    for shape in ((4, 6), (8, 2), (4, 6)):
        image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        np.testing.assert_array_equal(read_image(writer.write(image, stamp=0)), image)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"encoding": "jpeg"}, "encoded as rgb8"),
        ({"height": 7}, "must hold"),
        ({"width": 0}, "must hold"),
        ({"step": 2}, "must hold"),
        ({"height": 100_000, "width": 100_000}, "must hold"),
    ],
)
def test_an_image_that_belies_its_size_is_refused(changes: dict, match: str):
    message = ImageWriter(frame="left_gel").write(np.zeros((6, 8, 3), np.uint8), stamp=0)
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(ShapeError, match=match):
        read_image(message)


def test_numpy_scalars_reach_a_twist_as_numbers():
    values = np.array([0.1, -0.2, 0.3, 1.0, 0.0, -2.0], np.float32)
    message = twist_message(values, stamp=time_message(5), frame="tool0")
    assert twist_values(message.twist) == tuple(float(value) for value in values)


def test_a_bare_numpy_scalar_in_a_message_raises_instead_of_sending_garbage():
    message = twist_message([0.0] * 6, stamp=time_message(0))
    with pytest.raises(AssertionError, match="float"):
        message.twist.linear.x = np.float32(0.1)

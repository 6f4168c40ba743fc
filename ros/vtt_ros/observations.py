"""Where each observation of a policy travels: the one mapping between keys and topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState

from vtt.errors import ConfigError, ShapeError
from vtt.images import resize
from vtt.streams import StreamSpec
from vtt_ros.messages import read_image, time_message

__all__ = ["message_kind", "read_observation", "topic_of", "vector_message"]

# Part by which an image's aspect may differ from what the policy was trained on.
_ASPECT_TOLERANCE = 0.02


def topic_of(key: str, spec: StreamSpec) -> str:
    """Name the topic of an observation.

    Images are images. A vector is a JointState, whose names and positions are its components: the one standard message
    of named numbers with a stamp.

    Raises:
        ConfigError: If no topic carries this kind of observation.

    Example:
        >>> topic_of("tactile_left", StreamSpec("tactile_image", (48, 64, 3), "uint8", "1", 20.0))
        'tactile/left/image_raw'
    """
    if spec.kind == "tactile_image":
        return f"tactile/{key.removeprefix('tactile_')}/image_raw"
    if spec.kind == "image":
        return f"camera/{key.removeprefix('camera_')}/image_raw"
    if spec.kind == "vector":
        return f"observation/{key}"
    raise ConfigError(f"An observation on a topic must be an image or a vector, got {key}, a {spec.kind}.")


def message_kind(spec: StreamSpec) -> Any:
    """Choose the message of an observation."""
    return JointState if spec.kind == "vector" else Image


def read_observation(key: str, message: Any, spec: StreamSpec) -> NDArray:
    """Turn a message into what the policy was trained on.

    Args:
        key: The observation.
        message: Its message; an image of the same aspect is scaled.
        spec: What the policy expects.

    Raises:
        ShapeError: If the message holds something else; names both sides.
    """
    if spec.kind == "vector":
        names, values = tuple(message.name), np.asarray(message.position, spec.dtype)
        if values.shape != spec.shape or (spec.names and names != spec.names):
            raise ShapeError(
                f"{key} must hold {', '.join(spec.names) or spec.shape}, got {', '.join(names) or 'nothing'}."
            )
        return values
    image = read_image(message)
    rows, columns, channels = spec.shape
    if (
        image.ndim != 3
        or image.shape[2] != channels
        or abs(image.shape[0] * columns / (image.shape[1] * rows) - 1) > 0.02
    ):
        raise ShapeError(f"{key} must be an image of the aspect {rows}x{columns}, got {image.shape}.")
    return np.ascontiguousarray(resize(image, height=rows, width=columns))


def vector_message(values: Sequence[float] | NDArray, spec: StreamSpec, *, stamp: int) -> JointState:
    """Write a vector with the names of its components, taken at `stamp` ns."""
    names = list(spec.names) or [str(index) for index in range(len(values))]
    message = JointState(name=names, position=[float(value) for value in values])
    message.header.stamp = time_message(stamp)
    return message

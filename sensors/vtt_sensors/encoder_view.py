"""Look at a real recording through a trained encoder: where it attends.

Legend: T frames, H rows, W columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vtt.attention import attention_map, upsample
from vtt.errors import ConfigError
from vtt.images import resize
from vtt.pretrained import load_encoder

__all__ = ["EncoderView", "view_through_encoder"]

_BATCH = 64


class EncoderView(NamedTuple):
    """What an encoder says about a recording.

    Attributes:
        attention: Where the encoder looks; sums to one. Shape (T, H, W).
        key: Signal of the encoder that the recording stood in for.
        sensor: Sensor that the encoder was trained on.
    """

    attention: NDArray[np.float32]
    key: str
    sensor: str


@torch.inference_mode()
def view_through_encoder(
    frames: NDArray[np.uint8], rest_image: NDArray[np.uint8], *, encoder_path: Path
) -> EncoderView:
    """Encode tactile images alone, as the first touch signal that the encoder knows.

    Pictures are scaled to the encoder's size; those of a portrait sensor are turned by a quarter first if that fits
    better, and attention is turned back. The encoder gets the change against this unit's own rest image.

    Args:
        frames: uint8. Shape (T, H, W, 3).
        rest_image: uint8. Shape (H, W, 3).
        encoder_path: Checkpoint or run folder of `vtt pretrain`.

    Returns:
        Attention of the contact token over the picture's patches in the last block.

    Raises:
        StoreError: If there is no encoder.
        ConfigError: If it knows no tactile images, or has no attention.
    """
    trained = load_encoder(encoder_path)
    keys = [key for key, spec in trained.observation.items() if spec.kind == "tactile_image"]
    if not keys:
        raise ConfigError(
            f"{encoder_path} must be an encoder of tactile images, got one of {list(trained.observation)}."
        )
    key = keys[0]
    rows, columns = trained.observation[key].shape[:2]
    turned = (frames.shape[1] > frames.shape[2]) != (rows > columns)

    def fit(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        images = np.rot90(images, axes=(-3, -2)) if turned else images
        return resize(np.ascontiguousarray(images), height=rows, width=columns)

    normalizer = trained.normalizer.with_rest_images({key: fit(rest_image)})
    maps = []
    for start in range(0, len(frames), _BATCH):
        batch = {key: torch.from_numpy(fit(frames[start : start + _BATCH]))}
        output = trained.encoder(normalizer.prepare(batch), return_attention=True)
        if output.attention is None:
            raise ConfigError(f"{encoder_path} must be a transformer, got an encoder without attention.")
        patches = attention_map(output, queries="contact", keys=key)
        patches = torch.rot90(patches, -1, (1, 2)) if turned else patches
        maps.append(upsample(patches, (frames.shape[1], frames.shape[2])).numpy())
    return EncoderView(np.concatenate(maps), key, trained.observation[key].sensor)

"""Build a student for what an environment or a store offers, with a new encoder or a pretrained one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vtt.encoders import EncoderConfig, build_encoder, signal_specs
from vtt.normalizer import Normalizer
from vtt.pretrained import Pretrained
from vtt.streams import StreamSpec, check_observation
from vtt_policies.config import StudentConfig
from vtt_policies.student import StudentPolicy, student_for

__all__ = ["build_student", "fit_normalizer"]


def build_student(
    specs: Mapping[str, StreamSpec],
    samples: Mapping[str, Sequence[NDArray]],
    *,
    action_dim: int,
    network: StudentConfig,
    seed: int,
    pretrained: Pretrained | None = None,
    rest_images: Mapping[str, NDArray[np.uint8]] | None = None,
    device: str = "cpu",
) -> StudentPolicy:
    """Build a student that has not learned yet.

    Args:
        specs: What the student sees.
        samples: First observations, which give vectors their scale. Each array (T, ...).
        action_dim: Number of action dimensions.
        network: Encoder, width, memory.
        seed: Draws the weights.
        pretrained: Encoder to begin with, instead of a new one of `network`.
        rest_images: Images of the untouched gel by key, uint8 (H, W, 3), where they are known.
        device: Where the student goes.

    Returns:
        The student, ready to act.

    Raises:
        ConfigError: If the pretrained encoder does not know what the student sees.
        ShapeError: If it knows it differently.
    """
    normalizer = fit_normalizer(specs, samples, pretrained=pretrained, rest_images=rest_images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if pretrained is None:
            encoder = build_encoder(
                replace(EncoderConfig.preset(network.preset), name=network.encoder), signal_specs(specs, specs)
            )
        else:
            encoder = pretrained.encoder
        student = student_for(specs, encoder, network=network, action_dim=action_dim)
    return StudentPolicy(student.to(device), normalizer, keys=tuple(specs), device=device)


def fit_normalizer(
    specs: Mapping[str, StreamSpec],
    samples: Mapping[str, Sequence[NDArray]],
    *,
    pretrained: Pretrained | None = None,
    rest_images: Mapping[str, NDArray[np.uint8]] | None = None,
) -> Normalizer:
    """Measure how observations are normalised; what a pretrained encoder knows stays as it knows it.

    Raises:
        ShapeError: If it knows an observation differently.
    """
    rest = {key: image for key, image in (rest_images or {}).items() if key in specs}
    known = {}
    if pretrained is not None:
        shared = [key for key in pretrained.observation if key in specs]
        check_observation({k: pretrained.observation[k] for k in shared}, {k: specs[k] for k in shared})
        known = {key: pretrained.normalizer.entries[key] for key in shared}
    fitted = Normalizer.fit({key: spec for key, spec in specs.items() if key not in known}, samples, rest_images=rest)
    return Normalizer({**fitted.entries, **known})

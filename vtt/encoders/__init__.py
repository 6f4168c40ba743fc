"""Encoders: named signals to a latent, with an alignment and a contact verdict.

Source: Visuo-Tactile Transformers (CoRL 2022): the transformer and its two baselines. Re-implemented; the baselines can
be widened to a given parameter count, since the paper's differ from the transformer by a factor of 11 to 16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from vtt.encoders.concat import ConcatEncoder
from vtt.encoders.config import PRESETS, EncoderConfig, EncoderOutput
from vtt.encoders.poe import PoeEncoder
from vtt.encoders.vtt import VttEncoder
from vtt.errors import ConfigError, missing
from vtt.tokens import SignalSpec, signal_specs

__all__ = [
    "PAPER_SIGNALS",
    "PRESETS",
    "ConcatEncoder",
    "Encoder",
    "EncoderConfig",
    "EncoderOutput",
    "PoeEncoder",
    "SignalSpec",
    "VttEncoder",
    "build_encoder",
    "count_parameters",
    "signal_specs",
]

Encoder = VttEncoder | ConcatEncoder | PoeEncoder

# One 84x84 RGB image and one 6-axis wrench: what the paper's encoders see.
PAPER_SIGNALS: dict[str, SignalSpec] = {
    "camera_front": SignalSpec("image", (84, 84, 3)),
    "wrench": SignalSpec("vector", (6,), modality="touch"),
}


def build_encoder(config: EncoderConfig, signals: Mapping[str, SignalSpec]) -> Encoder:
    """Build an encoder; initial weights come from torch's global generator.

    Args:
        config: Which one, and how large.
        signals: What it may receive, by observation key.

    Returns:
        The encoder: `forward(observation, *, valid=None, generator=None, return_attention=False) -> EncoderOutput`.

    Raises:
        ConfigError: If the settings cannot work.
        MissingError: If there is no such encoder.

    Example:
        >>> encoder = build_encoder(EncoderConfig.preset("paper"), PAPER_SIGNALS)
        >>> count_parameters(encoder)
        11933602
    """
    if not signals:
        raise ConfigError("signals must name at least one signal, got none.")
    if config.name == "vtt":
        if config.match_parameters is not None:
            raise ConfigError("match_parameters must be None for encoder 'vtt': only the baselines can be widened.")
        encoder: Encoder = VttEncoder(config, signals)
    elif config.name == "concat":
        encoder = ConcatEncoder(config, signals, width=_width(ConcatEncoder, config, signals))
    elif config.name == "poe":
        encoder = PoeEncoder(config, signals, width=_width(PoeEncoder, config, signals))
    else:
        raise missing("encoder", config.name, ("vtt", "concat", "poe"))
    for module in encoder.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):  # as the paper: xavier-uniform weights, zero biases
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return encoder


def count_parameters(module: nn.Module) -> int:
    """Count a module's trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _width(kind: Callable[..., nn.Module], config: EncoderConfig, signals: Mapping[str, SignalSpec]) -> float:
    """Find the width that brings a baseline nearest to `config.match_parameters`; the paper's is 1."""
    target = config.match_parameters
    if target is None:
        return 1.0

    def size(step: int) -> int:
        with torch.device("meta"):
            return count_parameters(kind(config, signals, width=step / 256))

    low, high = 1, 2
    while size(high) < target and high < 2**16:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    best = min((low, high), key=lambda step: abs(size(step) - target))
    if abs(size(best) - target) > 0.05 * target:
        raise ConfigError(
            f"match_parameters must be within 5 % of what encoder '{config.name}' can reach for these signals, got "
            f"{target}; the nearest is {size(best)}."
        )
    return best / 256

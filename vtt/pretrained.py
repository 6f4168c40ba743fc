"""Encoders on disk: with their normaliser and what they expect to see."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vtt import checkpoint
from vtt.encoders import Encoder, EncoderConfig, SignalSpec, build_encoder
from vtt.errors import StoreError
from vtt.normalizer import Normalizer
from vtt.runs import RunFolder
from vtt.streams import StreamSpec

__all__ = ["Pretrained", "load_encoder", "save_encoder"]


class Pretrained(NamedTuple):
    """An encoder ready for use.

    Attributes:
        encoder: In evaluation mode.
        normalizer: Turns raw observations into its input: `encoder(normalizer.prepare(observation))`.
        observation: Spec of each key it knows.
        folder: The checkpoint it was read from.
    """

    encoder: Encoder
    normalizer: Normalizer
    observation: dict[str, StreamSpec]
    folder: Path


def load_encoder(path: str | Path, *, device: str | torch.device = "cpu") -> Pretrained:
    """Load an encoder.

    Args:
        path: A checkpoint, or a run folder, whose newest checkpoint is taken.
        device: Where it goes.

    Raises:
        StoreError: If there is none, or it is damaged.
    """
    folder = Path(path)
    if not (folder / "config.json").exists() and (folder / "config.yaml").exists():
        last = RunFolder.open(folder).last()
        if last is None:
            raise StoreError(f"Run {folder} has no checkpoint yet. Continue it first.")
        folder = last
    saved = checkpoint.load(folder, device=device)
    try:
        config = EncoderConfig.from_dict(saved.config["encoder"])
        signals = {key: SignalSpec(**_tupled(fields)) for key, fields in saved.config["signals"].items()}
    except (KeyError, TypeError) as error:
        raise StoreError(f"{folder} must be the checkpoint of an encoder, got one without {error}.") from error
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn only to be replaced
        encoder = build_encoder(config, signals).to(device)
    saved.restore(encoder)
    return Pretrained(encoder.eval(), saved.normalizer, saved.observation, folder)


def save_encoder(
    folder: str | Path,
    encoder: Encoder,
    *,
    normalizer: Normalizer,
    observation: Mapping[str, StreamSpec],
    readme: str,
    training_state: Mapping[str, Any] | None = None,
) -> Path:
    """Save an encoder so that `load_encoder` finds it; see `vtt.checkpoint.save`."""
    signals = {key: dataclasses.asdict(signal) for key, signal in encoder.signals.items()}
    config = {"encoder": encoder.config.to_dict(), "signals": signals}
    return checkpoint.save(
        folder,
        model=encoder,
        config=config,
        normalizer=normalizer,
        observation=observation,
        readme=readme,
        training_state=training_state,
    )


def _tupled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}

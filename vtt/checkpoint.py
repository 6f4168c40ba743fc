"""Checkpoints: a folder with everything to run a model, and on request to train it further. Nothing in it is pickled.

config.json                  what builds the model
model.safetensors            its weights
normalizer.safetensors       how observations become its input
observation.json             what it expects: keys, kinds, shapes, units, sensors, calibration hashes
README.md                    what it is
training_state.json          optional: optimiser, random generators and counters,
training_state.safetensors   and their tensors
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vtt.errors import ConfigError, StoreError
from vtt.files import atomic_folder, read_json, settle_folder
from vtt.normalizer import Normalizer
from vtt.state_tree import pack, unpack
from vtt.streams import StreamSpec

__all__ = ["Checkpoint", "load", "load_training_state", "save"]

_FORMAT, _VERSION = "vtt-checkpoint", 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        folder: Where it was read.
        config: What builds the model; plain values.
        weights: State dict of the model.
        normalizer: How observations become its input.
        observation: Spec of each key that it expects.
    """

    folder: Path
    config: dict[str, Any]
    weights: dict[str, Tensor]
    normalizer: Normalizer
    observation: dict[str, StreamSpec]

    def restore(self, model: nn.Module) -> None:
        """Give a model these weights.

        Raises:
            ConfigError: If the model was built from another config; names what differs.
        """
        there, here = self.weights, model.state_dict()
        faults = [f"'{name}' is missing in the checkpoint" for name in here if name not in there]
        faults += [f"'{name}' is not in the model" for name in there if name not in here]
        faults += [
            f"'{name}' is {tuple(there[name].shape)} in the checkpoint and {tuple(here[name].shape)} in the model"
            for name in here
            if name in there and there[name].shape != here[name].shape
        ]
        if faults:
            more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise ConfigError(f"Checkpoint {self.folder} must fit the model: {'; '.join(faults[:3])}{more}.")
        model.load_state_dict(there)


def save(
    folder: str | Path,
    *,
    model: nn.Module,
    config: Mapping[str, Any],
    normalizer: Normalizer,
    observation: Mapping[str, StreamSpec],
    readme: str,
    training_state: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint, replacing one of that name in one step.

    Args:
        folder: Where; `load` finds the old one or the new, whenever this is interrupted.
        model: Gives the weights.
        config: What builds the model; JSON-ready values.
        normalizer: How observations become its input.
        observation: Spec of each key that it expects.
        readme: What the model is, in Markdown.
        training_state: What training needs to go on: a tree of tensors, arrays and plain values.

    Returns:
        The folder.
    """
    # Tied weights share memory, which safetensors refuses: each name gets its own.
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_folder(Path(folder), replace=True) as partial:
        _write_json(partial / "config.json", {"format": _FORMAT, "version": _VERSION, "config": dict(config)})
        save_file(weights, partial / "model.safetensors")
        normalizer.save(partial / "normalizer.safetensors")
        _write_json(partial / "observation.json", {key: spec.to_dict() for key, spec in observation.items()})
        (partial / "README.md").write_text(readme, encoding="utf-8")
        if training_state is not None:
            structure, tensors = pack(dict(training_state))
            _write_json(partial / "training_state.json", structure)
            save_file(tensors, partial / "training_state.safetensors")
    return Path(folder)


def load(folder: str | Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint.

    Raises:
        StoreError: If it is missing, damaged or of a later version.
    """
    folder = settle_folder(Path(folder))
    if not folder.is_dir():
        raise StoreError(f"No checkpoint at {folder}.")
    header = read_json(folder / "config.json")
    if header.get("format") != _FORMAT or not isinstance(header.get("config"), dict):
        raise StoreError(f"{folder} must be a checkpoint of format {_FORMAT}, got {header.get('format')}.")
    if header["version"] > _VERSION:
        raise StoreError(f"{folder} must have version {_VERSION} or lower, got {header['version']}. Upgrade vtt.")
    try:
        observation = {key: StreamSpec.from_dict(spec) for key, spec in read_json(folder / "observation.json").items()}
    except (TypeError, ConfigError) as error:
        raise StoreError(f"{folder / 'observation.json'} is damaged ({error}).") from error
    return Checkpoint(
        folder,
        header["config"],
        _read_tensors(folder / "model.safetensors", device),
        Normalizer.load(folder / "normalizer.safetensors").to(device),
        observation,
    )


def load_training_state(folder: str | Path) -> dict[str, Any]:
    """Read what training needs to go on, on the CPU.

    Raises:
        StoreError: If the checkpoint has none, or it is damaged.
    """
    folder = settle_folder(Path(folder))
    path = folder / "training_state.json"
    if not path.exists():
        raise StoreError(f"Checkpoint {folder} holds no training state. It can be run but not trained further.")
    structure, tensors = read_json(path), _read_tensors(folder / "training_state.safetensors", "cpu")
    try:
        return unpack(structure, tensors)
    except KeyError as error:
        raise StoreError(f"{path} is damaged: tensor {error} is missing.") from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _read_tensors(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is missing or damaged ({error}).") from error

"""Everything that training by stable-baselines3 needs to go on exactly: weights, optimisers, counters, generators."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from vtt.normalizer import Affine, Normalizer
from vtt.streams import StreamSpec

__all__ = ["capture", "load_normalizer", "load_specs", "normalizer_state", "restore", "specs_state"]

_COUNTERS = ("num_timesteps", "_episode_num", "_n_updates", "_current_progress_remaining")


def capture(model: BaseAlgorithm) -> dict[str, Any]:
    """Take down the state of an algorithm, as a tree of tensors, arrays and plain values.

    The environments and the replay buffer have states of their own. What was collected for the next update of PPO is
    not part of it: take it down between updates.
    """
    modules, variables = model._get_torch_save_params()
    return {
        "modules": {name: attrgetter(name)(model).state_dict() for name in modules},
        "variables": {name: attrgetter(name)(model).detach() for name in variables},
        "counters": {name: getattr(model, name) for name in _COUNTERS},
        "episodes": list(model.ep_info_buffer or ()),
        "successes": list(model.ep_success_buffer or ()),
        "random": _generators(model),
    }


def restore(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Continue from what `capture` took down."""
    for name, module in state["modules"].items():
        attrgetter(name)(model).load_state_dict(module)
    for name, value in state["variables"].items():
        attrgetter(name)(model).data.copy_(value)
    for name, value in state["counters"].items():
        setattr(model, name, value)
    window = model._stats_window_size
    model.ep_info_buffer = deque(state["episodes"], maxlen=window)
    model.ep_success_buffer = deque(state["successes"], maxlen=window)
    _set_generators(model, state["random"])


def _generators(model: BaseAlgorithm) -> dict[str, Any]:
    """Take down the generators that SB3 draws from: torch's and NumPy's global ones, and that of the action space."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (SB3 draws from it)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (name, np.asarray(keys), position, has_gauss, cached),
        "actions": model.action_space.np_random.bit_generator.state,
    }


def _set_generators(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(state["numpy"])  # noqa: NPY002 (SB3 draws from it)
    model.action_space.np_random.bit_generator.state = state["actions"]


def normalizer_state(normalizer: Normalizer) -> dict[str, Any]:
    """Take down a normaliser as a tree; that of a checkpoint knows only what is deployed."""
    return {
        key: {field.name: getattr(entry, field.name) for field in fields(entry)}
        for key, entry in normalizer.to("cpu").entries.items()
    }


def load_normalizer(state: Mapping[str, Any]) -> Normalizer:
    """Undo `normalizer_state`."""
    return Normalizer({key: Affine(**entry) for key, entry in state.items()})


def specs_state(specs: Mapping[str, StreamSpec]) -> dict[str, Any]:
    """Take down specs as a tree."""
    return {key: spec.to_dict() for key, spec in specs.items()}


def load_specs(state: Mapping[str, Any]) -> dict[str, StreamSpec]:
    """Undo `specs_state`."""
    return {key: StreamSpec.from_dict(spec) for key, spec in state.items()}

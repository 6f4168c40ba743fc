"""Take nested training state apart into JSON and named tensors, and put it together again, exactly.

Optimisers and generators keep dicts with integer keys, tuples, big integers, tensors and arrays. Pickle would store
them at the price of running whatever a checkpoint contains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vtt.errors import ConfigError

__all__ = ["pack", "unpack"]

# A one-entry dict with one of these keys stands for something that JSON does not know.
_TENSOR, _ARRAY, _TUPLE, _ITEMS = "__tensor__", "__array__", "__tuple__", "__items__"
_MARKS = {_TENSOR, _ARRAY, _TUPLE, _ITEMS}


def pack(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split a tree of dicts, lists, tuples, numbers, strings, tensors and arrays.

    Returns:
        JSON-ready structure, and the tensors it names.

    Raises:
        ConfigError: If the tree holds anything else.

    Example:
        >>> structure, tensors = pack({"step": 3, 0: (torch.ones(2), None)})
        >>> unpack(structure, tensors)
        {'step': 3, 0: (tensor([1., 1.]), None)}
    """
    tensors: dict[str, Tensor] = {}
    return _pack(state, "state", tensors), tensors


def unpack(structure: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `pack`.

    Raises:
        KeyError: If a tensor is missing.
    """
    if isinstance(structure, list):
        return [unpack(item, tensors) for item in structure]
    if not isinstance(structure, dict):
        return structure
    if len(structure) == 1 and set(structure) <= _MARKS:
        ((mark, value),) = structure.items()
        if mark == _TENSOR:
            return tensors[value]
        if mark == _ARRAY:
            return tensors[value].numpy()
        if mark == _TUPLE:
            return tuple(unpack(item, tensors) for item in value)
        return {unpack(key, tensors): unpack(item, tensors) for key, item in value}
    return {key: unpack(item, tensors) for key, item in structure.items()}


def _pack(state: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Pack one node; its tensors are named after their place in the tree."""
    if isinstance(state, np.ndarray):
        # Through a copy: safetensors wants each tensor to own its memory.
        tensors[name] = torch.from_numpy(np.array(state, order="C"))
        return {_ARRAY: name}
    if isinstance(state, Tensor):
        tensors[name] = state.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(state, np.generic):
        return state.item()
    if state is None or isinstance(state, bool | int | float | str):
        return state
    if isinstance(state, list):
        return [_pack(item, f"{name}.{index}", tensors) for index, item in enumerate(state)]
    if isinstance(state, tuple):
        return {_TUPLE: [_pack(item, f"{name}.{index}", tensors) for index, item in enumerate(state)]}
    if isinstance(state, Mapping):
        if all(isinstance(key, str) for key in state) and not _MARKS & set(state):
            return {key: _pack(item, f"{name}.{key}", tensors) for key, item in state.items()}
        items = [(key, _pack(item, f"{name}.{key}", tensors)) for key, item in state.items()]
        return {_ITEMS: [[_pack(key, f"{name}.key", {}), item] for key, item in items]}
    raise ConfigError(
        f"Training state must hold tensors, arrays and plain values, got {type(state).__name__} at {name}."
    )

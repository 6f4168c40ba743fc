"""The single path from an observation to a network's input, stored with every checkpoint.

A key's input is (value - offset) / scale, where the value of an image is its grey level / 255; see `affine`.

Axes: N samples · B batch (any number of leading axes) · H, W rows and columns · C channels · n components of a vector.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vtt.affine import Affine, camera, measure, tactile
from vtt.errors import ConfigError, ShapeError, StoreError, missing
from vtt.streams import StreamSpec

if TYPE_CHECKING:  # a policy needs no store
    from vtt.store import EpisodeStore

__all__ = ["Affine", "Normalizer", "as_tensor"]

_log = logging.getLogger(__name__)
_FORMAT = "vtt-normalizer/1"


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Offsets and scales by observation key.

    Attributes:
        entries: How each known key is normalised.

    Example:
        >>> specs = {"goal": StreamSpec("vector", (2,), "float32", "m", 20.0)}
        >>> normalizer = Normalizer.fit(specs, {"goal": np.array([[0.0, 5.0], [2.0, 5.0]])}, floors={"goal": 0.01})
        >>> normalizer.prepare({"goal": np.array([[3.0, 5.0]], np.float32)})["goal"]
        tensor([[2., 0.]])
        >>> normalizer.entries["goal"].dead
        ('1',)
    """

    entries: Mapping[str, Affine]
    _elsewhere: dict[torch.device, Normalizer] = field(default_factory=dict, repr=False)

    @classmethod
    def fit(
        cls,
        streams: Mapping[str, StreamSpec],
        samples: Mapping[str, NDArray[Any] | Iterable[NDArray[Any]]],
        *,
        floors: Mapping[str, float] | None = None,
        rest_images: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> Normalizer:
        """Measure offsets and scales.

        A vector gets mean and standard deviation per component. A force grid gets the root mean square per channel, so
        that no force stays 0. A camera gets constants, a tactile image its rest image and a constant.

        Args:
            streams: Specs of the keys to know.
            samples: For each key an array (N, *shape), or several, read once and never held together. Not needed for
                cameras, nor for tactile images whose rest image is given.
            floors: Smallest scale by key, in the key's unit; by default .001.
            rest_images: Picture of the untouched gel by key, uint8 (H, W, C). Without it the mean of the samples stands
                in, which is close where touch is rare or local.

        Raises:
            ConfigError: If a key has neither samples nor a rest image, or a floor is not positive.
            ShapeError: If samples or a rest image do not fit the spec.
        """
        floors, rest_images, entries = floors or {}, rest_images or {}, {}
        for key, spec in streams.items():
            if key in rest_images:
                entries[key] = tactile(key, spec, rest_images[key])
            elif spec.kind == "image":
                entries[key] = camera(key, spec)
            elif spec.kind == "scalar":
                raise ConfigError(f"'{key}' must be an image, a force grid or a vector to be normalised, got a scalar.")
            elif key not in samples:
                raise ConfigError(f"samples must hold '{key}', got {', '.join(sorted(samples)) or 'none'}.")
            else:
                chunks = samples[key]
                chunks = [chunks] if isinstance(chunks, np.ndarray) else chunks
                entries[key] = measure(key, spec, chunks, floor=floors.get(key))
        for key, entry in entries.items():
            if entry.dead:
                _log.warning("'%s' stands still in the data; its scale is a floor: %s.", key, ", ".join(entry.dead))
        return cls(entries)

    @classmethod
    def fit_store(
        cls,
        store: EpisodeStore,
        keys: Iterable[str],
        *,
        floors: Mapping[str, float] | None = None,
        rest_images: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> Normalizer:
        """Measure offsets and scales over all episodes of a store, one episode in memory at a time; see `fit`."""
        keys = list(keys)
        for key in keys:
            if key not in store.streams:
                raise missing("stream", key, store.streams)
        return cls.fit(
            {key: store.streams[key] for key in keys},
            {key: _episodes(store, key) for key in keys},
            floors=floors,
            rest_images=rest_images,
        )

    def with_rest_images(self, rest_images: Mapping[str, NDArray[np.uint8]]) -> Normalizer:
        """Return a copy for other gels: the same network, another sensor of the kind."""
        entries = dict(self.entries)
        for key, image in rest_images.items():
            entry = self._entry(key)
            rest = tactile(key, StreamSpec(entry.kind, entry.shape, "uint8", "", 1.0), image)
            entries[key] = replace(entry, offset=rest.offset.to(self._device))
        return Normalizer(entries)

    def prepare(
        self, observation: Mapping[str, NDArray[Any] | Tensor], device: str | torch.device | None = None
    ) -> dict[str, Tensor]:
        """Convert and normalise every known key of an observation; others are left out.

        Args:
            observation: Raw samples by key, images uint8 (B, H, W, C), force grids (B, H, W, C), vectors (B, n).
            device: Where the result goes; None leaves it where the normaliser is.

        Returns:
            float32 by key: images and force grids (B, C, H, W), vectors (B, n).

        Raises:
            ShapeError: If a known key has another shape, or an image is not uint8.
        """
        if device is not None and torch.device(device) != self._device:
            return self.to(device).prepare(observation)
        prepared = {}
        for key, entry in self.entries.items():
            if key in observation:
                x = as_tensor(observation[key])
                if tuple(x.shape[-len(entry.shape) :]) != entry.shape or (entry.is_image and x.dtype != torch.uint8):
                    dtype = "uint8" if entry.is_image else "numeric"
                    sides = ", ".join(map(str, ("...", *entry.shape)))
                    got = f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
                    raise ShapeError(f"Observation '{key}' must be {dtype} ({sides}), got {got}.")
                prepared[key] = entry.apply(x.to(self._device))
        return prepared

    def normalize(self, key: str, x: Tensor) -> Tensor:
        """Normalise values in the network's layout, images in [0, 1]. Shape (B, C, H, W) or (B, n)."""
        entry = self._entry(key)
        return (x - entry.offset) / entry.scale

    def denormalize(self, key: str, x: Tensor) -> Tensor:
        """Undo `normalize`."""
        entry = self._entry(key)
        return x * entry.scale + entry.offset

    def to(self, device: str | torch.device) -> Normalizer:
        """Return this normaliser on a device; the copy is made once."""
        device = torch.device(device)
        if device == self._device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = Normalizer(
                {k: replace(e, offset=e.offset.to(device), scale=e.scale.to(device)) for k, e in self.entries.items()}
            )
        return self._elsewhere[device]

    def save(self, path: Path) -> None:
        """Write one safetensors file; the caller makes it atomic."""
        facts = {key: {"kind": e.kind, "shape": e.shape, "dead": e.dead} for key, e in self.entries.items()}
        tensors = {f"{key}.offset": e.offset.contiguous().cpu() for key, e in self.entries.items()}
        tensors |= {f"{key}.scale": e.scale.contiguous().cpu() for key, e in self.entries.items()}
        save_file(tensors, path, metadata={"format": _FORMAT, "keys": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> Normalizer:
        """Read what `save` wrote.

        Raises:
            StoreError: If the file is missing, damaged or something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise StoreError(f"{path} must be a normaliser of format {_FORMAT}, got {metadata.get('format')}.")
                return cls(
                    {
                        key: Affine(
                            facts["kind"],
                            tuple(facts["shape"]),
                            file.get_tensor(f"{key}.offset"),
                            file.get_tensor(f"{key}.scale"),
                            tuple(facts["dead"]),
                        )
                        for key, facts in json.loads(metadata["keys"]).items()
                    }
                )
        except (SafetensorError, ValueError, KeyError, FileNotFoundError) as error:
            raise StoreError(f"Normaliser {path} is missing or damaged ({error}).") from error

    @cached_property
    def _device(self) -> torch.device:
        """Where the offsets and scales are."""
        return next(iter(self.entries.values())).offset.device if self.entries else torch.device("cpu")

    def _entry(self, key: str) -> Affine:
        if key not in self.entries:
            raise missing("normalised key", key, self.entries)
        return self.entries[key]


def _episodes(store: EpisodeStore, key: str) -> Iterator[NDArray[Any]]:
    """Read one stream, one episode after the other."""
    for index in range(len(store)):
        yield store.read(index, [key])[key].data


def as_tensor(value: NDArray[Any] | Tensor) -> Tensor:
    """Share memory where torch can: it takes neither read-only arrays nor negative strides."""
    if isinstance(value, Tensor):
        return value
    plain = np.ascontiguousarray(value)
    return torch.from_numpy(plain if plain.flags.writeable else plain.copy())

"""Tokenisers: named signals to one sequence of tokens.

Axes: B batch · T steps of a window · N tokens · D embed_dim · C channels · H, W rows and columns of an image ·
P values of a patch. Images and force grids arrive as float32 (B, C, H, W), vectors as (B, n), all normalised; with a
window of T > 1 steps each carries an axis T behind B.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtt.errors import ConfigError, ShapeError, missing

__all__ = [
    "Modality",
    "PatchTokeniser",
    "SignalKind",
    "SignalSpec",
    "TokenGroup",
    "Tokeniser",
    "Tokens",
    "VectorTokeniser",
    "patchify",
    "signal_specs",
    "unpatchify",
]

SignalKind = Literal["image", "tactile_image", "force_grid", "vector"]
Modality = Literal["vision", "touch", "body", "special"]

_MODALITY: dict[str, Modality] = {"image": "vision", "tactile_image": "touch", "force_grid": "touch", "vector": "body"}
# Of the flat observation keys, the one vector that is felt rather than known about the own body.
_TOUCH_VECTORS = ("wrench",)


@dataclass(frozen=True)
class SignalSpec:
    """Describe one signal as an encoder sees it.

    Attributes:
        kind: What it is; decides its tokeniser.
        shape: Shape of one sample outside networks: (rows, columns, channels) or (n,).
        sensor: Sensor model. Signals of one kind, shape and sensor share a tokeniser; empty shares with none.
        modality: Group for masks, attention maps and alignment; empty follows from `kind` (a vector is "body").
    """

    kind: SignalKind
    shape: tuple[int, ...]
    sensor: str = ""
    modality: Literal["", "vision", "touch", "body"] = ""

    def __post_init__(self) -> None:
        if self.kind not in _MODALITY:
            raise missing("signal kind", self.kind, _MODALITY)
        dimensions = 1 if self.kind == "vector" else 3
        if len(self.shape) != dimensions or min(self.shape) < 1:
            raise ShapeError(f"shape must be {dimensions} positive lengths for kind '{self.kind}', got {self.shape}.")

    @property
    def group(self) -> Modality:
        """Modality, resolved."""
        return self.modality or _MODALITY[self.kind]


class _Stream(Protocol):
    """What `signal_specs` needs of a recorded stream's description."""

    @property
    def kind(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def sensor(self) -> str: ...


def signal_specs(streams: Mapping[str, _Stream], keys: Iterable[str]) -> dict[str, SignalSpec]:
    """Describe the streams `keys` as signals; `wrench` counts as touch, every other vector as body.

    Raises:
        MissingError: If a key is no stream.
        ConfigError: If a stream has no tokeniser.
    """
    signals: dict[str, SignalSpec] = {}
    for key in keys:
        if key not in streams:
            raise missing("stream", key, streams)
        kind, shape = streams[key].kind, tuple(streams[key].shape)
        if kind not in _MODALITY:
            raise ConfigError(f"stream '{key}' must be one of {', '.join(_MODALITY)} to be encoded, got {kind}.")
        modality = "touch" if key in _TOUCH_VECTORS else ""
        signals[key] = SignalSpec(kind, shape, streams[key].sensor, modality)  # pyright: ignore[reportArgumentType]
    return signals


class TokenGroup(NamedTuple):
    """The tokens start:stop of a sequence, which come from one signal (or are a special token).

    Attributes:
        name: Observation key, or "align", "contact".
        modality: Its modality.
        start: First token.
        stop: One past the last token.
        grid: (steps, rows, columns), whose product is the number of tokens; a vector's tokens form one row.
    """

    name: str
    modality: Modality
    start: int
    stop: int
    grid: tuple[int, int, int]


class Tokens(NamedTuple):
    """A sequence of tokens.

    Attributes:
        x: Embeddings, shape (B, N, D).
        groups: Where each signal's tokens stand; together they cover N in order.
        valid: Which tokens exist, shape (B, N); None if all do.
    """

    x: Tensor
    groups: tuple[TokenGroup, ...]
    valid: Tensor | None


def patchify(image: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut images (B, C, H, W) into patches (B, rows * columns, P), P in the order row, column, channel.

    Example:
        >>> patchify(torch.zeros(2, 3, 48, 64), (16, 16)).shape
        torch.Size([2, 12, 768])
    """
    b, c, h, w = image.shape
    rows, columns = h // patch[0], w // patch[1]
    if rows * patch[0] != h or columns * patch[1] != w:
        raise ShapeError(f"image must have sides divisible by the patch {patch}, got {h}x{w}.")
    x = image.reshape(b, c, rows, patch[0], columns, patch[1])  # (B, C, rows, ph, columns, pw)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, rows * columns, -1)  # (B, N, P)


def unpatchify(patches: Tensor, patch: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Undo `patchify`: (B, rows * columns, P) to (B, C, H, W) for a grid of (rows, columns)."""
    b = patches.shape[0]
    x = patches.reshape(b, *grid, *patch, -1)  # (B, rows, columns, ph, pw, C)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, grid[0] * patch[0], grid[1] * patch[1])


class PatchTokeniser(nn.Module):
    """Embed each patch of an image or force grid as one token.

    A convolution with stride = kernel, written as a matrix product on unfolded patches. With `stem_dim` > 0 each patch
    is embedded in two levels, 4x4 sub-patches first, with a GELU between: as cheap, but no longer a linear function of
    the pixels. Neither level overlaps, so that a hidden patch cannot be seen from its neighbours.
    """

    def __init__(self, channels: int, patch: tuple[int, int], embed_dim: int, *, stem_dim: int = 0) -> None:
        super().__init__()
        self.patch = patch
        self.stem: nn.Conv2d | None = None
        self._inner = patch  # patch size on what is projected: pixels, or the stem's map
        if stem_dim:
            if patch[0] % _STEM or patch[1] % _STEM:
                raise ConfigError(f"patch must be divisible by {_STEM} to use a stem, got {patch}.")
            self.stem = nn.Conv2d(channels, stem_dim, _STEM, _STEM)
            self._inner, channels = (patch[0] // _STEM, patch[1] // _STEM), stem_dim
        self.project = nn.Linear(self._inner[0] * self._inner[1] * channels, embed_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, rows * columns, D)."""
        if image.shape[2] % self.patch[0] or image.shape[3] % self.patch[1]:
            raise ShapeError(
                f"image must have sides divisible by the patch {self.patch}, got {tuple(image.shape[2:])}."
            )
        if self.stem is not None:
            image = F.gelu(self.stem(image))  # (B, stem_dim, H / 4, W / 4)
        return self.project(patchify(image, self._inner))  # (B, N, D)


_STEM = 4  # px, side of a sub-patch: with 16 px patches, 16 of them


class VectorTokeniser(nn.Module):
    """Embed a vector as k tokens by one linear map (paper: wrench to 2 tokens)."""

    def __init__(self, length: int, tokens: int, embed_dim: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.project = nn.Linear(length, tokens * embed_dim)

    def forward(self, vector: Tensor) -> Tensor:
        """Map (B, n) to (B, k, D)."""
        return self.project(vector).unflatten(1, (self.tokens, -1))


class Tokeniser(nn.Module):
    """Turn named signals into one sequence of tokens, in the order of `signals`.

    A token = what it shows + position in its image + which sensor and view (its key) + modality + time in the window.
    Signals of the same sensor model share projection and positions and differ by the key's embedding.
    """

    def __init__(
        self,
        signals: Mapping[str, SignalSpec],
        *,
        embed_dim: int,
        patches: Mapping[str, tuple[int, int]],
        vector_tokens: int = 1,
        stem_dim: int = 0,
        window: int = 1,
        modality_embedding: bool = True,
    ) -> None:
        """Build one tokeniser per sensor.

        Args:
            signals: What may arrive, by observation key.
            embed_dim: D.
            patches: Patch (rows, columns) in px by kind: "image", "tactile_image", "force_grid".
            vector_tokens: Tokens per vector.
            stem_dim: Width of the patch stem; 0 for none.
            window: Steps T; time embeddings exist when more than 1.
            modality_embedding: Embed modality and key. Without it a position table per key stands for both (paper).
        """
        super().__init__()
        self.signals = dict(signals)
        self.patches = dict(patches)
        self.vector_tokens, self.window = vector_tokens, window
        self.project = nn.ModuleDict()
        self.position = nn.ParameterDict()
        self.key = nn.ParameterDict()
        self.modality = nn.ParameterDict()
        self.time = nn.Parameter(_table(window, embed_dim)) if window > 1 else None
        self._name: dict[str, str] = {}
        for key, signal in self.signals.items():
            shared = f"{signal.sensor} {signal.kind} {signal.shape}".replace(".", "_")
            name = self._name[key] = shared if signal.sensor and modality_embedding else key
            if name not in self.project:
                if signal.kind == "vector":
                    self.project[name] = VectorTokeniser(signal.shape[0], vector_tokens, embed_dim)
                else:
                    stem = 0 if signal.kind == "force_grid" else stem_dim
                    self.project[name] = PatchTokeniser(signal.shape[2], patches[signal.kind], embed_dim, stem_dim=stem)
                self.position[name] = nn.Parameter(_table(*self.grid(key), embed_dim))  # (rows, columns, D)
            if modality_embedding:
                self.key[key] = nn.Parameter(_table(embed_dim))
                if signal.group not in self.modality:
                    self.modality[signal.group] = nn.Parameter(_table(embed_dim))

    def grid(self, key: str) -> tuple[int, int]:
        """Rows and columns of the tokens of one step of `key` at the size its spec states."""
        signal = self.signals[key]
        if signal.kind == "vector":
            return 1, self.vector_tokens
        patch = self.patches[signal.kind]
        rows, columns = signal.shape[0] // patch[0], signal.shape[1] // patch[1]
        if (rows * patch[0], columns * patch[1]) != signal.shape[:2]:
            raise ConfigError(f"patch must divide the sides of '{key}', got {patch} for {signal.shape[:2]}.")
        return rows, columns

    def embedding(self, group: TokenGroup) -> Tensor:
        """All of a group's tokens except what they show: position + key + modality + time. Shape (N, D)."""
        steps, rows, columns = group.grid
        table = self.position[self._name[group.name]]  # (rows, columns, D)
        if table.shape[:2] != (rows, columns):
            table = F.interpolate(table.movedim(2, 0)[None], (rows, columns), mode="bilinear")[0].movedim(0, 2)
        table = table.flatten(0, 1)  # (rows * columns, D)
        if group.name in self.key:
            table = table + (self.key[group.name] + self.modality[group.modality])
        if self.time is not None:
            table = (table + self.time[:steps, None]).flatten(0, 1)  # (N, D)
        return table

    def forward(self, observation: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None) -> Tokens:
        """Tokenise what is there.

        Args:
            observation: Normalised signals by key; any subset of the known ones. A key that is absent has no tokens.
                An image may be larger or smaller than its spec if its patch divides it: positions are interpolated.
            valid: Per key, which samples really have the signal, shape (B,), bool. The tokens of the others exist in
                shape only: their content is never read.

        Returns:
            The tokens, with `valid` set if it was given.

        Raises:
            MissingError: If a key is unknown.
            ShapeError: If a signal does not fit its spec.
        """
        valid = valid or {}
        for key in (*observation, *valid):
            if key not in self.signals:
                raise missing("signal", key, self.signals)
        parts: list[Tensor] = []
        groups: list[TokenGroup] = []
        tables: list[Tensor] = []
        flags: list[Tensor] = []
        start = 0
        for key, signal in self.signals.items():
            if key not in observation:
                continue
            data, steps = self._checked(key, observation[key])  # (B * T, ...)
            batch = observation[key].shape[0]
            if key in valid:
                # Overwritten before anything reads it, so that not even a NaN gets through; the mask hides the rest.
                there = valid[key].repeat_interleave(steps).view(-1, *[1] * (data.ndim - 1))
                data = torch.where(there, data, torch.zeros((), dtype=data.dtype, device=data.device))
            part = self.project[self._name[key]](data)  # (B * T, n, D)
            n = part.shape[1]
            rows, columns = (1, n) if signal.kind == "vector" else self._grid_of(signal.kind, data)
            group = TokenGroup(key, signal.group, start, start + steps * n, (steps, rows, columns))
            start = group.stop
            parts.append(part.reshape(batch, steps * n, -1))  # (B, T * n, D)
            groups.append(group)
            tables.append(self.embedding(group))
            if valid:
                flag = valid.get(key, torch.ones(batch, dtype=torch.bool, device=data.device))
                flags.append(flag[:, None].expand(batch, steps * n))
        if not parts:
            raise ShapeError("observation must hold at least one signal, got none.")
        x = torch.cat(parts, 1) + torch.cat(tables)  # (B, N, D)
        return Tokens(x, tuple(groups), torch.cat(flags, 1) if valid else None)

    def _grid_of(self, kind: str, image: Tensor) -> tuple[int, int]:
        """Rows and columns of the tokens of an image as it arrived."""
        patch = self.patches[kind]
        return image.shape[-2] // patch[0], image.shape[-1] // patch[1]

    def _checked(self, key: str, data: Tensor) -> tuple[Tensor, int]:
        """Check one signal against its spec and fold the window into the batch."""
        signal = self.signals[key]
        lead = 1 if self.window == 1 else 2
        steps = 1 if self.window == 1 else data.shape[1] if data.ndim > 1 else 0
        tail = data.shape[lead:]
        fits = tail == signal.shape if signal.kind == "vector" else len(tail) == 3 and tail[0] == signal.shape[2]
        if not fits or not 1 <= steps <= self.window:
            want = signal.shape if signal.kind == "vector" else (signal.shape[2], *signal.shape[:2])
            window = "" if self.window == 1 else f"up to {self.window}, "
            raise ShapeError(f"'{key}' must be (B, {window}{str(want)[1:-1].strip(',')}), got {tuple(data.shape)}.")
        return (data if self.window == 1 else data.flatten(0, 1)), steps


def _table(*shape: int) -> Tensor:
    """A learned embedding at its start; 0.02 as in ViT and the paper."""
    return nn.init.trunc_normal_(torch.empty(*shape), std=0.02)

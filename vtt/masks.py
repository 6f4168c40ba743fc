"""One function that builds attention masks, and one that hides tokens.

Axes: B batch · N tokens. A mask is boolean and True where the row's token may attend to the column's token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vtt.errors import missing
from vtt.tokens import TokenGroup

__all__ = ["MaskKind", "TokenIds", "attention_mask", "sample_keep", "token_ids"]

MaskKind = Literal["full", "cross_modal_only", "zorro", "causal", "block"]
_KINDS = ("full", "cross_modal_only", "zorro", "causal", "block")
_MODALITIES = ("special", "vision", "touch", "body")


class TokenIds(NamedTuple):
    """What a mask needs to know of each token; shape (N,), or (B, N) where samples differ.

    Attributes:
        modality: 0 for special tokens (align, contact), which fuse the modalities; else an index of the modality.
        source: Index of the signal the token comes from.
        step: Step in the window; special tokens stand at the end of it.
    """

    modality: Tensor
    source: Tensor
    step: Tensor

    def take(self, keep: Tensor) -> TokenIds:
        """The ids of the tokens `keep` (B, K)."""
        return TokenIds(*(ids[keep] for ids in self))


def token_ids(groups: Sequence[TokenGroup], *, device: torch.device | None = None) -> TokenIds:
    """List modality, source and step of each token of a sequence, shape (N,) each."""
    modality: list[int] = []
    source: list[int] = []
    step: list[int] = []
    last = max(group.grid[0] for group in groups) - 1
    for index, group in enumerate(groups):
        steps, rows, columns = group.grid
        special = group.modality == "special"
        modality += [_MODALITIES.index(group.modality)] * (group.stop - group.start)
        source += [index] * (group.stop - group.start)
        step += [last if special else t for t in range(steps) for _ in range(rows * columns)]
    return TokenIds(*(torch.tensor(ids, device=device) for ids in (modality, source, step)))


def attention_mask(kind: MaskKind, ids: TokenIds, *, valid: Tensor | None = None) -> Tensor | None:
    """Build the attention mask of a sequence.

    - full: every token attends to every token.
    - cross_modal_only: to special tokens and to tokens of other modalities.
    - zorro: to the own modality; special tokens to all, and nobody else to them (Zorro, arXiv 2301.09595), so that a
      modality's own tokens do not depend on the others.
    - causal: to tokens of the same or an earlier step.
    - block: to tokens of the same signal and to special tokens; these attend to all.

    Every token may attend to itself, so that no row is empty.

    Args:
        kind: Which mask.
        ids: What each token is.
        valid: Which tokens exist, shape (B, N); nobody attends to one that does not.

    Returns:
        The mask, shape (N, N) or (B, N, N); None if every token may attend to every token.

    Raises:
        MissingError: If there is no such mask.
    """
    if kind not in _KINDS:
        raise missing("attention mask", kind, _KINDS)
    if kind == "full" and valid is None:
        return None
    row, column = TokenIds(*(i[..., :, None] for i in ids)), TokenIds(*(i[..., None, :] for i in ids))
    if kind == "full":
        allowed = torch.ones_like(row.modality == column.modality)
    elif kind == "cross_modal_only":
        allowed = (row.modality != column.modality) | (column.modality == 0)
    elif kind == "zorro":
        allowed = (row.modality == 0) | (row.modality == column.modality)
    elif kind == "causal":
        allowed = column.step <= row.step
    else:
        allowed = (row.source == column.source) | (row.modality == 0) | (column.modality == 0)
    if valid is not None:
        allowed = allowed & valid[:, None, :]
    return allowed | torch.eye(allowed.shape[-1], dtype=torch.bool, device=allowed.device)


def sample_keep(
    groups: Sequence[TokenGroup],
    *,
    batch: int,
    ratio: float,
    spread: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose which tokens a masked autoencoder's encoder sees, the same number for each sample.

    Tokens are ranked by a uniform draw each, plus one per signal. So some samples show one signal nearly whole and
    another hardly at all, and the encoder learns both to fill in and to do without.

    Args:
        groups: What the sequence is; special tokens stand first and are always kept.
        batch: B.
        ratio: Share of the other tokens that is hidden, in [0, 1).
        spread: Size of the draw per signal relative to that per token; 0 hides tokens without regard to signals.
        generator: Source of randomness; also decides the device.

    Returns:
        Indices of the K kept tokens, ascending. Shape (B, K).

    Source: MultiMAE (arXiv 2204.01678), section 3.2; there the shares of the modalities are drawn from a Dirichlet.
    """
    special = sum(group.stop - group.start for group in groups if group.modality == "special")
    sizes = [group.stop - group.start for group in groups if group.modality != "special"]
    kept = min(sum(sizes), max(1, round(sum(sizes) * (1 - ratio))))
    device = generator.device if generator is not None else None
    rank = torch.rand(batch, sum(sizes), generator=generator, device=device)  # (B, N)
    shift = torch.rand(batch, len(sizes), generator=generator, device=device)
    rank = rank + spread * shift.repeat_interleave(torch.tensor(sizes, device=device), 1)
    chosen = rank.argsort(1)[:, :kept].sort(1).values + special  # (B, K)
    return torch.cat([torch.arange(special, device=device).expand(batch, -1), chosen], 1)

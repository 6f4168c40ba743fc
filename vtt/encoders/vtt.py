"""The visuo-tactile transformer.

Axes: B batch · N tokens · K tokens kept · D embed_dim. Source: VTT (CoRL 2022), released code at 256677f,
`slac/network/encoder.py`. Deviations: any set of signals; absent ones are masked out; modality and key embeddings;
logits instead of sigmoids; one contact logit per contact.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vtt.encoders.config import EncoderConfig, EncoderOutput
from vtt.heads import LatentHead
from vtt.masks import attention_mask, token_ids
from vtt.tokens import SignalSpec, TokenGroup, Tokeniser, Tokens
from vtt.trunk import Trunk

__all__ = ["VttEncoder"]

_SPECIAL = ("align", "contact")


class VttEncoder(nn.Module):
    """Tokens [align, contact, signals ...] through one trunk to a latent and two verdicts."""

    def __init__(self, config: EncoderConfig, signals: Mapping[str, SignalSpec]) -> None:
        super().__init__()
        self.config, self.signals = config, dict(signals)
        d = config.embed_dim
        self.tokeniser = Tokeniser(
            signals,
            embed_dim=d,
            patches={
                "image": config.image_patch,
                "tactile_image": config.tactile_patch,
                "force_grid": config.force_patch,
            },
            vector_tokens=config.vector_tokens,
            stem_dim=config.stem_dim,
            window=config.window,
            modality_embedding=config.modality_embedding,
        )
        # Token and position are both learned and only ever added; kept apart for the paper's parameter count.
        self.special = nn.Parameter(nn.init.trunc_normal_(torch.empty(len(_SPECIAL), d), std=0.02))
        self.special_position = nn.Parameter(nn.init.trunc_normal_(torch.empty(len(_SPECIAL), d), std=0.02))
        self.trunk = Trunk(d, config.depth, config.num_heads, mlp_ratio=config.mlp_ratio)
        self.latent = LatentHead(
            d, self._groups(), token_dims=config.token_dims, hidden=config.latent_hidden, latent_dim=config.latent_dim
        )
        self.align = nn.Linear(d, 1)
        self.contact = nn.Linear(d, config.num_contacts)

    def tokenise(self, observation: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None) -> Tokens:
        """Tokenise an observation and put the special tokens in front; see `Tokeniser.forward`."""
        tokens = self.tokeniser(observation, valid=valid)
        special = (self.special + self.special_position).expand(tokens.x.shape[0], -1, -1)
        there = tokens.valid
        if there is not None:
            there = torch.cat([there.new_ones(len(there), len(_SPECIAL)), there], 1)
        return Tokens(torch.cat([special.to(tokens.x.dtype), tokens.x], 1), _with_special(tokens.groups), there)

    def encode(self, tokens: Tokens, *, keep: Tensor | None = None, return_attention: bool = False) -> EncoderOutput:
        """Encode a sequence of tokens.

        Args:
            tokens: From `tokenise`.
            keep: Indices of the tokens to use, shape (B, K), the special ones first; None for all. Those left out do
                not exist for this call (a masked autoencoder's encoder).
            return_attention: Return the attention of every block.

        Returns:
            Latent and verdicts; its `tokens` and `valid` have K in place of N with `keep`.
        """
        x, groups, valid = tokens
        ids = None
        if self.config.mask != "full" or valid is not None:
            ids = token_ids(groups, device=x.device)
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[2]))  # (B, K, D)
            valid = None if valid is None else valid.gather(1, keep)
            ids = None if ids is None else ids.take(keep)
        mask = None if ids is None else attention_mask(self.config.mask, ids, valid=valid)
        x, attention = self.trunk(x, mask=mask, return_attention=return_attention)
        return EncoderOutput(
            latent=self.latent(x, groups, valid=valid, keep=keep),  # (B, latent_dim)
            align_logit=self.align(x[:, 0])[:, 0],  # (B,)
            contact_logit=self.contact(x[:, 1]),  # (B, num_contacts)
            tokens=x,
            groups=groups,
            valid=valid,
            attention=attention,
        )

    def forward(
        self,
        observation: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        return_attention: bool = False,
    ) -> EncoderOutput:
        """Encode an observation.

        Args:
            observation: Normalised signals by key: images float32 (B, C, H, W), vectors (B, n). Any subset of the
                known keys; the tokens of an absent one do not exist.
            valid: Per key, which samples really have the signal, bool (B,); what the others hold is never read.
            generator: Unused: this encoder draws nothing.
            return_attention: Return the attention of every block.

        Returns:
            Latent and verdicts.

        Raises:
            MissingError: If a key is unknown.
            ShapeError: If a signal does not fit its spec.
        """
        del generator
        return self.encode(self.tokenise(observation, valid=valid), return_attention=return_attention)

    def _groups(self) -> tuple[TokenGroup, ...]:
        """The sequence with every signal present at the size its spec states."""
        groups: list[TokenGroup] = []
        start = 0
        for key, signal in self.signals.items():
            grid = (self.config.window, *self.tokeniser.grid(key))
            groups.append(TokenGroup(key, signal.group, start, start + grid[0] * grid[1] * grid[2], grid))
            start = groups[-1].stop
        return _with_special(tuple(groups))


def _with_special(groups: tuple[TokenGroup, ...]) -> tuple[TokenGroup, ...]:
    """Put the special tokens in front."""
    front = tuple(TokenGroup(name, "special", i, i + 1, (1, 1, 1)) for i, name in enumerate(_SPECIAL))
    moved = (g._replace(start=g.start + len(front), stop=g.stop + len(front)) for g in groups)
    return front + tuple(moved)

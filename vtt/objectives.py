"""What an encoder is pretrained for: named, weighted losses.

Axes: B batch · M mismatched samples at its end · N tokens · K kept · P values of a patch.

- reconstruction: predict the content of hidden tokens from the visible ones (MAE, arXiv 2111.06377, and M3L for touch).
- summary: predict all vectors and coarse images from the latent, so that what a policy reads is trained, too.
- contact: which of left pad, right pad and held object touch (VTT; there one threshold on the wrench).
- align: do touch and the rest belong to one moment (VTT), with negatives from `NegativeSampler`.

Deviations from VTT: explicit weights in one optimiser step (there the alignment's negatives take a step of their own);
touch is reconstructed. Deviation from MAE: patches are not standardised one by one, which would blow up the noise of an
untouched gel, but by mean and variance of the signal, so that an error of 1 is what predicting the mean scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtt.encoders import Encoder, VttEncoder
from vtt.encoders.config import EncoderOutput
from vtt.errors import ConfigError
from vtt.heads import PixelHead, ProjectionHead
from vtt.masks import sample_keep
from vtt.tokens import SignalSpec, patchify

__all__ = ["Batch", "Objective", "ObjectiveConfig", "Statistics", "gradient_norms", "mismatch", "summarise"]

# Rows and columns of the images that the latent must predict: keeps a contact's place and direction.
_COARSE = (12, 16)
# Variance in normalised units below which a signal counts as constant; 8-bit noise of a tactile image is 0.0016.
_MIN_VARIANCE = 1e-3


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the losses (0 leaves one out) and the mask.

    Attributes:
        reconstruction: Weight of the hidden tokens' reconstruction; needs tokens, so not for the baselines.
        summary: Weight of the latent's reconstruction.
        contact: Weight of the contact verdict.
        align: Weight of the alignment verdict; needs touch and something else.
        mask_ratio: Share of tokens that is hidden from the reconstruction.
    """

    reconstruction: float = 1.0
    summary: float = 1.0
    contact: float = 0.3
    align: float = 0.3
    # MAE's 0.75 is for 196 tokens; with some 30 that is a handful. RPT hides 0.7..0.9, T3 0.4.
    mask_ratio: float = 0.6

    def weights(self) -> dict[str, float]:
        """Weights by name."""
        return {name: getattr(self, name) for name in ("reconstruction", "summary", "contact", "align")}


class Batch(NamedTuple):
    """Normalised samples.

    Attributes:
        observation: Signals by key, (B, ...).
        contact: Labels as 0 or 1, shape (B, num_contacts), float.
        mismatched: Touch signals of other moments, which replace the own of the last M samples, (M, ...).
    """

    observation: dict[str, Tensor]
    contact: Tensor
    mismatched: dict[str, Tensor]


class Statistics(NamedTuple):
    """Mean of each signal, shaped as a sample, and its variance around that mean, averaged to one number.

    Attributes:
        mean: By key.
        variance: By key.
    """

    mean: dict[str, Tensor]
    variance: dict[str, float]

    @classmethod
    def of(cls, observation: Mapping[str, Tensor]) -> Statistics:
        """Measure normalised signals (N, ...)."""
        mean = {key: data.mean(0) for key, data in observation.items()}
        variance = {key: float((data - mean[key]).square().mean()) for key, data in observation.items()}
        return cls(mean, {key: max(value, _MIN_VARIANCE) for key, value in variance.items()})

    def standardise(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bring signals to mean 0 at each place and variance 1 over all."""
        return {
            key: (data - self.mean[key].to(data.device)) * self.variance[key] ** -0.5
            for key, data in observation.items()
        }


class Objective(nn.Module):
    """The heads that only pretraining needs, and the losses."""

    def __init__(
        self, encoder: Encoder, config: ObjectiveConfig, *, statistics: Statistics, coarse: Statistics
    ) -> None:
        """Build for an encoder.

        Args:
            encoder: What will be trained; not kept.
            config: Weights and mask.
            statistics: Of the normalised signals: the scale of their reconstruction.
            coarse: Of what `summarise` makes of them.
        """
        super().__init__()
        self.config, self.signals = config, dict(encoder.signals)
        self.weights = {name: weight for name, weight in config.weights().items() if weight > 0}
        if "align" in self.weights and len({signal.group == "touch" for signal in self.signals.values()}) < 2:
            raise ConfigError("Weight of 'align' must be 0 unless there are touch signals and others.")
        self.statistics, self.coarse = statistics, coarse
        self.pixels: PixelHead | None = None
        if "reconstruction" in self.weights:
            if not isinstance(encoder, VttEncoder):
                raise ConfigError(f"Weight of 'reconstruction' must be 0 for encoder '{encoder.config.name}'.")
            self._patches = encoder.tokeniser.patches
            widths = {key: _width(signal, self._patches) for key, signal in self.signals.items()}
            self.pixels = PixelHead(encoder.tokeniser, widths, embed_dim=encoder.config.embed_dim)
        self.summary = ProjectionHead(
            encoder.config.latent_dim, {key: mean.numel() for key, mean in coarse.mean.items()}
        )

    def forward(self, encoder: Encoder, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            encoder: In training.
            batch: Its last M samples are matched where a moment is reconstructed, mismatched where one is judged.
            generator: Draws the mask.

        Returns:
            By name, unweighted scalars: those with a positive weight.
        """
        m = len(next(iter(batch.mismatched.values()))) if batch.mismatched else 0
        b = len(batch.contact)
        whole = encoder(mismatch(batch), generator=generator)
        losses: dict[str, Tensor] = {}
        if "contact" in self.weights:
            losses["contact"] = F.binary_cross_entropy_with_logits(whole.contact_logit[: b - m], batch.contact[: b - m])
        if "align" in self.weights:
            label = (torch.arange(b, device=batch.contact.device) < b - m).to(whole.align_logit.dtype)
            losses["align"] = F.binary_cross_entropy_with_logits(whole.align_logit, label)
        matched = {key: data[: b - m] for key, data in batch.observation.items()}
        if "summary" in self.weights:
            losses["summary"] = _mean(self.summary_errors(whole.latent[: b - m], matched))
        if self.pixels is not None and isinstance(encoder, VttEncoder):
            output, errors = self.reconstruct(encoder, batch.observation, generator=generator)
            losses["reconstruction"] = _mean(errors)
            if "summary" in self.weights:
                hidden = _mean(self.summary_errors(output.latent, batch.observation))
                losses["summary"] = 0.5 * (losses["summary"] + hidden)
        return losses

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the losses."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    def reconstruct(
        self, encoder: VttEncoder, observation: Mapping[str, Tensor], *, generator: torch.Generator
    ) -> tuple[EncoderOutput, dict[str, Tensor]]:
        """Hide tokens, encode the others, and predict the hidden ones.

        Returns:
            The encoding, and by key the squared error over hidden tokens relative to the signal's variance.
        """
        assert self.pixels is not None
        tokens = encoder.tokenise(observation)
        b, n = tokens.x.shape[:2]
        keep = sample_keep(tokens.groups, batch=b, ratio=self.config.mask_ratio, generator=generator).to(
            tokens.x.device
        )
        output = encoder.encode(tokens, keep=keep)
        assert output.tokens is not None
        values = self.pixels(output.tokens, keep, tokens.groups, encoder.tokeniser)
        wanted = self.statistics.standardise(observation)
        hidden = torch.ones(b, n, device=keep.device).scatter(1, keep, 0.0)  # (B, N)
        errors: dict[str, Tensor] = {}
        for group in tokens.groups:
            if group.modality == "special":
                continue
            there = hidden[:, group.start : group.stop]  # (B, n)
            target = _content(wanted[group.name], self.signals[group.name], self._patches)  # (B, n or 1, P)
            error = (values[group.name].float() - target).square().mean(2) * there
            errors[group.name] = error.sum() / there.sum().clamp_min(1)
        return output, errors

    def summary_errors(self, latent: Tensor, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By key, the squared error of what the latent predicts of coarse signals, relative to their variance."""
        wanted = self.coarse.standardise(summarise(observation))
        return {
            key: (value.float() - wanted[key].flatten(1)).square().mean() for key, value in self.summary(latent).items()
        }

    def baseline(self, observation: Mapping[str, Tensor]) -> dict[str, float]:
        """What predicting the training mean scores, as `reconstruction_<key>` and `summary_<key>`."""
        parts = {
            "reconstruction": self.statistics.standardise(observation),
            "summary": self.coarse.standardise(summarise(observation)),
        }
        return {f"{name}_{key}": float(x.square().mean()) for name, part in parts.items() for key, x in part.items()}


def mismatch(batch: Batch) -> dict[str, Tensor]:
    """The batch's observation, with the touch of other moments in its last samples."""
    return {
        key: torch.cat([data[: len(data) - len(batch.mismatched[key])], batch.mismatched[key]])
        if key in batch.mismatched
        else data
        for key, data in batch.observation.items()
    }


def summarise(observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Vectors as they are, images averaged to 12x16 or less: what the latent must know."""
    return {
        key: F.adaptive_avg_pool2d(data, (min(data.shape[2], _COARSE[0]), min(data.shape[3], _COARSE[1])))
        if data.ndim == 4
        else data
        for key, data in observation.items()
    }


def gradient_norms(losses: Mapping[str, Tensor], parameters: Iterable[nn.Parameter]) -> dict[str, float]:
    """Norm of each loss's gradient on `parameters`; keeps the graph, so that `backward` may follow."""
    chosen = list(parameters)
    norms: dict[str, float] = {}
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss, chosen, retain_graph=True, allow_unused=True)
        norms[name] = float(torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt())
    return norms


def _width(signal: SignalSpec, patches: Mapping[str, tuple[int, int]]) -> int:
    """Number of values of one token."""
    if signal.kind == "vector":
        return signal.shape[0]
    return patches[signal.kind][0] * patches[signal.kind][1] * signal.shape[2]


def _content(data: Tensor, signal: SignalSpec, patches: Mapping[str, tuple[int, int]]) -> Tensor:
    """What a signal's tokens show, (B, n, P); every token of a vector shows all of it, (B, 1, P)."""
    return data[:, None] if signal.kind == "vector" else patchify(data, patches[signal.kind])


def _mean(errors: Mapping[str, Tensor]) -> Tensor:
    """Mean over signals: each counts alike."""
    return torch.stack(list(errors.values())).mean()

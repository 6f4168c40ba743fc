"""What is learned by prediction: latents, decoders, reward, and VTT's verdicts, in one loss by name.

Axes: B windows · T frames · S = T - 1 transitions · N = B T frames in a row · A action · F feature · Z latent ·
C contacts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtt.encoders import EncoderConfig, build_encoder, signal_specs
from vtt.encoders.config import EncoderOutput
from vtt.errors import ConfigError
from vtt.normalizer import Normalizer
from vtt.objectives import Batch, mismatch
from vtt.streams import StreamSpec
from vtt.tokens import SignalSpec
from vtt_policies.slac.config import ModelConfig
from vtt_policies.slac.convolutions import ConvEncoder, Decoder
from vtt_policies.slac.gaussian import GaussianMlp, log_density
from vtt_policies.slac.latent import Filtered, LatentModel
from vtt_policies.slac.replay import Windows

__all__ = ["Frames", "TensorWindows", "WorldModel", "check_verdicts", "to_tensors"]


class TensorWindows(NamedTuple):
    """Windows as networks take them; see `Windows`.

    Attributes:
        observation: Normalised, by key. Shape (N, ...).
        action: Shape (B, S, A).
        reward: Shape (B, S).
        terminated: As 0 or 1. Shape (B, S).
        contact: As 0 or 1. Shape (B, T, C).
        first: Shape (B,).
        episode: Shape (B,).
        start: Shape (B,).
    """

    observation: dict[str, Tensor]
    action: Tensor
    reward: Tensor
    terminated: Tensor
    contact: Tensor
    first: Tensor
    episode: Tensor
    start: Tensor

    @property
    def valid(self) -> Tensor:
        """Which frames exist. Shape (B, T)."""
        steps = self.action.shape[1] + 1
        return torch.arange(steps, device=self.first.device) >= self.first[:, None]


def to_tensors(windows: Windows, normalizer: Normalizer, *, device: torch.device) -> TensorWindows:
    """Normalise windows and bring them to where the arithmetic happens."""
    frames = {key: array.reshape(-1, *array.shape[2:]) for key, array in windows.observation.items()}
    rest = (torch.as_tensor(array, device=device) for array in windows[1:])
    action, reward, terminated, contact, first, episode, start = rest
    return TensorWindows(
        normalizer.prepare(frames, device=device),
        action,
        reward,
        terminated.to(torch.float32),
        contact.to(torch.float32),
        first,
        episode,
        start,
    )


def check_verdicts(specs: Mapping[str, StreamSpec], config: ModelConfig, *, num_contacts: int) -> None:
    """Refuse losses that have nothing to learn from.

    Raises:
        ConfigError: If contacts or alignment are to be learned where there are none.
    """
    if config.contact > 0 and not num_contacts:
        raise ConfigError(
            f"model.contact must be 0 where the environment's info tells no contact, got {config.contact}."
        )
    touch = {signal.group == "touch" for signal in signal_specs(specs, specs).values()}
    if config.align > 0 and len(touch) < 2:
        raise ConfigError(f"model.align must be 0 unless touch and something else are seen, got {config.align}.")


class Frames(nn.Module):
    """Frame by frame: an encoder, and beside its latent the vectors of the own body and the goal.

    A pose in metres is needed exactly, so it does not have to pass through the encoder; touch does, a wrench too.

    Args:
        specs: What is seen.
        config: Which encoder, how large.
        num_contacts: Contact verdicts.
    """

    def __init__(self, specs: Mapping[str, StreamSpec], *, config: ModelConfig, num_contacts: int) -> None:
        super().__init__()
        self.signals = signal_specs(specs, specs)
        self.body_keys = tuple(key for key, signal in self.signals.items() if signal.group == "body")
        contacts = max(1, num_contacts)
        if config.encoder == "conv":
            self.encoder: nn.Module = ConvEncoder(
                self.signals, feature_dim=config.feature_dim, width=config.width, num_contacts=contacts
            )
            latent_dim = config.feature_dim
        else:
            made_of = replace(
                EncoderConfig.preset(config.preset),
                name=config.encoder,
                num_contacts=contacts,
                match_parameters=config.match_parameters,
            )
            self.encoder = build_encoder(made_of, self.signals)
            latent_dim = made_of.latent_dim
        self.feature_dim = latent_dim + sum(self.signals[key].shape[0] for key in self.body_keys)

    def forward(
        self, observation: Mapping[str, Tensor], *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, EncoderOutput]:
        """Encode normalised frames. Returns features (N, F), and what else the encoder says."""
        output = self.encoder(observation, generator=generator)
        body = [observation[key] for key in self.body_keys]
        return torch.cat([output.latent, *body], 1), output


class WorldModel(nn.Module):
    """Predicts frames and rewards from the latent.

    Args:
        signals: What is seen.
        feature_dim: F.
        action_dim: A.
        config: Sizes, variances and weights.
    """

    def __init__(
        self, signals: Mapping[str, SignalSpec], *, feature_dim: int, action_dim: int, config: ModelConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.signals = dict(signals)
        self.latent = LatentModel(feature_dim, action_dim, config=config)
        z_dim = self.latent.z_dim
        self.decoders = nn.ModuleDict(
            {
                key: Decoder(signal, z_dim=z_dim, width=config.width, hidden=config.hidden_dim)
                for key, signal in signals.items()
            }
        )
        self.reward = GaussianMlp(2 * z_dim + action_dim, 1, hidden=config.hidden_dim, floor=config.reward_floor)

    @torch.no_grad()
    def centre(self, observation: Mapping[str, Tensor]) -> None:
        """Let the decoders start from the mean of normalised signals (N, ...)."""
        for key, decoder in self.decoders.items():
            decoder.mean.copy_(observation[key].mean(0))  # pyright: ignore[reportCallIssue, reportArgumentType]

    def filter(self, feature: Tensor, windows: TensorWindows, *, generator: torch.Generator) -> Filtered:
        """Infer the latents of windows from the features (B, T, F) of their frames."""
        shape = (*feature.shape[:2], self.latent.z_dim)
        noise = torch.randn(shape, generator=generator, device=generator.device).to(feature.device)
        return self.latent(feature, windows.action, first=windows.first, noise=noise)

    def losses(self, frames: Frames, windows: TensorWindows, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the negative evidence bound and VTT's losses.

        Args:
            frames: The encoder.
            windows: What happened.
            generator: Draws latents and mismatched moments.

        Returns:
            By name, in nats per window: `kl`, `reward`, `image` or `touch` or `vector` (what is seen), `contact` and
            `align` (weighted) where their weight is positive.
        """
        valid = windows.valid
        feature, output = frames(windows.observation, generator=generator)
        filtered = self.filter(feature.unflatten(0, valid.shape), windows, generator=generator)
        losses = self.evidence(filtered, windows)
        if self.config.contact > 0:
            losses["contact"] = self.config.contact * self._verdict(output.contact_logit, windows.contact, valid)
        if self.config.align > 0:
            matched = self._verdict(output.align_logit[:, None], torch.ones_like(valid)[..., None], valid)
            losses["align"] = 0.5 * self.config.align * (matched + self._mismatched(frames, windows, generator))
        return losses

    def evidence(self, filtered: Filtered, windows: TensorWindows) -> dict[str, Tensor]:
        """The terms of the negative evidence bound, summed over the frames that exist, averaged over windows."""
        valid, batch = windows.valid, len(windows.first)
        there = valid.flatten().to(torch.float32)  # (N,)
        losses = {"kl": (filtered.divergence() * valid).sum() / batch}
        z = filtered.z.flatten(0, 1)  # (N, Z)
        for key, signal in self.signals.items():
            kind = "touch" if signal.kind in ("tactile_image", "force_grid") else signal.kind
            variance = getattr(self.config, f"{kind}_variance")
            found = log_density(windows.observation[key], self.decoders[key](z), variance).flatten(1).sum(1)  # (N,)
            losses[kind] = losses.get(kind, z.new_zeros(())) - (found * there).sum() / batch
        reward = self.reward(filtered.z[:, :-1], windows.action, filtered.z[:, 1:])
        density = log_density(windows.reward, reward.mean[..., 0], reward.std[..., 0].square())
        losses["reward"] = -(density * valid[:, :-1]).sum() / batch
        return losses

    def _mismatched(self, frames: Frames, windows: TensorWindows, generator: torch.Generator) -> Tensor:
        """Judge frames with the touch of another window, which is of another episode or another time."""
        valid = windows.valid
        batch = len(valid)
        shift = int(torch.randint(1, batch, (), generator=generator, device=generator.device))
        partner = torch.arange(batch, device=valid.device).roll(shift)
        apart = (windows.episode != windows.episode[partner]) | (
            (windows.start - windows.start[partner]).abs() >= self.config.min_gap
        )
        counted = valid & valid[partner] & apart[:, None]
        touch = {
            key: windows.observation[key].unflatten(0, valid.shape)[partner].flatten(0, 1)
            for key, signal in self.signals.items()
            if signal.group == "touch"
        }
        seen = mismatch(Batch(windows.observation, windows.contact, touch))
        _, output = frames(seen, generator=generator)
        return self._verdict(output.align_logit[:, None], torch.zeros_like(valid)[..., None], counted)

    @staticmethod
    def _verdict(logit: Tensor, label: Tensor, counted: Tensor) -> Tensor:
        """Cross entropy of verdicts (N, C) and labels (B, T, C), summed over frames, averaged over windows."""
        error = F.binary_cross_entropy_with_logits(logit, label.flatten(0, 1).to(logit.dtype), reduction="none")
        return (error.mean(1) * counted.flatten()).sum() / len(counted)

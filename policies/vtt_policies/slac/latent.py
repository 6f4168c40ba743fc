"""The latent model: two levels of Gaussians over time, filtered from features and actions.

Axes: B windows · T frames of a window, the first ones possibly padding · F feature · A action · Z1, Z2 the two latents.
Actions lie between frames, (B, T - 1, A).

Source: Lee et al. 2020 (arXiv 1907.00953), section 5, and alexlee-gk/slac `model_distribution_network.py`. The KL is
taken to the prior given the posterior's own past, p(z1_t | z2_{t-1}, a_{t-1}) with z2_{t-1} ~ q, which is what the
evidence bound asks for; the released code of VTT rolls the prior out from itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vtt_policies.slac.config import ModelConfig
from vtt_policies.slac.gaussian import Gaussian, GaussianMlp, kl_divergence

__all__ = ["Filtered", "LatentModel"]


class Filtered(NamedTuple):
    """What is believed of a window's frames. What stands at padding means nothing.

    Attributes:
        z: Samples of both latents, joined. Shape (B, T, Z1 + Z2).
        posterior: Of z1, given the frames so far. Shape (B, T, Z1).
        prior: Of z1, given the past alone. Shape (B, T, Z1).
    """

    z: Tensor
    posterior: Gaussian
    prior: Gaussian

    def divergence(self) -> Tensor:
        """KL of posterior and prior, frame by frame. Shape (B, T). z2 adds nothing: q(z2) is p(z2)."""
        return kl_divergence(self.posterior, self.prior)


class LatentModel(nn.Module):
    """Priors and posteriors of z1 and z2.

    Args:
        feature_dim: F.
        action_dim: A.
        config: Sizes.
    """

    def __init__(self, feature_dim: int, action_dim: int, *, config: ModelConfig) -> None:
        super().__init__()
        z1, z2, hidden = config.z1_dim, config.z2_dim, config.hidden_dim
        self.z1_dim, self.z2_dim = z1, z2
        self.z2_first = GaussianMlp(z1, z2, hidden=hidden)
        self.z2_next = GaussianMlp(z1 + z2 + action_dim, z2, hidden=hidden)
        self.z1_prior = GaussianMlp(z2 + action_dim, z1, hidden=hidden)
        self.z1_first_posterior = GaussianMlp(feature_dim, z1, hidden=hidden)
        self.z1_posterior = GaussianMlp(feature_dim + z2 + action_dim, z1, hidden=hidden)

    @property
    def z_dim(self) -> int:
        """Length of both latents together."""
        return self.z1_dim + self.z2_dim

    def forward(self, feature: Tensor, action: Tensor, *, first: Tensor, noise: Tensor) -> Filtered:
        """Filter windows.

        Args:
            feature: What the encoder says of each frame. Shape (B, T, F).
            action: Between frames. Shape (B, T - 1, A).
            first: Index of the first frame of each window that is not padding. Shape (B,).
            noise: Standard normal. Shape (B, T, Z1 + Z2).

        Returns:
            Samples, posteriors and priors.
        """
        begins = torch.arange(feature.shape[1], device=feature.device) == first[:, None]  # (B, T)
        starting = begins.any(0).tolist()
        noise1, noise2 = noise.split((self.z1_dim, self.z2_dim), -1)
        z1s, z2s, posteriors = [], [], []
        z2 = feature.new_zeros(len(feature), self.z2_dim)  # read by windows that begin with padding only
        for t, some_begin in enumerate(starting):
            past = action[:, t - 1] if t else action.new_zeros(len(action), action.shape[-1])
            posterior = self.z1_posterior(feature[:, t], z2, past)
            if some_begin:
                posterior = _choose(begins[:, t], self.z1_first_posterior(feature[:, t]), posterior)
            z1 = posterior.sample(noise1[:, t])
            belief = self.z2_next(z1, z2, past)
            if some_begin:
                belief = _choose(begins[:, t], self.z2_first(z1), belief)
            z2 = belief.sample(noise2[:, t])
            z1s.append(z1)
            z2s.append(z2)
            posteriors.append(posterior)
        z2_path = torch.stack(z2s, 1)
        z = torch.cat((torch.stack(z1s, 1), z2_path), -1)
        joined = Gaussian(torch.stack([p.mean for p in posteriors], 1), torch.stack([p.std for p in posteriors], 1))
        return Filtered(z, joined, self._prior(z2_path, action, begins))

    def _prior(self, z2: Tensor, action: Tensor, begins: Tensor) -> Gaussian:
        """The prior of every frame's z1 given the posterior's past; a standard normal where a window begins."""
        later = self.z1_prior(z2[:, :-1], action)
        nothing = later.mean.new_zeros(len(z2), 1, self.z1_dim)
        prior = Gaussian(torch.cat((nothing, later.mean), 1), torch.cat((nothing + 1.0, later.std), 1))
        start = Gaussian(torch.zeros_like(prior.mean), torch.ones_like(prior.std))
        return _choose(begins, start, prior)


def _choose(mask: Tensor, yes: Gaussian, no: Gaussian) -> Gaussian:
    """Take each row's Gaussian from one of two, mask of shape (...)."""
    return Gaussian(*(torch.where(mask[..., None], one, other) for one, other in zip(yes, no, strict=True)))

"""Frames encoded in portions by threads: the same numbers as in one piece by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vtt_policies import encoding
from vtt_policies.encoding import FrameEncoder


def _gradients(policy, observation, *, weights) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    student = policy.network
    student.zero_grad()
    encoder = FrameEncoder(student, policy.normalizer, device=torch.device("cpu"))
    latent = encoder.forward(observation)
    (latent * weights).sum().backward()
    encoder.backward()
    return latent.detach(), {n: p.grad.clone() for n, p in student.encoder.named_parameters() if p.grad is not None}


@pytest.fixture
def frames(fresh_student, monkeypatch):
    monkeypatch.setattr(encoding, "_FRAMES", 7)
    policy, episodes = fresh_student()
    observation = {key: np.concatenate([episode[key] for episode in episodes]) for key in policy.keys}
    count = len(next(iter(observation.values())))
    weights = torch.randn(count, policy.network.encoder.config.latent_dim, generator=torch.Generator().manual_seed(0))
    return policy, observation, weights


def test_portions_give_the_gradient_of_the_whole(frames):
    policy, observation, weights = frames
    latent, found = _gradients(policy, observation, weights=weights)

    policy.network.zero_grad()
    prepared = policy.normalizer.prepare({key: observation[key] for key in policy.network.encoder_keys})
    whole = policy.network.encode(prepared)
    torch.testing.assert_close(latent, whole.detach(), rtol=1e-4, atol=1e-5)
    (whole * weights).sum().backward()
    expected = {name: p.grad for name, p in policy.network.encoder.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


def test_the_number_of_threads_does_not_change_a_bit(frames):
    policy, observation, weights = frames
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        _, alone = _gradients(policy, observation, weights=weights)
        torch.set_num_threads(2)
        _, together = _gradients(policy, observation, weights=weights)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(alone[name], together[name]) for name in alone)

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtt.encoders import EncoderConfig, SignalSpec, VttEncoder, build_encoder
from vtt.errors import ConfigError, ShapeError
from vtt.masks import sample_keep
from vtt.negatives import NegativeSampler
from vtt.objectives import Batch, Objective, ObjectiveConfig, Statistics, gradient_norms, mismatch, summarise
from vtt.tokens import patchify

SIGNALS = {
    "tactile_left": SignalSpec("tactile_image", (16, 32, 3)),
    "camera_front": SignalSpec("image", (16, 16, 3)),
    "proprioception": SignalSpec("vector", (5,)),
}
CONFIG = EncoderConfig(tactile_patch=(8, 8), image_patch=(8, 8), embed_dim=32, stem_dim=4)


def batch(size: int = 8, negatives: int = 4) -> Batch:
    g = torch.Generator().manual_seed(0)
    obs = {
        "tactile_left": torch.randn(size, 3, 16, 32, generator=g),
        "camera_front": torch.randn(size, 3, 16, 16, generator=g),
        "proprioception": torch.randn(size, 5, generator=g),
    }
    other = {"tactile_left": torch.randn(negatives, 3, 16, 32, generator=g)} if negatives else {}
    return Batch(obs, (torch.rand(size, 3, generator=g) > 0.5).float(), other)


def build(config: ObjectiveConfig | None = None, name: str = "vtt"):
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(**{**CONFIG.__dict__, "name": name}), SIGNALS)
    some = batch(64).observation
    objective = Objective(
        encoder,
        config or ObjectiveConfig(),
        statistics=Statistics.of(some),
        coarse=Statistics.of(summarise(some)),
    )
    return encoder, objective


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_all_losses_are_there_and_train_every_parameter():
    encoder, objective = build()
    losses = objective(encoder, batch(), generator=generator())
    assert set(losses) == {"reconstruction", "summary", "contact", "align"}
    objective.total(losses).backward()
    for module in (encoder, objective):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_the_total_is_the_weighted_sum():
    _, objective = build(ObjectiveConfig(reconstruction=2.0, contact=0.5, align=0.25))
    losses = {"reconstruction": torch.tensor(1.0), "contact": torch.tensor(2.0), "align": torch.tensor(4.0)}
    assert float(objective.total(losses)) == 2.0 + 1.0 + 1.0


@pytest.mark.parametrize("name", ["reconstruction", "summary", "contact", "align"])
def test_a_loss_of_weight_zero_is_left_out(name):
    encoder, objective = build(ObjectiveConfig(**{name: 0.0}))
    assert name not in objective(encoder, batch(), generator=generator())


@pytest.mark.parametrize("name", ["concat", "poe"])
def test_baselines_take_all_objectives_but_reconstruction(name):
    encoder, objective = build(ObjectiveConfig(reconstruction=0.0), name)
    losses = objective(encoder, batch(), generator=generator())
    assert set(losses) == {"summary", "contact", "align"}
    with pytest.raises(ConfigError, match=f"Weight of 'reconstruction' must be 0 for encoder '{name}'"):
        build(name=name)


def test_predicting_the_mean_scores_one_and_is_where_training_begins():
    encoder, objective = build()
    some = {key: 3 * data + 7 for key, data in batch(64).observation.items()}
    objective.statistics, objective.coarse = Statistics.of(some), Statistics.of(summarise(some))
    for name, score in objective.baseline(some).items():
        assert score == pytest.approx(1.0, abs=1e-4), name
    with torch.no_grad():
        _, hidden = objective.reconstruct(encoder, some, generator=generator())
        errors = [*hidden.values(), *objective.summary_errors(encoder(some).latent, some).values()]
    assert all(float(error) == pytest.approx(1.0, abs=0.15) for error in errors)


def test_hidden_tokens_are_not_seen():
    encoder, _ = build()
    assert isinstance(encoder, VttEncoder)
    obs = batch().observation
    tokens = encoder.tokenise(obs)
    keep = sample_keep(tokens.groups, batch=8, ratio=0.6, generator=generator(3))
    before = encoder.encode(tokens, keep=keep)
    hidden = torch.ones(8, tokens.x.shape[1], dtype=torch.bool).scatter(1, keep, False)
    x = tokens.x.clone()
    x[hidden] = 1e3
    after = encoder.encode(tokens._replace(x=x), keep=keep)
    assert torch.equal(before.latent, after.latent)
    assert before.tokens is not None
    assert torch.equal(before.tokens, after.tokens)


def test_the_error_is_that_of_the_hidden_tokens():
    encoder, objective = build()
    assert isinstance(encoder, VttEncoder)
    assert objective.pixels is not None
    obs = batch().observation
    tokens = encoder.tokenise(obs)
    keep = sample_keep(tokens.groups, batch=8, ratio=objective.config.mask_ratio, generator=generator(3))
    output = encoder.encode(tokens, keep=keep)
    assert output.tokens is not None
    predicted = objective.pixels(output.tokens, keep, tokens.groups, encoder.tokeniser)["camera_front"]
    camera = next(group for group in tokens.groups if group.name == "camera_front")
    wanted = patchify(objective.statistics.standardise(obs)["camera_front"], (8, 8))
    hidden = [
        (predicted[i, n] - wanted[i, n]).square().mean()
        for i in range(8)
        for n in range(4)
        if camera.start + n not in keep[i].tolist()
    ]
    _, errors = objective.reconstruct(encoder, obs, generator=generator(3))
    torch.testing.assert_close(errors["camera_front"], torch.stack(hidden).mean())


def test_masks_hide_the_stated_share_and_vary_it_between_signals():
    encoder, _ = build()
    assert isinstance(encoder, VttEncoder)
    groups = encoder.tokenise(batch().observation).groups
    keep = sample_keep(groups, batch=500, ratio=0.6, generator=generator())
    assert keep.shape == (500, 2 + round(0.4 * 13))
    assert (keep[:, :2] == torch.tensor([0, 1])).all()
    assert (keep.diff(dim=1) > 0).all()
    touch = next(group for group in groups if group.name == "tactile_left")
    share = ((keep >= touch.start) & (keep < touch.stop)).float().sum(1) / 8
    assert share.min() == 0
    assert share.max() >= 0.5
    assert share.mean() == pytest.approx(0.4, abs=0.1)
    even = sample_keep(groups, batch=500, ratio=0.6, spread=0.0, generator=generator())
    assert ((even >= touch.start) & (even < touch.stop)).float().sum(1).std() < share.mul(8).std()


def test_touch_is_swapped_in_the_last_samples_only():
    b = batch(8, 3)
    mixed = mismatch(b)
    assert torch.equal(mixed["camera_front"], b.observation["camera_front"])
    assert torch.equal(mixed["tactile_left"][:5], b.observation["tactile_left"][:5])
    assert torch.equal(mixed["tactile_left"][5:], b.mismatched["tactile_left"])


def test_alignment_needs_touch_and_something_else():
    encoder = build_encoder(CONFIG, {"tactile_left": SIGNALS["tactile_left"]})
    some = {"tactile_left": torch.randn(4, 3, 16, 32)}
    with pytest.raises(ConfigError, match="Weight of 'align' must be 0 unless"):
        Objective(encoder, ObjectiveConfig(), statistics=Statistics.of(some), coarse=Statistics.of(summarise(some)))


def test_gradient_norms_are_those_of_separate_backward_passes():
    encoder, objective = build()
    assert isinstance(encoder, VttEncoder)
    losses = objective(encoder, batch(), generator=generator())
    norms = gradient_norms(losses, encoder.trunk.parameters())
    encoder.zero_grad()
    losses["contact"].backward(retain_graph=True)
    squares = [p.grad.square().sum() for p in encoder.trunk.parameters() if p.grad is not None]
    assert norms["contact"] == pytest.approx(float(torch.stack(squares).sum().sqrt()), rel=1e-5)
    objective.total(losses).backward()  # the graph is still there


def test_a_few_steps_learn_to_judge_contact_and_alignment():
    torch.manual_seed(0)
    encoder, objective = build(ObjectiveConfig(reconstruction=0.0, summary=0.0))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()], lr=3e-3)
    g = generator()
    for _ in range(80):
        force = torch.randn(32, generator=g)
        b = batch(32, 16)
        # The hand is where the touch says; contact when the touch is positive.
        obs = {**b.observation, "proprioception": force[:, None].expand(-1, 5)}
        obs["tactile_left"] = force[:, None, None, None].expand(-1, 3, 16, 32)
        other = torch.randn(16, generator=g)
        wrong = {"tactile_left": other[:, None, None, None].expand(-1, 3, 16, 32)}
        contact = (force > 0).float()[:, None].expand(-1, 3)
        losses = objective(encoder, Batch(obs, contact, wrong), generator=g)
        optimizer.zero_grad()
        objective.total(losses).backward()
        optimizer.step()
    assert losses["contact"].item() < 0.3
    assert losses["align"].item() < 0.6


@given(
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    hard=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_negative_pairs_differ_in_episode_or_by_the_gap(lengths, hard, seed):
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(len(lengths)) * 3, lengths)
    stamp = np.concatenate([np.cumsum(rng.integers(1, 10**9, n)) for n in lengths]).astype(np.int64)
    sampler = NegativeSampler(episode, stamp, min_gap_s=0.5, hard_fraction=hard)
    index = rng.integers(len(episode), size=64)
    partner, is_hard = sampler.draw(index, rng)
    same = episode[index] == episode[partner]
    assert (same == is_hard).all()
    assert (np.abs(stamp[index] - stamp[partner])[same] >= 0.5e9).all()


def test_every_possible_partner_is_drawn():
    episode, stamp = np.array([0] * 5 + [1] * 3), np.arange(8, dtype=np.int64) * 250_000_000
    index = np.full(4000, 2)
    for fraction, want in ((1.0, {0, 4}), (0.0, {5, 6, 7})):
        sampler = NegativeSampler(episode, stamp, min_gap_s=0.5, hard_fraction=fraction)
        assert set(sampler.draw(index, np.random.default_rng(0)).partner.tolist()) == want


def test_half_the_negatives_are_hard_where_they_can_be():
    episode, stamp = np.repeat([0, 1], 40), np.tile(np.arange(40, dtype=np.int64) * 50_000_000, 2)
    sampler = NegativeSampler(episode, stamp)
    hard = sampler.draw(np.random.default_rng(0).integers(80, size=4000), np.random.default_rng(0)).hard
    assert hard.mean() == pytest.approx(0.5, abs=0.03)


def test_one_episode_without_distant_moments_has_no_negatives():
    with pytest.raises(ConfigError, match=r"Negatives need a second episode, or .* 0\.5 s away"):
        NegativeSampler(np.zeros(5, np.int64), np.arange(5, dtype=np.int64))
    with pytest.raises(ShapeError, match=r"must be \(N,\), got \(5,\) and \(4,\)"):
        NegativeSampler(np.zeros(5, np.int64), np.arange(4, dtype=np.int64))

import dataclasses

import pytest
import torch

from vtt.encoders import (
    PAPER_SIGNALS,
    PRESETS,
    EncoderConfig,
    SignalSpec,
    VttEncoder,
    build_encoder,
    count_parameters,
)
from vtt.errors import ConfigError, MissingError, ShapeError

SIGNALS = {
    "tactile_left": SignalSpec("tactile_image", (48, 64, 3), sensor="mini"),
    "tactile_right": SignalSpec("tactile_image", (48, 64, 3), sensor="mini"),
    "camera_front": SignalSpec("image", (64, 64, 3)),
    "proprioception": SignalSpec("vector", (16,)),
}
NAMES = ("vtt", "concat", "poe")
MASKS = ("full", "cross_modal_only", "zorro", "causal", "block")


def observation(batch: int = 3) -> dict[str, torch.Tensor]:
    return {
        key: torch.randn(batch, *s.shape) if s.kind == "vector" else torch.randn(batch, s.shape[2], *s.shape[:2])
        for key, s in SIGNALS.items()
    }


@pytest.fixture(params=NAMES)
def encoder(request):
    torch.manual_seed(0)
    return build_encoder(EncoderConfig(name=request.param), SIGNALS)


def paper(name: str, **changes) -> EncoderConfig:
    return dataclasses.replace(EncoderConfig.preset("paper"), name=name, **changes)


@pytest.mark.parametrize(("name", "count"), [("vtt", 11_933_602), ("concat", 769_458), ("poe", 1_061_810)])
def test_paper_geometry_has_the_papers_parameter_count(name, count):
    assert count_parameters(build_encoder(paper(name), PAPER_SIGNALS)) == count


def test_paper_geometry_has_forty_tokens():
    encoder = build_encoder(paper("vtt"), PAPER_SIGNALS)
    output = encoder({"camera_front": torch.rand(1, 3, 84, 84), "wrench": torch.randn(1, 6)}, return_attention=True)
    assert output.tokens is not None
    assert output.attention is not None
    assert output.tokens.shape == (1, 40, 384)
    assert output.latent.shape == (1, 288)
    assert [a.shape for a in output.attention] == [(1, 8, 40, 40)] * 6


@pytest.mark.parametrize("name", ["concat", "poe"])
@pytest.mark.parametrize("target", [100_000, 11_933_602])
def test_baselines_match_a_parameter_count_within_five_percent(name, target):
    encoder = build_encoder(paper(name, match_parameters=target), PAPER_SIGNALS)
    assert abs(count_parameters(encoder) - target) <= 0.05 * target


def test_each_name_builds_its_own_class():
    assert len({type(build_encoder(EncoderConfig(name=name), SIGNALS)) for name in NAMES}) == 3


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_encodes_and_trains_every_parameter(preset):
    signals = PAPER_SIGNALS if preset == "paper" else SIGNALS
    encoder = build_encoder(EncoderConfig.preset(preset), signals)
    obs = observation()
    if preset == "paper":
        obs = {"camera_front": torch.rand(2, 3, 84, 84), "wrench": torch.randn(2, 6)}
    output = encoder(obs)
    (output.latent.square().sum() + output.align_logit.sum() + output.contact_logit.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_output_has_the_stated_shapes(encoder):
    output = encoder(observation())
    assert output.latent.shape == (3, 64)
    assert output.align_logit.shape == (3,)
    assert output.contact_logit.shape == (3, 3)


@pytest.mark.parametrize("keys", [["tactile_left"], ["camera_front", "proprioception"], ["proprioception"]])
def test_an_absent_signal_equals_an_invalid_one(encoder, keys):
    obs = observation()
    absent = encoder({key: obs[key] for key in keys})
    gone = {key: torch.zeros(3, dtype=torch.bool) for key in SIGNALS if key not in keys}
    invalid = encoder(obs, valid=gone)
    torch.testing.assert_close(absent.latent, invalid.latent, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(absent.align_logit, invalid.align_logit, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(absent.contact_logit, invalid.contact_logit, atol=1e-5, rtol=1e-5)


def test_an_absent_signal_differs_from_one_filled_with_zeros(encoder):
    obs = observation()
    zeros = {**obs, "tactile_left": torch.zeros_like(obs["tactile_left"])}
    del obs["tactile_left"]
    assert (encoder(obs).latent - encoder(zeros).latent).abs().max() > 1e-3


@pytest.mark.parametrize("content", [0.0, 7.0, float("nan"), float("inf")])
def test_the_content_of_an_invalid_signal_changes_nothing(encoder, content):
    obs = observation()
    valid = {
        "tactile_left": torch.tensor([True, False, True]),
        "proprioception": torch.tensor([False, False, True]),
    }
    before = encoder(obs, valid=valid)
    obs["tactile_left"][1] = content
    obs["proprioception"][:2] = content
    after = encoder(obs, valid=valid)
    assert torch.equal(before.latent, after.latent)
    assert torch.equal(before.align_logit, after.align_logit)
    assert torch.equal(before.contact_logit, after.contact_logit)
    after.latent.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_valid_everywhere_changes_nothing(encoder):
    obs = observation()
    everywhere = {key: torch.ones(3, dtype=torch.bool) for key in SIGNALS}
    torch.testing.assert_close(encoder(obs).latent, encoder(obs, valid=everywhere).latent, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_encodes_a_window_with_missing_steps_of_signals(mask):
    config = EncoderConfig(mask=mask, window=2)
    encoder = build_encoder(config, SIGNALS)
    obs = {key: torch.stack([data, data], 1) for key, data in observation().items()}
    output = encoder(obs, valid={"tactile_left": torch.tensor([True, False, True])}, return_attention=True)
    assert output.latent.isfinite().all()
    assert output.latent.shape == (3, 64)


def test_with_zorro_a_modalitys_tokens_do_not_depend_on_the_others():
    encoder = build_encoder(EncoderConfig(mask="zorro"), SIGNALS)
    obs = observation()
    before = encoder(obs)
    obs["tactile_left"] = obs["tactile_left"] + 1
    after = encoder(obs)
    for group in before.groups:
        same = torch.equal(before.tokens[:, group.start : group.stop], after.tokens[:, group.start : group.stop])
        assert same == (group.modality in ("vision", "body")), group.name


def test_a_larger_image_is_resampled_into_the_slots():
    encoder = build_encoder(EncoderConfig(), SIGNALS)
    obs = observation()
    obs["camera_front"] = torch.randn(3, 3, 128, 96)
    output = encoder(obs)
    assert output.latent.shape == (3, 64)
    assert next(g for g in output.groups if g.name == "camera_front").grid == (1, 8, 6)


def test_keeping_every_token_changes_nothing():
    encoder = build_encoder(EncoderConfig(), SIGNALS)
    assert isinstance(encoder, VttEncoder)
    tokens = encoder.tokenise(observation())
    keep = torch.arange(tokens.x.shape[1]).expand(3, -1)
    torch.testing.assert_close(encoder.encode(tokens, keep=keep).latent, encoder.encode(tokens).latent)


def test_dropping_all_tokens_of_a_signal_equals_its_absence():
    encoder = build_encoder(EncoderConfig(mask="block"), SIGNALS)
    assert isinstance(encoder, VttEncoder)
    obs = observation()
    tokens = encoder.tokenise(obs)
    group = next(g for g in tokens.groups if g.name == "tactile_right")
    keep = torch.tensor([i for i in range(tokens.x.shape[1]) if not group.start <= i < group.stop]).expand(3, -1)
    del obs["tactile_right"]
    torch.testing.assert_close(encoder.encode(tokens, keep=keep).latent, encoder(obs).latent, atol=1e-5, rtol=1e-5)


def test_poe_is_deterministic_unless_training_with_a_generator():
    encoder = build_encoder(EncoderConfig(name="poe"), SIGNALS)
    obs = observation()
    mean = encoder(obs).latent

    def sampled(seed: int) -> torch.Tensor:
        return encoder(obs, generator=torch.Generator().manual_seed(seed)).latent

    assert torch.equal(mean, encoder(obs).latent)
    assert torch.equal(sampled(0), sampled(0))
    assert not torch.equal(sampled(0), sampled(1))
    encoder.eval()
    assert torch.equal(mean, sampled(0))


def test_poe_without_signals_it_can_trust_returns_the_prior():
    encoder = build_encoder(EncoderConfig(name="poe"), SIGNALS)
    nobody = {key: torch.zeros(3, dtype=torch.bool) for key in SIGNALS}
    assert (encoder(observation(), valid=nobody).latent == 0).all()


def test_config_survives_json():
    import json

    for config in PRESETS.values():
        assert EncoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_faults_are_named():
    with pytest.raises(ConfigError, match=r"No encoder option 'embed_dims'\. Did you mean 'embed_dim'\?"):
        EncoderConfig.from_dict({"embed_dims": 64})
    with pytest.raises(MissingError, match=r"No encoder preset 'tiny'\. Available: demo, paper, small"):
        EncoderConfig.preset("tiny")
    with pytest.raises(MissingError, match=r"No encoder 'vit'"):
        build_encoder(EncoderConfig(name="vit"), SIGNALS)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="match_parameters must be None for encoder 'vtt'"):
        build_encoder(EncoderConfig(match_parameters=10), SIGNALS)
    with pytest.raises(ConfigError, match="match_parameters must be within 5 %"):
        build_encoder(EncoderConfig(name="poe", match_parameters=10), SIGNALS)
    with pytest.raises(ConfigError, match="window must be 1 for encoder 'concat', got 2"):
        build_encoder(EncoderConfig(name="concat", window=2), SIGNALS)
    with pytest.raises(ConfigError, match="at least one signal"):
        build_encoder(EncoderConfig(), {})


def test_wrong_observations_are_named(encoder):
    with pytest.raises(MissingError, match=r"No signal 'tactile_up'\. Available: camera_front, proprioception"):
        encoder({"tactile_up": torch.zeros(1, 3, 48, 64)})
    with pytest.raises(ShapeError, match=r"'tactile_left' must be \(B, 3, 48, 64\), got \(1, 48, 64, 3\)"):
        encoder({"tactile_left": torch.zeros(1, 48, 64, 3)})
    with pytest.raises(ShapeError, match="at least one signal"):
        encoder({})


@pytest.mark.parametrize("name", ["concat", "poe"])
def test_a_baseline_has_no_attention(name):
    with pytest.raises(ConfigError, match=f"return_attention must be False for encoder '{name}'"):
        build_encoder(EncoderConfig(name=name), SIGNALS)(observation(), return_attention=True)

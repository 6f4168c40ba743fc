import pytest
import torch

from vtt.errors import ConfigError, MissingError, ShapeError
from vtt.tokens import PatchTokeniser, SignalSpec, Tokeniser, VectorTokeniser, patchify, signal_specs, unpatchify

SIGNALS = {
    "tactile_left": SignalSpec("tactile_image", (16, 32, 3), sensor="mini"),
    "tactile_right": SignalSpec("tactile_image", (16, 32, 3), sensor="mini"),
    "force_left": SignalSpec("force_grid", (8, 16, 3)),
    "wrench": SignalSpec("vector", (6,), modality="touch"),
}
PATCHES = {"image": (8, 8), "tactile_image": (8, 8), "force_grid": (4, 8)}


def observation(batch: int = 2) -> dict[str, torch.Tensor]:
    return {
        "tactile_left": torch.randn(batch, 3, 16, 32),
        "tactile_right": torch.randn(batch, 3, 16, 32),
        "force_left": torch.randn(batch, 3, 8, 16),
        "wrench": torch.randn(batch, 6),
    }


def tokeniser(**settings) -> Tokeniser:
    return Tokeniser(SIGNALS, embed_dim=32, patches=PATCHES, vector_tokens=2, **settings)


def test_patches_can_be_put_together_again():
    image = torch.randn(2, 3, 16, 24)
    assert torch.equal(unpatchify(patchify(image, (8, 4)), (8, 4), (2, 6)), image)


def test_a_patch_holds_its_rectangle_of_the_image():
    image = torch.arange(3 * 16 * 24.0).view(1, 3, 16, 24)
    patch = patchify(image, (8, 8))[0, 4].view(8, 8, 3)  # second row, second column of a 2x3 grid
    assert torch.equal(patch.permute(2, 0, 1), image[0, :, 8:16, 8:16])


def test_patch_embedding_equals_the_strided_convolution():
    embed = PatchTokeniser(3, (8, 8), 32)
    image = torch.randn(2, 3, 16, 24)
    kernel = embed.project.weight.view(32, 8, 8, 3).permute(0, 3, 1, 2)
    want = torch.nn.functional.conv2d(image, kernel, embed.project.bias, stride=8).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(image), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stem_dim", [0, 8])
def test_a_token_sees_its_own_patch_only(stem_dim):
    embed = PatchTokeniser(3, (8, 8), 32, stem_dim=stem_dim)
    image = torch.randn(1, 3, 16, 24)
    changed = image.clone()
    changed[:, :, 8:16, 8:16] += 1
    same = (embed(image) == embed(changed)).all(2)[0]
    assert same.tolist() == [True, True, True, True, False, True]


def test_a_vector_becomes_k_tokens_linearly():
    embed = VectorTokeniser(6, 2, 32)
    a, b = torch.randn(1, 6), torch.randn(1, 6)
    assert embed(a).shape == (1, 2, 32)
    torch.testing.assert_close(embed(a + b) - embed(b), embed(a) - embed(torch.zeros(1, 6)))


def test_groups_cover_the_sequence_in_the_order_of_the_signals():
    tokens = tokeniser()(dict(reversed(observation().items())))
    assert [g.name for g in tokens.groups] == list(SIGNALS)
    assert [g.grid for g in tokens.groups] == [(1, 2, 4), (1, 2, 4), (1, 2, 2), (1, 1, 2)]
    assert [(g.start, g.stop) for g in tokens.groups] == [(0, 8), (8, 16), (16, 20), (20, 22)]
    assert tokens.x.shape == (2, 22, 32)
    assert {g.modality for g in tokens.groups} == {"touch"}


def test_pads_of_one_sensor_share_their_tokeniser_and_differ_by_their_key():
    tok = tokeniser()
    obs = observation()
    obs["tactile_right"] = obs["tactile_left"]
    left, right = tok(obs).x[:, :8], tok(obs).x[:, 8:16]
    torch.testing.assert_close(
        right - left, (tok.key["tactile_right"] - tok.key["tactile_left"]).expand_as(left), atol=1e-5, rtol=0
    )
    assert len(tok.project) == 3


def test_an_absent_signal_has_no_tokens():
    obs = observation()
    del obs["force_left"], obs["tactile_left"]
    assert [g.name for g in tokeniser()(obs).groups] == ["tactile_right", "wrench"]


def test_a_larger_image_gets_interpolated_positions():
    tok = tokeniser()
    big = tok({"tactile_left": torch.zeros(1, 3, 32, 64)})
    assert big.groups[0].grid == (1, 4, 8)
    constant = torch.ones_like(tok.position[tok._name["tactile_left"]])
    tok.position[tok._name["tactile_left"]].data = constant
    torch.testing.assert_close(tok.embedding(big.groups[0])[0], tok.embedding(big.groups[0])[17])


def test_a_window_adds_its_steps_embedding():
    tok = tokeniser(window=3)
    obs = {"wrench": torch.randn(2, 1, 6).expand(2, 3, 6)}
    tokens = tok(obs)
    assert tokens.groups[0].grid == (3, 1, 2)
    assert tok.time is not None
    torch.testing.assert_close(tokens.x[:, 4] - tokens.x[:, 0], (tok.time[2] - tok.time[0]).expand(2, -1))


def test_the_content_of_an_invalid_signal_is_never_read():
    tok = tokeniser()
    obs = observation()
    valid = {"tactile_left": torch.tensor([True, False])}
    before = tok(obs, valid=valid)
    obs["tactile_left"][1] = float("nan")
    after = tok(obs, valid=valid)
    assert torch.equal(before.x, after.x)
    assert after.valid is not None
    assert after.valid.sum(1).tolist() == [22, 14]
    after.x.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in tok.parameters())


def test_unknown_signals_and_wrong_shapes_are_named():
    tok = tokeniser()
    with pytest.raises(MissingError, match=r"No signal 'tactile_lef'\. Available: force_left, tactile_left"):
        tok({"tactile_lef": torch.zeros(1, 3, 16, 32)})
    with pytest.raises(ShapeError, match=r"'wrench' must be \(B, 6\), got \(1, 7\)"):
        tok({"wrench": torch.zeros(1, 7)})
    with pytest.raises(ShapeError, match=r"'tactile_left' must be \(B, 3, 16, 32\), got \(1, 16, 32, 3\)"):
        tok({"tactile_left": torch.zeros(1, 16, 32, 3)})
    with pytest.raises(ShapeError, match=r"divisible by the patch \(8, 8\), got \(12, 32\)"):
        tok({"tactile_left": torch.zeros(1, 3, 12, 32)})
    with pytest.raises(ShapeError, match="at least one signal"):
        tok({})
    with pytest.raises(ConfigError, match=r"patch must divide the sides of 'tactile_left'"):
        Tokeniser(SIGNALS, embed_dim=32, patches={**PATCHES, "tactile_image": (7, 7)})
    with pytest.raises(ShapeError, match="shape must be 3 positive lengths for kind 'image'"):
        SignalSpec("image", (3,))


def test_streams_become_signals():
    class Stream:
        kind, shape, sensor = "vector", (6,), ""

    class Flag:
        kind, shape, sensor = "scalar", (), ""

    specs = signal_specs({"wrench": Stream(), "goal": Stream(), "reward": Flag()}, ["wrench", "goal"])
    assert specs["wrench"].group == "touch"
    assert specs["goal"].group == "body"
    with pytest.raises(MissingError, match=r"No stream 'camera'"):
        signal_specs({"wrench": Stream()}, ["camera"])
    with pytest.raises(ConfigError, match="stream 'reward' must be one of"):
        signal_specs({"reward": Flag()}, ["reward"])

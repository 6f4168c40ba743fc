import numpy as np
import pytest
import torch

from vtt.attention import attention_map, overlay, rollout, upsample
from vtt.encoders import EncoderConfig, EncoderOutput, SignalSpec, build_encoder
from vtt.errors import ConfigError, MissingError, ShapeError, StateError
from vtt.tokens import TokenGroup
from vtt.trunk import Trunk

SIGNALS = {
    "tactile_left": SignalSpec("tactile_image", (32, 32, 3)),
    "tactile_right": SignalSpec("tactile_image", (32, 32, 3)),
    "camera_front": SignalSpec("image", (32, 48, 3)),
}


def encoded(valid=None):
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(), SIGNALS)
    obs = {key: torch.randn(4, 3, *signal.shape[:2]) for key, signal in SIGNALS.items()}
    return encoder(obs, valid=valid, return_attention=True)


def known(attention: torch.Tensor, valid=None) -> EncoderOutput:
    """One head, one layer: align, 2 touch tokens, a camera of 1x3."""
    groups = (
        TokenGroup("align", "special", 0, 1, (1, 1, 1)),
        TokenGroup("tactile_left", "touch", 1, 2, (1, 1, 1)),
        TokenGroup("tactile_right", "touch", 2, 3, (1, 1, 1)),
        TokenGroup("camera_front", "vision", 3, 6, (1, 1, 3)),
    )
    none = torch.zeros(1)
    return EncoderOutput(none, none, none, groups=groups, valid=valid, attention=(attention[None, None],))


@pytest.mark.parametrize("queries", ["touch", "tactile_left", "align", "contact", "vision"])
@pytest.mark.parametrize("settings", [{}, {"layer": 0}, {"method": "rollout"}])
def test_maps_have_the_patch_grid_and_sum_to_one(queries, settings):
    found = attention_map(encoded(), queries=queries, keys="camera_front", **settings)
    assert found.shape == (4, 2, 3)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(4))


def test_heads_average_to_the_map_in_proportion_to_what_they_look():
    output = encoded()
    heads = attention_map(output, queries="touch", keys="camera_front", per_head=True)
    assert heads.shape == (4, 4, 2, 3)
    torch.testing.assert_close(heads.sum((2, 3)), torch.ones(4, 4))


def test_the_map_is_the_mean_of_the_queries_renormalised():
    attention = torch.full((6, 6), 1 / 6)
    attention[1] = torch.tensor([0.5, 0.0, 0.0, 0.1, 0.4, 0.0])
    attention[2] = torch.tensor([0.5, 0.0, 0.0, 0.3, 0.0, 0.2])
    found = attention_map(known(attention), queries="touch", keys="camera_front")
    torch.testing.assert_close(found, torch.tensor([[[0.4, 0.4, 0.2]]]))
    only = attention_map(known(attention), queries="tactile_left", keys="camera_front")
    torch.testing.assert_close(only, torch.tensor([[[0.2, 0.8, 0.0]]]))


def test_a_trunk_with_known_weights_gives_the_known_map():
    # One block whose query is the first component and whose key is the second, both read off LayerNorm's output.
    trunk = Trunk(4, 1, 1)
    block = trunk.blocks[0]
    with torch.no_grad():
        block.qkv.weight.zero_()
        block.qkv.weight[0, 0] = 2.0
        block.qkv.weight[4, 1] = 1.0
    x = torch.tensor([[[1.0, 0, -1, 0], [1, 0, -1, 0], [0, 1, -1, 0], [0, -1, 1, 0]]])
    _, attention = trunk(x, return_attention=True)
    normed = torch.nn.functional.layer_norm(x, (4,))
    score = 2 * normed[0, :, :1] * normed[0, None, :, 1] / 2  # (query) (key) / sqrt(4)
    torch.testing.assert_close(attention[0][0, 0], score.softmax(1))
    groups = (
        TokenGroup("wrench", "touch", 0, 2, (1, 1, 2)),
        TokenGroup("camera_front", "vision", 2, 4, (1, 2, 1)),
    )
    none = torch.zeros(1)
    output = EncoderOutput(none, none, none, groups=groups, attention=attention)
    want = score[0, 2:].softmax(0).view(1, 2, 1)  # renormalising a softmax is the softmax of what remains
    torch.testing.assert_close(attention_map(output, queries="touch", keys="camera_front"), want)


def test_a_signal_that_is_not_there_gets_nothing_and_looks_at_nothing():
    valid = {
        "camera_front": torch.tensor([True, False, True, True]),
        "tactile_left": torch.tensor([True] * 2 + [False] * 2),
    }
    output = encoded(valid)
    seen = attention_map(output, queries="touch", keys="camera_front").sum((1, 2))
    torch.testing.assert_close(seen, torch.tensor([1.0, 0.0, 1.0, 1.0]))
    looking = attention_map(output, queries="tactile_left", keys="camera_front").sum((1, 2))
    torch.testing.assert_close(looking, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert output.attention is not None
    camera = next(group for group in output.groups if group.name == "camera_front")
    for layer in output.attention:
        assert (layer[1, :, : camera.start, camera.start : camera.stop] == 0).all()


def test_rollout_rows_sum_to_one_and_a_layer_without_mixing_is_the_identity():
    output = encoded()
    assert output.attention is not None
    torch.testing.assert_close(rollout(output.attention).sum(-1), torch.ones(4, 16))
    alone = torch.eye(5).expand(2, 3, 5, 5)
    torch.testing.assert_close(rollout([alone, alone]), torch.eye(5).expand(2, 5, 5))


def test_rollout_multiplies_the_layers_in_order():
    a, b = torch.rand(2, 1, 1, 3, 3).softmax(-1).unbind(0)
    want = 0.5 * (b[0, 0] + torch.eye(3)) @ (0.5 * (a[0, 0] + torch.eye(3)))
    torch.testing.assert_close(rollout([a, b])[0], want)


def test_upsampling_keeps_the_sum():
    found = attention_map(encoded(), queries="touch", keys="camera_front")
    large = upsample(found, (32, 48))
    assert large.shape == (4, 32, 48)
    torch.testing.assert_close(large.sum((1, 2)), torch.ones(4))


def test_overlay_paints_the_peak_and_leaves_the_rest():
    image = np.full((32, 48, 3), 100, np.uint8)
    painted = overlay(image, np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), strength=1.0)
    assert painted.dtype == np.uint8
    assert painted[0, 47].tolist() == [255, 255, 0]
    assert (painted[:, :8] == 100).all()
    assert (overlay(image, np.zeros((2, 3))) == image).all()
    assert (overlay(image, np.full((2, 3), 1 / 6)) == image).all()
    faint = overlay(image, np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), strength=1.0, peak=10.0)
    assert abs(int(faint[0, 47, 0]) - 116) <= 1  # a tenth of the way to 255


def test_faults_are_named():
    output = encoded()
    with pytest.raises(StateError, match="return_attention=True"):
        attention_map(output._replace(attention=None), queries="touch", keys="camera_front")
    with pytest.raises(MissingError, match=r"No tokens 'camera_wrist'\. Available: align, camera_front, contact"):
        attention_map(output, queries="touch", keys="camera_wrist")
    with pytest.raises(MissingError, match=r"No tokens 'sound'\. Available: align"):
        attention_map(output, queries="sound", keys="camera_front")
    with pytest.raises(ConfigError, match="per_head must be False with method 'rollout'"):
        attention_map(output, queries="touch", keys="camera_front", method="rollout", per_head=True)
    with pytest.raises(ShapeError, match=r"image must be uint8 \(H, W, 3\), got float64"):
        overlay(np.zeros((4, 4, 3)), np.zeros((2, 2)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShapeError, match=r"attention must be \(rows, columns\)"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros(2))

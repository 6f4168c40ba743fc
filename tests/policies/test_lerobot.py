"""The converter against weights laid out as lerobot's code lays them out, evaluated from their names alone."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from vtt.errors import ConfigError, StoreError
from vtt_policies.bundle import load_policy, save_policy
from vtt_policies.chunking.lerobot import from_lerobot, to_lerobot

STATE, ENVIRONMENT, CAMERAS, ACTIONS = 5, 3, ("top", "wrist"), 2
DIM, HIDDEN, CHUNK, STYLE = 16, 24, 6, 4
STEP, KEYPOINTS, WIDTHS, HORIZON, FRAMES = 16, 4, (16, 32), 8, 2


def resnet(norm: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ResNet18 without its classifier."""

    def normalise(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        parts = ("weight", "bias") if norm == "group" else ("weight", "bias", "running_mean", "running_var")
        count = {f"{name}.num_batches_tracked": ()} if norm == "batch" else {}
        return {f"{name}.{part}": (channels,) for part in parts} | count

    shapes = {"conv1.weight": (64, 3, 7, 7), **normalise("bn1", 64)}
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            at = f"layer{stage}.{block}"
            shapes |= {f"{at}.conv1.weight": (width, inputs, 3, 3), **normalise(f"{at}.bn1", width)}
            shapes |= {f"{at}.conv2.weight": (width, width, 3, 3), **normalise(f"{at}.bn2", width)}
            if inputs != width:
                shapes |= {f"{at}.downsample.0.weight": (width, inputs, 1, 1)}
                shapes |= normalise(f"{at}.downsample.1", width)
            inputs = width
    return shapes


def linear(name: str, inputs: int, outputs: int, *kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def act_shapes() -> dict[str, tuple[int, ...]]:
    def attention(name: str) -> dict[str, tuple[int, ...]]:
        inner = {f"{name}.in_proj_weight": (3 * DIM, DIM), f"{name}.in_proj_bias": (3 * DIM,)}
        return inner | linear(f"{name}.out_proj", DIM, DIM)

    def block(name: str, norms: int) -> dict[str, tuple[int, ...]]:
        shapes = attention(f"{name}.self_attn") | linear(f"{name}.linear1", DIM, HIDDEN)
        shapes |= linear(f"{name}.linear2", HIDDEN, DIM)
        for index in range(1, norms + 1):
            shapes |= {f"{name}.norm{index}.weight": (DIM,), f"{name}.norm{index}.bias": (DIM,)}
        return shapes | (attention(f"{name}.multihead_attn") if norms == 3 else {})

    shapes = {f"backbone.{name}": shape for name, shape in resnet("frozen").items()}
    shapes |= {"vae_encoder_cls_embed.weight": (1, DIM), "vae_encoder_pos_enc": (1, 2 + CHUNK, DIM)}
    shapes |= linear("vae_encoder_robot_state_input_proj", STATE, DIM)
    shapes |= linear("vae_encoder_action_input_proj", ACTIONS, DIM)
    shapes |= linear("vae_encoder_latent_output_proj", DIM, 2 * STYLE)
    for layer in range(2):
        shapes |= block(f"vae_encoder.layers.{layer}", 2) | block(f"encoder.layers.{layer}", 2)
    shapes |= block("decoder.layers.0", 3) | {"decoder.norm.weight": (DIM,), "decoder.norm.bias": (DIM,)}
    shapes |= linear("encoder_robot_state_input_proj", STATE, DIM)
    shapes |= linear("encoder_env_state_input_proj", ENVIRONMENT, DIM)
    shapes |= linear("encoder_latent_input_proj", STYLE, DIM) | linear("encoder_img_feat_input_proj", 512, DIM, 1, 1)
    shapes |= {"encoder_1d_feature_pos_embed.weight": (3, DIM), "decoder_pos_embed.weight": (CHUNK, DIM)}
    return {f"model.{name}": shape for name, shape in (shapes | linear("action_head", DIM, ACTIONS)).items()}


def diffusion_shapes(norm: str) -> dict[str, tuple[int, ...]]:
    number = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    shapes: dict[str, tuple[int, ...]] = {}
    for camera in range(len(CAMERAS)):
        for name, shape in resnet(norm).items():
            child, rest = name.split(".", 1)
            shapes[f"rgb_encoder.{camera}.backbone.{number[child]}.{rest}"] = shape
        at = f"rgb_encoder.{camera}"
        shapes |= linear(f"{at}.pool.nets", 512, KEYPOINTS, 1, 1) | {f"{at}.pool.pos_grid": (4, 2)}
        shapes |= linear(f"{at}.out", 2 * KEYPOINTS, 2 * KEYPOINTS)
    condition = STEP + FRAMES * (STATE + ENVIRONMENT + 2 * KEYPOINTS * len(CAMERAS))

    def block(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        found = linear(f"{name}.conv1.block.0", inputs, outputs, 5) | linear(
            f"{name}.conv2.block.0", outputs, outputs, 5
        )
        for part in ("conv1", "conv2"):
            found |= {f"{name}.{part}.block.1.weight": (outputs,), f"{name}.{part}.block.1.bias": (outputs,)}
        found |= linear(f"{name}.cond_encoder.1", condition, 2 * outputs)
        return found | (linear(f"{name}.residual_conv", inputs, outputs, 1) if inputs != outputs else {})

    small, large = WIDTHS
    shapes |= linear("unet.diffusion_step_encoder.1", STEP, 4 * STEP)
    shapes |= linear("unet.diffusion_step_encoder.3", 4 * STEP, STEP)
    shapes |= block("unet.down_modules.0.0", ACTIONS, small) | block("unet.down_modules.0.1", small, small)
    shapes |= linear("unet.down_modules.0.2", small, small, 3)
    shapes |= block("unet.down_modules.1.0", small, large) | block("unet.down_modules.1.1", large, large)
    shapes |= block("unet.mid_modules.0", large, large) | block("unet.mid_modules.1", large, large)
    shapes |= block("unet.up_modules.0.0", 2 * large, small) | block("unet.up_modules.0.1", small, small)
    shapes |= {"unet.up_modules.0.2.weight": (small, small, 4), "unet.up_modules.0.2.bias": (small,)}
    shapes |= linear("unet.final_conv.0.block.0", small, small, 5)
    shapes |= {"unet.final_conv.0.block.1.weight": (small,), "unet.final_conv.0.block.1.bias": (small,)}
    shapes |= linear("unet.final_conv.1", small, ACTIONS, 1)
    return {f"diffusion.{name}": shape for name, shape in shapes.items()}


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Draw weights of these names and shapes."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            value = value.abs() + 0.5
        elif name.endswith("num_batches_tracked"):
            value = torch.tensor(7)
        elif len(shape) > 1:
            value = value / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("weight"):
            value = 1 + 0.1 * value
        weights[name] = value
    return weights


def written(folder: Path, kind: str, **changes) -> tuple[Path, dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Write a policy as lerobot does."""
    mode = "MEAN_STD" if kind == "act" else "MIN_MAX"
    inputs = {
        "observation.images.top": {"type": "VISUAL", "shape": [3, 40, 48]},
        "observation.state": {"type": "STATE", "shape": [STATE]},
        "observation.images.wrist": {"type": "VISUAL", "shape": [3, 40, 48]},
        "observation.environment_state": {"type": "ENV", "shape": [ENVIRONMENT]},
    }
    config = {
        "type": kind,
        "input_features": inputs,
        "output_features": {"action": {"type": "ACTION", "shape": [ACTIONS]}},
        "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": mode, "ENV": mode, "ACTION": mode},
        "vision_backbone": "resnet18",
    }
    own = {
        "act": {
            **{"chunk_size": CHUNK, "n_action_steps": 3, "dim_model": DIM, "n_heads": 2, "dim_feedforward": HIDDEN},
            **{"n_encoder_layers": 2, "n_decoder_layers": 1, "n_vae_encoder_layers": 2, "latent_dim": STYLE},
            **{"use_vae": True, "pre_norm": False, "feedforward_activation": "relu", "dropout": 0.1},
        },
        "diffusion": {
            **{"n_obs_steps": FRAMES, "horizon": HORIZON, "n_action_steps": 4, "down_dims": list(WIDTHS)},
            **{"kernel_size": 5, "n_groups": 8, "diffusion_step_embed_dim": STEP, "num_train_timesteps": 100},
            **{"noise_scheduler_type": "DDIM", "num_inference_steps": 5, "clip_sample": True, "use_group_norm": True},
            **{"spatial_softmax_num_keypoints": KEYPOINTS, "use_separate_rgb_encoder_per_camera": True},
            **{"prediction_type": "epsilon", "beta_schedule": "squaredcos_cap_v2", "crop_shape": None},
        },
    }[kind]
    config |= own | changes
    norm = "group" if config.get("use_group_norm") else "batch"
    weights = drawn(act_shapes() if kind == "act" else diffusion_shapes(norm))
    if kind == "diffusion":
        x, y = np.meshgrid(np.linspace(-1, 1, 2), np.linspace(-1, 1, 2))
        for camera in range(len(CAMERAS)):
            grid = torch.tensor(np.stack((x.ravel(), y.ravel()), 1), dtype=torch.float32)
            weights[f"diffusion.rgb_encoder.{camera}.pool.pos_grid"] = grid
    statistics = {}
    for name, size in {
        "observation.state": STATE,
        "observation.environment_state": ENVIRONMENT,
        "action": ACTIONS,
    }.items():
        low = torch.linspace(-1.0, 0.5, size)
        statistics[name] = {"mean": low + 0.1, "std": low.abs() + 0.3, "min": low, "max": low + 2.0}
    for camera in CAMERAS:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        statistics[f"observation.images.{camera}"] = {"mean": mean[:, None, None], "std": std[:, None, None]}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")
    file = "policy_preprocessor_step_3_normalizer_processor.safetensors"
    steps = [{"registry_name": "normalizer_processor", "config": {}, "state_file": file}]
    (folder / "policy_preprocessor.json").write_text(json.dumps({"name": "policy_preprocessor", "steps": steps}))
    save_file({f"{n}.{s}": v.contiguous() for n, told in statistics.items() for s, v in told.items()}, folder / file)
    return folder, weights, statistics


def frames(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "proprioception": rng.normal(size=(2, count, STATE)).astype(np.float32),
        "environment_state": rng.normal(size=(2, count, ENVIRONMENT)).astype(np.float32),
        "camera_top": rng.integers(0, 256, (2, count, 40, 48, 3), dtype=np.uint8),
        "camera_wrist": rng.integers(0, 256, (2, count, 40, 48, 3), dtype=np.uint8),
    }


class Named:
    """Evaluates a network from its named weights with torch's functions; written from lerobot's description of them."""

    def __init__(self, weights: dict[str, Tensor], prefix: str) -> None:
        self.w = {name.removeprefix(prefix): value for name, value in weights.items()}

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm2d(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        if f"{name}.running_mean" in self.w:
            return F.batch_norm(x, self.w[f"{name}.running_mean"], self.w[f"{name}.running_var"], weight, bias)
        return F.group_norm(x, len(weight) // 16, weight, bias)

    def resnet(self, names: dict[str, str], x: Tensor) -> Tensor:
        at = names["conv1"]
        x = F.relu(self.norm2d(names["bn1"], F.conv2d(x, self.w[f"{at}.weight"], stride=2, padding=3)))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            for block in range(2):
                at, stride = f"{names[f'layer{stage}']}.{block}", 2 if stage > 1 and block == 0 else 1
                y = F.conv2d(x, self.w[f"{at}.conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(F.relu(self.norm2d(f"{at}.bn1", y)), self.w[f"{at}.conv2.weight"], padding=1)
                y = self.norm2d(f"{at}.bn2", y)
                if f"{at}.downsample.0.weight" in self.w:
                    short = F.conv2d(x, self.w[f"{at}.downsample.0.weight"], stride=stride)
                    x = self.norm2d(f"{at}.downsample.1", short)
                x = F.relu(x + y)
        return x

    def attend(self, name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Multi-head attention, two heads; (B, N, D)."""
        parts = zip(self.w[f"{name}.in_proj_weight"].chunk(3), self.w[f"{name}.in_proj_bias"].chunk(3), strict=True)
        q, k, v = (
            F.linear(x, w, b).unflatten(2, (2, -1)).transpose(1, 2)
            for x, (w, b) in zip((query, key, value), parts, strict=True)
        )
        score = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return self.linear(f"{name}.out_proj", (score @ v).transpose(1, 2).flatten(2))


def act_by_name(weights: dict[str, Tensor], state: Tensor, environment: Tensor, images: list[Tensor]) -> Tensor:
    n = Named(weights, "model.")
    names = {part: f"backbone.{part}" for part in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")}
    batch = len(state)
    tokens = [
        n.linear("encoder_latent_input_proj", torch.zeros(batch, STYLE)),
        n.linear("encoder_robot_state_input_proj", state),
        n.linear("encoder_env_state_input_proj", environment),
    ]
    places = list(n.w["encoder_1d_feature_pos_embed.weight"])
    for image in images:
        features = n.resnet(names, image)
        height, width = features.shape[2:]
        projected = F.conv2d(
            features, n.w["encoder_img_feat_input_proj.weight"], n.w["encoder_img_feat_input_proj.bias"]
        )
        half = DIM // 2
        for row in range(height):
            for column in range(width):
                tokens.append(projected[:, :, row, column])
                waves = []
                for place, count in ((row, height), (column, width)):
                    angle = (place + 1) / (count + 1e-6) * 2 * math.pi
                    for i in range(half):
                        phase = angle / 10000 ** (2 * (i // 2) / half)
                        waves.append(math.sin(phase) if i % 2 == 0 else math.cos(phase))
                places.append(torch.tensor(waves))
    x, place = torch.stack(tokens, 1), torch.stack(places)
    for layer in range(2):
        at = f"encoder.layers.{layer}"
        x = n.layer_norm(f"{at}.norm1", x + n.attend(f"{at}.self_attn", x + place, x + place, x))
        x = n.layer_norm(f"{at}.norm2", x + n.linear(f"{at}.linear2", F.relu(n.linear(f"{at}.linear1", x))))
    query, at = n.w["decoder_pos_embed.weight"], "decoder.layers.0"
    y = torch.zeros(batch, CHUNK, DIM)
    y = n.layer_norm(f"{at}.norm1", y + n.attend(f"{at}.self_attn", y + query, y + query, y))
    y = n.layer_norm(f"{at}.norm2", y + n.attend(f"{at}.multihead_attn", y + query, x + place, x))
    y = n.layer_norm(f"{at}.norm3", y + n.linear(f"{at}.linear2", F.relu(n.linear(f"{at}.linear1", y))))
    return n.linear("action_head", n.layer_norm("decoder.norm", y))


def noise_by_name(
    weights: dict[str, Tensor], noisy: Tensor, step: Tensor, states: Tensor, environments: Tensor, images: list[Tensor]
) -> Tensor:
    """Predict the noise of diffusion policy; states (B, T, n), images (B, T, C, H, W)."""
    n = Named(weights, "diffusion.")
    number = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    seen = []
    for camera, image in enumerate(images):
        at = f"rgb_encoder.{camera}"
        features = n.resnet({k: f"{at}.backbone.{v}" for k, v in number.items()}, image.flatten(0, 1))
        maps = F.conv2d(features, n.w[f"{at}.pool.nets.weight"], n.w[f"{at}.pool.nets.bias"]).flatten(2)
        points = (maps.softmax(-1) @ n.w[f"{at}.pool.pos_grid"]).flatten(1)
        seen.append(F.relu(n.linear(f"{at}.out", points)).unflatten(0, image.shape[:2]))
    condition = torch.cat((states, *seen, environments), -1).flatten(1)
    wave = torch.exp(torch.arange(STEP // 2) * -(math.log(10000) / (STEP // 2 - 1)))
    angle = step[:, None] * wave
    embedded = n.linear("unet.diffusion_step_encoder.1", torch.cat((angle.sin(), angle.cos()), 1))
    embedded = n.linear("unet.diffusion_step_encoder.3", F.mish(embedded))
    known = torch.cat((embedded, condition), 1)

    def conv(name: str, x: Tensor, **options) -> Tensor:
        return F.conv1d(x, n.w[f"{name}.weight"], n.w[f"{name}.bias"], **options)

    def half(name: str, x: Tensor) -> Tensor:
        x = conv(f"{name}.block.0", x, padding=2)
        return F.mish(F.group_norm(x, 8, n.w[f"{name}.block.1.weight"], n.w[f"{name}.block.1.bias"]))

    def block(name: str, x: Tensor) -> Tensor:
        scale, shift = n.linear(f"{name}.cond_encoder.1", F.mish(known))[:, :, None].chunk(2, 1)
        y = half(f"{name}.conv2", scale * half(f"{name}.conv1", x) + shift)
        return y + (conv(f"{name}.residual_conv", x) if f"{name}.residual_conv.weight" in n.w else x)

    x = noisy.mT
    x = block("unet.down_modules.0.1", block("unet.down_modules.0.0", x))
    x = conv("unet.down_modules.0.2", x, stride=2, padding=1)
    x = kept = block("unet.down_modules.1.1", block("unet.down_modules.1.0", x))
    x = block("unet.mid_modules.1", block("unet.mid_modules.0", x))
    x = torch.cat((x, kept), 1)
    x = block("unet.up_modules.0.1", block("unet.up_modules.0.0", x))
    x = F.conv_transpose1d(x, n.w["unet.up_modules.0.2.weight"], n.w["unet.up_modules.0.2.bias"], stride=2, padding=1)
    return conv("unet.final_conv.1", half("unet.final_conv.0", x)).mT


def prepared(statistics, count: int, mode: str) -> list[Tensor]:
    """Normalise as lerobot does: state, environment, images."""
    seen = frames(count)
    found = []
    for name, key in (("observation.state", "proprioception"), ("observation.environment_state", "environment_state")):
        told, x = statistics[name], torch.from_numpy(seen[key])
        if mode == "MEAN_STD":
            found.append((x - told["mean"]) / (told["std"] + 1e-8))
        else:
            found.append(2 * (x - told["min"]) / (told["max"] - told["min"]) - 1)
    for camera in CAMERAS:
        told = statistics[f"observation.images.{camera}"]
        pixels = torch.from_numpy(seen[f"camera_{camera}"]).movedim(-1, -3) / 255
        found.append((pixels - told["mean"]) / (told["std"] + 1e-8))
    return found


def test_lerobots_act_says_the_same_here(tmp_path):
    folder, weights, statistics = written(tmp_path / "act", "act")
    policy, specs = from_lerobot(folder)
    assert tuple(specs) == ("proprioception", "environment_state", "camera_top", "camera_wrist")
    state, environment, *images = (value[:, 0] for value in prepared(statistics, 1, "MEAN_STD"))
    told = statistics["action"]
    expected = act_by_name(weights, state, environment, images) * told["std"] + told["mean"]
    policy.network.eval()
    shown = {key: torch.from_numpy(value) for key, value in frames(1).items()}
    with torch.inference_mode():
        chunk, _ = policy.stepper()(shown, {})
    torch.testing.assert_close(chunk, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("group_norm", [True, False])
def test_lerobots_diffusion_policy_finds_the_same_noise_here(tmp_path, group_norm):
    folder, weights, statistics = written(tmp_path / "diffusion", "diffusion", use_group_norm=group_norm)
    policy, _ = from_lerobot(folder)
    network = policy.network.eval()
    states, environments, *images = prepared(statistics, FRAMES, "MIN_MAX")
    noisy, step = torch.randn(2, HORIZON, ACTIONS, generator=torch.Generator().manual_seed(3)), torch.tensor([7, 60])
    with torch.inference_mode():
        expected = noise_by_name(weights, noisy, step, states, environments, images)
        found = network.unet(noisy, step, network.condition(policy.normalizer.prepare(frames(FRAMES))))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)
    assert (policy.obs_horizon, policy.action_horizon, network.config.num_inference_steps) == (FRAMES, 4, 5)


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_a_converted_policy_goes_back_and_through_a_checkpoint(tmp_path, kind):
    folder, weights, _ = written(tmp_path / kind, kind)
    policy, specs = from_lerobot(folder)
    save_policy(tmp_path / "checkpoint", policy, specs=specs, run={})
    again, _ = load_policy(tmp_path / "checkpoint")
    to_lerobot(again, specs, tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert set(back) == set(weights)
    # The first convolutions carry what ImageNet's statistics say differently of the three channels.
    first = ("backbone.conv1.weight", "backbone.0.weight")
    same = [name for name in weights if not name.endswith(first)]
    assert all(torch.equal(back[name], weights[name]) for name in same)
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    before = json.loads((folder / "config.json").read_text())
    assert {name: config[name] for name in before} == before
    once_more, _ = from_lerobot(tmp_path / "back")
    chunks = []
    for one in (policy, once_more):
        one.reset(2)
        chunks.append(one.act({key: value[:, 0] for key, value in frames(1).items()}))
    assert chunks[0] == pytest.approx(chunks[1], abs=1e-4)


def test_a_component_that_stood_still_cannot_explode(tmp_path):
    folder, _, _ = written(tmp_path / "diffusion", "diffusion")
    file = folder / "policy_preprocessor_step_3_normalizer_processor.safetensors"
    told = load_file(file)
    told["observation.state.max"] = told["observation.state.min"].clone()
    save_file(told, file)
    policy, _ = from_lerobot(folder)
    low = told["observation.state.min"].numpy()
    said = [policy.normalizer.prepare({"proprioception": low + shift})["proprioception"] for shift in (0.0, 0.005)]
    assert said[0].tolist() == pytest.approx([-1.0] * STATE, abs=1e-3)  # lerobot's value of it
    assert float(said[1].abs().max()) < 10


def test_what_cannot_be_converted_is_refused(tmp_path):
    folder, _, _ = written(tmp_path / "cropped", "diffusion", crop_shape=[32, 32])
    with pytest.raises(ConfigError, match=r"crop_shape must be None to be converted, got \[32, 32\]"):
        from_lerobot(folder)
    folder, _, _ = written(tmp_path / "pi0", "act", type="pi0")
    with pytest.raises(ConfigError, match="must be a policy of type act or diffusion, got pi0"):
        from_lerobot(folder)
    folder, weights, _ = written(tmp_path / "torn", "act")
    del weights["model.action_head.bias"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(StoreError, match=r"must hold the weight 'model\.action_head\.bias'"):
        from_lerobot(folder)

"""ACT and diffusion policy from lerobot's folders, and into them.

A folder holds `config.json`, `model.safetensors`, and the statistics of a pre- and a postprocessor as safetensors
beside their JSON. Images and vectors can be told in that format; force fields, joint encoders, gels with a rest image
and other backbones than ResNet18 cannot. The weights are the same numbers; only names and the order of axes change.

Source: lerobot 0.6 (`policies/act`, `policies/diffusion`, `processor/normalize_processor.py`); folders of versions
before 0.4, which kept the statistics among the weights, are read too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vtt.affine import Affine
from vtt.errors import ConfigError, StoreError
from vtt.files import atomic_folder
from vtt.normalizer import Normalizer
from vtt.streams import StreamSpec
from vtt_policies.bundle import load_policy, save_policy
from vtt_policies.chunking.act import Act
from vtt_policies.chunking.config import ActConfig, DiffusionConfig, EncodersConfig
from vtt_policies.chunking.diffusion import Diffusion
from vtt_policies.chunking.policy import ACTION, ActPolicy, ChunkPolicy, DiffusionPolicy

__all__ = ["convert", "from_lerobot", "to_lerobot"]

_STATE, _ENVIRONMENT, _IMAGES = "observation.state", "observation.environment_state", "observation.image"
_BODY, _ELSE = "proprioception", "environment_state"
# Children of torchvision's ResNet, which lerobot's diffusion policy numbers instead of naming them.
_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
_POSITIONS = "encoder_1d_feature_pos_embed.weight"
# What moves less than this stood still in the data; its scale is then one that cannot explode.
_STILL, _FLOOR = 1e-6, 1e-3
_PRE, _POST = "policy_preprocessor", "policy_postprocessor"
_PRE_FILE, _POST_FILE = f"{_PRE}_step_3_normalizer_processor", f"{_POST}_step_0_unnormalizer_processor"


def from_lerobot(folder: Path, *, rate_hz: float = 30.0) -> tuple[ChunkPolicy, dict[str, StreamSpec]]:
    """Read a policy of lerobot.

    Args:
        folder: Holds `config.json` and `model.safetensors`.
        rate_hz: Control rate, in Hz, which the format does not tell.

    Returns:
        The policy, whose actions are not bounded, and what it expects to see: `observation.state` as "proprioception",
        `observation.environment_state` as "environment_state", `observation.images.<name>` as "camera_<name>".

    Raises:
        StoreError: If a file is missing or damaged.
        ConfigError: If the policy has something that this project's does not.
    """
    config = _read_json(folder / "config.json")
    kind = config.get("type")
    if kind not in ("act", "diffusion"):
        raise ConfigError(f"{folder} must be a policy of type act or diffusion, got {kind}.")
    weights = _read_tensors(folder / "model.safetensors")
    names = {name: _our_name(name) for name in _ordered(config["input_features"])}
    specs = {
        ours: _spec(config["input_features"][name]["shape"], image=name.startswith(_IMAGES), rate_hz=rate_hz)
        for name, ours in names.items()
    }
    if _ENVIRONMENT in names and _STATE not in names:
        raise ConfigError("input_features must hold observation.state beside observation.environment_state.")
    modes = _modes(config)
    statistics = _statistics(folder, weights)
    entries: dict[str, Affine] = {}
    gains: dict[str, Tensor] = {}
    for name, ours in names.items():
        told = statistics.get(name, {})
        if specs[ours].kind == "image":
            entries[ours], gains[ours] = _image(specs[ours], modes[name], told, name)
        else:
            entries[ours] = _vector(specs[ours], modes[name], told, name)
    action_dim = config["output_features"]["action"]["shape"][0]
    action = StreamSpec("vector", (action_dim,), "float32", "", rate_hz)
    entries[ACTION] = _vector(action, modes["action"], statistics.get("action", {}), "action")
    policy_class = ActPolicy if kind == "act" else DiffusionPolicy
    settings = _act_settings(config) if kind == "act" else _diffusion_settings(config)
    network = policy_class.make_network(settings, specs, action_dim=action_dim)  # pyright: ignore[reportArgumentType]
    plan = _act_plan(network, names) if isinstance(network, Act) else _diffusion_plan(network, names, config)
    state = {}
    for ours, tensor in network.state_dict().items():
        place = plan[ours]
        if place.name not in weights:
            raise StoreError(f"{folder} must hold the weight '{place.name}'. It is of another version or damaged.")
        found = weights[place.name]
        if found.shape != tensor.shape:
            raise ConfigError(f"'{place.name}' must be {tuple(tensor.shape)}, got {tuple(found.shape)}.")
        state[ours] = found if place.order is None else found.index_select(place.axis, place.order)
    _fold(state, network, gains)
    network.load_state_dict(state)
    return policy_class(network, Normalizer(entries), keys=tuple(specs)), specs  # pyright: ignore[reportArgumentType]


def to_lerobot(policy: ChunkPolicy, specs: Mapping[str, StreamSpec], folder: Path) -> None:
    """Write a policy as a folder of lerobot.

    Args:
        policy: ACT or diffusion policy over cameras and at most two vectors, with ResNet18 backbones.
        specs: What it sees.
        folder: A new folder.

    Raises:
        ConfigError: If the format has no words for the policy; names them.
        StoreError: If the folder exists.
    """
    if folder.exists():
        raise StoreError(f"{folder} exists already. Choose another name.")
    network, entries = policy.network, policy.normalizer.entries
    _refuse(policy, specs)
    vectors = _vector_names(tuple(network.encoders.vectors))
    images = {f"{_IMAGES}s.{key.removeprefix('camera_')}": key for key in network.encoders.shapes}
    names = {**vectors, **images}
    mode = "MEAN_STD" if policy.kind == "act" else "MIN_MAX"
    mapping = {"VISUAL": "MEAN_STD", "STATE": mode, "ENV": mode, "ACTION": mode}
    inputs = {name: _feature(name, specs[key].shape) for name, key in names.items()}
    outputs = {"action": {"type": "ACTION", "shape": [network.action_dim]}}
    config = {
        "type": policy.kind,
        "input_features": inputs,
        "output_features": outputs,
        "normalization_mapping": mapping,
        "device": "cpu",
        **(_act_words(network.config) if isinstance(network.config, ActConfig) else _diffusion_words(network.config)),
    }
    plan = _act_plan(network, names) if isinstance(network, Act) else _diffusion_plan(network, names, config)
    weights = {}
    for ours, tensor in network.state_dict().items():
        name, order, axis = plan[ours]
        weights[name] = tensor.cpu() if order is None else tensor.cpu().index_select(axis, order.argsort())
        if isinstance(network, Diffusion) and name.endswith("running_var"):
            # Theirs is an ordinary batch norm, which counts.
            weights[name.removesuffix("running_var") + "num_batches_tracked"] = torch.zeros((), dtype=torch.long)
    statistics = {name: _told(entries[key], minmax=mode == "MIN_MAX", name=name) for name, key in names.items()}
    statistics["action"] = _told(entries[ACTION], minmax=mode == "MIN_MAX", name="action")
    flat = {f"{name}.{stat}": value for name, told in statistics.items() for stat, value in told.items()}
    common = {"eps": 1e-8, "norm_map": mapping}
    pre = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
        {
            "registry_name": "normalizer_processor",
            "config": {**common, "features": {**inputs, **outputs}},
            "state_file": f"{_PRE_FILE}.safetensors",
        },
    ]
    post = [
        {
            "registry_name": "unnormalizer_processor",
            "config": {**common, "features": outputs},
            "state_file": f"{_POST_FILE}.safetensors",
        },
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
    ]
    with atomic_folder(folder) as partial:
        _write_json(partial / "config.json", config)
        save_file({name: value.clone().contiguous() for name, value in weights.items()}, partial / "model.safetensors")
        for name, steps, file in ((_PRE, pre, _PRE_FILE), (_POST, post, _POST_FILE)):
            _write_json(partial / f"{name}.json", {"name": name, "steps": steps})
            save_file(flat, partial / f"{file}.safetensors")


def convert(path: Path, out: Path, *, to_lerobot_folder: bool) -> None:
    """Write a run or checkpoint as a folder of lerobot, or such a folder as a checkpoint.

    Args:
        path: What to read.
        out: A new folder.
        to_lerobot_folder: The direction.

    Raises:
        ConfigError: If the policy is of another kind, or the format has no words for it.
        StoreError: If something is missing or damaged, or `out` exists.
    """
    if out.exists():
        raise StoreError(f"{out} exists already. Choose another name.")
    if not to_lerobot_folder:
        policy, specs = from_lerobot(path)
        save_policy(out, policy, specs=specs, run={"lerobot": str(path)})
        return
    policy, specs = load_policy(path)
    if not isinstance(policy, ChunkPolicy):
        raise ConfigError(f"{path} must be of kind act or diffusion, got {policy.kind}.")
    to_lerobot(policy, specs, out)


# Settings ------------------------------------------------------------------------------------------------------------


def _act_settings(config: Mapping[str, Any]) -> ActConfig:
    _expect(config, vision_backbone="resnet18", pre_norm=False, feedforward_activation="relu", use_vae=True)
    _expect(config, replace_final_stride_with_dilation=(False, 0, None))
    same = ("chunk_size", "n_action_steps", "temporal_ensemble_coeff", "dim_model", "n_heads", "dim_feedforward")
    depths = ("n_encoder_layers", "n_decoder_layers", "latent_dim", "n_vae_encoder_layers", "kl_weight", "dropout")
    encoders = EncodersConfig(image="resnet18", width=64, norm="frozen_batch", shared=True)
    given = {name: config[name] for name in (*same, *depths) if name in config}
    return ActConfig(**given, bounded=False, encoders=encoders)


def _act_words(config: ActConfig) -> dict[str, Any]:
    same = ("chunk_size", "n_action_steps", "temporal_ensemble_coeff", "dim_model", "n_heads", "dim_feedforward")
    depths = ("n_encoder_layers", "n_decoder_layers", "latent_dim", "n_vae_encoder_layers", "kl_weight", "dropout")
    return {
        "n_obs_steps": 1,
        "vision_backbone": "resnet18",
        "pretrained_backbone_weights": None,
        "replace_final_stride_with_dilation": 0,
        "pre_norm": False,
        "feedforward_activation": "relu",
        "use_vae": True,
        **{name: getattr(config, name) for name in (*same, *depths)},
    }


_DIFFUSION_SAME = (
    "n_obs_steps",
    "horizon",
    "n_action_steps",
    "kernel_size",
    "n_groups",
    "diffusion_step_embed_dim",
    "num_train_timesteps",
    "clip_sample",
    "do_mask_loss_for_padding",
)


def _diffusion_settings(config: Mapping[str, Any]) -> DiffusionConfig:
    _expect(config, vision_backbone="resnet18", use_film_scale_modulation=True, prediction_type="epsilon")
    _expect(config, beta_schedule="squaredcos_cap_v2", clip_sample_range=1.0, crop_shape=None, resize_shape=None)
    given = {name: config[name] for name in _DIFFUSION_SAME if name in config}
    encoders = EncodersConfig(
        image="resnet18",
        width=64,
        norm="group" if config.get("use_group_norm", False) else "frozen_batch",
        keypoints=config["spatial_softmax_num_keypoints"],
    )
    return DiffusionConfig(
        **given,
        down_dims=tuple(config["down_dims"]),
        sampler="ddim" if config["noise_scheduler_type"] == "DDIM" else "ddpm",
        num_inference_steps=config["num_inference_steps"] or config["num_train_timesteps"],
        ema=False,
        bounded=False,
        encoders=encoders,
    )


def _diffusion_words(config: DiffusionConfig) -> dict[str, Any]:
    return {
        **{name: getattr(config, name) for name in _DIFFUSION_SAME},
        "down_dims": list(config.down_dims),
        "noise_scheduler_type": config.sampler.upper(),
        "num_inference_steps": config.num_inference_steps,
        "vision_backbone": "resnet18",
        "pretrained_backbone_weights": None,
        "use_group_norm": config.encoders.norm == "group",
        "use_separate_rgb_encoder_per_camera": True,
        "spatial_softmax_num_keypoints": config.encoders.keypoints,
        "use_film_scale_modulation": True,
        "prediction_type": "epsilon",
        "beta_schedule": "squaredcos_cap_v2",
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "clip_sample_range": 1.0,
        "resize_shape": None,
        "crop_shape": None,
    }


def _expect(config: Mapping[str, Any], **values: Any) -> None:
    """Refuse what this project's networks do not have; a setting that is not there has its usual value."""
    for name, value in values.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if name in config and config[name] not in allowed:
            raise ConfigError(f"{name} must be {allowed[0]} to be converted, got {config[name]}.")


def _refuse(policy: ChunkPolicy, specs: Mapping[str, StreamSpec]) -> None:
    """Refuse what the format has no words for."""
    encoders, network = policy.network.config.encoders, policy.network
    faults = [f"a {spec.kind} ({key})" for key, spec in specs.items() if spec.kind not in ("image", "vector")]
    if encoders.kind == "joint":
        faults.append("a joint encoder")
    elif encoders.image != "resnet18" or encoders.width != 64:
        faults.append(f"the backbone {encoders.image} of width {encoders.width}")
    if len(network.encoders.vectors) > 2:
        faults.append(f"{len(network.encoders.vectors)} vectors")
    if network.may_be_absent:
        faults.append("signals that may be absent")
    if len({shape for shape in (specs[key].shape for key in network.encoders.shapes)}) > 1:
        faults.append("images of different sizes")
    if isinstance(network, Act):
        if not network.config.latent_dim:
            faults.append("no style latent")
        if not (encoders.norm == "frozen_batch" and encoders.shared):
            faults.append("backbones that are not one with frozen batch norm (preset paper)")
    elif encoders.shared or not encoders.keypoints:
        faults.append("a shared backbone or averaged maps")
    if faults:
        raise ConfigError(f"lerobot's format must know all of the policy; it has no words for {'; '.join(faults)}.")


# Names ---------------------------------------------------------------------------------------------------------------


def _our_name(name: str) -> str:
    """Name an observation of lerobot as this project does."""
    if name == _STATE:
        return _BODY
    if name == _ENVIRONMENT:
        return _ELSE
    if name.startswith(_IMAGES):
        rest = name.removeprefix(_IMAGES).removeprefix("s").strip(".")
        return f"camera_{rest.replace('.', '_')}" if rest else "camera_front"
    raise ConfigError(f"input_features must be observation.state, .environment_state or .images.*, got {name}.")


def _ordered(features: Mapping[str, Any]) -> list[str]:
    """Put vectors first, the state before all, as lerobot lays out its tokens; images keep their order."""
    rank = {_STATE: 0, _ENVIRONMENT: 1}
    return sorted(features, key=lambda name: rank.get(name, 2))


def _vector_names(keys: tuple[str, ...]) -> dict[str, str]:
    """Name vectors: the body is the state, the other one the environment's."""
    if not keys:
        return {}
    state = _BODY if _BODY in keys else keys[0]
    return {_STATE: state} | ({_ENVIRONMENT: next(key for key in keys if key != state)} if len(keys) > 1 else {})


class _Place(NamedTuple):
    """Where a weight is in lerobot's file.

    Attributes:
        name: Its name there.
        order: Where an axis is in another order: which of its places holds each of ours.
        axis: That axis.
    """

    name: str
    order: Tensor | None = None
    axis: int = -1


_Plan = dict[str, _Place]
"""By our name of a weight."""


def _act_plan(network: Act, names: Mapping[str, str]) -> _Plan:
    vectors = {key: name for name, key in names.items() if key in network.encoders.vectors}
    short = {_STATE: "encoder_robot_state_input_proj", _ENVIRONMENT: "encoder_env_state_input_proj"}

    def rename(ours: str) -> str:
        if ours.startswith("encoders.maps."):
            return "backbone." + ours.split(".", 3)[3]
        if ours.startswith("encoder_vector_input_proj."):
            _, key, rest = ours.split(".", 2)
            return f"{short[vectors[key]]}.{rest}"
        if ours.startswith("encoder_img_feat_input_proj."):
            return "encoder_img_feat_input_proj." + ours.split(".", 3)[3]
        return ours

    plan = _plan(network, lambda ours: f"model.{rename(ours)}")
    # One row for the latent, then one for each vector.
    keys = list(network.encoders.vectors)
    rows = torch.tensor([0, *(1 + [names[n] for n in vectors.values()].index(key) for key in keys)])
    plan[_POSITIONS] = _Place(plan[_POSITIONS].name, rows, 0)
    return plan


def _diffusion_plan(network: Diffusion, names: Mapping[str, str], config: Mapping[str, Any]) -> _Plan:
    images = [key for key in names.values() if key in network.encoders.shapes]
    separate = config.get("use_separate_rgb_encoder_per_camera", False)

    def encoder(key: str) -> str:
        return f"rgb_encoder.{images.index(key)}" if separate else "rgb_encoder"

    def rename(ours: str) -> str:
        if ours.startswith("encoders.maps."):
            _, _, key, child, rest = ours.split(".", 4)
            return f"{encoder(key)}.backbone.{_CHILDREN[child]}.{rest}"
        if ours.startswith("pools."):
            _, key, rest = ours.split(".", 2)
            return f"{encoder(key)}.{rest}"
        return ours

    plan = _plan(network, lambda ours: f"diffusion.{rename(ours)}")
    order = _condition_order(network, names)
    for ours, place in plan.items():
        if ours.endswith("cond_encoder.1.weight"):
            plan[ours] = _Place(place.name, order, 1)
    return plan


def _plan(network: Act | Diffusion, rename: Callable[[str], str]) -> _Plan:
    return {ours: _Place(rename(ours)) for ours in network.state_dict()}


def _condition_order(network: Diffusion, names: Mapping[str, str]) -> Tensor:
    """Tell which place of lerobot's condition holds each of ours; theirs: state, images, environment in each frame."""
    widths = {**network.encoders.vectors}
    widths |= {key: 2 * network.config.encoders.keypoints for key in network.encoders.shapes}
    last = [names[_ENVIRONMENT]] if _ENVIRONMENT in names else []
    theirs = [key for key in names.values() if key not in last] + last
    starts = {key: sum(widths[before] for before in theirs[:index]) for index, key in enumerate(theirs)}
    frame = torch.cat([torch.arange(widths[key]) + starts[key] for key in widths])
    step = network.config.diffusion_step_embed_dim
    frames = [step + index * len(frame) + frame for index in range(network.config.n_obs_steps)]
    return torch.cat([torch.arange(step), *frames])


# Statistics ----------------------------------------------------------------------------------------------------------


def _modes(config: Mapping[str, Any]) -> dict[str, str]:
    """Tell how each feature is normalised."""
    features = {**config["input_features"], **config["output_features"]}
    mapping = config.get("normalization_mapping", {})
    return {name: mapping.get(feature["type"], "IDENTITY") for name, feature in features.items()}


def _statistics(folder: Path, weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Read the statistics of each feature: from the processors, or, before lerobot 0.4, from among the weights."""
    found: dict[str, dict[str, Tensor]] = {}
    for name in (_PRE, _POST):
        if (folder / f"{name}.json").exists():
            for step in _read_json(folder / f"{name}.json")["steps"]:
                if "normalizer" in step.get("registry_name", "") and "state_file" in step:
                    for key, value in _read_tensors(folder / step["state_file"]).items():
                        feature, stat = key.rsplit(".", 1)
                        found.setdefault(feature, {})[stat] = value
    for key, value in weights.items():
        part, _, rest = key.partition(".buffer_")
        if rest and part in ("normalize_inputs", "unnormalize_outputs"):
            feature, stat = rest.rsplit(".", 1)
            found.setdefault(_dotted(feature), {})[stat] = value
    return found


def _dotted(name: str) -> str:
    """Undo lerobot's old replacement of dots by underscores, where it is unambiguous."""
    for prefix in ("observation_images_", "observation_"):
        if name.startswith(prefix):
            return prefix.replace("_", ".") + name.removeprefix(prefix)
    return name


def _offset_and_scale(mode: str, told: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Turn statistics into (value - offset) / scale; a component that stood still keeps what the network saw of it."""
    need = {"IDENTITY": (), "MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max")}
    if mode not in need:
        raise ConfigError(f"normalization_mapping must be MEAN_STD, MIN_MAX or IDENTITY to be converted, got {mode}.")
    for stat in need[mode]:
        if stat not in told:
            raise StoreError(f"The statistics of {name} must hold {stat}, got {', '.join(told) or 'none'}.")
    if mode == "MEAN_STD":
        scale = told["std"].float().flatten()
        return told["mean"].float().flatten(), torch.where(scale < _STILL, _FLOOR, scale)
    if mode == "MIN_MAX":
        low, high = told["min"].float().flatten(), told["max"].float().flatten()
        still = high - low < _STILL
        # Theirs says -1 of it.
        return torch.where(still, low + _FLOOR, (low + high) / 2), torch.where(still, _FLOOR, (high - low) / 2)
    return torch.zeros(1), torch.ones(1)


def _vector(spec: StreamSpec, mode: str, told: Mapping[str, Tensor], name: str) -> Affine:
    """Turn the statistics of a vector into a normalisation."""
    offset, scale = (value.expand(spec.shape).clone() for value in _offset_and_scale(mode, told, name))
    return Affine("vector", spec.shape, offset, scale)


def _image(spec: StreamSpec, mode: str, told: Mapping[str, Tensor], name: str) -> tuple[Affine, Tensor]:
    """Turn the statistics of an image into a normalisation, and the gains of its channels that this leaves out."""
    channels = spec.shape[2]
    offset, scale = (value.expand(channels) for value in _offset_and_scale(mode, told, name))
    entry = Affine("image", spec.shape, offset.reshape(-1, 1, 1).clone(), scale[0].reshape(1, 1, 1).clone())
    return entry, scale[0] / scale


def _fold(state: dict[str, Tensor], network: Act | Diffusion, gains: Mapping[str, Tensor]) -> None:
    """Give the first convolutions the gains of the channels: an image here has one scale for all of them."""
    done: dict[str, Tensor] = {}
    for key, gain in gains.items():
        name = f"encoders.maps.{network.encoders.name_of(key)}.conv1.weight"
        if name in done and not torch.equal(done[name], gain):
            raise ConfigError("Images that share a backbone must be normalised alike to be converted.")
        if name not in done:
            done[name] = gain
            state[name] = state[name] * gain[:, None, None]


def _told(entry: Affine, *, minmax: bool, name: str) -> dict[str, Tensor]:
    """Turn a normalisation into statistics."""
    offset, scale = entry.offset.cpu(), entry.scale.cpu()
    if entry.is_image:
        channels = entry.shape[2]
        if offset.numel() not in (1, channels):
            raise ConfigError(f"{name} must be normalised alike at every pixel to be converted, got a rest image.")
        each = (channels, 1, 1)
        return {"mean": offset.expand(each).contiguous(), "std": scale.expand(each).contiguous()}
    if minmax:
        return {"min": offset - scale, "max": offset + scale}
    return {"mean": offset.clone(), "std": scale.clone()}


# Files ---------------------------------------------------------------------------------------------------------------


def _spec(shape: list[int], *, image: bool, rate_hz: float) -> StreamSpec:
    """Describe a feature; lerobot's images are (channels, rows, columns)."""
    if image:
        channels, rows, columns = shape
        return StreamSpec("image", (rows, columns, channels), "uint8", "", rate_hz)
    return StreamSpec("vector", tuple(shape), "float32", "", rate_hz)


def _feature(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Describe an observation in lerobot's words."""
    if name.startswith(_IMAGES):
        return {"type": "VISUAL", "shape": [shape[2], shape[0], shape[1]]}
    return {"type": "STATE" if name == _STATE else "ENV", "shape": list(shape)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is missing or damaged ({error}).") from error


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is missing or damaged ({error}).") from error

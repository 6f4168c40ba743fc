from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vtt.checkpoint import load, load_training_state, save
from vtt.errors import ConfigError, ShapeError, StoreError
from vtt.normalizer import Normalizer
from vtt.state_tree import pack, unpack
from vtt.streams import StreamSpec, check_observation

OBSERVATION = {
    "tactile_left": StreamSpec("tactile_image", (6, 8, 3), "uint8", "1", 20.0, "gelsight_mini", "c0ffee"),
    "goal": StreamSpec("vector", (3,), "float32", "m", 20.0, names=("x", "y", "z")),
}


def make_model(width: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, width))
    model.append(model[2])  # tied
    return model


def write(folder: Path, **more: Any) -> nn.Sequential:
    model = make_model()
    rest = np.full((6, 8, 3), 100, np.uint8)
    normalizer = Normalizer.fit(
        OBSERVATION, {"goal": np.random.default_rng(0).normal(size=(9, 3))}, rest_images={"tactile_left": rest}
    )
    config = {"encoder": {"name": "vtt", "embed_dim": 4}}
    arguments = {"config": config, "normalizer": normalizer, "observation": OBSERVATION, "readme": "# A policy\n"}
    save(folder, model=model, **(arguments | more))
    return model


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path) -> None:
    model = write(tmp_path / "a")
    checkpoint = load(tmp_path / "a")
    assert checkpoint.config == {"encoder": {"name": "vtt", "embed_dim": 4}}
    assert checkpoint.observation == OBSERVATION
    assert (tmp_path / "a" / "README.md").read_text() == "# A policy\n"
    other = make_model().requires_grad_(False)
    for tensor in other.parameters():
        tensor.zero_()
    checkpoint.restore(other)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    raw = {"goal": np.ones((2, 3), np.float32)}
    assert checkpoint.normalizer.prepare(raw)["goal"].shape == (2, 3)


def test_nothing_in_a_checkpoint_is_pickled(tmp_path: Path) -> None:
    write(tmp_path / "a", training_state={"rng": torch.get_rng_state()})
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "normalizer.safetensors",
        "observation.json",
        "README.md",
        "training_state.json",
        "training_state.safetensors",
    }


def test_saving_again_replaces_the_whole_folder(tmp_path: Path) -> None:
    write(tmp_path / "a", training_state={"step": 1})
    write(tmp_path / "a", config={"new": True})
    assert load(tmp_path / "a").config == {"new": True}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(StoreError, match="holds no training state"):
        load_training_state(tmp_path / "a")


def test_a_save_that_fails_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "a")
    with pytest.raises(TypeError, match="not JSON serializable"):
        write(tmp_path / "a", config={"encoder": object()})
    assert load(tmp_path / "a").config["encoder"]["name"] == "vtt"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_replacement_still_loads(tmp_path: Path) -> None:
    write(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "a.previous")
    assert load(tmp_path / "a").config["encoder"]["name"] == "vtt"


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator, steps: int) -> None:
    for _ in range(steps):
        x = torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32)) + torch.randn(8, 3)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("bit_generator", [np.random.PCG64, np.random.MT19937])
def test_training_resumes_bit_for_bit(tmp_path: Path, bit_generator: type[np.random.BitGenerator]) -> None:
    def begin() -> tuple[nn.Module, torch.optim.Optimizer, np.random.Generator]:
        model = make_model()
        return model, torch.optim.AdamW(model.parameters(), lr=1e-2), np.random.Generator(bit_generator(3))  # type: ignore[call-arg]

    torch.manual_seed(5)
    straight, optimizer, rng = begin()
    _train(straight, optimizer, rng, 6)

    torch.manual_seed(5)
    model, optimizer, rng = begin()
    _train(model, optimizer, rng, 3)
    state = {"optimizer": optimizer.state_dict(), "torch": torch.get_rng_state(), "numpy": rng.bit_generator.state}
    normalizer = Normalizer({})
    save(tmp_path / "a", model=model, config={}, normalizer=normalizer, observation={}, readme="", training_state=state)

    torch.manual_seed(99)
    resumed, optimizer, rng = begin()
    load(tmp_path / "a").restore(resumed)
    state = load_training_state(tmp_path / "a")
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["torch"])
    rng.bit_generator.state = state["numpy"]
    _train(resumed, optimizer, rng, 3)
    for name, tensor in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_a_state_tree_comes_back_with_its_types() -> None:
    state = {
        "a": [1, (2.5, None), {"b": True}],
        3: "x",
        "__tensor__": 2**100,
        "c": {"__tuple__": 1},
        (1, 2): np.int64(4),
    }
    structure, tensors = pack(state)
    assert tensors == {}
    assert unpack(json.loads(json.dumps(structure)), tensors) == state


def test_a_state_that_needs_pickle_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"got object at state\.a\.0"):
        pack({"a": [object()]})


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a")
    with pytest.raises(
        ConfigError, match=r"must fit the model: '0\.weight' is \(4, 3\) in the checkpoint and \(5, 3\)"
    ):
        load(tmp_path / "a").restore(make_model(5))
    message = r"'weight' is missing in the checkpoint; .*'1\.num_batches_tracked' is not in the model and 10 more"
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "a").restore(nn.Linear(3, 4))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "normalizer.safetensors", "observation.json"])
@pytest.mark.parametrize("how", ["missing", "truncated", "empty"])
def test_a_damaged_checkpoint_is_said_plainly(tmp_path: Path, name: str, how: str) -> None:
    write(tmp_path / "a")
    path = tmp_path / "a" / name
    content = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"")
    with pytest.raises(StoreError, match=rf"{name} is missing or damaged"):
        load(tmp_path / "a")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No checkpoint at .*nowhere"):
        load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StoreError, match="must be a checkpoint of format vtt-checkpoint, got None"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"format": "vtt-checkpoint", "version": 9, "config": {}}')
    with pytest.raises(StoreError, match="version 1 or lower, got 9"):
        load(tmp_path)


def test_the_same_observation_is_accepted_whatever_its_rate() -> None:
    slower = {key: replace(spec, rate_hz=10.0) for key, spec in OBSERVATION.items()}
    check_observation(OBSERVATION, slower)
    check_observation(OBSERVATION, {**slower, "privileged": OBSERVATION["goal"]}, ignore={"privileged"})
    unnamed = {key: replace(spec, calibration_hash="", names=()) for key, spec in OBSERVATION.items()}
    check_observation(OBSERVATION, unnamed)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (
            "tactile_left",
            {"shape": (12, 8, 3)},
            r"'tactile_left' with shape \(6, 8, 3\), but it arrives with shape \(12,",
        ),
        ("tactile_left", {"calibration_hash": "f00d"}, "with calibration hash c0ffee, but it arrives .* f00d"),
        ("tactile_left", {"sensor": "digit"}, "with sensor gelsight_mini, but it arrives with sensor digit"),
        ("goal", {"unit": "mm"}, "with unit m, but it arrives with unit mm"),
        ("goal", {"dtype": "float64"}, "with dtype float32, but it arrives with dtype float64"),
        ("goal", {"names": ("y", "x", "z")}, "with names .'x', 'y', 'z'., but it arrives with names .'y'"),
    ],
)
def test_another_spec_is_refused_with_both_sides_named(key: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        check_observation(OBSERVATION, OBSERVATION | {key: replace(OBSERVATION[key], **change)})


def test_missing_and_surplus_keys_are_refused_with_both_sides_named() -> None:
    arriving = {"goal": OBSERVATION["goal"], "privileged": OBSERVATION["goal"]}
    message = (
        "The model expects goal, tactile_left, but goal, privileged arrives. "
        "Missing: tactile_left. Neither used nor ignored: privileged."
    )
    with pytest.raises(ConfigError, match=message):
        check_observation(OBSERVATION, arriving)

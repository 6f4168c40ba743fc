from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError, MissingError, ShapeError, StoreError
from vtt.images import to_network
from vtt.normalizer import Normalizer
from vtt.store import EpisodeStore, Stream
from vtt.streams import StreamSpec

SPECS = {
    "camera_front": StreamSpec("image", (8, 9, 3), "uint8", "1", 20.0),
    "tactile_left": StreamSpec("tactile_image", (6, 8, 3), "uint8", "1", 20.0),
    "force_left": StreamSpec("force_grid", (6, 8, 3), "float32", "N", 20.0),
    "wrench": StreamSpec("vector", (3,), "float32", "N", 20.0, names=("fx", "fy", "fz")),
}
REST = np.random.default_rng(0).integers(60, 180, (6, 8, 3), dtype=np.uint8)


def samples(count: int = 300, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "camera_front": rng.integers(0, 256, (count, 8, 9, 3), dtype=np.uint8),
        "tactile_left": rng.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8),
        "force_left": rng.normal(0.02, 0.01, (count, 6, 8, 3)).astype(np.float32),
        "wrench": rng.normal([1, 2, 3], [0.5, 5, 50], (count, 3)).astype(np.float32),
    }


def fitted() -> Normalizer:
    return Normalizer.fit(SPECS, samples(), rest_images={"tactile_left": REST})


@given(st.floats(-1e3, 1e3, width=32), st.sampled_from(["force_left", "wrench", "camera_front", "tactile_left"]))
def test_denormalising_undoes_normalising(value: float, key: str) -> None:
    normalizer = fitted()
    x = torch.full((2, 3) if key == "wrench" else (2, 3, 1, 1), value)
    back = normalizer.denormalize(key, normalizer.normalize(key, x))
    torch.testing.assert_close(back, x.expand_as(back), rtol=1e-5, atol=1e-4)


def test_vectors_get_mean_zero_and_deviation_one() -> None:
    wrench = fitted().prepare(samples())["wrench"]
    torch.testing.assert_close(wrench.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(wrench.std(0, correction=0), torch.ones(3), rtol=1e-5, atol=0)


def test_no_force_stays_zero_and_the_root_mean_square_is_one() -> None:
    force = fitted().prepare(samples())["force_left"]
    assert force.shape == (300, 3, 6, 8)
    torch.testing.assert_close((force**2).mean((0, 2, 3)), torch.ones(3), rtol=1e-5, atol=0)
    assert not fitted().prepare({"force_left": np.zeros((1, 6, 8, 3), np.float32)})["force_left"].any()


def test_an_untouched_gel_is_zero_and_grey_levels_count_from_the_rest_image() -> None:
    pressed = REST.copy()
    pressed[2, 3, 1] += 51
    prepared = fitted().prepare({"tactile_left": np.stack([REST, pressed])})["tactile_left"]
    torch.testing.assert_close(prepared[0], torch.zeros(3, 6, 8), rtol=0, atol=1e-5)
    assert prepared[1, 1, 2, 3].item() == pytest.approx(51 / 255 / 0.1, rel=1e-5)
    assert (prepared[1].abs() > 1e-4).sum() == 1


def test_a_camera_is_centred_by_constants() -> None:
    image = np.zeros((1, 8, 9, 3), np.uint8)
    image[..., 1] = 255
    prepared = fitted().prepare({"camera_front": image})["camera_front"]
    torch.testing.assert_close(prepared[0, :, 0, 0], torch.tensor([-2.0, 2.0, -2.0]))


def test_preparing_an_image_is_normalising_its_conversion() -> None:
    normalizer, raw = fitted(), samples()
    for key in ("camera_front", "tactile_left"):
        expected = normalizer.normalize(key, to_network(torch.from_numpy(raw[key])))
        torch.testing.assert_close(normalizer.prepare(raw)[key], expected, rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(0, 100))
def test_it_does_not_matter_how_samples_are_cut(sizes: list[int], seed: int) -> None:
    rows = samples(sum(sizes) + 1, seed)["wrench"]
    spec = {"wrench": SPECS["wrench"]}
    whole = Normalizer.fit(spec, {"wrench": rows}).entries["wrench"]
    parts = Normalizer.fit(spec, {"wrench": np.split(rows, np.cumsum(sizes))}).entries["wrench"]
    torch.testing.assert_close(parts.offset, whole.offset)
    torch.testing.assert_close(parts.scale, whole.scale)


def test_a_store_is_measured_like_its_arrays(tmp_path: Path) -> None:
    raw = samples(60)
    store = EpisodeStore.create(tmp_path / "store", streams=SPECS)
    clock = np.arange(20, dtype=np.int64)
    store.extend([{k: Stream(v[at : at + 20], clock) for k, v in raw.items()} for at in (0, 20, 40)])
    from_store = Normalizer.fit_store(store, SPECS, rest_images={"tactile_left": REST})
    from_arrays = Normalizer.fit(SPECS, raw, rest_images={"tactile_left": REST})
    for key in SPECS:
        torch.testing.assert_close(from_store.entries[key].offset, from_arrays.entries[key].offset)
        torch.testing.assert_close(from_store.entries[key].scale, from_arrays.entries[key].scale)
    with pytest.raises(MissingError, match="No stream 'sound'"):
        Normalizer.fit_store(store, ["sound"])


def test_without_a_rest_image_the_mean_stands_in() -> None:
    raw = samples()["tactile_left"]
    entry = Normalizer.fit({"tactile_left": SPECS["tactile_left"]}, {"tactile_left": raw}).entries["tactile_left"]
    np.testing.assert_allclose(entry.offset.numpy(), raw.mean(0).transpose(2, 0, 1) / 255, rtol=1e-5)


def test_another_gel_brings_its_rest_image() -> None:
    other = (REST // 2).astype(np.uint8)
    normalizer = fitted().with_rest_images({"tactile_left": other})
    prepared = normalizer.prepare({"tactile_left": other[None]})["tactile_left"]
    torch.testing.assert_close(prepared, torch.zeros(1, 3, 6, 8), rtol=0, atol=1e-5)


def test_a_channel_that_stood_still_cannot_explode_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    rows = samples()["wrench"]
    rows[:, 1] = 4.0
    with caplog.at_level(logging.WARNING):
        normalizer = Normalizer.fit({"wrench": SPECS["wrench"]}, {"wrench": rows}, floors={"wrench": 0.05})
    assert normalizer.entries["wrench"].dead == ("fy",)
    assert "'wrench' stands still in the data; its scale is a floor: fy." in caplog.text
    moved = normalizer.prepare({"wrench": np.array([[1.0, 4.01, 3.0]], np.float32)})["wrench"]
    assert moved[0, 1].item() == pytest.approx(0.2, rel=1e-4)


@given(st.integers(0, 50))
def test_the_scale_is_never_below_its_floor(seed: int) -> None:
    rows = samples(20, seed)["wrench"]
    entry = Normalizer.fit({"wrench": SPECS["wrench"]}, {"wrench": rows}, floors={"wrench": 3.0}).entries["wrench"]
    assert (entry.scale >= 3.0).all()
    assert entry.dead[0] == "fx"


@pytest.mark.parametrize("leading", [(), (4,), (2, 5)])
def test_any_leading_axes_may_come_before(leading: tuple[int, ...]) -> None:
    raw = {key: np.broadcast_to(value[0], (*leading, *value.shape[1:])) for key, value in samples(1).items()}
    prepared = fitted().prepare(raw)  # broadcast arrays are read-only and strided
    assert {key: value.shape for key, value in prepared.items()} == {
        "camera_front": (*leading, 3, 8, 9),
        "tactile_left": (*leading, 3, 6, 8),
        "force_left": (*leading, 3, 6, 8),
        "wrench": (*leading, 3),
    }
    assert all(value.dtype == torch.float32 for value in prepared.values())


def test_only_known_keys_come_out_and_the_input_is_not_changed() -> None:
    raw = samples(2)
    before = {key: value.copy() for key, value in raw.items()}
    prepared = fitted().prepare({**raw, "privileged": np.zeros((2, 4), np.float32)}, device="cpu")
    assert set(prepared) == set(SPECS)
    for value in prepared.values():
        value.zero_()
    for key, value in raw.items():
        np.testing.assert_array_equal(value, before[key])


def test_an_image_of_the_wrong_size_or_dtype_is_refused() -> None:
    with pytest.raises(
        ShapeError, match=r"'tactile_left' must be uint8 \(\.\.\., 6, 8, 3\), got uint8 \(1, 240, 320, 3\)"
    ):
        fitted().prepare({"tactile_left": np.zeros((1, 240, 320, 3), np.uint8)})
    with pytest.raises(ShapeError, match=r"'camera_front' must be uint8 .* got float32"):
        fitted().prepare({"camera_front": np.zeros((1, 8, 9, 3), np.float32)})
    with pytest.raises(ShapeError, match=r"'wrench' must be numeric \(\.\.\., 3\), got float32 \(1, 2\)"):
        fitted().prepare({"wrench": np.zeros((1, 2), np.float32)})


@pytest.mark.parametrize(
    ("spec", "given_samples", "more", "message"),
    [
        (SPECS["wrench"], {}, {}, "samples must hold 'x', got none"),
        (SPECS["wrench"], {"x": np.zeros((0, 3))}, {}, "must have at least one sample"),
        (SPECS["wrench"], {"x": np.full((4, 3), np.nan)}, {}, "must be finite"),
        (SPECS["wrench"], {"x": np.zeros((4, 3))}, {"floors": {"x": 0.0}}, "floor of 'x' must be positive"),
        (StreamSpec("scalar", (), "float32", "", 20.0), {"x": np.zeros(4)}, {}, "got a scalar"),
        (SPECS["wrench"], {}, {"rest_images": {"x": REST}}, "rest_images must be of tactile images"),
        (StreamSpec("image", (6, 8, 3), "float32", "", 20.0), {}, {}, "'x' must be uint8"),
    ],
)
def test_what_cannot_be_measured_is_refused(spec, given_samples, more, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Normalizer.fit({"x": spec}, given_samples, **more)


def test_samples_and_rest_images_must_fit() -> None:
    with pytest.raises(ShapeError, match=r"Samples of 'wrench' must be \('N', 3\), got \(5, 4\)"):
        Normalizer.fit({"wrench": SPECS["wrench"]}, {"wrench": np.zeros((5, 4))})
    with pytest.raises(
        ShapeError, match=r"Rest image of 'tactile_left' must be uint8 \(6, 8, 3\), got uint8 \(8, 6, 3\)"
    ):
        fitted().with_rest_images({"tactile_left": REST.transpose(1, 0, 2)})


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(MissingError, match=r"No normalised key 'sound'\. Available: camera_front, force_left"):
        fitted().normalize("sound", torch.zeros(1))


def test_a_saved_normaliser_loads_bit_for_bit(tmp_path: Path) -> None:
    normalizer, raw = fitted(), samples(3)
    normalizer.save(tmp_path / "normalizer.safetensors")
    loaded = Normalizer.load(tmp_path / "normalizer.safetensors")
    assert list(loaded.entries) == list(normalizer.entries)
    for key, value in normalizer.prepare(raw).items():
        assert torch.equal(loaded.prepare(raw)[key], value)
        assert loaded.entries[key].dead == normalizer.entries[key].dead


def test_a_damaged_file_is_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "normalizer.safetensors"
    with pytest.raises(StoreError, match="is missing or damaged"):
        Normalizer.load(path)
    fitted().save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="is missing or damaged"):
        Normalizer.load(path)

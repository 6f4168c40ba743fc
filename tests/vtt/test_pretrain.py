import dataclasses

import numpy as np
import pytest
import torch

from vtt.encoders import EncoderConfig
from vtt.errors import ConfigError, MissingError, StoreError
from vtt.frames import read_frames, split_episodes
from vtt.objectives import ObjectiveConfig
from vtt.pretrain import PretrainConfig, default_keys, pretrain
from vtt.pretrained import load_encoder
from vtt.runs import RunFolder
from vtt.store import EpisodeStore, Stream, StreamSpec
from vtt.validation import area_under_curve, balanced_accuracy

STREAMS = {
    "tactile_left": StreamSpec("tactile_image", (16, 32, 3), "uint8", "", 20.0),
    "proprioception": StreamSpec("vector", (4,), "float32", "m", 20.0),
    "privileged": StreamSpec("vector", (2,), "float32", "m", 20.0),
    "contact": StreamSpec("vector", (3,), "bool", "", 20.0),
}
CONFIG = PretrainConfig(
    encoder=EncoderConfig(tactile_patch=(8, 8), embed_dim=32, depth=1, stem_dim=4, latent_dim=16),
    steps=6,
    batch_size=16,
    log_every=1,
    checkpoint_every=3,
    gradient_norms=True,
)


def episode(rng: np.random.Generator, length: int = 30) -> dict[str, Stream]:
    """A pad is pressed where the hand is; the peg touches when it is low."""
    stamp = np.arange(length, dtype=np.int64) * 50_000_000
    place = np.clip(np.cumsum(rng.normal(0, 0.15, length)) + rng.uniform(0, 1), 0, 1)
    columns = np.linspace(0, 1, 32)
    spot = np.exp(-(((columns[None] - place[:, None]) / 0.15) ** 2))  # (T, 32)
    image = 120 + 100 * spot[:, None, :, None] * np.ones((1, 16, 1, 3)) + rng.normal(0, 2, (length, 16, 32, 3))
    proprioception = np.stack([place, place**2, 1 - place, np.zeros(length)], 1)
    contact = np.stack([place > 0.5, place < 0.5, place > 0.8], 1)
    return {
        "tactile_left": Stream(image.clip(0, 255).astype(np.uint8), stamp),
        "proprioception": Stream(proprioception.astype(np.float32), stamp),
        "privileged": Stream(np.zeros((length, 2), np.float32), stamp),
        "contact": Stream(contact, stamp),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = EpisodeStore.create(tmp_path_factory.mktemp("data") / "store", streams=STREAMS)
    rng = np.random.default_rng(0)
    made.extend([episode(rng) for _ in range(10)])
    return made


def weights(path):
    return load_encoder(path).encoder.state_dict()


def rows(path):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in RunFolder.open(path).metrics().rows()]


def test_a_continued_run_equals_an_uninterrupted_one_bit_by_bit(store, tmp_path):
    pretrain(store, CONFIG, tmp_path / "whole", progress=False)
    pretrain(store, CONFIG, tmp_path / "cut", progress=False)
    # As if the second had been killed after its fourth step.
    cut = RunFolder.open(tmp_path / "cut")
    cut.set_last(3)
    pretrain(store, CONFIG, tmp_path / "cut", progress=False)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")
    assert RunFolder.open(tmp_path / "cut").last() == tmp_path / "cut/checkpoints/00000006"


def test_another_seed_gives_other_weights(store, tmp_path):
    pretrain(store, dataclasses.replace(CONFIG, steps=1), tmp_path / "a", progress=False)
    pretrain(store, dataclasses.replace(CONFIG, steps=1, seed=1), tmp_path / "b", progress=False)
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_is_not_trained_again(store, tmp_path):
    scores = pretrain(store, CONFIG, tmp_path / "run", progress=False)
    before = weights(tmp_path / "run")
    assert pretrain(store, CONFIG, tmp_path / "run", progress=False) == scores
    after = weights(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_loss_and_its_gradient_is_logged(store, tmp_path):
    pretrain(store, CONFIG, tmp_path / "run", progress=False)
    logged = rows(tmp_path / "run")
    first = next(row for row in logged if row["step"] == 1)
    for name in ("reconstruction", "summary", "contact", "align"):
        assert first[name] > 0
        assert first[f"gradient/{name}"] > 0
    assert {"validation/reconstruction_tactile_left", "validation/align_auc"} <= set(logged[-1])


def test_an_encoder_learns_what_touch_says(store, tmp_path):
    config = dataclasses.replace(CONFIG, steps=200, batch_size=64, log_every=50, checkpoint_every=1000, warmup=10)
    scores = pretrain(store, dataclasses.replace(config, learning_rate=3e-3), tmp_path / "run", progress=False)
    assert scores["reconstruction_tactile_left"] < 0.3
    assert scores["summary_tactile_left"] < 0.3
    assert scores["summary_proprioception"] < 0.5
    assert scores["contact_auc_left"] > 0.95
    assert scores["align_accuracy_other_episode"] > 0.7


def test_an_encoder_comes_back_with_what_it_needs(store, tmp_path):
    pretrain(store, CONFIG, tmp_path / "run", progress=False)
    loaded = load_encoder(tmp_path / "run")
    assert set(loaded.observation) == {"tactile_left", "proprioception"}
    assert loaded.observation["tactile_left"] == STREAMS["tactile_left"]
    raw = {key: store.read_all(key).data[:4] for key in STREAMS}
    output = loaded.encoder(loaded.normalizer.prepare(raw))
    assert output.latent.shape == (4, 16)
    assert not loaded.encoder.training
    assert "| contact_auc_left |" in (loaded.folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["concat", "poe"])
def test_baselines_pretrain_without_tokens(store, tmp_path, name):
    config = dataclasses.replace(
        CONFIG,
        encoder=dataclasses.replace(CONFIG.encoder, name=name),
        objective=ObjectiveConfig(reconstruction=0.0),
        steps=2,
    )
    scores = pretrain(store, config, tmp_path / "run", progress=False)
    assert "summary_tactile_left" in scores
    assert "reconstruction_tactile_left" not in scores


def test_bfloat16_trains(store, tmp_path):
    scores = pretrain(store, dataclasses.replace(CONFIG, precision="bfloat16"), tmp_path / "run", progress=False)
    assert all(np.isfinite(value) for value in scores.values())


def test_a_time_budget_ends_training(store, tmp_path):
    config = dataclasses.replace(CONFIG, steps=None, seconds=0.5, checkpoint_every=1000)
    pretrain(store, config, tmp_path / "run", progress=False)
    assert RunFolder.open(tmp_path / "run").last() is not None


def test_objectives_without_labels_or_pairs_need_none(store, tmp_path):
    alone = {key: STREAMS[key] for key in ("tactile_left",)}
    bare = EpisodeStore.create(tmp_path / "bare", streams=alone)
    bare.extend([{"tactile_left": store.read(i)["tactile_left"]} for i in range(3)])
    config = dataclasses.replace(CONFIG, objective=ObjectiveConfig(contact=0.0, align=0.0), steps=2)
    scores = pretrain(bare, config, tmp_path / "run", progress=False)
    assert set(scores) == {"reconstruction_tactile_left", "summary_tactile_left"}
    with pytest.raises(MissingError, match=r"No stream 'contact'\. Available: tactile_left"):
        pretrain(bare, CONFIG, tmp_path / "run2", progress=False)


def test_privileged_streams_are_not_among_the_default_keys(store):
    assert default_keys(store) == ("tactile_left", "proprioception")


def test_faults_are_named(store, tmp_path):
    pretrain(store, dataclasses.replace(CONFIG, steps=1), tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match=r"holds a run with other settings: batch_size 16 \(now 8\)"):
        pretrain(store, dataclasses.replace(CONFIG, batch_size=8), tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="steps or seconds must be given"):
        PretrainConfig(steps=None)
    single = dataclasses.replace(CONFIG.encoder, num_contacts=1)
    with pytest.raises(ConfigError, match=r"num_contacts must be the 3 of the store's contacts, got 1"):
        pretrain(store, dataclasses.replace(CONFIG, encoder=single), tmp_path / "other", progress=False)
    with pytest.raises(StoreError, match="No checkpoint at"):
        load_encoder(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="at least two episodes"):
        split_episodes(1, held_out=0.1, seed=0)


def test_frames_follow_the_slowest_clock_and_never_look_ahead(tmp_path):
    slow = StreamSpec("vector", (1,), "float32", "m", 10.0)
    fast = StreamSpec("vector", (1,), "float32", "N", 40.0)
    store = EpisodeStore.create(tmp_path / "store", streams={"goal": slow, "wrench": fast})
    for _ in range(2):
        slow_times = np.array([0, 100, 200, 300], np.int64)
        fast_times = np.arange(90, 290, 25, dtype=np.int64)
        store.append(
            {
                "goal": Stream(slow_times[:, None].astype(np.float32), slow_times),
                "wrench": Stream(fast_times[:, None].astype(np.float32), fast_times),
            }
        )
    frames = read_frames(store, ["goal", "wrench"], episodes=[0, 1])
    assert frames.stamp_ns.tolist() == [100, 200, 300] * 2  # at 0 there is no wrench yet
    assert frames.data["wrench"][:, 0].tolist() == [90, 190, 265] * 2
    assert frames.episode.tolist() == [0] * 3 + [1] * 3


def test_episodes_are_split_without_overlap():
    train, held_out = split_episodes(20, held_out=0.1, seed=0)
    assert sorted(train + held_out) == list(range(20))
    assert len(held_out) == 2
    assert split_episodes(2, held_out=0.9, seed=0)[0]


def test_metrics_agree_with_their_definitions():
    score, label = np.array([1.0, 2.0, 2.0, 3.0, 0.0]), np.array([False, True, False, True, True])
    pairs = [(p > n) + 0.5 * (p == n) for p in score[label] for n in score[~label]]
    assert area_under_curve(score, label) == pytest.approx(np.mean(pairs))
    assert balanced_accuracy(np.array([True, False, True]), np.array([True, True, False])) == 0.25


def test_the_command_trains_and_continues(store, tmp_path, capsys):
    from vtt.cli import run

    arguments = ["pretrain", "--data", str(store.path), "--out", str(tmp_path / "run"), "--steps", "2"]
    run([*arguments, "--keys", "tactile_left", "proprioception", "--batch-size", "8"])
    out = capsys.readouterr().out
    assert "contact_auc_left" in out
    assert "chance" in out
    assert load_encoder(tmp_path / "run").encoder.config.embed_dim == EncoderConfig().embed_dim

"""ACT and diffusion policy as policies: trained, resumed, saved, executed."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from vtt.encoders import EncoderConfig, build_encoder, signal_specs
from vtt.errors import ConfigError, MissingError, StateError
from vtt.normalizer import Normalizer
from vtt.pretrained import save_encoder
from vtt_policies.bundle import load_policy, save_policy
from vtt_policies.chunking.config import (
    ActConfig,
    ActTrainingConfig,
    ChunkLearnerConfig,
    DiffusionConfig,
    DiffusionTrainingConfig,
    EncodersConfig,
)
from vtt_policies.chunking.learner import ChunkLearner
from vtt_policies.chunking.policy import ACTION
from vtt_policies.chunking.training import fit_actions
from vtt_policies.commands import export
from vtt_policies.imitate import imitate
from vtt_policies.training import Training
from vtt_policies.trial import evaluate_by_name, record_by_name

TOY = "vtt_toy/Corners-v0"
TINY = EncodersConfig(width=8, keypoints=4)
NETWORKS = {
    "act": ActConfig(
        chunk_size=6,
        n_action_steps=3,
        dim_model=16,
        n_heads=2,
        dim_feedforward=32,
        n_encoder_layers=1,
        n_vae_encoder_layers=1,
        latent_dim=4,
        encoders=TINY,
    ),
    "diffusion": DiffusionConfig(
        horizon=8,
        n_action_steps=3,
        down_dims=(16, 32),
        diffusion_step_embed_dim=16,
        num_inference_steps=3,
        encoders=TINY,
    ),
}
CONFIGS = {"act": ActTrainingConfig, "diffusion": DiffusionTrainingConfig}


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    """Expert episodes of the toy."""
    path = tmp_path_factory.mktemp("expert") / "store"
    record_by_name(TOY, "expert", path, n=48, first_seed=0)
    return path


@pytest.fixture
def settings(demonstrations, tmp_path):
    """Build the settings of a small run."""

    def build(kind: str, name: str = "run", **changes):
        learner = changes.pop("learner", ChunkLearnerConfig(batch_size=8, warmup=2))
        given = {"iterations": 1, "updates": 2, "network": NETWORKS[kind], "learner": learner, **changes}
        return CONFIGS[kind](data=demonstrations, out=tmp_path / name, **given)

    return build


@pytest.fixture
def observe(corners):
    """Observations of a few steps."""
    env = corners(4)
    first, _ = env.reset(seed=[0, 1, 2, 3])
    seen = [{key: value.copy() for key, value in first.items()}]
    for _ in range(6):
        observation, *_ = env.step(np.full((4, 2), 0.1, np.float32))
        seen.append({key: value.copy() for key, value in observation.items()})
    return seen


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_an_interrupted_run_continues_bit_for_bit(kind, settings, monkeypatch):
    learner = ChunkLearnerConfig(batch_size=8, warmup=2, drop_modality="touch")

    def weights(name: str) -> dict[str, torch.Tensor]:
        config = settings(kind, name, iterations=3, updates=1, learner=learner)
        imitate(config, show_progress=False)
        return load_policy(config.out)[0].network.state_dict()

    fit = Training.fit

    def die(training, source, **options):
        if training.iteration == 2:
            raise KeyboardInterrupt("now")
        return fit(training, source, **options)

    whole = weights("whole")
    monkeypatch.setattr(Training, "fit", die)
    with pytest.raises(KeyboardInterrupt, match="now"):
        weights("cut")
    monkeypatch.undo()
    torch.manual_seed(99)  # what else draws in between does not matter
    continued = weights("cut")
    assert all(torch.equal(value, continued[name]) for name, value in whole.items())


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_a_policy_acts_alike_after_saving_in_any_company_and_whatever_else_is_shown(kind, settings, observe, tmp_path):
    config = settings(kind)
    imitate(config, show_progress=False)
    policy, specs = load_policy(config.out)
    save_policy(tmp_path / "again", policy, specs=specs, run={})
    again, _ = load_policy(tmp_path / "again")

    def actions(acting, *, keep_from: int = 99, noise: float = 0.0) -> list[np.ndarray]:
        acting.reset(4)
        found, rows = [], np.arange(4)
        for step, seen in enumerate(observe):
            if step == keep_from:
                rows = np.array([3, 1])
                acting.keep(rows)
            shown = {key: value[rows] for key, value in seen.items()}
            shown["privileged"] = shown["privileged"] + noise
            found.append(acting.act(shown))
        return found

    first = actions(policy)
    assert all(np.abs(step).max() <= 1.0 and step.shape == (4, 2) and step.dtype == np.float32 for step in first)
    assert np.array_equal(first, actions(policy))
    assert np.array_equal(first, actions(again))
    assert np.array_equal(first, actions(policy, noise=1.0))
    fewer = actions(policy, keep_from=2)
    assert fewer[-1] == pytest.approx(first[-1][[3, 1]], abs=1e-5)


def test_noise_differs_between_environments_and_with_the_seed(settings, observe):
    config = settings("diffusion")
    imitate(config, show_progress=False)
    policy, _ = load_policy(config.out)
    same = {key: np.repeat(value[:1], 4, 0) for key, value in observe[0].items()}
    policy.reset(4)
    action = policy.act(same)
    assert len(np.unique(action.round(4), axis=0)) == 4
    other = type(policy)(policy.network, policy.normalizer, keys=policy.keys, seed=1)
    other.reset(4)
    assert not np.array_equal(action, other.act(same))


def test_act_is_asked_at_every_step_of_an_ensemble_and_once_per_chunk_else(settings, observe):
    config = settings("act")
    imitate(config, show_progress=False)
    policy, _ = load_policy(config.out)
    policy.reset(4)
    chunk = policy.stepper()({key: value[:, None] for key, value in policy.observe(observe[0]).items()}, {})[0]
    queued = [policy.act(seen) for seen in observe[:3]]
    assert np.stack(queued, 1) == pytest.approx(chunk[:, :3].detach().numpy(), abs=1e-6)
    changed = replace(policy.network.config, n_action_steps=1, temporal_ensemble_coeff=0.5)
    policy.network.config = changed
    ensemble = type(policy)(policy.network, policy.normalizer, keys=policy.keys)
    ensemble.reset(4)
    ensemble.act(observe[0])
    second = policy.stepper()({key: value[:, None] for key, value in policy.observe(observe[1]).items()}, {})[0]
    weights = np.exp(-0.5 * np.arange(2))
    mean = (weights[0] * chunk[:, 1] + weights[1] * second[:, 0]) / weights.sum()
    assert ensemble.act(observe[1]) == pytest.approx(mean.detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_updates_fit_the_demonstrations(kind, settings):
    learner = ChunkLearnerConfig(batch_size=16, warmup=5, learning_rate=3e-3)
    reached = imitate(settings(kind, iterations=3, updates=15, learner=learner), show_progress=False)
    losses = [row["loss"] for row in reached.run.metrics().rows()]
    assert losses[-1] < {"act": 0.5, "diffusion": 0.8}[kind] * losses[0]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("kind", "updates"), [("act", 100), ("diffusion", 500)])
def test_a_chunk_policy_learns_from_touch_what_one_without_cannot(kind, updates, settings):
    network = {
        "act": ActConfig(chunk_size=12, n_action_steps=12, dim_model=32, n_heads=2, dim_feedforward=64, dropout=0.0),
        "diffusion": DiffusionConfig(horizon=8, n_action_steps=6, down_dims=(32, 64), diffusion_step_embed_dim=32),
    }[kind]
    network = replace(network, encoders=EncodersConfig(width=8, keypoints=8))
    learner = ChunkLearnerConfig(batch_size=32, warmup=20, learning_rate=1e-3)
    given = {"network": network, "learner": learner, "iterations": 3}
    touch = settings(kind, "touch", updates=updates, **given)
    control = settings(kind, "control", updates=updates // 5, without="touch", **given)
    for config in (touch, control):
        imitate(config, show_progress=False)
    assert evaluate_by_name(TOY, str(touch.out), n=96).rate > 0.75
    assert evaluate_by_name(TOY, str(control.out), n=96).rate < 0.4


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_an_encoder_that_once_felt_serves_a_policy_that_only_sees_the_rest(kind, settings, corners, observe, tmp_path):
    """The low-fidelity recipe: touch at pretraining, none at deployment."""
    specs = {key: spec for key, spec in corners(1).stream_specs().items() if key != "privileged"}
    encoder = build_encoder(EncoderConfig.preset("demo"), signal_specs(specs, specs))
    normalizer = Normalizer.fit(specs, {key: observe[0][key] for key in specs})
    save_encoder(tmp_path / "encoder", encoder, normalizer=normalizer, observation=specs, readme="felt")
    joint = replace(NETWORKS[kind], encoders=EncodersConfig(kind="joint"))
    learner = ChunkLearnerConfig(batch_size=8, encoder_rate=0.0)
    config = settings(kind, without="touch", encoder=tmp_path / "encoder", network=joint, learner=learner)
    imitate(config, show_progress=False)
    policy, seen = load_policy(config.out)
    assert tuple(seen) == policy.keys == ("goal", "proprioception")
    held = policy.network.encoders.joint.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in encoder.state_dict().items())  # frozen
    assert 0.0 <= evaluate_by_name(TOY, str(config.out), n=4, num_envs=4).rate <= 1.0
    with pytest.raises(ConfigError, match=r"encoder needs network\.encoders\.kind joint, got per_key"):
        settings(kind, encoder=tmp_path / "encoder")


def test_the_running_mean_acts_and_the_other_weights_are_trained(settings):
    config = settings("diffusion", iterations=1, updates=5)
    imitate(config, show_progress=False)
    policy, _ = load_policy(config.out)
    learner = ChunkLearner(policy, config=config.learner)
    assert learner.network is not policy.network
    plain = replace(NETWORKS["diffusion"], ema=False)
    config = settings("diffusion", "plain", network=plain)
    imitate(config, show_progress=False)
    policy, _ = load_policy(config.out)
    assert ChunkLearner(policy, config=config.learner).network is policy.network


def test_actions_are_normalised_as_in_the_originals():
    actions = np.array([[-0.5, 0.2], [1.0, 0.2], [0.1, 0.2]], np.float32)
    limits, moments = fit_actions(actions, limits=True), fit_actions(actions, limits=False)
    scaled = (torch.from_numpy(actions) - limits.offset) / limits.scale
    assert scaled[:, 0].tolist() == pytest.approx([-1.0, 1.0, -0.2])
    assert scaled[:, 1].tolist() == pytest.approx([0.0] * 3, abs=1e-4)
    scaled = (torch.from_numpy(actions) - moments.offset) / moments.scale
    assert (float(scaled[:, 0].mean()), float(scaled[:, 0].std(correction=0))) == pytest.approx((0.0, 1.0), abs=1e-5)
    assert (limits.dead, moments.dead) == (("1",), ("1",))
    assert ACTION not in ("goal", "proprioception", "tactile_left")


def test_the_untouched_gel_of_the_recording_is_what_no_touch_looks_like(settings, demonstrations, tmp_path):
    rest = np.full((16, 16, 3), 100, np.uint8)
    rest[:, :, 0] = 30
    store = shutil.copytree(demonstrations, tmp_path / "store")
    (store / "rest_images").mkdir()
    cv2.imwrite(str(store / "rest_images" / "tactile_left.png"), rest[:, :, ::-1])
    config = replace(settings("act", updates=1), data=store)
    imitate(config, show_progress=False)
    policy, _ = load_policy(config.out)
    assert np.array_equal(policy.rest_images()["tactile_left"], rest)


def test_mistakes_of_the_caller_end_in_a_sentence(settings, demonstrations, tmp_path):
    with pytest.raises(MissingError, match="must hold 49 episodes, got 48"):
        imitate(settings("act", episodes=49), show_progress=False)
    with pytest.raises(ConfigError, match="student must not see privileged observations"):
        imitate(settings("act", student="oracle"), show_progress=False)
    with pytest.raises(ConfigError, match="drop_modality must be something that the policy sees, got vision of goal"):
        imitate(settings("act", learner=ChunkLearnerConfig(drop_modality="vision")), show_progress=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="encoder_rate is that of a joint encoder"):
        settings("act", learner=ChunkLearnerConfig(encoder_rate=0.0))
    imitate(settings("act"), show_progress=False)
    with pytest.raises(ConfigError, match=r"holds a run with other settings: .*method act \(now diffusion\)"):
        imitate(settings("diffusion"), show_progress=False)
    policy, _ = load_policy(tmp_path / "run")
    with pytest.raises(StateError, match="act needs reset to be called first"):
        policy.act({})
    arguments = ["--policy", str(tmp_path / "run"), "--out", str(tmp_path / "lerobot"), "--to", "lerobot"]
    with pytest.raises(ConfigError, match=r"no words for a tactile_image .*; the backbone conv of width 8"):
        export.main(arguments)
    with pytest.raises(ConfigError, match="max_rate must be left alone for lerobot"):
        export.ExportConfig(tmp_path / "run", tmp_path / "lerobot", to="lerobot", max_rate=0.1)

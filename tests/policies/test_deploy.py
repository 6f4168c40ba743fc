import dataclasses
import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from vtt.errors import ConfigError, DependencyError, MissingError, ShapeError, StateError, StoreError
from vtt.normalizer import Normalizer
from vtt.streams import StreamSpec
from vtt_policies.bundle import KINDS, load_policy, save_policy
from vtt_policies.chunking.config import ActConfig, DiffusionConfig, EncodersConfig
from vtt_policies.chunking.policy import ACTION, ActPolicy, DiffusionPolicy
from vtt_policies.deploy import DeployedPolicy, Limits, limit, load
from vtt_policies.deploy.contract import Contract
from vtt_policies.deploy.export import TOLERANCE, export_bundle
from vtt_policies.rl.config import CrossqConfig, PpoConfig, RecurrentPpoConfig, SacConfig
from vtt_policies.rl.train import train
from vtt_policies.slac.config import ModelConfig
from vtt_policies.slac.policy import SlacNetwork, SlacPolicy

# What a robot computer may lack, whichever backend it runs.
ABSENT = ["mujoco", "gymnasium", "stable_baselines3", "sb3_contrib", "zarr", "cv2", "tyro", "tqdm", "matplotlib"]
ROBOT = """
import json, sys
import numpy as np
absent = json.loads(sys.argv[1])
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name.split(".")[0])
sys.meta_path.insert(0, Absent())
"""
ACT = """
from vtt_policies.deploy import load
policy = load(sys.argv[3], backend=sys.argv[2], threads=1)
policy.reset()
episode = np.load(sys.argv[4])
steps = len(episode["goal"])
print(json.dumps([policy.act({key: episode[key][t] for key in episode}).tolist() for t in range(steps)]))
"""


def export(policy, specs, folder, **options):
    save_policy(folder / "checkpoint", policy, specs=specs, run={"env": "toy"})
    export_bundle(folder / "checkpoint", folder / "bundle", **options)
    return folder / "bundle"


@pytest.fixture(scope="module")
def exported(fresh_student, corners, tmp_path_factory):
    """A student, an expert's episode with all observations, and its bundle with both backends."""
    policy, episodes = fresh_student()
    specs = corners(1).stream_specs()
    seen = {key: dataclasses.replace(specs[key], calibration_hash=f"hash of {key}") for key in policy.keys}
    return policy, episodes[0], export(policy, seen, tmp_path_factory.mktemp("deploy"), onnx=True)


def step_of(episode, step: int) -> dict[str, np.ndarray]:
    return {key: value[step] for key, value in episode.items()}


def run(policy, episode) -> np.ndarray:
    policy.reset()
    return np.stack([policy.act(step_of(episode, step)) for step in range(len(episode["goal"]))])


def test_torch_and_onnx_runtime_act_as_the_policy_they_came_from(exported):
    policy, episode, folder = exported
    policy.reset(1)
    steps = range(len(episode["goal"]))
    expected = np.stack([policy.act({k: v[t : t + 1] for k, v in episode.items()})[0] for t in steps])
    assert np.ptp(expected) > 1e-3
    for backend in ("torch", "onnx"):
        np.testing.assert_allclose(run(load(folder, backend=backend), episode), expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("backend", "lacks", "more"),
    [("torch", ["onnxruntime"], "from vtt_policies.bundle import *"), ("onnx", ["torch", "safetensors"], "KINDS = ()")],
)
def test_a_bundle_runs_where_nothing_but_its_backend_is_installed(exported, tmp_path, backend, lacks, more):
    _, episode, folder = exported
    np.savez(tmp_path / "episode.npz", **episode)
    # With torch, every kind of policy can be rebuilt there.
    program = f"{ACT}\n{more}\nprint(*(policy_class(kind).kind for kind in KINDS))"
    command = [sys.executable, "-c", ROBOT + program, json.dumps([*ABSENT, *lacks]), backend, folder]
    done = subprocess.run([*command, tmp_path / "episode.npz"], capture_output=True, text=True)
    assert done.stderr == ""
    acted_there, kinds = done.stdout.splitlines()
    np.testing.assert_allclose(json.loads(acted_there), run(load(folder), episode), atol=TOLERANCE)
    assert set(kinds.split()) == (set(KINDS) if backend == "torch" else set())


def test_privileged_observations_never_reach_an_exported_policy(exported, corners, tmp_path):
    policy, episode, folder = exported
    lied = {**episode, "privileged": np.full_like(episode["privileged"], np.nan)}
    blind = {key: episode[key] for key in policy.keys}
    for backend in ("torch", "onnx"):
        deployed = load(folder, backend=backend, threads=1)
        np.testing.assert_array_equal(run(deployed, lied), run(deployed, blind))


def test_a_policy_that_sees_what_only_a_simulator_knows_is_not_exported(fresh_student, corners, tmp_path):
    policy, _ = fresh_student(keys="oracle")
    specs = {key: corners(1).stream_specs()[key] for key in policy.keys}
    with pytest.raises(ConfigError, match="must not see privileged observations, got privileged"):
        export(policy, specs, tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_a_checkpoint_too_but_not_the_other_way_round(exported):
    policy, _, folder = exported
    again, specs = load_policy(folder)
    assert again.made_of() == policy.made_of()
    assert tuple(specs) == policy.keys
    assert "training_state.json" not in {file.name for file in folder.iterdir()}
    with pytest.raises(ConfigError, match=r"must be a bundle, got a checkpoint\. Run `vtt export"):
        load(folder.parent / "checkpoint")
    with pytest.raises(ConfigError, match="out must be a new folder"):
        export_bundle(folder, folder)
    with pytest.raises(StoreError, match=r"config\.json is missing"):
        load(folder / "nowhere")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"goal": None}, MissingError, "expects goal, proprioception, tactile_left, but .* arrives. Missing: goal"),
        ({"goal": np.zeros(4, np.float32)}, ShapeError, r"'goal' must be float32 \(3,\), got float32 \(4,\)"),
        ({"goal": np.zeros(3)}, ShapeError, r"'goal' must be float32 \(3,\), got float64"),
        ({"goal": [0.0, 0.0, 0.0]}, ShapeError, r"'goal' must be float32 \(3,\), got list"),
        ({"goal": np.array([0, np.nan, 0], np.float32)}, ConfigError, "'goal' must be finite, got NaN or infinity"),
        ({"tactile_left": np.zeros((16, 16, 3), np.float32)}, ShapeError, "'tactile_left' must be uint8"),
    ],
)
def test_observations_that_are_not_as_trained_on_are_refused(exported, change, error, message):
    _, episode, folder = exported
    policy = load(folder)
    policy.reset()
    first = {key: value for key, value in {**step_of(episode, 0), **change}.items() if value is not None}
    with pytest.raises(error, match=message):
        policy.act(first)


def test_another_sensor_is_refused_before_anything_moves(exported):
    _, _, folder = exported
    policy = load(folder)
    specs = dict(policy.contract.observation)
    policy.check({**specs, "camera_front": StreamSpec("image", (8, 8, 3), "uint8", "", 20.0)})
    other = dataclasses.replace(specs["tactile_left"], calibration_hash="that of another gel")
    with pytest.raises(ShapeError, match=r"calibration hash hash of tactile_left, but .* that of another gel"):
        policy.check({**specs, "tactile_left": other})
    with pytest.raises(ConfigError, match="Missing: tactile_left"):
        policy.check({key: spec for key, spec in specs.items() if key != "tactile_left"})


def test_a_backend_that_is_not_there_says_so(exported, tmp_path, fresh_student, corners):
    policy, _, folder = exported
    torch_only = export(policy, load_policy(folder)[1], tmp_path)
    with pytest.raises(StoreError, match="Export the bundle with `vtt export --to onnx`"):
        load(torch_only, backend="onnx")
    with pytest.raises(MissingError, match=r"No backend 'tensorrt'\. Available: onnx, torch"):
        load(folder, backend="tensorrt")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="threads must be at least 1, got 0"):
        load(folder, threads=0)
    with pytest.raises(StateError, match="act needs reset to be called first"):
        load(folder).act({})


def test_a_missing_package_is_named(exported, monkeypatch):
    _, _, folder = exported
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyError, match="Run `pip install onnxruntime`"):
        load(folder, backend="onnx")
    with pytest.raises(DependencyError, match=r"Run `pip install 'vtt-stack\[onnx\]'`"):
        export_bundle(folder, folder.parent / "other", onnx=True)


GOAL = {"goal": StreamSpec("vector", (1,), "float32", "m", 20.0)}


class Script:
    """A network that says what it was told to, and notes what it was shown."""

    def __init__(self, *actions):
        self.actions = list(actions)
        self.seen, self.states = [], []

    def step(self, observation, state):
        self.seen.append(observation["goal"])
        self.states.append({name: value.copy() for name, value in state.items()})
        action = np.array(self.actions.pop(0), np.float32)[None]
        return action, {name: value + (1 if name == "count" else 0) for name, value in state.items()}


def scripted(*actions, state=None, **options) -> tuple[DeployedPolicy, Script]:
    limits = options.pop("limits", Limits())
    script = Script(*actions)
    dims = np.shape(actions[0])[-1]
    policy = DeployedPolicy(Contract("student", GOAL, dims, state or {}, limits, **options), script)
    policy.reset()
    return policy, script


def acted(policy, steps: int) -> list[list[float]]:
    return [policy.act({"goal": np.full(1, step, np.float32)}).tolist() for step in range(steps)]


def test_actions_are_cut_by_magnitude_and_by_rate():
    policy, _ = scripted([1.0, 0.1], [1.0, 0.1], [-1.0, 0.1], limits=Limits(max_magnitude=0.75, max_rate=0.5))
    np.testing.assert_allclose(acted(policy, 3), [[0.5, 0.1], [0.75, 0.1], [0.25, 0.1]], atol=1e-7)
    assert policy.verdict is not None
    assert policy.verdict.cut.tolist() == [True, False]
    assert policy.verdict.asked.tolist() == pytest.approx([-1.0, 0.1])


def test_what_the_robot_really_did_is_what_rate_and_memory_go_by():
    policy, script = scripted([1.0], [1.0], state={"previous_action": (1,)}, limits=Limits(max_rate=0.5))
    assert acted(policy, 1) == [[0.5]]
    policy.recall(np.array([0.25]))
    assert acted(policy, 1) == [[0.75]]
    assert [state["previous_action"].item() for state in script.states] == [0.0, 0.25]
    with pytest.raises(ShapeError, match="action must be finite and"):
        policy.recall(np.array([np.nan]))


def test_an_action_that_is_not_finite_becomes_zero_is_told_and_is_forgotten(caplog):
    policy, script = scripted([0.5], [np.nan], [0.5], state={"count": (1,), "previous_action": (1,)})
    with caplog.at_level(logging.ERROR):
        assert acted(policy, 1) == [[0.5]]
        assert acted(policy, 1) == [[0.0]]
    assert policy.verdict is not None
    assert policy.verdict.refused
    assert "not finite" in caplog.text
    assert acted(policy, 1) == [[0.5]]
    assert not policy.verdict.refused
    assert [state["count"].item() for state in script.states] == [0, 1, 1]
    assert [state["previous_action"].item() for state in script.states] == [0.0, 0.5, 0.0]


def test_a_chunk_is_executed_for_its_action_horizon_and_its_memory_moves_with_the_network():
    policy, script = scripted([[0.1], [0.2], [0.9]], [[0.3], [0.4], [0.9]], action_horizon=2, state={"count": (1,)})
    np.testing.assert_allclose(np.ravel(acted(policy, 4)), [0.1, 0.2, 0.3, 0.4], atol=1e-7)
    assert [state["count"].item() for state in script.states] == [0, 1]


def test_overlapping_chunks_are_averaged():
    policy, _ = scripted([[0.0], [0.4]], [[0.2], [0.6]], action_horizon=1, ensemble=0.0)
    np.testing.assert_allclose(np.ravel(acted(policy, 2)), [0.0, 0.3], atol=1e-7)


def test_a_chunk_that_is_not_finite_is_not_executed_at_all():
    policy, _ = scripted([[0.1], [np.inf]], [[0.3], [0.4]], action_horizon=2)
    np.testing.assert_allclose(np.ravel(acted(policy, 3)), [0.0, 0.3, 0.4], atol=1e-7)


def test_the_network_sees_the_latest_frames_and_fresh_noise():
    policy, script = scripted([[0.1]], [[0.2]], action_horizon=1, obs_horizon=2, state={"noise": (3, 1)})
    acted(policy, 2)
    assert [seen[0, :, 0].tolist() for seen in script.seen] == [[0.0, 0.0], [0.0, 1.0]]
    first, second = (state["noise"] for state in script.states)
    assert first.shape == (1, 3, 1)
    assert (first != second).all()
    policy.reset()
    assert policy.verdict is None


def test_limits_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"max_magnitude must be in \(0, 1\], got 1.5"):
        Limits(max_magnitude=1.5)
    with pytest.raises(ConfigError, match=r"max_rate must be in \(0, 2\], got 0"):
        Limits(max_rate=0.0)


def test_an_action_within_the_limits_is_left_exactly_as_it_is():
    asked = np.random.default_rng(0).uniform(-1, 1, 7).astype(np.float32)
    verdict = limit(asked, np.zeros(7, np.float32), Limits())
    np.testing.assert_array_equal(verdict.action, asked)
    assert not verdict.cut.any()


@pytest.mark.slow
@pytest.mark.parametrize("network", [{"encoder": "poe"}, {"encoder": "concat"}, {"recurrent": False}])
def test_every_encoder_and_a_student_without_memory_are_exported_alike(fresh_student, corners, tmp_path, network):
    policy, episodes = fresh_student(**network)
    folder = export(policy, {key: corners(1).stream_specs()[key] for key in policy.keys}, tmp_path, onnx=True)
    one, other = (run(load(folder, backend=backend), episodes[0]) for backend in ("torch", "onnx"))
    np.testing.assert_allclose(one, other, atol=TOLERANCE)


def chunked(kind: str, policy, specs):
    """A policy that acts in chunks, with a student's normaliser."""
    encoders = EncodersConfig(width=8, keypoints=4)
    small = {
        "act": {"chunk_size": 6, "dim_model": 16, "n_heads": 2, "dim_feedforward": 32, "n_encoder_layers": 1},
        "diffusion": {"horizon": 8, "down_dims": (16, 32), "diffusion_step_embed_dim": 16, "num_inference_steps": 3},
    }
    cls, config = {"act": (ActPolicy, ActConfig), "diffusion": (DiffusionPolicy, DiffusionConfig)}[kind]
    network = cls.make_network(config(**small[kind], n_action_steps=3, encoders=encoders), specs, action_dim=2)
    unit = Normalizer.fit(
        {ACTION: StreamSpec("vector", (2,), "float32", "", 20.0)},
        {ACTION: np.random.default_rng(0).normal(0, 0.4, (64, 2)).astype(np.float32)},
    )
    return cls(network, Normalizer({**policy.normalizer.entries, **unit.entries}), keys=tuple(specs))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_policies_of_chunks_are_exported_alike_and_act_as_themselves(fresh_student, corners, tmp_path, kind):
    student, episodes = fresh_student()
    specs = {key: corners(1).stream_specs()[key] for key in student.keys}
    policy = chunked(kind, student, specs)
    folder = export(policy, specs, tmp_path, onnx=True)
    one, other = (run(load(folder, backend=backend), episodes[0]) for backend in ("torch", "onnx"))
    np.testing.assert_allclose(one, other, atol=TOLERANCE)
    if kind == "act":
        policy.reset(1)
        steps = range(len(episodes[0]["goal"]))
        alone = [policy.act({k: v[t : t + 1] for k, v in episodes[0].items()})[0] for t in steps]
        np.testing.assert_allclose(one, np.stack(alone), atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PpoConfig, RecurrentPpoConfig, SacConfig, CrossqConfig])
def test_actors_of_reinforcement_learning_are_exported_alike(tmp_path, kind):
    few = {"num_envs": 4, "steps": 64, "hidden": (16,), "video": False}
    small = {"n_steps": 16, "batch_size": 32, "n_epochs": 1} if kind in (PpoConfig, RecurrentPpoConfig) else {}
    small |= {} if small else {"buffer_size": 100, "learning_starts": 20, "batch_size": 16}
    train(kind(env="vtt_toy/Reach-v0", out=tmp_path / "run", actor="proprio", **few, **small), show_progress=False)
    contract = export_bundle(tmp_path / "run", tmp_path / "bundle", onnx=True)
    assert contract.kind == "actor"
    assert bool(contract.state) == (kind is RecurrentPpoConfig)


@pytest.mark.slow
def test_a_slac_policy_is_exported_alike(fresh_student, corners, tmp_path):
    student, _ = fresh_student()
    specs = {key: corners(1).stream_specs()[key] for key in student.keys}
    network = SlacNetwork(specs, config=ModelConfig(), hidden_dim=32, action_dim=2, num_contacts=3)
    folder = export(SlacPolicy(network, student.normalizer, keys=student.keys), specs, tmp_path, onnx=True)
    assert "previous_action" in load(folder, backend="onnx").contract.state

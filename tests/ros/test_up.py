"""A policy through the whole graph: simulated robot, gate, policy and operator, each a process."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import JointState

from vtt.cli import run
from vtt.errors import ConfigError, MissingError, ShapeError, StateError
from vtt.streams import StreamSpec
from vtt_envs.core import BatchedEnv
from vtt_envs.tasks import PegInsertion
from vtt_policies.bundle import save_policy
from vtt_policies.config import StudentConfig
from vtt_policies.construction import build_student
from vtt_policies.deploy.export import export_bundle
from vtt_ros.commands import Drill, Up
from vtt_ros.messages import ImageWriter
from vtt_ros.observations import read_observation, topic_of, vector_message
from vtt_ros.up import run_sim

ENV = "vtt_envs:vtt/PegInsertion-v0"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that has learned nothing."""
    folder = tmp_path_factory.mktemp("bundle")
    env = BatchedEnv(PegInsertion(), num_envs=1, observation="tactile", num_threads=1)
    specs, seen = env.stream_specs(), env.reset([0])
    env.close()
    samples = {key: [value] for key, value in seen.items()}
    policy = build_student(specs, samples, action_dim=6, network=StudentConfig(hidden_dim=16), seed=0)
    save_policy(folder / "student", policy, specs=specs, run={"env": ENV})
    export_bundle(folder / "student", folder / "out")
    return folder / "out"


def test_an_episode_runs_through_the_graph_to_its_horizon(bundle: Path):
    trials, policy = run_sim(bundle, env=ENV, env_args=("horizon=15",), episodes=2, first_seed=7, domain=89)
    assert [(trial.seed, trial.success, trial.steps, trial.fault) for trial in trials] == [
        (7, False, 15, ""),
        (8, False, 15, ""),
    ]
    assert float(policy["latency_p50_ms"]) > 0.0


def test_a_graph_whose_policy_ends_says_why(bundle: Path, tmp_path: Path):
    (tmp_path / "broken").mkdir()
    for file in bundle.iterdir():
        (tmp_path / "broken" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(StateError, match="policy must keep running, it ended: error: "):
        run_sim(tmp_path / "broken", env=ENV, env_args=(), episodes=1, first_seed=7, domain=89)


VECTOR = StreamSpec("vector", (2,), "float32", "m", 20.0, names=("x", "y"))
IMAGE = StreamSpec("tactile_image", (48, 64, 3), "uint8", "1", 20.0)


def test_a_vector_travels_with_the_names_of_its_components():
    message = vector_message(np.array([1.5, -2.0], np.float32), VECTOR, stamp=3)
    np.testing.assert_array_equal(read_observation("goal", message, VECTOR), np.array([1.5, -2.0], np.float32))
    swapped = JointState(name=["y", "x"], position=[1.0, 2.0])
    with pytest.raises(ShapeError, match="goal must hold x, y, got y, x"):
        read_observation("goal", swapped, VECTOR)


def test_an_image_is_scaled_to_what_the_policy_knows_and_another_aspect_is_refused():
    big = np.full((240, 320, 3), 7, np.uint8)
    read = read_observation("tactile_left", ImageWriter(frame="g").write(big, stamp=0), IMAGE)
    assert read.shape == (48, 64, 3)
    assert (read == 7).all()
    with pytest.raises(ShapeError, match="aspect 48x64"):
        read_observation("tactile_left", ImageWriter(frame="g").write(big[:, :240], stamp=0), IMAGE)


def test_each_key_has_one_topic():
    assert topic_of("camera_wrist", StreamSpec("image", (64, 64, 3), "uint8", "1", 20.0)) == "camera/wrist/image_raw"
    assert topic_of("goal", VECTOR) == "observation/goal"
    with pytest.raises(ConfigError, match="must be an image or a vector, got force_left"):
        topic_of("force_left", StreamSpec("force_grid", (12, 16, 3), "float32", "N", 20.0))


@pytest.mark.parametrize(
    ("config", "arguments", "match"),
    [
        (Drill, {"repeats": 0}, "repeats must be at least 1"),
        (Drill, {"domain": 300}, re.escape("domain must be in [0, 232]")),
        (Up, {"bundle": Path("b"), "episodes": 0}, "episodes must be at least 1"),
        (Up, {"bundle": Path("b"), "domain": -1}, re.escape("domain must be in [0, 232]")),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(config: type, arguments: dict, match: str):
    with pytest.raises(ConfigError, match=match):
        config(**arguments)


def test_a_fault_that_does_not_exist_is_named_before_anything_starts():
    with pytest.raises(MissingError, match="No fault 'earthquake'"):
        run(["ros", "drill", "--only", "earthquake"])

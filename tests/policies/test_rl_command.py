import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vtt.checkpoint import load_training_state
from vtt.cli import main
from vtt.errors import ConfigError
from vtt.runs import RunFolder
from vtt_policies.commands import train

_PPO = ["--n-steps", "16", "--batch-size", "32", "--checkpoint-every", "64", "--log-every", "64"]
_SMALL = ["--env", "vtt_toy/Reach-v0", "--num-envs", "4", "--hidden", "16", "--no-video", *_PPO]


def _weights(folder):
    return load_training_state(RunFolder.open(folder).last())["learner"]["modules"]["policy"]


def test_train_says_what_was_reached_and_evaluate_takes_it_from_there(tmp_path, capsys):
    out = str(tmp_path / "run")
    train.main(["ppo", *_SMALL, "--out", out, "--actor", "proprio", "--steps", "256"])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Stopped after 256 steps.")
    assert told[-1] == out
    assert main(["evaluate", "--env", "vtt_toy/Reach-v0", "--policy", out, "--n", "4", "--num-envs", "4"]) == 0
    assert "/4 " in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_was_killed_is_resumed_by_its_folder_alone(tmp_path, monkeypatch):
    words = ["train", "ppo", *_SMALL, "--actor", "proprio", "--steps", "1024"]
    toys = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {toys!r}); import conftest; from vtt.cli import main; main(sys.argv[1:])"
    started = ["import sys; sys.argv[0] = 'vtt'; " + code, *words, "--out", "killed"]
    process = subprocess.Popen([sys.executable, "-c", *started], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "last").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    reached = RunFolder.open(tmp_path / "killed").last()
    assert reached is not None
    assert int(reached.name) < 1024
    assert main(["resume", str(tmp_path / "killed")]) == 0
    monkeypatch.setattr(sys, "argv", ["vtt", *words])
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    killed, whole = _weights(tmp_path / "killed"), _weights(tmp_path / "whole")
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
    rows = [RunFolder.open(tmp_path / name).metrics().rows() for name in ("killed", "whole")]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]


def test_an_unknown_algorithm_or_option_is_named():
    with pytest.raises(ConfigError, match=r"Unknown argument 'pbo'.*Available:.*ppo"):
        train.main(["pbo", "--env", "x", "--out", "y"])
    with pytest.raises(ConfigError, match="Did you mean '--n-steps'"):
        train.main(["ppo", "--env", "x", "--out", "y", "--n-step", "3"])


@pytest.mark.parametrize("command", ["vtt_policies.commands.train", "vtt.commands.resume"])
def test_the_command_is_light_to_import(command):
    heavy = {"torch", "gymnasium", "zarr", "mujoco", "matplotlib", "cv2", "stable_baselines3"}
    code = f"import sys, {command}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_deployed_actor_needs_none_of_what_trained_it():
    heavy = {"gymnasium", "mujoco", "stable_baselines3", "sb3_contrib"}
    code = f"import sys, vtt_policies.rl.actor; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

import json
import subprocess
import sys

import pytest

from vtt.errors import ConfigError, MissingError
from vtt_policies.commands import distill, evaluate, imitate

TOY = "vtt_toy/Corners-v0"


def test_the_commands_go_together(tmp_path, capsys):
    run = tmp_path / "run"
    small = ["--iterations", "1", "--updates", "2", "--network.hidden-dim", "16"]
    distill.main(["--env", TOY, "--out", str(run), "--num-envs", "4", "--env-args", "noise=0.1", *small])
    assert capsys.readouterr().out.splitlines()[-1] == str(run)
    imitate.main(["bc", "--data", str(run / "rollouts"), "--out", str(tmp_path / "clone"), *small])
    assert "Validation loss" in capsys.readouterr().out
    common = ["--env", TOY, "--n", "5", "--num-envs", "4"]
    out = tmp_path / "results" / "expert.json"
    evaluate.main([*common, "--policy", "expert", "--out", str(out)])
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["expert", "1.000"]
    facts = json.loads(out.read_text())
    assert (facts["n"], facts["successes"], facts["policy"], facts["perturb"]) == (5, 5, "expert", "none")
    assert facts["seeds"] == [10**9 + index for index in range(5)]
    assert facts["env_steps"] == sum(facts["steps"])
    evaluate.main([*common, "--policy", str(run), "--perturb", "touch_shuffled"])
    assert "touch_shuffled" in capsys.readouterr().out
    evaluate.main([*common, "--policy", "random", "--record", str(tmp_path / "store")])
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "store")


def test_settings_of_a_chunk_policy_start_from_a_preset():
    where = ["--data", "store", "--out", "run"]
    demo = imitate.read(["act", *where, "--network.dropout", "0.2"])
    paper = imitate.read(["act", "--preset", "paper", *where, "--network.n-heads", "4"])
    assert (demo.network.chunk_size, demo.network.dropout) == (16, 0.2)
    assert (paper.network.chunk_size, paper.network.n_heads, paper.learner.learning_rate) == (100, 4, 1e-5)
    assert imitate.read(["diffusion", *where, "--preset=small"]).network.down_dims == (128, 256, 512)
    assert imitate.read(["bc", *where]).method == "bc"
    with pytest.raises(MissingError, match=r"No preset 'huge'\. Available: demo, paper, small"):
        imitate.read(["act", *where, "--preset", "huge"])


@pytest.mark.parametrize("command", ["distill", "imitate", "evaluate"])
def test_a_command_is_light_to_import(command):
    heavy = {"torch", "gymnasium", "zarr", "mujoco", "matplotlib", "cv2", "stable_baselines3"}
    code = f"import sys, vtt_policies.commands.{command}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_option_suggests_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean '--num-envs'"):
        distill.main(["--env", TOY, "--out", "x", "--nun-envs", "3"])

"""Cameras: rays anywhere, OpenGL where there is a context, one clear sentence where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

_DRAW = """
import sys
import gymnasium as gym, numpy as np
for renderer in ("rays", "gl"):
    env = gym.make_vec(f"vtt_envs:vtt/{sys.argv[1]}-v0", num_envs=3, vectorization_mode="vector_entry_point",
        observation="visual", renderer=renderer, num_threads=1)
    np.save(sys.argv[2] + "/" + renderer, env.reset(seed=0)[0]["camera_front"])
    env.close()
"""
_MAKE = "import gymnasium as gym; env = gym.make('vtt_envs:vtt/Push-v0', {}); print(env.reset(seed=0)[0].keys())"


def _run(script: str, *arguments: str, gl: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own: MuJoCo reads MUJOCO_GL when it is imported."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "MUJOCO_GL": gl},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _coloured(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where an image shows objects: socket, peg, block and mark are colourful; floor, sky and gripper are not."""
    return np.ptp(image, axis=-1) > 40


def test_rays_see_object_and_gripper(task: str, make_vector) -> None:
    env = make_vector(task, 2, observation="visual")

    images = env.reset(seed=0)[0]["camera_front"]

    assert images.shape == (2, 64, 64, 3)
    assert (_coloured(images).mean(axis=(1, 2)) > 0.005).all()
    assert ((images.max(axis=-1) < 70).mean(axis=(1, 2)) > 0.005).all()  # the fingers are dark
    assert (images[0] != images[1]).any()


def test_an_image_is_of_the_present(task: str, make_vector) -> None:
    env = make_vector(task, 1, observation="visual")
    before, _ = env.reset(seed=0)

    for _ in range(5):
        after, *_ = env.step(np.full(env.action_space.shape, -0.5))

    assert (before["camera_front"] != after["camera_front"]).any(axis=-1).mean() > 0.01


@pytest.mark.parametrize("task", ["PegInsertion", "Push", "Picking"])  # objects of one strong colour
def test_rays_and_opengl_see_the_same_silhouettes(task: str, tmp_path: Path) -> None:
    result = _run(_DRAW, task, str(tmp_path), gl="egl")
    assert (tmp_path / "rays.npy").exists(), result.stderr
    if not (tmp_path / "gl.npy").exists():
        pytest.skip(result.stderr.strip().splitlines()[-1])

    rays, opengl = (_coloured(np.load(tmp_path / f"{renderer}.npy")) for renderer in ("rays", "gl"))

    assert (rays & opengl).sum() > 0.9 * (rays | opengl).sum()


@pytest.mark.parametrize(
    ("gl", "message"),
    [
        ("disabled", "The camera needs an OpenGL context and this machine gave none"),
        ("bogus", "MuJoCo cannot be imported with MUJOCO_GL=bogus"),
    ],
)
def test_a_missing_context_ends_in_one_clear_sentence(gl: str, message: str) -> None:
    result = _run(_MAKE.format("observation='visual', renderer='gl'"), gl=gl)

    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"vtt.errors.DependencyError: {message}")
    assert "renderer='rays'" in last


def test_asking_twice_for_a_missing_context_is_safe() -> None:
    twice = "\nfor _ in range(2):\n    try:\n        make()\n    except DependencyError as error:\n        print(error)"
    setup = "import gymnasium as gym\nfrom vtt.errors import DependencyError\n"
    make = "make = lambda: gym.make('vtt_envs:vtt/Push-v0', observation='visual', renderer='gl')"

    result = _run(setup + make + twice, gl="disabled")

    assert result.returncode == 0, result.stderr
    assert result.stdout.count("The camera needs an OpenGL context") == 2


@pytest.mark.parametrize(
    "settings",
    ["observation='tactile'", "observation='all', renderer='rays'", "observation='all', renderer='auto'"],
)
def test_touch_and_rays_need_no_opengl(settings: str) -> None:
    result = _run(_MAKE.format(settings), gl="disabled")

    assert result.returncode == 0, result.stderr
    assert "tactile_left" in result.stdout

"""Draw docs/images/touch.png: what the pads feel of a ball and of a tilted peg: `python docs/make_touch.py`.

The two scenes are those that TacSL shows of its sensors (arXiv 2408.06506, figures of the tactile image and of the
force field): a ball pressed by a pad, and a peg in the grasp.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from vtt_envs.camera import make_renderer
from vtt_envs.core import BatchedEnv
from vtt_envs.task import Task
from vtt_envs.tasks import PegInsertion, Picking

_OUT = Path(__file__).resolve().parent / "images" / "touch.png"


def main() -> None:
    """Draw both scenes, a row each."""
    figure, rows = plt.subplots(2, 4, figsize=(12, 6), layout="constrained")
    _show(rows[0], "ball", *_held(Picking(shape="sphere")))
    _show(rows[1], "tilted peg", *_held(PegInsertion()))
    figure.savefig(_OUT, dpi=80)
    print(_OUT)


def _held(task: Task) -> tuple[BatchedEnv, NDArray[np.uint8]]:
    """Let the expert act until both pads hold the object; return its environment and a picture."""
    env = BatchedEnv(task, num_envs=1, observation="all", renderer="rays")
    env.reset([4])
    while not env.contact()[0, :2].all():
        env.step(env.expert_action())
    for _ in range(6):
        env.step(env.expert_action())
    return env, make_renderer("rays", env.engine, size=320).render(env.engine, np.arange(1))[0]


def _show(axes: NDArray, name: str, env: BatchedEnv, picture: NDArray[np.uint8]) -> None:
    observation = {key: value[0] for key, value in env.observation.items()}
    axes[0].imshow(picture)
    axes[0].set_title(name)
    axes[1].imshow(observation["tactile_left"])
    axes[1].set_title("left pad: tactile image")
    change = observation["tactile_left"].astype(int) - env.rest_images()["tactile_left"]
    axes[2].imshow(np.clip(128 + 2 * change, 0, 255).astype(np.uint8))
    axes[2].set_title("change from rest, doubled")
    _show_force(axes[3], observation["force_left"])
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])


def _show_force(axis: Axes, force: NDArray[np.float32]) -> None:
    """Draw the normal force as colour and the shear as arrows; rows grow downwards as in the image."""
    shown = axis.imshow(1e3 * force[..., 0], cmap="viridis")
    rows, columns = np.mgrid[: force.shape[0], : force.shape[1]]
    loaded = force[..., 0] > 1e-4
    axis.quiver(columns[loaded], rows[loaded], force[loaded, 1], force[loaded, 2], color="w", angles="xy", width=0.006)
    plt.colorbar(shown, ax=axis, shrink=0.6, label="normal force [mN per cell]")
    axis.set_title(f"force field: {force[..., 0].sum():.1f} N, shear {np.hypot(*force[..., 1:].sum((0, 1))):.2f} N")


if __name__ == "__main__":
    main()

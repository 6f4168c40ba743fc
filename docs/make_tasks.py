"""Write docs/tasks.md and its pictures from the code: `python docs/make_tasks.py [TASK ...]`.

The page is the tasks' docstrings and what their environments say of themselves; a test compares the two. A picture
shows one episode of the expert: start, middle and end seen by the front camera, and what the pads feel at each time.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vtt_envs import TASKS, tasks
from vtt_envs.camera import make_renderer
from vtt_envs.core import BatchedEnv
from vtt_envs.task import Task

DOCS = Path(__file__).resolve().parent
_SEED = 1000
_SIDE = 240  # pixels of a camera picture
_HEAD = """# Tasks

Written from the code by `python docs/make_tasks.py`; [Environments](environments.md) tells how to use them. A picture
is one episode of the scripted expert: start, middle and end, with the tactile images of all fingers below.

Every task takes `reward_kind="dense"` or `"sparse"`, `horizon` in control steps, `physics_dt` in s, `substeps` per
control step, `robot` and `camera`. Observations are described there too; `goal` and `privileged` differ between tasks
and are listed here.
"""


def main() -> None:
    """Write the page; draw the pictures of the tasks named, or of all."""
    parser = argparse.ArgumentParser(description="Write docs/tasks.md and its pictures.")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="whose pictures to draw (default: all)")
    wanted = parser.parse_args().tasks or TASKS
    (DOCS / "tasks.md").write_text(page(), encoding="utf-8")
    for name in wanted:
        path = DOCS / "images" / f"{name}.png"
        cv2.imwrite(str(path), cv2.cvtColor(picture(name), cv2.COLOR_RGB2BGR))
        print(path)


def page() -> str:
    """Return the text of docs/tasks.md."""
    return _HEAD + "".join(_section(name) for name in TASKS)


def _section(name: str) -> str:
    task_class = getattr(tasks, name)
    task: Task = task_class()
    text = inspect.cleandoc(task_class.__doc__)
    text, _, arguments = text.partition("\nArgs:\n")
    lines = [
        f"\n## {name}\n",
        f"`vtt_envs:vtt/{name}-v0`\n",
        f"![An episode of the expert](images/{name}.png)\n",
        text.strip() + "\n",
        "| | |",
        "|---|---|",
        f"| actions | {task.robot.action_size} in [-1, 1], {1 / (task.physics_dt * task.substeps):.0f} per second |",
        f"| robots | {', '.join(f'`{robot}`' for robot in task_class.robots)} |",
        f"| `goal` | {_list(task.goal_names)} |",
        f"| `privileged` | {_list(task.privileged_names)} |",
        f"| touch | {_list(task.robot.fingers)}: {task.robot.sensor}, {task.robot.pad.taxels} pixels |",
        "",
        "| argument | default | meaning |",
        "|---|---|---|",
    ]
    defaults = {field.name: field.default for field in dataclasses.fields(task_class)}
    for argument, meaning in _arguments(arguments.partition("\nRaises:\n")[0]):
        lines.append(f"| `{argument}` | `{defaults[argument]!r}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _arguments(text: str) -> list[tuple[str, str]]:
    """Split the Args section of a docstring into names and meanings."""
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, flags=re.MULTILINE)
    return [(name, re.sub(r"\s+", " ", meaning)) for name, meaning in found]


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def picture(name: str) -> NDArray[np.uint8]:
    """Draw the expert's episode. Shape (H, W, 3)."""
    env = BatchedEnv(getattr(tasks, name)(), num_envs=1, observation="tactile")
    observation = env.reset([_SEED])
    renderer = make_renderer("rays", env.engine, size=_SIDE)
    pads = [key for key in observation if key.startswith("tactile_")]
    frames = []
    while True:
        image = renderer.render(env.engine, np.arange(1))[0]
        frames.append((image, [observation[key][0].copy() for key in pads]))
        if env.done[0]:
            break
        env.step(env.expert_action())
        observation = env.observation
    shown = [frames[index] for index in np.linspace(0, len(frames) - 1, 3).round().astype(int)]
    columns = [np.concatenate([image, _pads(images)]) for image, images in shown]
    return np.concatenate(columns, axis=1)


def _pads(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Put tactile images side by side, as wide as a camera picture. Shape (h, _SIDE, 3)."""
    row = np.concatenate(images, axis=1)
    height = round(_SIDE * row.shape[0] / row.shape[1])
    return np.asarray(cv2.resize(row, (_SIDE, height), interpolation=cv2.INTER_NEAREST), np.uint8)


if __name__ == "__main__":
    main()

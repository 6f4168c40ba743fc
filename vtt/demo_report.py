"""The page that shows what a demo reached: table, curves, video, settings.

Legend: T frames, H rows, W columns.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vtt.attention import attention_map, overlay
from vtt.pretrained import Pretrained, load_encoder
from vtt.report import Figure, KeyValues, Rate, Report, Section, Table, Text, Video, plot_curves, write
from vtt.runs import environment
from vtt.store import EpisodeStore
from vtt.video import write_video

__all__ = ["attention_frames", "write_report"]

_HEIGHT = 240  # px of every panel
_BANNER = 26  # px
_PANELS = ("camera", "touch, left pad", "touch, right pad", "touch looks at")
_ROWS = {
    "expert": "Expert, which knows all poses",
    "student": "Student: touch images and proprioception",
    "no_touch": "The same student, trained without touch",
    "shuffled": "Student with the touch of another episode",
    "random": "Random actions",
}


def write_report(
    out: Path, summary: Mapping[str, Any], *, verdict: str, settings: Mapping[str, Any], seconds: Mapping[str, float]
) -> Path:
    """Write `report.html` from the files of a demo.

    Args:
        out: Folder of the demo.
        summary: What `summary.json` holds.
        verdict: The result in a sentence.
        settings: Settings of the demo.
        seconds: Wall time of each stage, in s.

    Returns:
        The report.
    """
    sections: list[Section] = [
        _table(out),
        _video(out),
        _curves(out),
        _pretraining(out),
        KeyValues("Settings", {**settings, **_rounds(out), "control steps of the student": summary["env_steps"]}),
        KeyValues("Time, in s", {**seconds, "total": summary["seconds"]}),
        KeyValues("Versions", _flat(environment())),
        Text(
            "How to read it",
            "Success is the environment's own verdict: the peg's lower end within 4.5 mm of the bore's floor within 50 "
            "steps of 50 ms. All rows were measured on the same held-out seeds, which no training has seen.\n\n"
            "The student is the second row. Where its advantage over the third vanishes when it feels the touch of "
            "another episode, it is touch that it uses.",
        ),
    ]
    title = f"{summary['task']}: a touch policy by distillation"
    return write(out / "report.html", Report(title, sections, verdict))


def _table(out: Path) -> Table:
    rows = []
    for name, label in _ROWS.items():
        result = json.loads((out / f"evaluation_{name}.json").read_text())
        rate = Rate(result["rate"], result["low"], result["high"])
        median = result["steps_to_success"]
        rows.append([label, rate, f"{result['successes']} of {result['n']}", "none" if median is None else median])
    columns = ["policy", "success, 95 % interval", "episodes", "median steps to success"]
    return Table("Success on held-out episodes", columns, rows, "Wilson score intervals.")


def _curves(out: Path) -> Figure:
    curves = {}
    for name, label in (("student", "student"), ("no_touch", "without touch")):
        rows = [row for row in _read_csv(out / name / "metrics.csv") if row["rollout_success"] not in ("", "nan")]
        # The first rollouts are the expert's.
        driven = [row for row in rows if float(row["expert_share"]) < 1]
        curves[label] = (
            [float(row["env_steps"]) for row in driven],
            [float(row["rollout_success"]) for row in driven],
        )
    image = plot_curves(curves, x_label="control steps", y_label="success of the rollouts", y_limits=(0, 1))
    alt = "Success of the student's own rollouts against control steps, with and without touch."
    return Figure("Learning", image, alt, "Each point is one round of DAgger: 64 episodes that the student drove.")


def _rounds(out: Path) -> dict[str, str]:
    """Tell how many rounds of DAgger each student got: the one without touch may have run out of time."""
    names = {"rounds of the student": "student", "rounds without touch": "no_touch"}
    return {label: _read_csv(out / name / "metrics.csv")[-1]["iteration"] for label, name in names.items()}


def _pretraining(out: Path) -> Figure:
    rows = _read_csv(out / "encoder" / "metrics.csv")
    names = [name for name in rows[0] if name in ("reconstruction", "summary", "contact", "align")]
    curves = {
        name: ([float(r["step"]) for r in rows if r[name]], [float(r[name]) for r in rows if r[name]]) for name in names
    }
    image = plot_curves(curves, x_label="step", y_label="loss")
    return Figure("Pretraining", image, "The losses of pretraining against optimiser steps.")


def _video(out: Path) -> Video:
    store = EpisodeStore.open(out / "video_episodes")
    pretrained = load_encoder(out / "encoder")
    frames = [frame for index in range(len(store)) for frame in _episode_frames(store, index, pretrained)]
    with tempfile.TemporaryDirectory() as folder:
        mp4 = write_video(Path(folder) / "student.mp4", np.stack(frames), fps=10).read_bytes()
    alt = "The student inserts a peg: camera, tactile images of both pads, and where touch looks in the camera image."
    caption = (
        f"{len(store)} held-out episodes at half speed. The student sees touch and proprioception, not "
        "the camera. The attention is that of the pretrained encoder, from the touch tokens to the camera image."
    )
    return Video("The student at work", mp4, alt, caption)


def attention_frames(
    pretrained: Pretrained, observation: Mapping[str, NDArray], *, image: str = "camera_front"
) -> list[NDArray[np.uint8]]:
    """Paint where the touch tokens look over every camera image of an episode.

    Args:
        pretrained: An encoder that knows touch and `image`.
        observation: Every key that the encoder knows. Shapes (T, ...).
        image: Key of the camera.

    Returns:
        T images of the camera's size.
    """
    with torch.inference_mode():
        prepared = pretrained.normalizer.prepare({key: observation[key] for key in pretrained.observation})
        maps = attention_map(pretrained.encoder(prepared, return_attention=True), queries="touch", keys=image)
    peak = float(maps.max())
    return [overlay(frame, map_, peak=peak) for frame, map_ in zip(observation[image], maps, strict=True)]


def _episode_frames(store: EpisodeStore, index: int, pretrained: Pretrained) -> list[NDArray[np.uint8]]:
    """Put camera, touch and attention of one episode side by side; hold the last frame."""
    episode = {key: stream.data for key, stream in store.read(index).items()}
    success = bool(episode["success"].any())
    looks = attention_frames(pretrained, episode)
    frames = []
    for step, look in enumerate(looks):
        panels = [episode["camera_front"][step], episode["tactile_left"][step], episode["tactile_right"][step], look]
        last = step == len(looks) - 1
        verdict = ("inserted" if success else "failed") if last else f"{step / store.streams['action'].rate_hz:.2f} s"
        frames.append(_side_by_side(panels, [*_PANELS[:-1], f"{_PANELS[-1]} | {verdict}"]))
    return [*frames, *[frames[-1]] * 8]


def _side_by_side(panels: list[NDArray[np.uint8]], labels: list[str]) -> NDArray[np.uint8]:
    """Enlarge images to one height and write a label above each."""
    shown = []
    for panel, label in zip(panels, labels, strict=True):
        width = round(panel.shape[1] * _HEIGHT / panel.shape[0])
        large = cv2.resize(panel, (width, _HEIGHT), interpolation=cv2.INTER_CUBIC)
        banner = np.full((_BANNER, width, 3), 24, np.uint8)
        cv2.putText(banner, label, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
        shown.append(np.vstack([banner, large]))
    return np.hstack(shown).astype(np.uint8)


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _flat(values: Mapping[str, Any], *, prefix: str = "") -> dict[str, object]:
    """Join nested names with dots."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flat(value, prefix=f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat

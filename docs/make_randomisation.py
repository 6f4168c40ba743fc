"""Write the table of docs/randomisation.md and its picture from the code: `python docs/make_randomisation.py`.

Each row of the picture is one episode of PegInsertion, just after its reset, as the left pad feels it. The first column
is the nominal sensor, then one knob at a time at the end of its range at level hard, then everything together.
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vtt_envs.core import BatchedEnv
from vtt_envs.randomisation import KNOBS, LEVELS, Bernoulli, Integers, Randomisation, Range, Uniform
from vtt_envs.tasks import PegInsertion

DOCS = Path(__file__).resolve().parent
_PATH = DOCS / "images" / "randomisation.png"
_SEEDS = (1001, 1006)
_ZOOM = 2
_HARD = LEVELS["hard"].ranges()


def main() -> None:
    """Write the table; draw the picture."""
    page = DOCS / "randomisation.md"
    text = re.sub(r"(^\| `\w+` \|.*\n)+", rows(), page.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    page.write_text(text, encoding="utf-8")
    columns = {"nominal": Randomisation()}
    for name in ("light", "rest", "wear", "scratches", "gain", "noise", "markers"):
        columns[name] = Randomisation(**{f"touch_{name}": _end(f"touch_{name}")})
    columns |= {level: LEVELS[level] for level in ("train", "hard")}
    picture = np.concatenate([_column(title, chosen) for title, chosen in columns.items()], axis=1)
    cv2.imwrite(str(_PATH), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(_PATH)


def rows() -> str:
    """Return the rows of the table of knobs."""
    lines = []
    for name, knob in KNOBS.items():
        part = "colour" if "red" in knob.parts else "axis" if knob.parts else ""
        per = ", ".join(word for word in (knob.owner, part) if word)
        cells = (f"`{name}`", knob.effect, per, knob.unit, _range(knob.train), _range(knob.hard), knob.source)
        lines.append(re.sub(" +", " ", f"| {' | '.join(cells)} |\n"))
    return "".join(lines)


def _range(chosen: Range | None) -> str:
    if chosen is None:
        return "off"
    ends = [chosen.probability] if isinstance(chosen, Bernoulli) else [chosen.low, chosen.high]
    return " to ".join(np.format_float_positional(end, trim="-").replace("0.", ".") for end in ends)


def _end(name: str) -> Uniform | Integers | Bernoulli:
    """The whole range of a knob with parts, else its upper end."""
    chosen = _HARD[name]
    if name == "touch_light":
        return Uniform(chosen.low, chosen.high)
    if isinstance(chosen, Bernoulli):
        return Bernoulli(1)
    return Integers(int(chosen.high), int(chosen.high)) if isinstance(chosen, Integers) else Uniform(*[chosen.high] * 2)


def _column(title: str, chosen: Randomisation) -> NDArray[np.uint8]:
    """One column of images under its title."""
    env = BatchedEnv(PegInsertion(), num_envs=len(_SEEDS), observation="tactile", num_threads=1, randomisation=chosen)
    images = env.reset(_SEEDS)["tactile_left"].repeat(_ZOOM, axis=1).repeat(_ZOOM, axis=2)
    framed = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], constant_values=255)
    head = np.full((18, framed.shape[2], 3), 255, dtype=np.uint8)
    cv2.putText(head, title, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return np.concatenate([head, *framed])


if __name__ == "__main__":
    main()

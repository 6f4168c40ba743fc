"""One HTML file that opens offline and explains a run: what was done, what came out, what it looks like.

A report is a title, a summary and sections; `render` turns it into a page without scripts or external resources, for
light and dark screens.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from vtt.errors import ConfigError
from vtt.files import atomic_write_text

__all__ = [
    "Cell",
    "Figure",
    "KeyValues",
    "Rate",
    "Report",
    "Section",
    "Table",
    "Text",
    "Video",
    "plot_curves",
    "render",
    "write",
]

# Okabe & Ito, Color Universal Design, 2008, in the order in which neighbours differ most; readable on white and black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# Drawn in this colour, a line of a plot takes the page's text colour, whichever theme is on.
_INK = "#010203"


class Rate(NamedTuple):
    """A rate with its confidence interval, all in [0, 1]; a table shows it as a number and as a mark on a scale."""

    estimate: float
    low: float
    high: float


Cell: TypeAlias = str | int | float | Rate


@dataclass(frozen=True)
class Text:
    """Paragraphs, separated by blank lines."""

    title: str
    text: str


@dataclass(frozen=True)
class KeyValues:
    """Names and their values: settings, versions."""

    title: str
    items: Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names; the first cell of a row names it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture: the bytes of a PNG or of an SVG, and what it shows for those who cannot see it."""

    title: str
    image: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Video:
    """A video: the bytes of an mp4 file (`vtt.video.write_video`), and what it shows for those who cannot see it."""

    title: str
    mp4: bytes
    alt: str
    caption: str = ""


Section: TypeAlias = Text | KeyValues | Table | Figure | Video


@dataclass(frozen=True)
class Report:
    """A title, one sentence that says what came out, and the sections in order."""

    title: str
    sections: Sequence[Section]
    summary: str = ""


def write(path: Path | str, report: Report) -> Path:
    """Write a report as one HTML file, replaced in one step if it exists.

    Returns:
        The path.
    """
    atomic_write_text(Path(path), render(report))
    return Path(path)


def render(report: Report) -> str:
    """Render a report as an HTML page.

    Raises:
        ConfigError: If a table's row and its columns differ in number, or a figure is neither PNG nor SVG.
    """
    summary = f"<p class=summary>{escape(report.summary)}</p>" if report.summary else ""
    sections = "\n".join(
        f"<section><h2>{escape(section.title)}</h2>{_body(section)}</section>" for section in report.sections
    )
    return _PAGE.format(title=escape(report.title), style=_STYLE, summary=summary, sections=sections)


def plot_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    y_limits: tuple[float, float] | None = None,
) -> bytes:
    """Draw curves as an SVG for a `Figure`, in colours that the colour-blind tell apart.

    Args:
        curves: Name to x values and y values, of equal length.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        y_limits: Range of y; None fits the data.

    Returns:
        The SVG file.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as MatplotlibFigure

    style: dict[Any, Any] = {
        **{name: _INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
        **{"svg.fonttype": "none", "svg.hashsalt": f"{x_label}{y_label}{list(curves)}", "font.family": "sans-serif"},
        **{"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "font.size": 11},
        **{"figure.facecolor": "none", "axes.facecolor": "none"},
    }
    with matplotlib.rc_context(style):
        figure = MatplotlibFigure(figsize=(9, 3.4), layout="constrained")
        axes = figure.subplots()
        for index, (name, (x, y)) in enumerate(curves.items()):
            marker = "o" if len(x) < 40 else None
            axes.plot(x, y, label=name, color=_COLOURS[index % len(_COLOURS)], linewidth=2, marker=marker, markersize=4)
        axes.set(xlabel=x_label, ylabel=y_label)
        if y_limits is not None:
            axes.set_ylim(*y_limits)
        axes.locator_params(axis="x", integer=all(float(value).is_integer() for x, _ in curves.values() for value in x))
        axes.grid(color=_INK, alpha=0.12)
        if curves:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        drawn = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(drawn, metadata=nothing)
    return drawn.getvalue().replace(_INK.encode(), b"currentColor")


def _body(section: Section) -> str:
    """Render what stands below a section's heading."""
    match section:
        case Text(_, text):
            return "".join(f"<p>{escape(part.strip())}</p>" for part in re.split(r"\n\s*\n", text) if part.strip())
        case KeyValues(_, items):
            rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in items.items())
            return f"<dl>{rows}</dl>"
        case Table():
            return _table(section)
        case Figure(_, image, alt, caption):
            return f"<figure>{_picture(image, alt)}{_caption(caption)}</figure>"
        case Video(_, mp4, alt, caption):
            source = f"data:video/mp4;base64,{base64.b64encode(mp4).decode()}"
            player = (
                f'<video controls autoplay loop muted playsinline aria-label="{escape(alt)}" src="{source}"></video>'
            )
            return f"<figure>{player}{_caption(caption)}</figure>"


def _table(table: Table) -> str:
    """Render a table; the first cell of each row is its header."""
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ConfigError(f"a row of '{table.title}' must have {len(table.columns)} cells, got {len(row)}.")
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    body = "".join(
        f'<tr><th scope="row">{_cell(row[0])}</th>{"".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
        if row
    )
    grid = f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    return f"<figure>{grid}{_caption(table.caption)}</figure>"


def _cell(cell: Cell) -> str:
    """Render a cell: text as it is, a float to three significant digits, a rate with a mark on a scale from 0 to 1."""
    if isinstance(cell, Rate):
        x, low, high = (f"{5 + 150 * min(max(value, 0.0), 1.0):.1f}" for value in cell)
        return (
            f"<span class=rate><span>{cell.estimate:.3f} <small>[{cell.low:.3f}, {cell.high:.3f}]</small></span>"
            '<svg viewBox="0 0 160 14" width="160" height="14" aria-hidden="true">'
            '<line class=track x1="5" y1="7" x2="155" y2="7"/>'
            f'<line class=interval x1="{low}" y1="7" x2="{high}" y2="7"/><circle cx="{x}" cy="7" r="4"/></svg></span>'
        )
    return escape(f"{cell:.3g}" if isinstance(cell, float) else str(cell))


def _picture(image: bytes, alt: str) -> str:
    """Embed a PNG as data, an SVG as elements so that it follows the theme."""
    if image.startswith(b"\x89PNG"):
        return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(image).decode()}">'
    start = image.find(b"<svg")
    if start < 0:
        raise ConfigError("image must be the bytes of a PNG or an SVG file, got neither.")
    return f'<div role="img" aria-label="{escape(alt)}">{image[start:].decode()}</div>'


def _caption(caption: str) -> str:
    """Render a caption, if there is one."""
    return f"<figcaption>{escape(caption)}</figcaption>" if caption else ""


# The policy forbids every request, so that the file shows the same with and without a network.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header><h1>{title}</h1>{summary}</header>
{sections}
</main>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1b1f24; --soft: #5b6470; --line: #dfe3e8;
  --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1d2126; --ink: #e7eaee; --soft: #9ba5b1;
  --line: #343b44; --mark: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 0 0 .9rem; }
.summary { font-size: 1.15rem; color: var(--soft); margin: 0 0 1.75rem; max-width: 46rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1.25rem 1.4rem;
  margin: 0 0 1.1rem; }
p { margin: 0 0 .8rem; max-width: 46rem; }
section > :last-child { margin-bottom: 0; }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .7rem; max-width: 46rem; }
img, video { display: block; max-width: 100%; height: auto; border-radius: .3rem; }
video { width: 100%; }
figure svg { max-width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .5rem 1rem .5rem 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
thead th { color: var(--soft); font-weight: 500; font-size: .88rem; }
tbody th { font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
small { color: var(--soft); font-size: .88em; }
.rate { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; align-items: center; }
.rate span { white-space: nowrap; }
.rate svg { display: inline-block; flex: none; }
.track { stroke: var(--line); stroke-width: 2; }
.interval { stroke: var(--mark); stroke-width: 4; stroke-linecap: round; opacity: .55; }
.rate circle { fill: var(--mark); }
dl { margin: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 0 2rem; }
dl div { display: flex; justify-content: space-between; gap: 1rem; padding: .35rem 0;
  border-bottom: 1px solid var(--line); }
dt { color: var(--soft); }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
"""

"""What evaluations say: tables of text, and one HTML page with films of what went wrong first."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtt import report
from vtt.errors import VttError
from vtt.video import write_video
from vtt_policies.evaluation import Comparison, Evaluation, compare, facts_of
from vtt_policies.trial import Runner, Trial

__all__ = ["Film", "comparison_lines", "film_failures", "touch_table", "write_evaluation_report"]


class Film(NamedTuple):
    """One episode to look at.

    Attributes:
        seed: Its seed.
        success: Whether it succeeded when it was filmed.
        frames: Shape (T, H, W, 3), uint8.
        fps: Frames per second of simulated time.
    """

    seed: int
    success: bool
    frames: NDArray[np.uint8]
    fps: float


def touch_table(results: Mapping[str, Evaluation]) -> str:
    """Lay out what each condition of touch costs, against touch as it is on the same seeds.

    Args:
        results: Evaluations by condition; the first is touch as it is.

    Returns:
        Lines with success, its Wilson interval, the paired difference with its interval, and McNemar's p.
    """
    intact = next(iter(results.values()))
    width = max(len("touch"), *(len(name) for name in results))
    lines = [f"{'touch':<{width}}  success  95 % interval  difference     95 % interval        p"]
    for name, row in results.items():
        low, high = row.interval
        cells = f"{row.rate:>7.3f}  {f'{low:.3f} - {high:.3f}':>13}"
        if row is intact:
            lines.append(f"{'as it is':<{width}}  {cells}  {'-':>10}  {'-':>16}  {'-':>7}")
            continue
        held = compare(row, intact)
        span = f"{held.interval.low:+.3f} to {held.interval.high:+.3f}"
        lines.append(f"{name:<{width}}  {cells}  {held.difference:>+10.3f}  {span:>16}  {held.p:>7.2g}")
    return "\n".join(lines)


def comparison_lines(first: str, second: str, held: Comparison) -> str:
    """Word a comparison of two policies, by name."""
    low, high = held.interval
    return (
        f"{held.n} seeds in common: only {first} succeeds on {held.only_first}, only {second} on {held.only_second}.\n"
        f"Difference of success {held.difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f} (Agresti & Min), "
        f"exact McNemar p = {held.p:.2g}."
    )


def film_failures(trial: Trial, result: Evaluation, *, films: int = 6, successes: int = 2) -> tuple[list[Film], str]:
    """Film episodes again: failures first, then some successes.

    Args:
        trial: As evaluated.
        result: Its outcomes.
        films: Most episodes.
        successes: Of these, successes that are filmed even where there are more failures.

    Returns:
        The films, and why there are none, if so.
    """
    failed = [seed for seed, success in zip(result.seeds, result.outcomes, strict=True) if not success]
    succeeded = [seed for seed, success in zip(result.seeds, result.outcomes, strict=True) if success]
    shown = min(len(succeeded), max(successes, films - len(failed)))
    chosen = [*failed[: films - shown], *succeeded[:shown]]
    drawing = replace(trial, num_envs=len(chosen), env_args=(*trial.env_args, "render_mode=rgb_array"))
    try:
        with Runner(drawing) as runner:
            done, frames = runner.film(chosen)
    except VttError as error:
        return [], f"No films: {error}"
    fps = 1.0 / (done.control_dt or 0.1)
    return [Film(s, o, f, fps) for s, o, f in zip(done.seeds, done.outcomes, frames, strict=True)], ""


def write_evaluation_report(
    path: Path,
    results: Mapping[str, Evaluation],
    *,
    facts: Mapping[str, object],
    films: Sequence[Film] = (),
    comparison: tuple[str, str, Comparison] | None = None,
    note: str = "",
) -> None:
    """Write an HTML page.

    Args:
        path: File to write.
        results: Evaluations by name; if several, the first is touch as it is.
        facts: What was evaluated.
        films: Episodes to look at, in order.
        comparison: Names of two policies, and how they compare.
        note: What the reader should know besides.
    """
    name, first = next(iter(results.items()))
    low, high = first.interval
    sections: list[report.Section] = [_results(results)]
    if comparison is not None:
        sections.append(report.Text("Compared on the same seeds", comparison_lines(*comparison)))
    for number, film in enumerate(films, 1):
        sections.append(_video(number, film))
    if note:
        sections.append(report.Text("Note", note))
    sections.append(report.KeyValues("What was evaluated", dict(facts)))
    summary = (
        f"{first.successes} of {first.n} episodes succeeded on held-out seeds: {first.rate:.3f}, 95 % Wilson interval "
        f"{low:.3f} to {high:.3f}."
    )
    report.write(path, report.Report(f"Evaluation: {facts.get('policy', name)}", sections, summary))


def _results(results: Mapping[str, Evaluation]) -> report.Table:
    """Tabulate all conditions, with paired differences where there are several."""
    columns = ["", "success", "time, s", "peak force, N", "dropped"]
    several = len(results) > 1
    if several:
        columns += ["difference to the first", "McNemar p"]
    intact = next(iter(results.values()))
    rows: list[list[report.Cell]] = []
    for name, row in results.items():
        cells: list[report.Cell] = [name, report.Rate(row.rate, *row.interval), *facts_of(row)]
        if several and row is intact:
            cells += ["-", "-"]
        elif several:
            held = compare(row, intact)
            cells.append(f"{held.difference:+.3f} [{held.interval.low:+.3f}, {held.interval.high:+.3f}]")
            cells.append(f"{held.p:.2g}")
        rows.append(cells)
    caption = (
        "95 % Wilson intervals. Time is the median of the episodes that succeeded; force the median of the largest in "
        "each episode; dropped are episodes that ended early without success."
    )
    if several:
        caption += " Differences are on the same seeds (Agresti & Min 2005)."
    return report.Table("Success on held-out seeds", columns, rows, caption)


def _video(number: int, film: Film) -> report.Video:
    """Encode a film."""
    word = "succeeds" if film.success else "fails"
    with tempfile.TemporaryDirectory() as folder:
        mp4 = write_video(Path(folder) / "film.mp4", film.frames, fps=film.fps).read_bytes()
    title = f"{number}. Seed {film.seed} {word}"
    return report.Video(title, mp4, f"The policy {word} on seed {film.seed}.", f"{len(film.frames)} control steps.")

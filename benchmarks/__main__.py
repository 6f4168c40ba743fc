"""Measure speed against the peers, print the ratios, write `benchmarks/latest.json`.

    python -m benchmarks [MODULE ...]

A module of this folder offers `rows()`, a list of {"name", "value", "unit", "peer", "ratio"}; a ratio above 1 says that
vtt is the better of the two. Without arguments all modules run. Measure on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from pathlib import Path

import torch

_MODULES = ("touch", "environment", "encoder", "tasks", "backends")
_RESULT = Path(__file__).resolve().parent / "latest.json"


def main() -> None:
    """Run the modules asked for; rows of others in an earlier result stay."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed against the peers.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"which: {', '.join(_MODULES)} (default: all)")
    wanted = parser.parse_args().modules or list(_MODULES)
    if unknown := [name for name in wanted if name not in _MODULES]:
        parser.error(f"no benchmark '{unknown[0]}'. Available: {', '.join(_MODULES)}.")
    print(
        f"{os.cpu_count()} CPUs, {torch.get_num_threads()} torch threads, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )
    kept = json.loads(_RESULT.read_text()) if len(wanted) < len(_MODULES) and _RESULT.exists() else []
    measured = [row for name in wanted for row in importlib.import_module(f"benchmarks.{name}").rows()]
    names = {row["name"] for row in measured}
    rows = [row for row in kept if row["name"] not in names] + measured
    print(f"{'':34s} {'vtt':>12s} {'peer':>12s} {'ratio':>8s}")
    for row in rows:
        peer, ratio = (f"{row[key]:,.4g}" if row[key] is not None else "-" for key in ("peer", "ratio"))
        print(f"{row['name']:34s} {row['value']:>12,.4g} {peer:>12s} {ratio:>8s}  {row['unit']}")
    partial = _RESULT.with_suffix(".json.partial")
    partial.write_text(json.dumps(rows, indent=1) + "\n")
    partial.replace(_RESULT)
    print(f"Written to {_RESULT}")


if __name__ == "__main__":
    main()

"""Simulate a scene in Isaac Gym: `PYTHON <this folder> SCENE_FILE MEMORY_FD`; see `protocol`."""

from __future__ import annotations

import importlib
import os
import sys


def _main() -> None:
    # This folder is a package here too, but not a part of another.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    serving, preview4 = (importlib.import_module(f"worker.{name}") for name in ("serving", "preview4"))
    del sys.path[0]
    serving.serve(preview4.Preview4, sys.argv[1:])


if __name__ == "__main__":
    _main()

"""Simulate a scene in Isaac Gym; see `protocol`."""

from __future__ import annotations

import sys

from protocol import Scene, Shared
from serving import Physics, serve


def _make(scene: Scene, shared: Shared, folder: str) -> Physics:
    from preview4 import Preview4

    return Preview4(scene, shared, folder)


serve(_make, sys.argv[1:])

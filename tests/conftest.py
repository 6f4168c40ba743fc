"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A speed belongs in benchmarks: the first example pays for imports, and a busy machine is not a failure.
settings.register_profile("vtt", deadline=None)
settings.load_profile("vtt")

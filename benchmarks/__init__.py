"""Benchmarks: `make bench` measures speed against named peers, in the same run."""

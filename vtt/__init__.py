"""Visuo-tactile transformers: encoders, episode store, checkpoints and the `vtt` command. Knows no other package."""

__all__ = ["__version__"]

__version__ = "0.1.0"

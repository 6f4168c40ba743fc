"""The exceptions of vtt, each also a builtin so that callers may catch either.

    VttError
    ├── ShapeError       (ValueError)    an array of the wrong shape or dtype
    ├── ConfigError      (ValueError)    a setting, or a combination of settings, that cannot work
    ├── MissingError     (LookupError)   a name that does not exist; lists those that do
    ├── StoreError       (OSError)       a store, checkpoint or recording that cannot be read or written
    ├── DependencyError  (RuntimeError)  something this machine lacks (a GL context, an optional package)
    └── StateError       (RuntimeError)  a method called too early or too late

Each takes one message argument, so that it survives pickling between processes.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DependencyError",
    "MissingError",
    "ShapeError",
    "StateError",
    "StoreError",
    "VttError",
    "missing",
]


class VttError(Exception):
    """Base of everything vtt raises on purpose."""


class ShapeError(VttError, ValueError):
    """An array has the wrong shape or dtype."""


class ConfigError(VttError, ValueError):
    """A setting, or a combination of settings, cannot work."""


class MissingError(VttError, LookupError):
    """A name does not exist."""


class StoreError(VttError, OSError):
    """A store, checkpoint or recording cannot be read or written."""


class DependencyError(VttError, RuntimeError):
    """This machine lacks something that was asked for."""


class StateError(VttError, RuntimeError):
    """A method was called too early or too late."""


def missing(kind: str, name: str, available: Iterable[str]) -> MissingError:
    """Build the error for a name that does not exist, naming those that do.

    Example:
        >>> str(missing("sensor", "gelsite", ["digit", "gelsight_mini"]))
        "No sensor 'gelsite'. Available: digit, gelsight_mini."
    """
    return MissingError(f"No {kind} '{name}'. Available: {', '.join(sorted(available)) or 'none'}.")

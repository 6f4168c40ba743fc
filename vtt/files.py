"""Write files and folders so that a reader finds the old content or the new, never a part of it.

Everything goes to a temporary name in the same folder and is renamed. This survives the death of the process; against
power loss it is as safe as the file system's ordering of a rename after the data it names.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vtt.errors import StoreError

__all__ = ["atomic_folder", "atomic_write_bytes", "atomic_write_text", "is_disk_full", "read_json", "settle_folder"]


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path` in one step."""
    temporary = _beside(path)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """Replace the content of `path` in one step, as UTF-8."""
    atomic_write_bytes(path, text.encode())


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Fill a temporary folder, which becomes `path` when the block ends without an error.

    A folder cannot be renamed over another. With `replace` the old one steps aside to `<name>.previous` first; whoever
    dies between the two renames leaves only that, and `settle_folder` brings it back.

    Args:
        path: The folder to make. Its parent is made too.
        replace: Whether `path` may exist already.

    Raises:
        StoreError: If `path` exists and `replace` is False.
    """
    if path.exists() and not replace:
        raise StoreError(f"{path} must not exist yet. Choose another name or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        previous = _previous(path)
        if path.exists():
            shutil.rmtree(previous, ignore_errors=True)
            path.rename(previous)
        temporary.rename(path)
        shutil.rmtree(previous, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        settle_folder(path)
        raise


def settle_folder(path: Path) -> Path:
    """Bring back the folder that an interrupted replacement set aside, if `path` is missing; return `path`."""
    if not path.exists() and _previous(path).exists():
        _previous(path).rename(path)
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        StoreError: If it is missing, damaged or something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is missing or damaged ({error}).") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} must hold a JSON object, got {type(value).__name__}.")
    return value


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that nothing more can be written: no space, over quota, or over the file size limit."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _beside(path: Path) -> Path:
    """A temporary name in the same folder, so that the rename stays within one file system."""
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")


def _previous(path: Path) -> Path:
    """Where the old folder waits while the new one takes its name."""
    return path.with_name(f"{path.name}.previous")

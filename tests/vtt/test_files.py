from __future__ import annotations

import errno
from pathlib import Path

import pytest

from vtt.errors import StoreError
from vtt.files import atomic_folder, atomic_write_bytes, atomic_write_text, is_disk_full, settle_folder


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a", "old")
    atomic_write_text(tmp_path / "a", "näw")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "näw"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_write_that_fails_keeps_the_old_content(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / "a", b"old")
    with pytest.raises(TypeError, match="bytes-like"):
        atomic_write_bytes(tmp_path / "a", "text")  # type: ignore[arg-type]
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_folder(tmp_path / "a") as folder:
            (folder / "part").write_text("1")
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "b" / "a") as folder:
        (folder / "part").write_text("1")
        assert not (tmp_path / "b" / "a").exists()
    assert (tmp_path / "b" / "a" / "part").read_text() == "1"


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "a", replace=True) as folder:
            (folder / text).write_text(text)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "new"]
    with pytest.raises(StoreError, match="must not exist yet"), atomic_folder(tmp_path / "a"):
        pass


def test_a_replacement_that_was_interrupted_gives_the_old_folder_back(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "old").write_text("old")
    (tmp_path / "a").rename(tmp_path / "a.previous")
    assert (settle_folder(tmp_path / "a") / "old").read_text() == "old"
    assert not (tmp_path / "a.previous").exists()


def test_only_a_full_disk_is_a_full_disk() -> None:
    assert is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))
    assert not is_disk_full(ValueError("full"))

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vtt.commands.data import main
from vtt.errors import StoreError
from vtt.store import EpisodeStore, Stream, StreamSpec


@pytest.fixture
def store(tmp_path: Path) -> Path:
    streams = {
        "wrench": StreamSpec("vector", (6,), "float32", "N, N·m", 20.0, sensor="wrist"),
        "reward": StreamSpec("scalar", (), "float32", "", 20.0),
    }
    episodes = EpisodeStore.create(tmp_path / "store", streams=streams, attributes={"environment": "vtt/Push-v0"})
    clock = np.arange(5, dtype=np.int64)
    episode = {"wrench": Stream(np.zeros((5, 6), np.float32), clock), "reward": Stream(np.ones(5, np.float32), clock)}
    episodes.extend([episode] * 3, attributes=[{"success": success} for success in (True, False, True)])
    return tmp_path / "store"


def test_info_shows_episodes_success_and_streams(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", str(store)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{store}: 3 episodes, ")
    assert lines[1:3] == ["  environment: vtt/Push-v0", "  success: 2 of 3"]
    assert [line.split() for line in lines[-2:]] == [
        ["reward", "scalar", "-", "float32", "-", "20", "Hz", "15", "-"],
        ["wrench", "vector", "6", "float32", "N,", "N·m", "20", "Hz", "15", "wrist"],
    ]


def test_a_whole_store_verifies(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", str(store)])
    assert capsys.readouterr().out == f"{store}: 3 episodes, every committed byte is intact.\n"


def test_a_damaged_store_fails_to_verify_until_it_is_repaired(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "streams" / "reward" / "data" / "c" / "0").unlink()
    with pytest.raises(StoreError, match=r"is damaged: 3 of 3 episodes cannot be read in full\. `vtt data repair"):
        main(["verify", str(store)])
    assert "damaged: chunk 0 of 'streams/reward/data' is missing (episodes 0, 1, 2)" in capsys.readouterr().out
    main(["repair", str(store)])
    out = capsys.readouterr().out
    assert "dropped streams: reward" in out
    assert f"the damaged store is kept at {store}.damaged" in out
    main(["verify", str(store)])


def test_what_is_no_store_is_said_plainly(tmp_path: Path) -> None:
    for command in ("info", "verify", "repair"):
        with pytest.raises(StoreError, match=r"must be an episode store, got nothing\."):
            main([command, str(tmp_path / "nowhere")])

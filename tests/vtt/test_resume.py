import json
import shlex

import pytest

from vtt.cli import main
from vtt.commands.resume import recorded_command
from vtt.errors import StoreError
from vtt.runs import RunFolder


def _run(folder, *words, directory=None):
    """A run that `vtt` with these words has begun."""
    run = RunFolder.create(folder, config={"seed": 0}, seed=0)
    (folder / "command.txt").write_text(shlex.join(["/usr/bin/vtt", *words]) + "\n")
    if directory is not None:
        facts = json.loads((folder / "environment.json").read_text())
        (folder / "environment.json").write_text(json.dumps({**facts, "directory": str(directory)}))
    return run.path


def test_a_run_remembers_where_it_was_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = _run(tmp_path / "run", "pretrain", "--data", "store", "--out", "run", "--steps", "3")
    command, directory = recorded_command(folder)
    assert command == ["pretrain", "--data", "store", "--out", str(folder), "--steps", "3"]
    assert directory == tmp_path


def test_a_run_that_was_moved_goes_on_where_it_is(tmp_path):
    folder = _run(tmp_path / "old", "train", "ppo", "--out=old", "--env", "e")
    moved = folder.rename(tmp_path / "new name")
    assert recorded_command(moved)[0] == ["train", "ppo", f"--out={moved}", "--env", "e"]


def test_what_cannot_be_gone_on_with_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"without config\.yaml"):
        recorded_command(tmp_path)
    with pytest.raises(StoreError, match="which is gone"):
        recorded_command(_run(tmp_path / "gone", "train", "--out", "x", directory=tmp_path / "nowhere"))
    with pytest.raises(StoreError, match=r"must be a run of vtt train, .*, got one of vtt demo\. Run that again"):
        recorded_command(_run(tmp_path / "part", "demo", "--out", "x"))


def test_the_recorded_command_runs_again_with_what_is_added(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = _run(tmp_path / "run", "pretrain", "--data", "nowhere", "--out", "run")
    # That the store is missing shows that the command was run.
    assert main(["resume", str(folder), "--steps", "5"]) == 2
    told = capsys.readouterr()
    assert f"In {tmp_path}: vtt pretrain --data nowhere --out {folder} --steps 5" in told.out
    assert "nowhere" in told.err

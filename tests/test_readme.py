"""Every block of the README and the documentation says what is true: commands parse, targets exist, Python runs."""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
from pathlib import Path

import pytest

from vtt import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / ".github" / "CONTRIBUTING.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def blocks(*languages: str) -> list:
    """The blocks of every page in one of the languages, as pytest parameters."""
    return [
        pytest.param(match[2], id=f"{page.stem}-{number}")
        for page in PAGES
        for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")))
        if match[1] in languages
    ]


def commands(block: str) -> list[list[str]]:
    """The command lines of a shell block, continued lines joined, comments dropped."""
    lines = block.replace("\\\n", " ").splitlines()
    split = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [words for words in split if words]


@pytest.mark.parametrize("block", blocks("sh", "bash", "console"))
def test_shell_blocks_use_what_exists(block, capsys):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(block):
        match words:
            case ["make", *rest]:
                assert {word for word in rest if "=" not in word} <= targets
            case ["vtt" | ".venv/bin/vtt", *rest]:
                check_options(rest, capsys)


def check_options(argv: list[str], capsys) -> None:
    """Compare the options of one `vtt` call with the help of the subcommand it names."""
    chosen = itertools.takewhile(lambda word: not word.startswith("-"), argv)
    capsys.readouterr()
    with contextlib.suppress(SystemExit):
        cli.run([*chosen, "--help"])
    known = set(re.findall(r"--[\w.-]+", capsys.readouterr().out))
    assert {word.split("=")[0] for word in argv if word.startswith("--")} <= known


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "block", "exec"), {"__name__": "block"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_readme_fits_one_screen_and_names_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
    assert "make demo" in text
    assert "make test" in text

from __future__ import annotations

import errno
import logging
import os
import platform
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Literal

import pytest
import tyro

import vtt
from vtt import cli
from vtt.errors import ConfigError, DependencyError, MissingError, StoreError


@dataclass(frozen=True)
class Grasp:
    """Close the gripper."""

    target: tyro.conf.Positional[str]
    """What to grasp."""
    max_force: float = 1.0
    """Force limit, in N."""
    seed: int = 0
    """Seed."""
    hand: Literal["left", "right"] = "left"
    """Hand to use."""


@dataclass(frozen=True)
class Release:
    """Open the gripper."""

    slowly: bool = False
    """Take time."""


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Install commands from source text, importable as modules of their own."""
    monkeypatch.syspath_prepend(tmp_path)
    points: dict[str, EntryPoint] = {}
    monkeypatch.setattr(cli, "_commands", lambda: points)

    def add(name: str, source: str) -> None:
        module = f"command_{tmp_path.name}_{name}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        points[name] = EntryPoint(name, f"{module}:main", "vtt.commands")

    return add


@pytest.fixture(autouse=True)
def keep_logging():
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    for name in ("vtt", "vtt_sensors", "vtt_envs", "vtt_policies", "vtt_ros"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def main_that(body: str) -> str:
    return f'def main(argv):\n    """Run the body."""\n    {body}\n'


def test_help_lists_every_installed_command(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    names = {point.name for point in entry_points(group="vtt.commands")}
    assert names >= {"demo", "collect", "pretrain", "distill", "imitate", "evaluate", "sensor", "data"}
    for name in names:
        assert f"\n  {name} " in shown


def test_no_arguments_show_the_help(capsys):
    assert cli.main([]) == 0
    assert "usage: vtt" in capsys.readouterr().out


def test_version_is_that_of_the_package(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vtt {vtt.__version__}\n"


def test_summary_is_read_without_importing(install, capsys):
    install("poke", 'raise SystemExit("imported")\ndef main(argv):\n    """Poke it.\n\n    Gently."""\n')
    cli.run(["--help"])
    assert "  poke  Poke it.\n" in capsys.readouterr().out


def test_summary_of_a_command_defined_elsewhere_is_found(install, capsys):
    install("inner", 'def main(argv):\n    """Do it there."""\n')
    inner = cli._commands()["inner"].module
    install("outer", f"from {inner} import main\n")
    cli.run(["--help"])
    assert "  outer  Do it there.\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "reason"),
    [("import no_such_module", "No module named 'no_such_module'"), ("def main(", "never closed")],
)
def test_a_broken_command_breaks_no_help(install, capsys, source, reason):
    install("broken", source)
    install("sound", 'def main(argv):\n    """Work."""\n')
    cli.run(["--help"])
    shown = capsys.readouterr().out
    assert f"  broken  (unavailable: {reason}" in shown or ("(unavailable: " in shown and reason in shown)
    assert "  sound   Work.\n" in shown


def test_a_missing_module_is_named_when_the_command_runs(install):
    install("broken", "import no_such_module\ndef main(argv): ...")
    with pytest.raises(DependencyError, match=r"Command 'broken' is unavailable: No module named 'no_such_module'\."):
        cli.run(["broken"])


def test_unknown_command_suggests_the_nearest():
    with pytest.raises(MissingError, match=r"No command 'colect'\. Did you mean 'collect'\? Available: bench-bundle,"):
        cli.run(["colect"])


def test_unknown_global_option_suggests_the_nearest():
    with pytest.raises(MissingError, match=r"No option '--versoin'\. Did you mean '--version'\?"):
        cli.run(["--versoin"])


def test_parse_returns_the_config():
    config = cli.parse(Grasp, ["peg", "--max-force", "2.5", "--hand", "right"], prog="vtt grasp")
    assert config == Grasp("peg", max_force=2.5, hand="right")


def test_parse_chooses_a_subcommand():
    assert cli.parse(Grasp | Release, ["release", "--slowly"], prog="vtt hand") == Release(slowly=True)
    assert cli.parse(Grasp | Release, ["grasp", "peg", "--seed", "-3"], prog="vtt hand") == Grasp("peg", seed=-3)


def test_parse_chooses_a_renamed_subcommand():
    hand = Annotated[Grasp, tyro.conf.subcommand("take")] | Annotated[Release, tyro.conf.subcommand("drop")]
    assert cli.parse(hand, ["take", "peg"], prog="vtt hand") == Grasp("peg")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["peg", "--sed", "3"], r"Unknown option '--sed'\. Did you mean '--seed'\? See 'vtt grasp --help'\."),
        (["peg", "--sed=3"], r"Unknown option '--sed'\. Did you mean '--seed'\?"),
        (["--sed", "3"], r"Unknown option '--sed'\. Did you mean '--seed'\?"),
        (["peg", "--max_forc", "3"], r"Unknown option '--max-forc'\. Did you mean '--max-force'\?"),
        (["peg", "--zzzzzz"], r"Unknown option '--zzzzzz'\. See"),
        (["peg", "hole"], r"Unknown argument 'hole'\. See"),
    ],
)
def test_an_unknown_option_suggests_the_nearest(argv, message):
    with pytest.raises(ConfigError, match=message):
        cli.parse(Grasp, argv, prog="vtt grasp")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["grsp", "peg"], r"Unknown argument 'grsp'\. Did you mean 'grasp'\? Available: grasp, release\."),
        (["grsp", "peg", "--seed", "3"], r"Unknown argument 'grsp'\. Did you mean 'grasp'\?"),
        (["grasp", "peg", "--sede", "3"], r"Unknown option '--sede'\. Did you mean '--seed'\?"),
        (["release", "--slow"], r"Unknown option '--slow'\. Did you mean '--slowly'\?"),
    ],
)
def test_unknown_words_of_a_subcommand_suggest_the_nearest(argv, message):
    with pytest.raises(ConfigError, match=message):
        cli.parse(Grasp | Release, argv, prog="vtt hand")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "vtt grasp"),
        (["peg", "--seed", "x"], "--seed"),
        (["peg", "--hand", "middle"], "'middle'"),
        (["peg", "--seed"], "--seed"),
    ],
)
def test_a_value_that_cannot_be_read_is_explained(argv, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.parse(Grasp, argv, prog="vtt grasp")
    assert said in capsys.readouterr().err


def test_help_of_a_command_shows_its_options_and_their_meaning(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.parse(Grasp, ["--help"], prog="vtt grasp", description="Grasp things.")
    shown = capsys.readouterr().out
    assert "usage: vtt grasp" in shown
    assert "Grasp things." in shown
    assert "--max-force FLOAT" in shown
    assert "Force limit, in N. (default: 1.0)" in shown


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreError("peg.zarr must be a store,\n got a file."), "error: peg.zarr must be a store, got a file.\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.png"), "error: No such file: 'a.png'.\n"),
    ],
)
def test_a_foreseen_failure_ends_in_one_sentence(monkeypatch, capsys, error, said):
    def fail(argv):
        raise error

    monkeypatch.setattr(cli, "run", fail)
    assert cli.main(["anything"]) == 2
    assert capsys.readouterr().err == said


def test_an_unforeseen_failure_keeps_its_traceback(install):
    install("bad", main_that('raise ZeroDivisionError("by design")'))
    with pytest.raises(ZeroDivisionError, match="by design"):
        cli.main(["bad"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named_with_its_cure(install, capsys):
    install("fill", main_that('with open("/dev/full", "wb", buffering=0) as file:\n        file.write(b"x")'))
    assert cli.main(["fill"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: No space left on device")
    assert "Everything committed before is intact." in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("cause", [" from full", ""])
def test_a_full_disk_is_found_behind_another_error(install, capsys, cause):
    body = f"try:\n        raise OSError({errno.ENOSPC}, 'No space left on device', 'a/b')\n"
    install("fill", main_that(body + f"    except OSError as full:\n        raise RuntimeError('write failed'){cause}"))
    assert cli.main(["fill"]) == 2
    assert "No space left on device while writing 'a/b'." in capsys.readouterr().err


def test_an_interrupt_ends_in_one_line(install, capsys):
    install("stop", main_that("raise KeyboardInterrupt"))
    assert cli.main(["stop"]) == 130
    assert capsys.readouterr().err.strip().startswith("Interrupted.")


def test_messages_of_vtt_are_shown_and_those_of_others_are_not(install, capsys):
    install(
        "talk", main_that("from logging import getLogger\n    [getLogger(n).info(n) for n in ('vtt.demo', 'other')]")
    )
    assert cli.main(["talk"]) == 0
    assert capsys.readouterr().err == "vtt.demo\n"


def test_verbose_shows_the_origin_of_messages(install, capsys):
    install("talk", main_that("import logging\n    logging.getLogger('vtt.demo').debug('detail')"))
    assert cli.main(["talk", "-v"]) == 0
    assert capsys.readouterr().err.rstrip().endswith("DEBUG vtt.demo: detail")


def test_a_reader_that_leaves_early_is_no_failure():
    program = "import sys, time; from vtt.cli import main; time.sleep(0.3); sys.exit(main(['--help']))"
    script = '"$0" -c "$1" | true; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, program],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "141"
    assert done.stderr == ""


def test_a_pipe_that_broke_elsewhere_is_a_failure(install, capfd):
    install("pipe", main_that('raise BrokenPipeError("worker died")'))
    with pytest.raises(BrokenPipeError, match="worker died"):
        cli.main(["pipe"])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_the_command_keeps_large_buffers_from_going_back_to_the_kernel():
    faults = """
        import resource, numpy
        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(50):
                (numpy.ones(500_000) + 1).sum()
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        before = faults()
        from vtt import cli
        cli.main(["--version"])
        faults()
        assert faults() < before / 10, before
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(faults)], check=True, capture_output=True)

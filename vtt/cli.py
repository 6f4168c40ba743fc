"""The `vtt` command: find a command by name, run it, and end every foreseeable failure in one sentence.

A command is an entry point of the group `vtt.commands`: a name and a `main(argv)` whose docstring's first line is the
summary shown by `vtt --help`. That line is read from the source, so that listing the commands imports none of them.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import io
import itertools
import json
import logging
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar, overload

import vtt
from vtt.errors import ConfigError, DependencyError, MissingError, VttError
from vtt.files import is_disk_full

__all__ = ["main", "parse", "parse_key_values", "run"]

_log = logging.getLogger(__name__)
_GROUP = "vtt.commands"
_PACKAGES = ("vtt", "vtt_sensors", "vtt_envs", "vtt_policies", "vtt_ros")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_OPTION = re.compile(r"(?<![\w-])--[A-Za-z][\w.-]*")

ConfigT = TypeVar("ConfigT")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `vtt` command line.

    Args:
        argv: Arguments after the program's name; None takes those of the process.

    Returns:
        Exit status: 0 done, 2 refused or failed in a foreseen way, 130 interrupted, 141 the reader of stdout left.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = any(argument in ("-v", "--verbose") for argument in arguments)
    _set_up_logging(verbose)
    _prepare_process()
    try:
        try:
            run([argument for argument in arguments if argument not in ("-v", "--verbose")])
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nInterrupted. Everything committed so far is kept.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _reader_left():
            raise
        # What Python writes at exit must not fail a second time (docs of the signal module).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        _log.debug("The failure in full:", exc_info=True)
        print(f"error: {sentence}", file=sys.stderr)
        return 2
    return 0


def parse_key_values(items: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` options; a value is read as JSON where it is JSON, else as text.

    Raises:
        ConfigError: If an option has another form.

    Example:
        >>> parse_key_values(["noise=0.005", "camera=false", "robot=gripper"])
        {'noise': 0.005, 'camera': False, 'robot': 'gripper'}
    """
    options: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not key.isidentifier() or not equals:
            raise ConfigError(f"An environment option must be key=value, got '{item}'.")
        try:
            options[key] = json.loads(text)
        except json.JSONDecodeError:
            options[key] = text
    return options


def run(argv: Sequence[str]) -> None:
    """Run one command in this process.

    Args:
        argv: The command's name, then its arguments, as on the command line.

    Raises:
        MissingError: If there is no such command; names the nearest.
        DependencyError: If the command's module cannot be imported.

    Example:
        >>> run(["--version"])  # doctest: +ELLIPSIS
        vtt ...
    """
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"vtt {vtt.__version__}")
    else:
        _load(name)(rest)


@overload
def parse(
    config_class: type[ConfigT], argv: Sequence[str], *, prog: str, description: str | None = None
) -> ConfigT: ...
@overload
def parse(config_class: Any, argv: Sequence[str], *, prog: str, description: str | None = None) -> Any: ...
def parse(config_class: Any, argv: Sequence[str], *, prog: str, description: str | None = None) -> Any:
    """Parse a command's arguments into its config.

    Args:
        config_class: Dataclass, or a union of dataclasses for a command with subcommands.
        argv: Arguments after the command's name.
        prog: Full name of the command as shown in its help, "vtt collect".
        description: Text above the options; None takes the docstring of `config_class`.

    Returns:
        An instance of `config_class`.

    Raises:
        ConfigError: If an option or argument is unknown; names the nearest.
        SystemExit: After `--help` (status 0), or on a missing or unreadable value (status 2, explained on stderr).
    """
    import tyro

    def attempt(arguments: Sequence[str]) -> tuple[Any, list[str]]:
        return tyro.cli(
            config_class,
            prog=prog,
            description=description,
            args=list(arguments),
            return_unknown_args=True,
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            config, unknown = attempt(argv)
    except SystemExit as stop:
        if stop.code not in (0, None):
            # An unknown word can show as a missing one: name it first.
            _refuse_unknown(argv, argv, prog, attempt)
            sys.stderr.write(complaint.getvalue())
        raise
    if unknown:
        _refuse_unknown(unknown, argv, prog, attempt)
        raise ConfigError(f"Unknown argument '{unknown[0]}'. See '{prog} --help'.")
    return config


def _refuse_unknown(
    suspects: Sequence[str], argv: Sequence[str], prog: str, attempt: Callable[[Sequence[str]], Any]
) -> None:
    """Raise for a subcommand, or the first option among the suspects, that the help does not name."""
    # The words before the first option choose the subcommand, whose help names the options there are.
    chosen = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    page = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(page), contextlib.redirect_stderr(page):
        attempt([*chosen, "--help"])
    usage = re.sub(r"\[.*?\]", "", page.getvalue().split("\n\n")[0], flags=re.DOTALL)
    subcommands = [
        name for group in re.findall(r"\{(.*?)\}(?!\|)", usage, re.DOTALL) for name in re.split(r"[,\s]+", group)
    ]
    if chosen and subcommands and not set(chosen) & set(subcommands):
        hint = _nearest(chosen[0], subcommands)
        raise ConfigError(f"Unknown argument '{chosen[0]}'.{hint} Available: {', '.join(subcommands)}.") from None
    known = _OPTION.findall(page.getvalue())
    for word in suspects:
        option = word.split("=", 1)[0].replace("_", "-")
        if _OPTION.match(word) and option not in known:
            raise ConfigError(f"Unknown option '{option}'.{_nearest(option, known)} See '{prog} --help'.") from None


def _nearest(name: str, known: Sequence[str]) -> str:
    """Suggest the known name nearest to `name`, as a sentence that begins with a blank, or nothing."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def _commands() -> dict[str, EntryPoint]:
    """Return the installed commands by name, sorted."""
    found = {point.name: point for point in reversed(tuple(entry_points(group=_GROUP)))}
    return dict(sorted(found.items()))


def _load(name: str) -> Callable[[Sequence[str]], None]:
    """Import the command of that name."""
    commands = _commands()
    if name not in commands:
        kind = "option" if name.startswith("-") else "command"
        suggestion = _nearest(name, ["--help", "--version", "--verbose"] if kind == "option" else list(commands))
        available = f" Available: {', '.join(commands) or 'none'}." if kind == "command" else ""
        raise MissingError(f"No {kind} '{name}'.{suggestion}{available}")
    try:
        return commands[name].load()
    except (ImportError, AttributeError) as error:
        _log.debug("Import of %s failed:", commands[name].value, exc_info=True)
        raise DependencyError(f"Command '{name}' is unavailable: {error}.") from error


def _help() -> str:
    """Compose `vtt --help`."""
    commands = _commands()
    width = max((len(name) for name in commands), default=0)
    listing = "\n".join(f"  {name:<{width}}  {_summary(point)}" for name, point in commands.items())
    return (
        "usage: vtt [-v] COMMAND [options]\n\n"
        "Visuo-tactile transformers: simulate touch, learn from it, use it.\n\n"
        f"commands:\n{listing or '  none installed'}\n\n"
        "options:\n"
        "  -h, --help     show this help, or that of a command: vtt COMMAND --help\n"
        "  -v, --verbose  show debug messages and full tracebacks\n"
        "  --version      show the version"
    )


def _summary(point: EntryPoint) -> str:
    """Return the first docstring line of a command's `main`."""
    try:
        docstring = _read_docstring(point)
        if docstring is None:
            docstring = point.load().__doc__
    except Exception as error:  # whatever a broken command raises, the others are listed
        return f"(unavailable: {error})"
    return (docstring or "(no summary)").splitlines()[0]


def _read_docstring(point: EntryPoint) -> str | None:
    """Read the docstring of a command from its source, importing nothing; None if it is not defined there."""
    for node in ast.parse(_source(point.module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == point.attr:
            return ast.get_docstring(node)
    return None


def _source(module: str) -> Path:
    """Find the file of a module without importing its parents."""
    search: Sequence[str] | None = None
    origin: str | None = None
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        spec = PathFinder.find_spec(".".join(names[:depth]), search)
        if spec is None:
            raise ImportError(f"No module named '{module}'")
        origin, search = spec.origin, spec.submodule_search_locations or []
    if origin is None:
        raise ImportError(f"{module} has no source file")
    return Path(origin)


def _sentence(error: Exception) -> str | None:
    """Put a foreseen failure into one sentence; None for one that nobody foresaw."""
    for cause in _causes(error):
        # Libraries that write from native code say the same in words.
        if is_disk_full(cause) or "No space left on device" in str(cause):
            reason = getattr(cause, "strerror", None) or "No space left on device"
            named = getattr(cause, "filename", None)
            where = f" while writing '{named}'" if named else ""
            return (
                f"{reason}{where}. Everything committed before is intact. "
                "Make room, or write to another disk, and run the same command again."
            )
    if isinstance(error, VttError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: '{error.filename}'."
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk from an exception to what raised it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reader_left() -> bool:
    """Tell whether stdout is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def _prepare_process() -> None:
    """Set what numerical work wants and a library may not decide."""
    # Torch's idle threads spin by default, and take the cores from the physics' threads: measured ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # glibc gives a large buffer back to the kernel at once and then pays for every page anew; a training step of the
    # encoder took a tenth longer. Other C libraries have no such setting.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the largest that is accepted
        library.mallopt(_M_TRIM_THRESHOLD, 2**30)


def _set_up_logging(verbose: bool) -> None:
    """Send log records to stderr: bare messages by default, with time and origin when verbose."""
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s" if verbose else "%(message)s"
    logging.basicConfig(level=logging.WARNING, format=form, stream=sys.stderr, force=True)
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)

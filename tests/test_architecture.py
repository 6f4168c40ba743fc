"""The rules that hold for every file: public names, typing markers, light commands, tests that check messages."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [ROOT / folder for folder in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
COMMANDS = PROJECT["project"]["entry-points"]["vtt.commands"]
# Seconds to import each; gymnasium is not here because registering an environment needs it.
HEAVY = ["cv2", "matplotlib", "mujoco", "safetensors", "scipy", "stable_baselines3", "torch", "zarr"]


def module_name(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(file, package): file for package in PACKAGES for file in sorted(package.rglob("*.py"))}
PUBLIC = [name for name in SOURCES if not any(part.startswith("_") for part in name.split("."))]


def public_names(source: str) -> set[str]:
    """The names that a module defines for others: no underscore, not imported, not a type variable."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                is_variable = isinstance(value, ast.Call) and getattr(value.func, "id", "") in ("TypeVar", "ParamSpec")
                names |= set() if is_variable else {name}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_")}


def imported(name: str) -> ModuleType:
    """Import a module; one that needs ROS is skipped where there is none."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        if name.startswith("vtt_ros.") and importlib.util.find_spec("rclpy") is None:
            pytest.skip("rclpy is not installed")
        raise


@pytest.mark.parametrize("name", PUBLIC)
def test_all_is_what_a_module_offers(name):
    module = imported(name)
    offered = list(getattr(module, "__all__", []))
    assert len(offered) == len(set(offered))
    assert [missing for missing in offered if not hasattr(module, missing)] == []
    assert public_names(SOURCES[name].read_text(encoding="utf-8")) <= set(offered)


@pytest.mark.parametrize("name", SOURCES)
def test_the_examples_in_docstrings_hold(name):
    assert doctest.testmod(imported(name)).failed == 0


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_is_typed(package):
    assert (package / "__init__.py").is_file()
    assert (package / "py.typed").is_file()


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_is_named_after_nothing(name):
    assert not {"utils", "helpers", "common", "misc"} & set(name.split("."))


@pytest.mark.parametrize("command", ["--help", *COMMANDS])
def test_help_is_short_and_imports_nothing_heavy(command):
    program = (
        "import json, sys\n"
        "from vtt.cli import main\n"
        "try:\n"
        "    status = main(sys.argv[2:])\n"
        "except SystemExit as stop:\n"
        "    status = stop.code or 0\n"
        "print(json.dumps([status, [name for name in json.loads(sys.argv[1]) if name in sys.modules]]))\n"
    )
    argv = [command] if command == "--help" else [command, "--help"]
    done = subprocess.run([sys.executable, "-c", program, json.dumps(HEAVY), *argv], capture_output=True, text=True)
    assert done.stderr == ""
    *page, last = done.stdout.splitlines()
    assert json.loads(last) == [0, []]
    assert 3 < len(page) <= 120


@pytest.mark.parametrize("target", COMMANDS.values(), ids=list(COMMANDS))
def test_every_command_has_a_summary_of_one_line(target):
    module, _, function = target.partition(":")
    summary = (getattr(importlib.import_module(module), function).__doc__ or "").splitlines()[:1]
    assert summary
    assert summary[0].endswith(".")
    assert len(summary[0]) < 100


def test_the_error_tree_is_drawn_as_it_is():
    from vtt import errors

    drawn = (errors.__doc__ or "").split("\n\n")[1]
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type):
            assert name in drawn
            assert issubclass(kind, errors.VttError)


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("*.py")), ids=lambda file: file.stem)
def test_every_expected_error_has_its_message_checked(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises":
            assert "match" in {keyword.arg for keyword in node.keywords}, f"{file.name}:{node.lineno}"

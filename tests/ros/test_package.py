"""What colcon and `ros2 launch` would find; neither is installed here, so their files are read."""

from __future__ import annotations

import ast
import dataclasses
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

from vtt_ros.driver.config import DriverConfig
from vtt_ros.gate.config import SIMULATED, GateConfig

ROS = Path(__file__).resolve().parents[2] / "ros"
LAUNCH = sorted((ROS / "launch").glob("*.launch.py"))


def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What setup.py hands to setuptools."""
    given: dict = {}
    setuptools = ModuleType("setuptools")
    setuptools.setup = given.update  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "setuptools", setuptools)
    monkeypatch.chdir(ROS)
    runpy.run_path(str(ROS / "setup.py"))
    return given


def node_calls(file: Path) -> list[dict[str, ast.expr]]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Node"]
    return [{word.arg: word.value for word in call.keywords if word.arg} for call in calls]


def test_setup_names_every_package_and_file(monkeypatch: pytest.MonkeyPatch):
    given = setup_arguments(monkeypatch)
    packages = {".".join(file.parent.relative_to(ROS).parts) for file in (ROS / "vtt_ros").rglob("__init__.py")}
    assert set(given["packages"]) == packages
    data = dict(given["data_files"])
    assert data["share/vtt_ros/launch"] == [f"launch/{file.name}" for file in LAUNCH]
    assert all((ROS / file).is_file() for files in data.values() for file in files)
    assert given["name"] == ElementTree.parse(ROS / "package.xml").findtext("name")
    assert given["version"] == ElementTree.parse(ROS / "package.xml").findtext("version")


def test_every_executable_has_a_main(monkeypatch: pytest.MonkeyPatch):
    for line in setup_arguments(monkeypatch)["entry_points"]["console_scripts"]:
        module = line.split(" = ")[1].removesuffix(":main")
        file = ROS / Path(*module.split(".")).with_suffix(".py")
        assert "main" in {n.name for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize("file", LAUNCH, ids=lambda file: file.stem)
def test_launch_files_start_executables_that_exist(file: Path, monkeypatch: pytest.MonkeyPatch):
    scripts = {line.split(" = ")[0] for line in setup_arguments(monkeypatch)["entry_points"]["console_scripts"]}
    calls = node_calls(file)
    assert calls
    for call in calls:
        assert ast.literal_eval(call["executable"]) in scripts
        assert ast.literal_eval(call["package"]) == "vtt_ros"


def test_the_limits_of_a_simulated_robot_are_parameters_of_the_gate():
    assert GateConfig(**SIMULATED).linear_speed == SIMULATED["linear_speed"]


@pytest.mark.parametrize(("name", "config"), [("gate.yaml", GateConfig), ("driver.yaml", DriverConfig)])
def test_the_shipped_yaml_names_parameters_that_exist(name: str, config: type):
    yaml = pytest.importorskip("yaml")
    for node in yaml.safe_load((ROS / "config" / name).read_text(encoding="utf-8")).values():
        values = node["ros__parameters"]
        assert set(values) <= {field.name for field in dataclasses.fields(config)}
        config(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

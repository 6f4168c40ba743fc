"""Build the wheel and the sdist, install each into an empty environment, and use what a user would use.

TORCH in the environment names the torch to install beside them, as in the Makefile.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = [Path(folder) for folder in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
COMMANDS = sorted(PROJECT["project"]["entry-points"]["vtt.commands"])
HELP_SECONDS = 0.5
# A command's help imports its package; that of environments registers them with Gymnasium.
COMMAND_HELP_SECONDS = 0.8

IMPORT_ALL = """
import importlib, importlib.metadata, pathlib, sys
for package in sys.argv[1:]:
    module = importlib.import_module(package)
    assert module.__file__.startswith(sys.prefix), f"{package} comes from {module.__file__}"
    assert (pathlib.Path(module.__file__).parent / "py.typed").is_file(), f"{package} has no py.typed"
import vtt
assert vtt.__version__ == importlib.metadata.version("vtt-stack"), vtt.__version__
"""

# A student that has learned nothing, as a bundle: for the environment of a robot.
WRITE_BUNDLE = """
import sys, pathlib
from vtt_envs.core import BatchedEnv
from vtt_envs.tasks import PegInsertion
from vtt_policies.bundle import save_policy
from vtt_policies.config import StudentConfig
from vtt_policies.construction import build_student
from vtt_policies.deploy.export import export_bundle
folder = pathlib.Path(sys.argv[1])
env = BatchedEnv(PegInsertion(), num_envs=1, observation="tactile", num_threads=1)
specs, seen = env.stream_specs(), env.reset([0])
samples = {key: [value] for key, value in seen.items()}
policy = build_student(specs, samples, action_dim=6, network=StudentConfig(), seed=0)
save_policy(folder / "student", policy, specs=specs, run={})
export_bundle(folder / "student", folder / "bundle", onnx=True)
"""

ACT = """
import importlib.util, sys
import numpy as np
for name in ("torch", "mujoco", "gymnasium", "stable_baselines3"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed, which proves nothing"
from vtt_policies.deploy import load
policy = load(sys.argv[1], backend="onnx")
policy.reset()
observation = {key: np.zeros(spec.shape, spec.dtype) for key, spec in policy.contract.observation.items()}
action = policy.act(observation)
assert action.shape == (6,) and np.isfinite(action).all(), action
"""


def main() -> None:
    """Build, look inside, install, use."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT], check=True, stdout=subprocess.DEVNULL
        )
        (wheel,) = folder.glob("dist/*.whl")
        (sdist,) = folder.glob("dist/*.tar.gz")
        check_contents(wheel, sdist)
        for artefact in (wheel, sdist):
            use(artefact, folder / artefact.name.replace(".", "_"))
        act_without_torch(wheel, folder)
    print("smoke test passed")


def check_contents(wheel: Path, sdist: Path) -> None:
    """Check that the wheel holds the packages with their data and nothing else, and the sdist the sources."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(ROOT / folder.parent))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {file for file in inside if ".dist-info/" not in file}
    require(found == expected, f"{wheel.name} differs from the sources in {sorted(found ^ expected)}")
    require(any(file.endswith("licenses/LICENSE") for file in inside), f"{wheel.name} lacks the license")
    with tarfile.open(sdist) as archive:
        sources = {file.split("/", 1)[1] for file in archive.getnames() if "/" in file}
    for file in ("LICENSE", "README.md", "pyproject.toml", "Makefile", "tests/test_architecture.py"):
        require(file in sources, f"{sdist.name} lacks {file}")


def use(artefact: Path, environment: Path) -> None:
    """Install into an empty environment; import every package and show every command's help."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    # Not compiled: most of it is never imported here.
    install = [environment / "bin/python", "-m", "pip", "install", "-qq", "--no-compile"]
    subprocess.run([*install, *os.environ.get("TORCH", "").split(), artefact], check=True)
    packages = [folder.name for folder in FOLDERS]
    # Elsewhere, so that nothing of the repository is importable.
    run = {"cwd": environment, "check": True}
    subprocess.run([environment / "bin/python", "-I", "-c", IMPORT_ALL, *packages], **run)
    vtt = environment / "bin/vtt"
    listed = subprocess.run([vtt, "--help"], stdout=subprocess.PIPE, text=True, **run).stdout
    require("(unavailable" not in listed, f"a command of {artefact.name} is unavailable:\n{listed}")
    for command in ([], *([name] for name in COMMANDS)):
        seconds = min(timed([vtt, *command, "--help"], environment) for _ in range(4))
        words = " ".join(["vtt", *command, "--help"])
        limit = COMMAND_HELP_SECONDS if command else HELP_SECONDS
        require(seconds < limit, f"{words} must return in {limit} s, took {seconds:.2f} s")
        print(f"{words}: {seconds:.2f} s")
    print(f"{artefact.name}: installed and used in {time.monotonic() - started:.0f} s", flush=True)


def act_without_torch(wheel: Path, folder: Path) -> None:
    """Run a bundle where only NumPy and ONNX Runtime are installed, as on a robot's computer."""
    subprocess.run([sys.executable, "-c", WRITE_BUNDLE, folder], check=True)
    environment = folder / "robot"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    install = [environment / "bin/python", "-m", "pip", "install", "-qq", "--no-compile"]
    subprocess.run([*install, "--no-deps", wheel], check=True)
    subprocess.run([*install, "numpy", "onnxruntime"], check=True)
    subprocess.run([environment / "bin/python", "-I", "-c", ACT, folder / "bundle"], check=True, cwd=environment)
    print("a bundle acts without torch", flush=True)


def timed(command: list[str | Path], folder: Path) -> float:
    """Run a command; return its seconds, those of the processor where the machine was busy with others."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    wall = time.monotonic() - started
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return min(wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)


def require(fact: bool, failure: str) -> None:
    """End the smoke test unless the fact holds."""
    if not fact:
        sys.exit(f"smoke test failed: {failure}")


if __name__ == "__main__":
    main()

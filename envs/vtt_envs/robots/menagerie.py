"""Arms of MuJoCo Menagerie, with the gripper and gel pads of this project.

The models come from a checkout of https://github.com/google-deepmind/mujoco_menagerie, named by the environment
variable `MENAGERIE_ROOT`, or from the package `mujoco-menagerie`, which downloads them at first use and keeps them in
`MENAGERIE_CACHE_DIR`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np

from vtt.errors import DependencyError, missing
from vtt_envs.robots.arm import Arm
from vtt_envs.robots.franka import FrankaArm

__all__ = ["ARMS", "MenagerieArm", "find_model"]

_PREFIX = "arm/"


class _Source(NamedTuple):
    """A model: its file, the site on its flange, and the turn from there to the hand about the site's z in [rad]."""

    file: str
    site: str
    turn: float


_SOURCES = {
    "franka_emika_panda": _Source("panda_nohand.xml", "attachment_site", np.pi),
    "franka_fr3": _Source("fr3.xml", "attachment_site", -np.pi / 4),
}
ARMS = tuple(_SOURCES)


@dataclass
class MenagerieArm(Arm):
    """An arm of MuJoCo Menagerie in the place and posture of `FrankaArm`; see `Arm` for its control and gripper.

    Bodies, joints, limits and looks are the model's. Its own actuators, lights and key frames are left out, and it
    touches nothing.

    Attributes:
        name: One of `ARMS`.

    Raises:
        MissingError: If there is no such arm, or no such model in `MENAGERIE_ROOT`.
        DependencyError: If there is neither `MENAGERIE_ROOT` nor the package, or it cannot download the model.
    """

    name: str = ARMS[0]

    home = FrankaArm.home

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in _SOURCES:
            raise missing("arm of MuJoCo Menagerie", self.name, ARMS)

    def add_arm(self, spec: mujoco.MjSpec) -> mujoco.MjsBody:
        """Add the arm; see `Arm`."""
        source = _SOURCES[self.name]
        arm = mujoco.MjSpec.from_file(str(find_model(self.name, source.file)))
        arm.option.integrator = spec.option.integrator  # the models' differ, and MuJoCo warns
        hinges = {joint.name: joint for joint in arm.joints}
        for actuator in list(arm.actuators):
            joint = hinges[actuator.target]
            if actuator.forcerange[1] > 0 and joint.actfrcrange[1] == 0:
                joint.actfrclimited, joint.actfrcrange = mujoco.mjtLimited.mjLIMITED_TRUE, actuator.forcerange
        for element in [*arm.actuators, *arm.keys, *arm.lights]:
            arm.delete(element)
        for geom in arm.geoms:
            geom.contype = geom.conaffinity = 0
        for body in arm.bodies[1:]:
            body.gravcomp = 1
        for joint in arm.joints:
            joint.actgravcomp = 1
        self.joints = tuple(_PREFIX + name for name in hinges)
        spec.attach(arm, prefix=_PREFIX, frame=spec.worldbody.add_frame(pos=FrankaArm.base))
        site = spec.site(_PREFIX + source.site)
        at_site = site.parent.add_body(name="flange_site", pos=site.pos, quat=site.quat)
        flange = at_site.add_body(name="flange", quat=[np.cos(source.turn / 2), 0, 0, np.sin(source.turn / 2)])
        flange.explicitinertial, flange.mass, flange.inertia = True, 1e-6, [1e-9] * 3
        return flange


def find_model(name: str, file: str) -> Path:
    """Find a file of a model of MuJoCo Menagerie.

    Raises:
        MissingError: If `MENAGERIE_ROOT` holds no such model or file.
        DependencyError: If there is neither `MENAGERIE_ROOT` nor the package, or it cannot download the model.
    """
    if root := os.environ.get("MENAGERIE_ROOT"):
        path = Path(root) / name / file
        if not path.is_file():
            raise missing(f"model in MENAGERIE_ROOT={root}", f"{name}/{file}", _models(Path(root)))
        return path
    try:
        mujoco_menagerie = import_module("mujoco_menagerie")
    except ImportError:
        raise DependencyError(
            f"The arm '{name}' needs the models of MuJoCo Menagerie. Run `pip install mujoco-menagerie`, or set "
            "MENAGERIE_ROOT to a checkout of github.com/google-deepmind/mujoco_menagerie."
        ) from None
    try:
        return mujoco_menagerie.get(name).path() / file
    except (mujoco_menagerie.MenagerieError, OSError) as error:
        raise DependencyError(
            f"The model '{name}' could not be had from mujoco-menagerie: {error}. Connect to the network once, or set "
            "MENAGERIE_ROOT to a checkout."
        ) from error


def _models(root: Path) -> list[str]:
    """Model files in a checkout."""
    return [str(path.relative_to(root)) for path in root.glob("*/*.xml")]

"""Arms of MuJoCo Menagerie load from a folder; here it holds a chain written by the test, laid out as the Panda's."""

from __future__ import annotations

import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from vtt.errors import DependencyError, MissingError
from vtt_envs.core import BatchedEnv
from vtt_envs.robots.franka import FrankaArm
from vtt_envs.robots.kinematics import Chain
from vtt_envs.robots.menagerie import MenagerieArm, find_model
from vtt_envs.tasks import PegInsertion

_LINKS = [  # position, quaternion wxyz, lower and upper angle: the Panda's
    ("0 0 0.333", "1 0 0 0", -2.8973, 2.8973),
    ("0 0 0", "1 -1 0 0", -1.7628, 1.7628),
    ("0 -0.316 0", "1 1 0 0", -2.8973, 2.8973),
    ("0.0825 0 0", "1 1 0 0", -3.0718, -0.0698),
    ("-0.0825 0.384 0", "1 -1 0 0", -2.8973, 2.8973),
    ("0 0 0", "1 1 0 0", -0.0175, 3.7525),
    ("0.088 0 0", "1 1 0 0", -2.8973, 2.8973),
]
_TETRAHEDRON = "v 0 0 0\nv .05 0 0\nv 0 .05 0\nv 0 0 .05\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one model that has what Menagerie's have: classes, a mesh, lights, actuators, a key frame."""
    bodies = "".join(
        f'<body name="link{index}" pos="{pos}" quat="{quat}"><inertial mass="2" pos="0 0 0" diaginertia=".02 .02 .01"/>'
        f'<joint name="joint{index}" range="{low} {high}"/><geom mesh="link" class="visual"/><geom size=".05"/>'
        for index, (pos, quat, low, high) in enumerate(_LINKS, 1)
    )
    motors = "".join(
        f'<general name="actuator{i}" joint="joint{i}" gainprm="4500" biasprm="0 -4500 -450" biastype="affine" '
        f'forcerange="-{87 if i < 5 else 12} {87 if i < 5 else 12}"/>'
        for i in range(1, 8)
    )
    folder = tmp_path / "franka_emika_panda"
    (folder / "assets").mkdir(parents=True)
    (folder / "assets" / "link.obj").write_text(_TETRAHEDRON)
    (folder / "panda_nohand.xml").write_text(
        f"""<mujoco><compiler angle="radian" meshdir="assets" autolimits="true"/><option integrator="implicit"/>
        <default><default class="panda"><joint armature="0.1" damping="1" axis="0 0 1"/>
        <default class="visual"><geom type="mesh" contype="0" conaffinity="0" group="2"/></default></default></default>
        <asset><mesh file="link.obj"/></asset>
        <worldbody><light name="top" pos="0 0 2"/><body name="link0" childclass="panda">{bodies}
        <body name="attachment" pos="0 0 0.107" quat="0.3826834 0 0 0.9238795"><site name="attachment_site"/></body>
        {"</body>" * 8}</worldbody>
        <actuator>{motors}</actuator>
        <keyframe><key name="home" qpos="0 0 0 -1.57 0 1.57 -.78"/></keyframe></mujoco>"""
    )
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path))
    return tmp_path


def test_its_tool_is_where_the_built_in_arms_is(root: Path) -> None:
    chains = []
    for robot in (MenagerieArm(touch=False), FrankaArm(touch=False)):
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        robot.add_to(spec)
        chains.append(Chain.of(spec.compile(), robot.joints, "tool"))
    angles = np.random.default_rng(0).uniform(chains[1].lower, chains[1].upper, (10, 7))

    menagerie, built_in = (chain.forward(angles) for chain in chains)

    np.testing.assert_allclose(menagerie.position, built_in.position, atol=1e-6)
    np.testing.assert_allclose(menagerie.rotation, built_in.rotation, atol=1e-6)
    np.testing.assert_allclose(chains[0].lower, chains[1].lower)


def test_it_inserts_pegs_with_the_models_torque_limits_and_without_its_motors(root: Path) -> None:
    env = BatchedEnv(PegInsertion(robot=MenagerieArm()), num_envs=8, num_threads=1)
    env.reset(range(1000, 1008))
    success = np.zeros(8, dtype=bool)

    while not env.done.all():
        success |= env.step(env.expert_action()).success

    model = env.engine.model
    assert success.sum() >= 7
    assert env.observation["tactile_left"].std() > 0
    np.testing.assert_array_equal(model.jnt_actfrcrange[model.joint("arm/joint2").id], [-87, 87])
    np.testing.assert_array_equal(model.jnt_actfrcrange[model.joint("arm/joint6").id], [-12, 12])
    assert not any(model.actuator(index).name.startswith("arm/") for index in range(model.nu))
    assert model.nkey == 0
    assert not any(model.light(index).name.startswith("arm/") for index in range(model.nlight))


def test_names_are_checked(root: Path) -> None:
    with pytest.raises(MissingError, match=r"No arm of MuJoCo Menagerie 'r2d2'. Available: franka_emika_panda"):
        MenagerieArm(name="r2d2")
    with pytest.raises(MissingError, match=r"fr3.xml'. Available: franka_emika_panda/panda_nohand.xml"):
        find_model("franka_fr3", "fr3.xml")


def test_without_the_models_the_error_says_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    monkeypatch.setitem(sys.modules, "mujoco_menagerie", None)

    with pytest.raises(DependencyError, match="pip install mujoco-menagerie"):
        MenagerieArm().add_to(mujoco.MjSpec())


def test_the_package_serves_what_it_has_and_says_what_it_cannot_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("mujoco_menagerie")
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    monkeypatch.setenv("MENAGERIE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("MENAGERIE_BASE_URL", (tmp_path / "nowhere").as_uri())

    with pytest.raises(DependencyError, match="'franka_fr3' could not be had from mujoco-menagerie"):
        find_model("franka_fr3", "fr3.xml")

"""A four-finger hand of sixteen joints with a DIGIT on every fingertip.

Source: the Allegro hand. Frames, axes, limits and boxes of its links: Wonik's published URDF (allegro_hand_ros of
simlabrobotics, allegro_hand_description_right.urdf). Masses, place of the DIGITs, gains, torque limit, armature,
friction and action scale: Hora (Qi et al., CoRL 2022, arXiv 2210.04887; assets/allegro/allegro_internal.urdf and
hora/tasks/allegro_hand_hora.py). Inertias are those of the boxes: Hora's belong to no body of such a mass and size.

Frames:
    tool: the palm, fixed, facing up. z out of the palm, x along the stretched fingers, y from index to ring finger.
        Origin at the root of the middle finger, `PALM_HEIGHT` above the floor.
    finger: as in `base`, but turned about the gel's normal, because a DIGIT's picture stands on its short side: x to
        the fingertip, z across the finger. Rows of the picture run from the fingertip down, columns across.

Legend: B environments, n of them, 16 joints: index, middle, ring, thumb; each from the palm outwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.robots.base import GEL_MASS, GelPad, Robot, add_pad, add_tool_sensors
from vtt_envs.robots.kinematics import Chain

__all__ = ["LINKS", "PALM_HEIGHT", "Hand"]

LINKS = 8  # collision bit of palm, links and housings: an object that may rest on them takes it into its `conaffinity`
PALM_HEIGHT = 0.06  # m

_PALM_QUAT = (0.0, 1.0, 0.0, 1.0)  # wxyz, unnormalised: x of the URDF's palm is z of the tool, its z is x
_TILT = np.deg2rad(2.5)  # half of the 5 degrees by which the outer fingers spread


@dataclass(frozen=True)
class _Link:
    """One joint (pose, axis, range in [rad]) and the box that it moves (half size and middle in [m], mass in [kg])."""

    position: tuple[float, float, float]
    axis: tuple[float, float, float]
    range: tuple[float, float]
    half: tuple[float, float, float]
    middle: tuple[float, float, float]
    mass: float
    quat_wxyz: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)


def _finger(y: float, z: float, tilt: float) -> tuple[_Link, ...]:
    """Index, middle or ring finger, from its root in the palm."""
    y_axis, z_axis = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    root = (float(np.cos(tilt)), float(np.sin(tilt)), 0.0, 0.0)
    return (
        _Link((0, y, z), z_axis, (-0.47, 0.47), (0.0098, 0.01375, 0.0082), (0, 0, 0.0082), 0.0119, root),
        _Link((0, 0, 0.0164), y_axis, (-0.196, 1.61), (0.0098, 0.01375, 0.027), (0, 0, 0.027), 0.065),
        _Link((0, 0, 0.054), y_axis, (-0.174, 1.709), (0.0098, 0.01375, 0.0192), (0, 0, 0.0192), 0.0355),
        _Link((0, 0, 0.0384), y_axis, (-0.227, 1.618), (0.0098, 0.01375, 0.00735), (0, 0, 0.00735), 0.0096),
    )


_THUMB = (
    _Link(
        (-0.0182, 0.019333, -0.045987),
        (-1.0, 0.0, 0.0),
        (0.263, 1.396),
        (0.0179, 0.017, 0.02275),
        (-0.0179, 0.009, 0.0145),
        0.0176,
        (0.477714, -0.521334, -0.521334, -0.477714),
    ),
    _Link((-0.027, 0.005, 0.0399), (0, 0, 1), (-0.105, 1.163), (0.0098, 0.01375, 0.00885), (0, 0, 0.00885), 0.0119),
    _Link((0, 0, 0.0177), (0, 1, 0), (-0.189, 1.644), (0.0098, 0.01375, 0.0257), (0, 0, 0.0257), 0.038),
    _Link((0, 0, 0.0514), (0, 1, 0), (-0.162, 1.719), (0.0098, 0.01375, 0.01515), (0, 0, 0.01515), 0.0388),
)
_FINGERS = {
    "index": _finger(0.0435, -0.001542, -_TILT),
    "middle": _finger(0.0, 0.0007, 0.0),
    "ring": _finger(-0.0435, -0.001542, _TILT),
    "thumb": _THUMB,
}
_DIGIT_MOUNT = {"index": 0.0147, "middle": 0.0147, "ring": 0.0147, "thumb": 0.0303}  # m along the last link
# m along the DIGIT and off the finger's axis, to the middle of its gel's face: Hora has a sphere of 12.35 mm there.
_GEL_ALONG, _GEL_OFF = 0.0368, 0.01235
# rad by which a DIGIT looks up from its finger. Ours: straight, the thumb's gel would meet the index finger's at this
# angle, and an object between them would touch only its edge, which a real gel's bulge helps against.
_DIGIT_TILT = {"index": 0.0, "middle": 0.0, "ring": 0.0, "thumb": 0.35}
_DIGIT_MASS = 0.0168  # kg
_DIGIT_DEPTH = 0.018  # m, gel and housing
_SMALL_DISTANCE, _SMALL_TURN = (
    1e-3,
    0.5,
)  # m and rad that weigh the same in the inverse kinematics: the place comes first


def _digit_pad() -> GelPad:
    """DIGIT's gel; sizes and window from its `SensorSpec`, whose sources they share.

    The gel is a flat block here, and taxels on its plane keep the picture's geometry. A real one is domed, so that it
    meets a long object in its middle where the block may meet it with an edge.
    """
    return GelPad(size=(0.0246, 0.01835, 0.0046), window=(0.016352, 0.012264), taxels=(48, 36))


@dataclass
class Hand(Robot):
    """Sixteen joints under position control, palm up, with DIGIT pads on index, middle, ring and thumb.

    An action adds to the joint targets, as in Hora; a proportional-derivative law of limited torque follows them. The
    weight of the hand is compensated (Hora switches it off). The links collide with what lets them (`LINKS`), pads also
    with pads; links do not collide with links.

    `place` cannot take the palm anywhere: it ignores the tool pose and the opening and writes the home posture.

    | proprioception | unit |
    |---|---|
    | 16 joint positions, 16 velocities, 16 targets | rad, rad/s, rad |

    Attributes:
        pad: Gel on every fingertip.
        touch: Whether the pads carry taxel sensors.
        joint_step: Change of a joint target at action 1, in [rad] per control step. Hora: 1/24.
        stiffness: Proportional gain in [N m/rad]. Hora: 3.
        damping: Derivative gain in [N m s/rad]. Hora: .1.
        torque_limit: Largest torque of a joint in [N m]. Hora: .5.
    """

    pad: GelPad = field(default_factory=_digit_pad)
    touch: bool = True
    joint_step: float = 1 / 24
    stiffness: float = 3.0
    damping: float = 0.1
    torque_limit: float = 0.5

    fingers = tuple(_FINGERS)
    mirrored = ()
    sensor = "digit"
    action_size = 16
    translation_step = 0.0  # the palm is fixed
    rotation_step = 0.0
    joints = tuple(f"{finger}_{joint}" for finger in _FINGERS for joint in range(4))
    # rad. Fingers half closed around the space above the palm.
    home = (0.0, 1.2, 0.3, 0.2, 0.0, 0.5, 0.3, 0.2, 0.0, 0.5, 0.3, 0.2, 1.3, 0.1, 0.3, 0.0)
    proprioception_names = (
        *(f"position_{name}" for name in joints),
        *(f"velocity_{name}" for name in joints),
        *(f"target_{name}" for name in joints),
    )
    proprioception_unit = "rad, rad/s, rad"
    mass = 0.9549  # kg
    centre_of_mass = (-0.00721, -0.0043, 0.0225)  # m, tool frame, at the home posture
    _PALM_MASS = 0.4154  # kg

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add bodies, joints, actuators and sensors; see `Robot`."""
        tool = spec.worldbody.add_body(name="tool", pos=[0, 0, PALM_HEIGHT])
        tool.add_site(name="tool")
        palm = tool.add_body(name="palm", quat=_PALM_QUAT, gravcomp=1)
        _add_box(palm, "palm", (0.0204, 0.0565, 0.0475), (-0.0093, 0, -0.0475), self._PALM_MASS)
        for name, links in _FINGERS.items():
            body = palm
            for index, link in enumerate(links):
                body = body.add_body(name=f"{name}_{index}", pos=link.position, quat=link.quat_wxyz, gravcomp=1)
                body.add_joint(
                    name=f"{name}_{index}",
                    type=mujoco.mjtJoint.mjJNT_HINGE,
                    axis=link.axis,
                    limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                    range=link.range,
                    armature=0.001,  # kg m^2, Hora
                    frictionloss=0.01,  # N m, Hora
                )
                _add_box(body, f"{name}_{index}", link.half, link.middle, link.mass)
            self._add_digit(spec, body, name)
        for name in self.joints:
            actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
            actuator.gainprm[0] = self.stiffness
            actuator.biasprm[:3] = [0, -self.stiffness, -self.damping]
            actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
            actuator.forcerange = [-self.torque_limit, self.torque_limit]
        add_tool_sensors(spec)

    def _add_digit(self, spec: mujoco.MjSpec, link: mujoco.MjsBody, name: str) -> None:
        """Put a DIGIT on the last link of a finger, its gel on the palm's side."""
        along, across, thick = self.pad.size
        quat_wxyz = np.empty(4)
        cosine, sine = np.cos(_DIGIT_TILT[name]), np.sin(_DIGIT_TILT[name])
        # Columns: towards the tip, into the gel, across.
        mujoco.mju_mat2Quat(quat_wxyz, np.array([[-sine, -cosine, 0], [0, 0, -1], [cosine, -sine, 0]]).ravel())
        digit = link.add_body(
            name=f"finger_{name}",
            pos=[_GEL_OFF, -across / 2, _DIGIT_MOUNT[name] + _GEL_ALONG],
            quat=quat_wxyz,
            gravcomp=1,
        )
        depth = _DIGIT_DEPTH - thick
        half, middle = (along / 2, depth / 2, across / 2), (0, thick + depth / 2, -across / 2)
        _add_box(digit, f"shell_{name}", half, middle, _DIGIT_MASS - GEL_MASS)
        digit.add_site(name=f"pad_{name}", pos=[0, 0, -across / 2])
        add_pad(spec, digit, name, self.pad, mirrored=False, touch=self.touch)

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses; see `Robot`."""
        self._positions = np.array([model.joint(name).qposadr[0] for name in self.joints])
        self._speeds = np.array([model.joint(name).dofadr[0] for name in self.joints])
        self._actuators = np.array([model.actuator(name).id for name in self.joints])
        self._lower, self._upper = model.jnt_range[[model.joint(name).id for name in self.joints]].T
        self._chains = {
            finger: Chain.of(model, self.joints[4 * index : 4 * index + 4], f"pad_{finger}")
            for index, finger in enumerate(self.fingers)
        }

    def place(self, qpos: NDArray[np.float64], position: NDArray, angles: NDArray, *, opening: NDArray) -> None:
        """Write the home posture; the palm is fixed, so pose and opening are ignored. See `Robot`."""
        qpos[:, self._positions] = self.home

    def set_joints(self, engine: Engine, ids: NDArray[np.intp], positions: NDArray, targets: NDArray) -> None:
        """Write joint positions (n, 16) and targets (n, 16) in [rad] at a reset."""
        engine.qpos[ids[:, None], self._positions] = positions
        engine.ctrl[ids[:, None], self._actuators] = targets

    def control(self, engine: Engine, ids: NDArray[np.intp], action: NDArray, *, payload: float) -> NDArray[np.float64]:
        """Add to the joint targets, within the joints' ranges.

        Args:
            engine: The simulations.
            ids: Which of them. Shape (n,).
            action: Increments in [-1, 1]. Shape (n, 16).
            payload: Ignored.

        Returns:
            Joint targets in [rad]. Shape (n, 16).
        """
        targets = self.targets(engine)[ids] + action * self.joint_step
        ctrl = engine.ctrl[ids]
        ctrl[:, self._actuators] = np.clip(targets, self._lower, self._upper)
        return ctrl

    def targets(self, engine: Engine) -> NDArray[np.float64]:
        """Return the joint targets in [rad]. Shape (B, 16)."""
        return engine.ctrl[:, self._actuators]

    def columns(self, finger: str) -> slice:
        """Return which of the 16 joints are a finger's."""
        first = 4 * self.fingers.index(finger)
        return slice(first, first + 4)

    def chain(self, finger: str) -> Chain:
        """Return the joints of a finger, with the middle of its gel's face, in the finger's axes, as the tool."""
        return self._chains[finger]

    def approach(
        self, finger: str, angles: NDArray[np.float64], position: NDArray[np.float64], rotation: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Take one step of damped least squares that brings a pad to a place, turned as far as four joints allow.

        Args:
            finger: Whose pad.
            angles: Its joint angles in [rad]. Shape (n, 4).
            position: Where the middle of its gel's face shall be, in [m] in the base frame. Shape (n, 3).
            rotation: Axes that the finger frame would best have, as columns. Shape (3, 3).

        Returns:
            Change of the joint angles, within their ranges. Shape (n, 4).
        """
        chain = self._chains[finger]
        pose = chain.forward(angles)
        turn = np.cross(pose.rotation, rotation[None], axis=1).sum(axis=2) / 2
        scale = np.array([_SMALL_DISTANCE] * 3 + [_SMALL_TURN] * 3)
        error = np.concatenate([position - pose.position, turn], axis=1) / scale
        jacobian = pose.jacobian / scale[:, None]
        step, free = np.zeros_like(angles), np.ones_like(angles)
        for _ in range(3):  # joints that meet their limits stay there, and the others make up for it
            rest = error - np.einsum("nij,nj->ni", jacobian, step * (1 - free))
            move = jacobian * free[:, None]
            square = np.einsum("nij,nik->njk", move, move) + np.eye(4)
            wish = np.linalg.solve(square, np.einsum("nij,ni->nj", move, rest)[:, :, None])[:, :, 0]
            there = angles + np.where(free > 0, wish, step)
            step = np.clip(there, chain.lower, chain.upper) - angles
            free = free * ((there >= chain.lower) & (there <= chain.upper))
        return step

    def press(self, finger: str, angles: NDArray[np.float64], force: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far targets are from joint angles (n, 4) when a resting pad pushes with a force (3,) in [N]."""
        jacobian = self._chains[finger].forward(angles).jacobian[:, :3]
        return np.einsum("nij,i->nj", jacobian, force) / self.stiffness

    def proprioception(self, engine: Engine) -> NDArray[np.float64]:
        """Return joint positions, velocities and targets. Shape (B, 48)."""
        parts = [engine.qpos[:, self._positions], engine.qvel[:, self._speeds], self.targets(engine)]
        return np.concatenate(parts, axis=1)


def _add_box(
    body: mujoco.MjsBody,
    name: str,
    half: tuple[float, float, float],
    middle: tuple[float, float, float],
    mass: float,
) -> None:
    """Add a box that stops whatever lets links stop it."""
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=half,
        pos=middle,
        mass=mass,
        contype=LINKS,
        conaffinity=0,
        rgba=[0.2, 0.2, 0.22, 1],
    )

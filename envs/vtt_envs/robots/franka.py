"""The Franka Emika Panda, from its published kinematics and dynamics.

Frames `link_1` to `link_7` are those of the modified Denavit-Hartenberg convention: z along the joint's axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from vtt_envs.robots.arm import Arm

__all__ = ["FrankaArm"]

# Modified Denavit-Hartenberg parameters (Craig): a [m], d [m], alpha [rad]; Franka Control Interface documentation,
# "Robot and interface specifications", section "Denavit-Hartenberg parameters".
_DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
)
_FLANGE = 0.107  # m along z of link 7, same table
_HAND_TURN = -np.pi / 4  # rad about the flange's axis: how the Franka hand is mounted (franka_description)
# Angles [rad], speed [rad/s] and torque [N m]; same documentation, "Limits for Panda". Speeds stand here for reference.
_LIMITS = (
    (-2.8973, 2.8973, 2.1750, 87.0),
    (-1.7628, 1.7628, 2.1750, 87.0),
    (-2.8973, 2.8973, 2.1750, 87.0),
    (-3.0718, -0.0698, 2.1750, 87.0),
    (-2.8973, 2.8973, 2.6100, 12.0),
    (-0.0175, 3.7525, 2.6100, 12.0),
    (-2.8973, 2.8973, 2.6100, 12.0),
)
# Mass [kg], centre of mass [m], inertia about it xx yy zz xy xz yz [kg m^2] in the link's frame: Gaz et al., "Dynamic
# identification of the Franka Emika Panda robot with retrieval of feasible parameters using penalty-based
# optimization", IEEE RA-L 4(4), 2019, as shipped by the manufacturer (franka_description, robots/fer/inertials.yaml).
_INERTIA = (
    (4.970684, (0.003875, 0.002081, -0.04762), (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)),
    (0.646926, (-0.003141, -0.02872, 0.003495), (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704)),
    (3.228604, (0.027518, 0.039252, -0.066502), (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)),
    (3.587895, (-0.05317, 0.104419, 0.027454), (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641)),
    (1.225946, (-0.011953, 0.041065, -0.038437), (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229)),
    (1.666555, (0.060149, -0.014117, -0.010517), (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341)),
    (0.735522, (0.010517, -0.004252, 0.061597), (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741)),
)
# kg m^2, of each motor as its joint feels it: mujoco_menagerie's (franka_emika_panda). The motors' own is .61 to .21
# (Drake's model, from the manufacturer, for the Franka Research 3); the arm's torque control hides most of it.
_ARMATURE = 0.1
# N m s/rad: the friction that Gaz et al. identified, a sigmoid of the speed that saturates at phi_1 / 2 in [N m], at
# 1 rad/s.
_FRICTION = (0.273, 0.436, 0.320, 0.640, 0.420, 0.152, 0.282)
# What a camera sees: capsules from, to [m] in the link's frame, radius [m].
_SHAPES = (
    ((0, 0, -0.27), (0, 0, -0.05), 0.065),
    ((0, -0.06, 0), (0, 0.06, 0), 0.065),
    ((0, 0, -0.2), (0, 0, -0.07), 0.06),
    ((0, 0, -0.06), (0, 0, 0.06), 0.06),
    ((0, 0.01, -0.33), (0, 0.06, -0.07), 0.05),
    ((0, 0, -0.06), (0.088, 0, 0.01), 0.05),
    ((0, 0, 0), (0, 0, 0.08), 0.045),
)


@dataclass
class FrankaArm(Arm):
    """A Franka Emika Panda (Franka Robotics' FER) with the gel pads of `FloatingGripper`; see `Arm` for its control.

    Kinematics and limits are the manufacturer's, inertias and friction those identified by Gaz et al. (2019); sources
    stand at each number. It stands at x = -.55 m on the table. Home is an elbow-up posture, the tool 100 mm above the
    origin. It reaches any yaw, tilted by up to .1 rad, within 130 mm of the origin in x and y and 120 mm of the table.
    Experts keep below the arm's joint speeds; the physics does not enforce them, and full actions on all axes reach
    them.
    """

    base = (-0.55, 0.0, 0.0)  # m: where it stands
    joints = tuple(f"joint_{index}" for index in range(1, 8))
    home = (0.0, 0.321292, 0.0, -2.223925, 0.0, 2.545217, np.pi / 4)

    def add_arm(self, spec: mujoco.MjSpec) -> mujoco.MjsBody:
        """Add the arm; see `Arm`."""
        seen = {"contype": 0, "conaffinity": 0, "mass": 0, "type": mujoco.mjtGeom.mjGEOM_CAPSULE}
        grey, white = [0.35, 0.36, 0.38, 1], [0.9, 0.92, 0.93, 1]
        body = spec.worldbody.add_body(name="link_0", pos=self.base)
        body.add_geom(fromto=[-0.06, 0, 0.05, 0, 0, 0.06], size=[0.075, 0, 0], rgba=white, **seen)
        for joint, (a, d, alpha), limits, inertia, friction, shape in zip(
            self.joints, _DH, _LIMITS, _INERTIA, _FRICTION, _SHAPES, strict=True
        ):
            body = body.add_body(
                name=joint.replace("joint", "link"),
                pos=[a, -np.sin(alpha) * d, np.cos(alpha) * d],
                quat=[np.cos(alpha / 2), np.sin(alpha / 2), 0, 0],
                gravcomp=1,
            )
            body.explicitinertial = True
            body.mass, body.ipos, body.fullinertia = inertia
            lower, upper, _, torque = limits
            body.add_joint(
                name=joint,
                axis=[0, 0, 1],
                range=[lower, upper],
                limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                actfrclimited=mujoco.mjtLimited.mjLIMITED_TRUE,
                actfrcrange=[-torque, torque],
                actgravcomp=1,
                armature=_ARMATURE,
                damping=friction,
            )
            start, end, radius = shape
            body.add_geom(fromto=[*start, *end], size=[radius, 0, 0], rgba=white, **seen)
        flange = body.add_body(
            name="flange", pos=[0, 0, _FLANGE], quat=[np.cos(_HAND_TURN / 2), 0, 0, np.sin(_HAND_TURN / 2)]
        )
        flange.explicitinertial, flange.mass, flange.inertia = True, 1e-6, [1e-9] * 3
        flange.add_geom(fromto=[0, 0, -0.03, 0, 0, 0.0], size=[0.035, 0, 0], rgba=grey, **seen)
        return flange

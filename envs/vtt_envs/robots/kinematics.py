"""Kinematics of a serial arm, batched: where the tool is, how it moves, and which joint angles take it to a pose.

Legend: n configurations, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError

__all__ = ["Chain", "Pose", "null_projection", "rotation_vector"]

_SETTLING, _POLISHING = 30, 10  # iterations of the inverse with and without a posture
_DAMPING = 1e-3  # of least squares, in m and rad: keeps steps finite near singular poses
_LARGEST_STEP = 0.3  # rad per joint and iteration
_MARGIN = 0.5  # rad off the joint limits, where an arm begins to turn away from them
_REPULSION = 50.0  # relative to the pull of the posture
_TOLERANCE = 1e-6  # m and rad
_SEEDS = 32  # angles of the last joint among which the inverse chooses where to begin


class Pose(NamedTuple):
    """Where a tool is and how it moves with the joints.

    Attributes:
        position: In the world, in [m]. Shape (n, 3).
        rotation: Axes of the tool in the world, as columns. Shape (n, 3, 3).
        jacobian: Velocity and angular velocity of the tool in the world per joint speed. Shape (n, 6, J).
    """

    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    jacobian: NDArray[np.float64]


@dataclass(frozen=True)
class Chain:
    """Hinges one after another, and a tool on the last.

    Attributes:
        links: Pose of each joint, whose axis is z, in the frame that turns with the one before. Shape (J, 4, 4).
        tool: Pose of the tool in the frame that turns with the last joint. Shape (4, 4).
        lower: Smallest joint angles in [rad]. Shape (J,).
        upper: Largest joint angles in [rad]. Shape (J,).
    """

    links: NDArray[np.float64]
    tool: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    @classmethod
    def of(cls, model: mujoco.MjModel, joints: Sequence[str], site: str) -> Chain:
        """Read the chain of hinges that carries a site from a compiled model."""
        data = mujoco.MjData(model)
        indices = [model.joint(name).id for name in joints]
        data.qpos[model.jnt_qposadr[indices]] = 0
        mujoco.mj_kinematics(model, data)
        frames = [np.eye(4)]
        for index in indices:
            quat_wxyz, axes = np.empty(4), np.empty(9)
            mujoco.mju_quatZ2Vec(quat_wxyz, data.xaxis[index])
            mujoco.mju_quat2Mat(axes, quat_wxyz)
            frames.append(_transform(data.xanchor[index], axes))
        frames.append(_transform(data.site(site).xpos, data.site(site).xmat))
        links = np.array([np.linalg.solve(before, after) for before, after in pairwise(frames)], dtype=np.float64)
        lower, upper = model.jnt_range[indices].T
        return cls(links[:-1], links[-1], lower, upper)

    def forward(self, angles: NDArray[np.float64]) -> Pose:
        """Return the tool's pose and Jacobian at joint angles (n, J)."""
        count = len(angles)
        cosine, sine = np.cos(angles), np.sin(angles)
        turn = np.zeros((*angles.shape, 4, 4))
        turn[..., 0, 0] = turn[..., 1, 1] = cosine
        turn[..., 0, 1], turn[..., 1, 0] = -sine, sine
        turn[..., 2, 2] = turn[..., 3, 3] = 1
        local = self.links @ turn
        frame = np.broadcast_to(np.eye(4), (count, 4, 4))
        axes, origins = np.empty((2, *angles.shape, 3))
        for joint in range(angles.shape[1]):
            frame = frame @ local[:, joint]
            axes[:, joint], origins[:, joint] = frame[:, :3, 2], frame[:, :3, 3]
        frame = frame @ self.tool
        position = frame[:, :3, 3]
        jacobian = np.concatenate([np.cross(axes, position[:, None] - origins), axes], axis=2)
        return Pose(position, frame[:, :3, :3], jacobian.transpose(0, 2, 1))

    def towards(
        self, rest: NDArray[np.float64], angles: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pull a posture towards `rest` and, much harder, off the joint limits, as springs of stiffness 1.

        Returns:
            Torques in [rad] times that stiffness, and how fast each falls with its angle. Shapes (n, J).
        """
        inner = np.clip(angles, self.lower + _MARGIN, self.upper - _MARGIN)
        return rest - angles + _REPULSION * (inner - angles), 1 + _REPULSION * (inner != angles)

    def inverse(
        self, position: NDArray[np.float64], rotation: NDArray[np.float64], *, rest: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Find joint angles that take the tool to a pose, by damped least squares.

        Of the many that a redundant arm has, those near `rest` are taken, as far as joint limits let it. A row depends
        on nothing but itself.

        Args:
            position: Of the tool in the world, in [m]. Shape (n, 3).
            rotation: Its axes in the world, as columns. Shape (n, 3, 3).
            rest: Preferred joint angles in [rad]; the search begins here, with the last joint turned towards the pose.
                Shape (J,).

        Returns:
            Joint angles in [rad], within their limits; the pose is met to 1e-6 m and rad. Shape (n, J).

        Raises:
            ConfigError: If a pose is out of reach.
        """
        seeds = np.tile(rest, (_SEEDS, 1))
        seeds[:, -1] = np.linspace(self.lower[-1] + _MARGIN, self.upper[-1] - _MARGIN, _SEEDS)
        alike = np.einsum("sij,nij->ns", self.forward(seeds).rotation, rotation)  # 1 + 2 cos(angle between them)
        angles = seeds[alike.argmax(axis=1)]
        for iteration in range(_SETTLING + _POLISHING):
            pose = self.forward(angles)
            error = _error(pose, position, rotation)
            step = _least_squares(pose.jacobian, error)
            # Joints at their limits stand still, and the others do their part.
            free = (angles + step >= self.lower) & (angles + step <= self.upper)
            step = _least_squares(pose.jacobian * free[:, None], error)
            if iteration < _SETTLING:
                torque, stiffness = self.towards(rest, angles)
                still = null_projection(pose.jacobian)
                compliance = 1 / np.maximum(np.einsum("nii,ni->n", still, stiffness), 1)
                step += compliance[:, None] * np.einsum("nij,nj->ni", still, torque)
            step *= np.minimum(1, _LARGEST_STEP / np.maximum(np.abs(step).max(axis=1), 1e-12))[:, None]
            angles = np.clip(angles + step, self.lower, self.upper)
        error = _error(self.forward(angles), position, rotation)
        if (missed := np.abs(error).max(axis=1) > _TOLERANCE).any():
            where = np.round(position[missed.argmax()], 3).tolist()
            raise ConfigError(
                f"The tool's pose must be within the arm's reach, got position {where} m with an orientation that it "
                "cannot take there. Move the objects closer to the origin or turn them less."
            )
        return angles


def null_projection(jacobian: NDArray[np.float64]) -> NDArray[np.float64]:
    """Projectors (n, J, J) on joint motions, and on torques, that leave the tool of Jacobians (n, 6, J) alone."""
    transposed = jacobian.transpose(0, 2, 1)
    regular = jacobian @ transposed + _DAMPING**2 * np.eye(6)
    still = np.tile(np.eye(jacobian.shape[2]), (len(jacobian), 1, 1))
    still -= transposed @ np.linalg.solve(regular, jacobian)
    return still


def rotation_vector(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis times angle in [rad], below pi, of rotations (n, 3, 3). Shape (n, 3)."""
    axis = np.stack([rotation[:, i, j] - rotation[:, j, i] for i, j in [(2, 1), (0, 2), (1, 0)]], axis=1) / 2
    sine = np.linalg.norm(axis, axis=1)
    angle = np.arctan2(sine, (np.trace(rotation, axis1=1, axis2=2) - 1) / 2)
    return axis * (angle / np.maximum(sine, 1e-12))[:, None]


def _error(pose: Pose, position: NDArray, rotation: NDArray) -> NDArray[np.float64]:
    """Translation and rotation vector (n, 6) in the world from where the tool is to where it should be."""
    turn = rotation_vector(rotation @ pose.rotation.transpose(0, 2, 1))
    return np.concatenate([position - pose.position, turn], axis=1)


def _least_squares(jacobian: NDArray, error: NDArray) -> NDArray[np.floating]:
    """Joint steps (n, J) of damped least squares."""
    transposed = jacobian.transpose(0, 2, 1)
    damped = jacobian @ transposed + _DAMPING**2 * np.eye(6)
    return (transposed @ np.linalg.solve(damped, error[..., None]))[..., 0]


def _transform(position: NDArray, axes: NDArray) -> NDArray[np.float64]:
    """Homogeneous transform (4, 4)."""
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = axes.reshape(3, 3), position
    return transform

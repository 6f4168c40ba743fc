"""Pegs and their sockets, and how a long object sits tilted in the grip: what several tasks share.

Frames:
    peg: origin in the middle, z towards its lower end; a flat face looks along y.
    socket: origin at the bottom, z up; a flat wall faces along y.

Legend: n environments being reset, nq positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, missing
from vtt_envs.robots import Robot, add_free_body
from vtt_envs.task import axis_rotation, rotate

__all__ = ["STEEL", "Peg", "add_prism", "add_ring", "keypoint_distance", "place_in_grip"]

STEEL_DENSITY = 8000.0  # kg/m^3
# Steel on steel: Coulomb friction .3 (TacSL's socket .5 and peg 1 are of rubber), as stiff as the time step allows.
STEEL = {"friction": [0.3, 0.005, 1e-4], "solref": [0.004, 1.0], "solimp": [0.95, 0.99, 0.0005, 0.5, 2.0]}
GRIP_INDENTATION = 6e-4  # m, near where the grip comes to rest

_SIDES = {"round": 0, "square": 4, "hexagonal": 6}
# Nominal diameter: across the peg, as IndustReal makes its round pegs of 8 and 16 mm; 12 mm with the allowance of 16.
_ACROSS = {0.008: 0.007986, 0.012: 0.011983, 0.016: 0.015983}


@dataclass(frozen=True)
class Peg:
    """A steel peg, 50 mm long.

    Round pegs of 8, 12 and 16 mm are TacSL's (IndustReal's); its square ones are called rectangular; hexagonal ones
    are ours.

    Attributes:
        shape: Cross-section: `"round"`, `"square"` or `"hexagonal"`.
        diameter: Nominal size in [m]: .008, .012 or .016. Across the flats of a square or a hexagon.

    Raises:
        MissingError: If there is no such shape.
        ConfigError: If there is no such diameter.
    """

    shape: str = "round"
    diameter: float = 0.016

    length = 0.05  # m

    def __post_init__(self) -> None:
        if self.shape not in _SIDES:
            raise missing("peg shape", self.shape, _SIDES)
        if self.diameter not in _ACROSS:
            raise ConfigError(f"diameter must be 0.008, 0.012 or 0.016 m, got {self.diameter}.")

    @property
    def radius(self) -> float:
        """Half of the size across the peg (across its flats), in [m]."""
        return _ACROSS[self.diameter] / 2

    @property
    def sides(self) -> int:
        """Number of flat sides; 0 for a round peg."""
        return _SIDES[self.shape]

    @property
    def facing(self) -> float:
        """Direction of the outer normal of one side, in [rad] from the x axis."""
        return np.pi / 2 if self.sides else 0.0

    @property
    def foot(self) -> float:
        """Distance from the axis to the farthest point of the lower face, in [m]."""
        return self.radius / np.cos(np.pi / self.sides) if self.sides else self.radius

    @property
    def mass(self) -> float:
        """Mass in [kg]."""
        area = self.sides * np.tan(np.pi / self.sides) * self.radius**2 if self.sides else np.pi * self.radius**2
        return STEEL_DENSITY * area * self.length

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add the free body `peg`."""
        body = add_free_body(spec, "peg")
        colour = [0.85, 0.65, 0.3, 1]
        if self.sides:
            mesh = add_prism(spec, "peg", sides=self.sides, apothem=self.radius, length=self.length)
            # Taxels read a mesh through an octree: 64 cells along the peg keep its edges within .25 mm.
            mesh.needsdf, mesh.octree_maxdepth = True, 6
            body.add_geom(
                name="peg",
                type=mujoco.mjtGeom.mjGEOM_MESH,
                meshname="peg",
                mass=self.mass,
                contype=3,
                conaffinity=3,
                rgba=colour,
                **STEEL,
            )
            return
        # The gel meets a smooth cylinder; steel meets a prism, whose flat faces give a full set of contacts.
        body.add_geom(
            name="peg",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[self.radius, self.length / 2, 0],
            density=STEEL_DENSITY,
            contype=1,
            conaffinity=1,
            rgba=colour,
        )
        turn = np.arange(24) * 2 * np.pi / 24
        rim = self.radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        ends = [np.column_stack([rim, np.full(24, side * self.length / 2)]) for side in (-1, 1)]
        spec.add_mesh(name="peg", uservert=np.concatenate(ends).ravel())
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH, meshname="peg", mass=0, contype=2, conaffinity=2, group=4, **STEEL
        )

    def misalignment(self, rotation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Angle by which an upright peg must turn about the vertical until its nearest side faces along y.

        Args:
            rotation: Axes of the peg as columns. Shape (B, 3, 3).

        Returns:
            Angles in [rad], at most half a side's; 0 for a round peg. Shape (B,).
        """
        if not self.sides:
            return np.zeros(len(rotation))
        side = 2 * np.pi / self.sides
        angle = np.arctan2(rotation[:, 1, 1], rotation[:, 0, 1]) - np.pi / 2
        return side * np.round(angle / side) - angle


def add_prism(spec: mujoco.MjSpec, name: str, *, sides: int, apothem: float, length: float) -> mujoco.MjsMesh:
    """Add the mesh of a prism along z about the origin, with a side facing along y; sizes in [m]."""
    turn = np.pi / 2 + (2 * np.arange(sides) + 1) * np.pi / sides
    rim = apothem / np.cos(np.pi / sides) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    ends = [np.column_stack([rim, np.full(sides, side * length / 2)]) for side in (-1, 1)]
    return spec.add_mesh(name=name, uservert=np.concatenate(ends).ravel())


def add_ring(
    spec: mujoco.MjSpec,
    body: mujoco.MjsBody,
    name: str,
    profile: list[tuple[float, float]],
    *,
    segments: int,
    start: float = 0.0,
    rgba: tuple[float, float, float, float] = (0.35, 0.45, 0.6, 1.0),
) -> None:
    """Add a ring of convex wedges, as walls around a bore.

    Args:
        spec: Where the meshes go.
        body: Where the geoms go.
        name: Of the meshes.
        profile: Corners (distance of a wedge's face from the axis, height) of the cross-section, in [m].
        segments: Number of wedges; the bore is a polygon with so many sides.
        start: Direction of the first wedge, in [rad].
        rgba: Colour.
    """
    angle = 2 * np.pi / segments
    for index in range(segments):
        middle = start + index * angle
        radial, tangent = np.array([np.cos(middle), np.sin(middle)]), np.array([-np.sin(middle), np.cos(middle)])
        corners = [[*(r * radial + side * r * np.tan(angle / 2) * tangent), z] for r, z in profile for side in (-1, 1)]
        spec.add_mesh(name=f"{name}_{index}", uservert=np.ravel(corners))
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=f"{name}_{index}",
            contype=2,
            conaffinity=2,
            rgba=rgba,
            **STEEL,
        )


def place_in_grip(
    robot: Robot,
    qpos: NDArray[np.float64],
    address: int,
    *,
    position: NDArray[np.float64],
    angles: NDArray[np.float64],
    tilt: NDArray[np.float64],
    pivot: NDArray[np.float64],
    middle: NDArray[np.float64],
    radius: float,
    turn: NDArray[np.float64] | None = None,
) -> None:
    """Write a tool pose and a free body held in its grip, tilted about the normal of the pads.

    The object's z axis points out of the gripper.

    Args:
        robot: The gripper.
        qpos: Joint positions to write into. Shape (n, nq).
        address: Of the object's free joint.
        position: Of the tool, in [m] in the base frame. Shape (n, 3).
        angles: Yaw, pitch, roll of the tool, in [rad]. Shape (n, 3).
        tilt: Of the object, in [rad]. Shape (n,).
        pivot: Height above the fingertips of the point about which it is tilted, in [m]. Shape (n,).
        middle: Distance from there to the object's origin along its z axis, in [m]. Shape (n,).
        radius: Half of the object's size between the pads, in [m].
        turn: Angle of the object about its own axis, in [rad]; None is 0. Shape (n,).
    """
    robot.place(qpos, position, angles, opening=np.full(len(qpos), radius - GRIP_INDENTATION))
    base_from_tool = axis_rotation(2, angles[:, 0]) @ axis_rotation(1, angles[:, 1]) @ axis_rotation(0, angles[:, 2])
    base_from_tool = base_from_tool @ np.diag([1.0, -1.0, -1.0])
    tool_from_object = axis_rotation(1, tilt)  # columns: the object's axes
    centre = middle[:, None] * tool_from_object[:, :, 2]
    centre[:, 2] -= pivot
    qpos[:, address : address + 3] = position + rotate(base_from_tool, centre)
    if turn is not None:
        tool_from_object = tool_from_object @ axis_rotation(2, turn)
    for row, matrix in zip(qpos, base_from_tool @ tool_from_object, strict=True):
        mujoco.mju_mat2Quat(row[address + 3 : address + 7], matrix.ravel())


def keypoint_distance(
    tip: NDArray[np.float64], axis: NDArray[np.float64], goal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean distance of four points on an object's axis, over .5 m about its lower end, from those of the placed object.

    Source: TacSL's reward, with the same points.

    Args:
        tip: Lower end of the object, in [m]. Shape (B, 3).
        axis: Its upward unit axis. Shape (B, 3).
        goal: Lower end of the object when placed upright, in [m]. Shape (B, 3).

    Returns:
        Distances in [m]. Shape (B,).
    """
    offsets = np.linspace(-0.25, 0.25, 4)[:, None, None]
    return np.linalg.norm(tip - goal + offsets * (axis - [0, 0, 1]), axis=2).mean(axis=0)

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

__all__ = [
    "BOLTS",
    "GRIP_INDENTATION",
    "STEEL",
    "STEEL_DENSITY",
    "Bolt",
    "Peg",
    "add_prism",
    "add_ring",
    "match_pads",
]

STEEL_DENSITY = 8000.0  # kg/m^3
# Steel on steel: Coulomb friction .3 (TacSL's socket .5 and peg 1 are of rubber), as stiff as the time step allows.
STEEL = {"friction": [0.3, 0.005, 1e-4], "solref": [0.004, 1.0], "solimp": [0.95, 0.99, 0.0005, 0.5, 2.0]}
GRIP_INDENTATION = 6e-4  # m, near where the grip comes to rest

_GEL_INVERSE_MASS = 32.5  # 1/kg, of a gel on its springs and its finger

_BALLS, _BALL = 8, 0.185  # balls on the one turn of a bolt's thread; their radius in pitches
_CORE = 8  # collision bit of a bolt's core and a nut's bore, which do not meet the threads
_SEGMENTS, _TURNS = 24, 2.5  # segments in a turn of a nut's thread; its turns

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

    name = "peg"
    length = 0.05  # m
    tip = length / 2

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
    def grip_radius(self) -> float:
        """Half of its size between the pads, in [m]."""
        return self.radius

    def grip(self, protrusion: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where it is held, with so much of it, in [m], below the fingertips.

        Returns:
            Height above the fingertips of the middle of the held part, and the
            distance from there to the origin along z, in [m]. Shapes (n,).
        """
        return (self.length - protrusion) / 2, 0.5 * protrusion

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


@dataclass(frozen=True)
class Bolt:
    """A metric bolt with coarse thread and its nut; the threads touch for real, but are coarse approximations.

    Cylinder head of ISO 4762, fully threaded, 25 mm long (TacSL's thread length), chamfered end; nut of ISO 4032.
    All lengths in [m].

    The bolt's thread is a row of steel balls on one turn of its helix at the lower end; a ball in the groove between
    two flanks of 60 degrees is where a ridge would be. The nut's thread is a helical ridge of convex segments with the
    profile of ISO 68-1, in its upper turns only. So the bolt must be turned in and cannot be pushed in or pulled out.
    Left out: tolerance classes of real threads, some hundredths of a millimetre of play more or less, and their wear.

    Frames:
        bolt: origin at the lower end, z into the nut; its thread starts at +x.
        nut: origin at the bottom, z up; a thread that starts at +x has caught.

    Attributes:
        diameter: Nominal diameter d.
        pitch: Pitch P of the coarse thread (ISO 261).
        head_diameter: d_k of ISO 4762.
        nut_width: Across the flats, s of ISO 4032.
        nut_height: m of ISO 4032, the largest.
    """

    diameter: float
    pitch: float
    head_diameter: float
    nut_width: float
    nut_height: float

    name = "bolt"
    thread_length = 0.025
    tip = 0.0

    @property
    def head_height(self) -> float:
        """Height k of the head (ISO 4762), which is d."""
        return self.diameter

    @property
    def length(self) -> float:
        """Thread and head."""
        return self.thread_length + self.head_height

    @property
    def grip_radius(self) -> float:
        """Half of the head's size between the pads."""
        return self.head_diameter / 2

    def grip(self, protrusion: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where it is held, with so much of it, in [m], below the fingertips: by its head.

        Returns:
            Height above the fingertips of the middle between them, or the head's lower face, and its top, and the
            distance from there to the origin along z, in [m]. Shapes (n,).
        """
        middle = (np.maximum(self.thread_length - protrusion, 0) + self.length - protrusion) / 2
        return middle, middle + protrusion

    @property
    def _core(self) -> float:
        """Radius of the bolt's core: half of d_3 = d - 1.2269 P (ISO 724)."""
        return (self.diameter - 1.2269 * self.pitch) / 2

    @property
    def _bore(self) -> float:
        """Radius of the nut's bore: half of D_1 = d - 1.0825 P (ISO 724)."""
        return (self.diameter - 1.0825 * self.pitch) / 2

    @property
    def mass(self) -> float:
        """Mass in [kg], the thread taken at its mean diameter."""
        thread = (self.diameter / 2 + self._core) ** 2 / 4 * self.thread_length
        return STEEL_DENSITY * np.pi * (thread + self.head_diameter**2 / 4 * self.head_height)

    @property
    def catch_depth(self) -> float:
        """Depth of the lower end below the nut's top at which the first ball slips under the nut's thread."""
        return self.pitch + self._chamfer

    @property
    def _chamfer(self) -> float:
        """Height of the chamfer, above which the thread starts."""
        return 0.75 * self.pitch

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add the free body `bolt`."""
        body = add_free_body(spec, "bolt")
        colour = [0.85, 0.65, 0.3, 1]
        head = STEEL_DENSITY * np.pi * self.head_diameter**2 / 4 * self.head_height
        body.add_geom(
            name="bolt",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[self.head_diameter / 2, self.head_height / 2, 0],
            pos=[0, 0, -self.thread_length - self.head_height / 2],
            mass=head,
            contype=1,
            conaffinity=1,
            rgba=colour,
        )
        turn = np.arange(24) * 2 * np.pi / 24
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        profile = [(self._core - self._chamfer, 0.0), (self._core, self._chamfer), (self._core, self.thread_length)]
        rings = [np.column_stack([r * circle, np.full(24, -z)]) for r, z in profile]
        spec.add_mesh(name="bolt_core", uservert=np.concatenate(rings).ravel())
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname="bolt_core",
            mass=self.mass - head,
            contype=_CORE,
            conaffinity=_CORE,
            rgba=colour,
            **STEEL,
        )
        # A ball touches both flanks of a groove when its middle is two radii from their sharp edge, H/8 = .108 P
        # outside of the nominal diameter; .185 P leaves .03 P of play.
        orbit = self.diameter / 2 + 0.108 * self.pitch - 0.4 * self.pitch
        for index in range(_BALLS):
            angle = index * 2 * np.pi / _BALLS
            height = self._chamfer + index * self.pitch / _BALLS
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[_BALL * self.pitch, 0, 0],
                # z points down: seen from above the thread rises counterclockwise, so from here it turns the other way
                pos=[orbit * np.cos(angle), -orbit * np.sin(angle), -height],
                mass=0,
                contype=2,
                conaffinity=2,
                rgba=colour,
                **STEEL,
            )

    def add_nut_to(self, spec: mujoco.MjSpec) -> None:
        """Add the fixed body `nut`."""
        nut = spec.worldbody.add_body(name="nut", mocap=True)
        outer, top, pitch = self.diameter / 2, self.nut_height, self.pitch
        profile = [(outer, 0.0), (outer, top), (self.nut_width / 2, top), (self.nut_width / 2, 0.0)]
        # Seen only: the balls stay inside of it, as the bore holds the bolt's core.
        add_ring(spec, nut, "nut", profile, segments=6, start=np.pi / 2, bits=0)
        # What keeps the bolt's core in the bore: smooth walls over the crests of the thread, which the balls pass.
        mouth = [(self._bore, 0.0), (self._bore, top - pitch / 2), (outer, top), (self.nut_width / 2, top)]
        mouth.append((self.nut_width / 2, 0.0))
        add_ring(spec, nut, "nut_bore", mouth, segments=12, bits=_CORE, group=4)
        # Corners (radius, height) of the ridge about its middle: ISO 68-1, P/4 wide at D_1 and 7/8 P at D.
        corners = [(self._bore, -pitch / 8), (self._bore, pitch / 8), (outer, 7 * pitch / 16), (outer, -7 * pitch / 16)]
        step = 2 * np.pi / _SEGMENTS
        for index in range(int(_TURNS * _SEGMENTS)):
            vertices = []
            for angle in (-index * step, -(index + 1) * step):
                height = top - pitch / 2 + pitch * angle / (2 * np.pi)
                # A segment's flat inner face lies on the chord; its middle is as far out as the bore.
                stretch = 1 / np.cos(step / 2)
                vertices += [[r * stretch * np.cos(angle), r * stretch * np.sin(angle), height + z] for r, z in corners]
            spec.add_mesh(name=f"nut_thread_{index}", uservert=np.ravel(vertices))
            nut.add_geom(
                type=mujoco.mjtGeom.mjGEOM_MESH,
                meshname=f"nut_thread_{index}",
                contype=2,
                conaffinity=2,
                rgba=[0.3, 0.4, 0.55, 1],
                **STEEL,
            )


BOLTS = {
    "M8": Bolt(0.008, 0.00125, 0.013, 0.013, 0.0068),
    "M10": Bolt(0.010, 0.0015, 0.016, 0.016, 0.0084),
    "M12": Bolt(0.012, 0.00175, 0.018, 0.018, 0.0108),
    "M16": Bolt(0.016, 0.002, 0.024, 0.024, 0.0148),
}


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
    bits: int = 2,
    group: int = 0,
) -> None:
    """Add a ring of convex wedges, as walls around a bore.

    Args:
        spec: Where the meshes go.
        body: Where the geoms go.
        name: Of the meshes.
        profile: Corners (distance of a wedge's face from the axis, height) of the cross-section, in [m].
        segments: Number of wedges; the bore is a polygon with so many sides.
        start: Direction of the first wedge, in [rad].
        bits: What they collide with, and are collided with by.
        group: Of the geoms; group 4 is not drawn.
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
            contype=bits,
            conaffinity=bits,
            group=group,
            rgba=[0.35, 0.45, 0.6, 1],
            **STEEL,
        )


def match_pads(spec: mujoco.MjSpec, robot: Robot, mass: float) -> None:
    """Let the gel sink as far under a force as it does on a peg of 16 mm.

    MuJoCo's contacts are springs per inverse mass: the same pad would be twice as soft on the lightest objects. With
    the direct form of `solref` the compliance is (1 - d) times the inverse mass of both bodies, d the impedance.
    """
    inverse_mass = _GEL_INVERSE_MASS + 1 / mass
    impedance = 1 - (1 - robot.pad.solimp[0]) * ((_GEL_INVERSE_MASS + 1 / Peg().mass) / inverse_mass)
    for finger in robot.fingers:
        spec.geom(f"pad_{finger}").solimp = [impedance, impedance, *robot.pad.solimp[2:]]

"""Camera images of batched simulations: by OpenGL where there is a context, by ray casting anywhere.

Ray casting needs no graphics library, costs some milliseconds an image and shades without shadows or textures; OpenGL
draws thousands of images a second. Both see the same scene from the same pose; their pictures differ in shading.

Legend: B environments, n images of them, H rows, W columns, G geoms.
"""

from __future__ import annotations

import copy
import functools
import os
import warnings
from typing import Literal, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, DependencyError
from vtt_envs.engine import Engine
from vtt_envs.randomisation import Randomiser
from vtt_envs.task import Camera, rotate

__all__ = [
    "CAMERA",
    "WRIST_CAMERA",
    "GlRenderer",
    "RayRenderer",
    "Renderer",
    "RendererKind",
    "Views",
    "add_camera",
    "add_wrist_camera",
    "make_renderer",
]

CAMERA, WRIST_CAMERA = "camera_front", "camera_wrist"
RendererKind = Literal["gl", "rays", "auto"]

_WRIST_VIEW = 75.0  # deg, TacSL
_LIGHT = np.array([0.3, -0.4, 0.87])  # unit direction to the light
_SKY = np.array([0.75, 0.8, 0.88])
_VISIBLE_GROUPS = np.array([1, 1, 1, 1, 0, 0], dtype=np.uint8)  # group 4 holds sensing grids and collision twins


class Renderer(Protocol):
    """Draws what a camera of some simulations sees."""

    def render(self, engine: Engine, ids: NDArray[np.intp], *, camera: str = CAMERA) -> NDArray[np.uint8]:
        """Return images. Shape (n, H, W, 3)."""
        ...

    def close(self) -> None:
        """Release the graphics context."""
        ...


def add_camera(spec: mujoco.MjSpec, camera: Camera) -> None:
    """Add the front camera, its light and cheap drawing settings."""
    position, target = np.array(camera.position), np.array(camera.target)
    forward = target - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    quat_wxyz = np.empty(4)
    mujoco.mju_mat2Quat(quat_wxyz, np.stack([right, up, -forward], axis=1).ravel())
    spec.worldbody.add_camera(name=CAMERA, pos=position, quat=quat_wxyz, fovy=camera.field_of_view)
    light = spec.worldbody.add_light(pos=2 * _LIGHT, dir=-_LIGHT)
    light.type, light.castshadow = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, False
    # With the default shadow map and multisampling a software GL draws some seventy images a second.
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0


def add_wrist_camera(spec: mujoco.MjSpec) -> None:
    """Add the camera on the tool: where the robot has a site `camera_wrist`, else where TacSL has it.

    TacSL: on the Franka hand at (45, 0, 40) mm, 63 mm above the fingertips, seen upright from +x, 30 degrees towards
    -x from the direction of the fingers, with a view of 75 degrees.
    """
    tool, site = spec.body("tool"), spec.site(WRIST_CAMERA)
    if site is not None:
        tool.add_camera(name=WRIST_CAMERA, pos=site.pos, quat=site.quat, fovy=_WRIST_VIEW)
        return
    up, back = np.array([np.cos(np.pi / 6), 0, 0.5]), np.array([0.5, 0, -np.cos(np.pi / 6)])
    quat_wxyz = np.empty(4)
    mujoco.mju_mat2Quat(quat_wxyz, np.stack([np.cross(up, back), up, back], axis=1).ravel())
    tool.add_camera(name=WRIST_CAMERA, pos=[0.045, 0, -0.0634], quat=quat_wxyz, fovy=_WRIST_VIEW)


class Views:
    """Cameras, lights and colours that differ between environments.

    Attributes:
        position: Of each camera on its body, in [m], by name. Shapes (B, 3).
        rotation: Its axes there, as columns: right, up, backwards. Shapes (B, 3, 3).
        field_of_view: Vertical, in [deg]. Shapes (B,).
        light: Unit direction to the light. Shape (B, 3).
        brightness: Factor on the light. Shape (B,).
        colour: Of each geom, in [0, 1]. Shape (B, G, 3).
    """

    def __init__(self, engine: Engine, randomiser: Randomiser | None = None) -> None:
        model, size = engine.model, engine.num_envs
        self._nominal: dict[str, tuple[NDArray, NDArray, float]] = {}
        present = {model.camera(index).name for index in range(model.ncam)}
        for name in (name for name in (CAMERA, WRIST_CAMERA) if name in present):
            camera, matrix = model.camera(name), np.empty(9)
            mujoco.mju_quat2Mat(matrix, camera.quat)
            self._nominal[name] = camera.pos.copy(), matrix.reshape(3, 3), float(camera.fovy[0])
        self._colour, self._body_of_geom = model.geom_rgba[:, :3].copy(), model.geom_bodyid.copy()
        self._random = randomiser
        self.position = {name: np.tile(place, (size, 1)) for name, (place, _, _) in self._nominal.items()}
        self.rotation = {name: np.tile(axes, (size, 1, 1)) for name, (_, axes, _) in self._nominal.items()}
        self.field_of_view = {name: np.full(size, angle) for name, (_, _, angle) in self._nominal.items()}
        self.light = np.tile(_LIGHT, (size, 1))
        self.brightness = np.ones(size)
        self.colour = np.tile(self._colour, (size, 1, 1))

    def begin(self, ids: NDArray[np.intp]) -> None:
        """Prepare new episodes, whose values have been drawn."""
        if self._random is None:
            return
        shift, turn, view, light, brightness, colour = (
            self._random.value(f"camera_{name}") for name in ("shift", "turn", "view", "light", "brightness", "colour")
        )
        for index, (name, (position, rotation, field_of_view)) in enumerate(self._nominal.items()):
            if shift is not None:
                self.position[name][ids] = position + shift[ids, index] @ rotation.T
            if turn is not None:
                self.rotation[name][ids] = np.stack([rotation @ _turn(vector) for vector in turn[ids, index]])
            if view is not None:
                self.field_of_view[name][ids] = field_of_view * view[ids, index]
        if light is not None:
            self.light[ids] = np.stack([_turn(np.array([*vector, 0.0])) @ _LIGHT for vector in light[ids]])
        if brightness is not None:
            self.brightness[ids] = brightness[ids]
        if colour is not None:
            change = colour[ids, None, None] * self._random.pattern("camera_colour")[ids]  # (n, bodies, 3)
            self.colour[ids] = np.clip(self._colour + change[:, self._body_of_geom], 0, 1)


def _turn(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix of a rotation vector in [rad]. Shape (3, 3)."""
    angle = float(np.linalg.norm(vector))
    quat_wxyz, matrix = np.empty(4), np.empty(9)
    mujoco.mju_axisAngle2Quat(quat_wxyz, vector / angle if angle else np.array([1.0, 0.0, 0.0]), angle)
    mujoco.mju_quat2Mat(matrix, quat_wxyz)
    return matrix.reshape(3, 3)


def make_renderer(kind: RendererKind, engine: Engine, *, size: int, views: Views | None = None) -> Renderer:
    """Make a renderer for square images of `size` pixels; `"auto"` takes OpenGL where it works.

    With `views` every environment has its own camera, light and colours.

    Raises:
        ConfigError: If there is no such kind.
        DependencyError: If OpenGL is asked for and this machine has no context to give.
    """
    if kind == "rays":
        return RayRenderer(engine, size=size, views=views)
    if kind == "auto":
        try:
            return GlRenderer(engine, size=size, views=views)
        except DependencyError:
            return RayRenderer(engine, size=size, views=views)
    if kind == "gl":
        return GlRenderer(engine, size=size, views=views)
    raise ConfigError(f"renderer must be gl, rays or auto, got '{kind}'.")


@functools.cache
def _opengl_error() -> str | None:
    """Try once whether this process gets an OpenGL context; a second failing try would abort it."""
    # The whole picture is one tile of Mesa's software driver, which threads that wait for each other draw no sooner:
    # without them it takes a quarter to a half less CPU time.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    model = mujoco.MjSpec().compile()
    try:
        with warnings.catch_warnings():  # what the GL libraries warn of is told by the error
            warnings.simplefilter("ignore")
            mujoco.Renderer(model, height=1, width=1).close()
    except Exception as error:  # the GL libraries raise whatever they like, from ImportError to their own
        return str(error)
    return None


class GlRenderer:
    """Draws with `mujoco.Renderer`."""

    def __init__(self, engine: Engine, *, size: int, views: Views | None = None) -> None:
        error = _opengl_error()
        if error is not None:
            raise DependencyError(
                f"The camera needs an OpenGL context and this machine gave none ({error}). "
                "Install EGL or OSMesa and set MUJOCO_GL=egl or osmesa, pass renderer='rays', "
                "or choose an observation without a camera, such as 'tactile'."
            )
        self._views = views
        self._model = copy.copy(engine.model)
        # By default every picture clears a frame of 640 x 480.
        self._model.vis.global_.offwidth = self._model.vis.global_.offheight = size
        self._renderer = mujoco.Renderer(self._model, height=size, width=size)
        self._data = mujoco.MjData(self._model)
        self._shown = mujoco.MjvOption()
        self._shown.sitegroup[:] = 0  # rays do not meet sites either

    def render(self, engine: Engine, ids: NDArray[np.intp], *, camera: str = CAMERA) -> NDArray[np.uint8]:
        """Return images. Shape (n, H, W, 3)."""
        images = []
        for index in ids:
            engine.write_model(int(index), self._model)
            if self._views is not None:
                self._look(engine.model, self._views, int(index), camera)
            self._data.qpos[:] = engine.qpos[index]
            self._data.mocap_pos[:] = engine.mocap_pos[index]
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_camlight(self._model, self._data)
            self._renderer.update_scene(self._data, camera=camera, scene_option=self._shown)
            images.append(self._renderer.render().copy())
        return np.stack(images)

    def _look(self, nominal: mujoco.MjModel, views: Views, index: int, name: str) -> None:
        """Give the drawn model the camera, light and colours of one environment."""
        model, camera = self._model, self._model.camera(name)
        camera.pos[:] = views.position[name][index]
        mujoco.mju_mat2Quat(camera.quat, views.rotation[name][index].ravel())
        camera.fovy[:] = views.field_of_view[name][index]
        model.geom_rgba[:, :3] = views.colour[index]
        model.light_dir[0] = -views.light[index]
        model.light_diffuse[:] = nominal.light_diffuse * views.brightness[index]
        for name in ("ambient", "diffuse"):
            getattr(model.vis.headlight, name)[:] = getattr(nominal.vis.headlight, name) * views.brightness[index]

    def close(self) -> None:
        """Release the graphics context."""
        self._renderer.close()


class RayRenderer:
    """Casts one ray per pixel and shades by the surface normal."""

    def __init__(self, engine: Engine, *, size: int, views: Views | None = None) -> None:
        self._random = views is not None
        self._views = views or Views(engine)
        self._size = size
        # What all see alike from a fixed camera, unless it is randomised.
        self._common = self._aim(engine, np.zeros(1, dtype=np.intp), CAMERA)
        self._floor = np.append(engine.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE, False)

    def _aim(self, engine: Engine, ids: NDArray[np.intp], camera: str) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Origins (n, 1, 3) and directions (n, R, 3) of rays, directions to the light (n, 3), colours (n, G + 1, 3)."""
        grid = (np.arange(self._size) + 0.5) / self._size * 2 - 1
        views, body = self._views, engine.model.body(int(engine.model.camera(camera).bodyid[0])).name
        position, rotation = views.position[camera][ids], views.rotation[camera][ids]
        if body != "world":
            position = engine.body_position(body)[ids] + rotate(engine.body_rotation(body)[ids], position)
            rotation = np.einsum("bij,bjk->bik", engine.body_rotation(body)[ids], rotation)
        half = np.tan(np.deg2rad(views.field_of_view[camera][ids]) / 2)[:, None] * grid  # (n, size)
        shape = (len(ids), self._size, self._size)
        x, y = np.broadcast_to(half[:, None], shape), np.broadcast_to(-half[..., None], shape)
        rays = np.stack([x, y, np.full(shape, -1.0)], axis=-1).reshape(len(ids), -1, 3)
        rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        sky = np.broadcast_to(_SKY, (len(ids), 1, 3))  # the last row answers geom id -1, a miss
        return (
            position[:, None],
            np.stack([each @ turn.T for each, turn in zip(rays, rotation, strict=True)]),
            views.light[ids],
            np.concatenate([views.colour[ids], sky], axis=1),
        )

    def render(self, engine: Engine, ids: NDArray[np.intp], *, camera: str = CAMERA) -> NDArray[np.uint8]:
        """Return images. Shape (n, H, W, 3)."""
        common = camera == CAMERA and not self._random
        origin, rays, light, colours = self._common if common else self._aim(engine, ids, camera)
        brightness = self._views.brightness[ids, None]
        if common:
            distance, geom, normal = engine.ray(origin[0, 0], rays[0], ids=ids, geomgroup=_VISIBLE_GROUPS)
            colour, facing = colours[0][geom], normal @ light[0]
        else:
            distance, geom, normal = engine.ray(origin, rays, ids=ids, geomgroup=_VISIBLE_GROUPS)
            colour = np.take_along_axis(colours, np.where(geom < 0, colours.shape[1] - 1, geom)[..., None], axis=1)
            facing = np.stack([each @ towards for each, towards in zip(normal, light, strict=True)])
        point = origin + distance[..., None] * rays
        checker = (np.floor(point[..., :2] / 0.02).sum(axis=-1) % 2)[..., None]
        colour = np.where(self._floor[geom][..., None], colour * (0.85 + 0.15 * checker), colour)
        shade = np.where(geom < 0, 1.0, brightness * (0.45 + 0.55 * np.abs(facing)))
        image = np.clip(colour * shade[..., None], 0, 1) * 255
        return image.astype(np.uint8).reshape(len(ids), self._size, self._size, 3)

    def close(self) -> None:
        """Nothing to release."""

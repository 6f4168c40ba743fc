"""Camera images of batched simulations: by OpenGL where there is a context, by ray casting anywhere.

Ray casting needs no graphics library, costs some milliseconds an image and shades without shadows or textures; OpenGL
draws thousands of images a second. Both see the same scene from the same pose; their pictures differ in shading.

Legend: n images, H rows, W columns.
"""

from __future__ import annotations

import functools
import warnings
from typing import Literal, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, DependencyError
from vtt_envs.engine import Engine
from vtt_envs.task import Camera

__all__ = ["CAMERA", "GlRenderer", "RayRenderer", "Renderer", "RendererKind", "add_camera", "make_renderer"]

CAMERA = "camera_front"
RendererKind = Literal["gl", "rays", "auto"]

_LIGHT = np.array([0.3, -0.4, 0.87])  # unit direction to the light
_SKY = np.array([0.75, 0.8, 0.88])
_VISIBLE_GROUPS = np.array([1, 1, 1, 1, 0, 0], dtype=np.uint8)  # group 4 holds sensing grids and collision twins


class Renderer(Protocol):
    """Draws what the front camera of some simulations sees."""

    def render(self, engine: Engine, ids: NDArray[np.intp]) -> NDArray[np.uint8]:
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


def make_renderer(kind: RendererKind, engine: Engine, *, size: int) -> Renderer:
    """Make a renderer for square images of `size` pixels; `"auto"` takes OpenGL where it works.

    Raises:
        ConfigError: If there is no such kind.
        DependencyError: If OpenGL is asked for and this machine has no context to give.
    """
    if kind == "rays":
        return RayRenderer(engine, size=size)
    if kind == "auto":
        try:
            return GlRenderer(engine, size=size)
        except DependencyError:
            return RayRenderer(engine, size=size)
    if kind == "gl":
        return GlRenderer(engine, size=size)
    raise ConfigError(f"renderer must be gl, rays or auto, got '{kind}'.")


@functools.cache
def _opengl_error() -> str | None:
    """Try once whether this process gets an OpenGL context; a second failing try would abort it."""
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

    def __init__(self, engine: Engine, *, size: int) -> None:
        error = _opengl_error()
        if error is not None:
            raise DependencyError(
                f"The camera needs an OpenGL context and this machine gave none ({error}). "
                "Install EGL or OSMesa and set MUJOCO_GL=egl or osmesa, pass renderer='rays', "
                "or choose an observation without a camera, such as 'tactile'."
            )
        self._renderer = mujoco.Renderer(engine.model, height=size, width=size)
        self._data = mujoco.MjData(engine.model)

    def render(self, engine: Engine, ids: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return images. Shape (n, H, W, 3)."""
        images = []
        for index in ids:
            self._data.qpos[:] = engine.qpos[index]
            self._data.mocap_pos[:] = engine.mocap_pos[index]
            mujoco.mj_kinematics(engine.model, self._data)
            mujoco.mj_camlight(engine.model, self._data)
            self._renderer.update_scene(self._data, camera=CAMERA)
            images.append(self._renderer.render().copy())
        return np.stack(images)

    def close(self) -> None:
        """Release the graphics context."""
        self._renderer.close()


class RayRenderer:
    """Casts one ray per pixel and shades by the surface normal."""

    def __init__(self, engine: Engine, *, size: int) -> None:
        model = engine.model
        camera = model.camera(CAMERA)
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, camera.quat)
        half = np.tan(np.deg2rad(camera.fovy[0]) / 2)
        grid = ((np.arange(size) + 0.5) / size * 2 - 1) * half
        x, y = np.meshgrid(grid, -grid)
        rays = np.stack([x, y, -np.ones_like(x)], axis=-1).reshape(-1, 3)
        self._rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)) @ rotation.reshape(3, 3).T
        self._origin = camera.pos.copy()
        self._size = size
        self._colour = np.vstack([model.geom_rgba[:, :3], _SKY])  # the last row answers geom id -1, a miss
        self._floor = np.append(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE, False)

    def render(self, engine: Engine, ids: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return images. Shape (n, H, W, 3)."""
        distance, geom, normal = engine.ray(self._origin, self._rays, ids=ids, geomgroup=_VISIBLE_GROUPS)
        colour = self._colour[geom]
        point = self._origin + distance[..., None] * self._rays
        checker = (np.floor(point[..., :2] / 0.02).sum(axis=-1) % 2)[..., None]
        colour = np.where(self._floor[geom][..., None], colour * (0.85 + 0.15 * checker), colour)
        shade = np.where(geom < 0, 1.0, 0.45 + 0.55 * np.abs(normal @ _LIGHT))
        image = np.clip(colour * shade[..., None], 0, 1) * 255
        return image.astype(np.uint8).reshape(len(ids), self._size, self._size, 3)

    def close(self) -> None:
        """Nothing to release."""

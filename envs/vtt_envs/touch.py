"""What the gel pads feel: tactile images and force fields from taxels and contacts of the physics.

Legend: n environments, rows x columns taxels of a pad.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.randomisation import Randomiser
from vtt_envs.robots import GelPad, Robot
from vtt_envs.task import rotate_back
from vtt_envs.touch_variation import TouchVariation
from vtt_sensors.calibration import Calibration
from vtt_sensors.contact_force import spread_contact_force
from vtt_sensors.simulator import TactileSimulator
from vtt_sensors.spec import SensorSpec

__all__ = ["Touch"]

_FORCE_POOL = 4  # taxels per side of one cell of the force field


class Touch:
    """Reads all pads of a batch of simulations.

    Args:
        engine: Simulations of the robot.
        robot: What carries the taxels.
        sensor: The sensor that looks at it.
        calibration: Its optics.
        device: Torch device of the touch simulation.
        randomiser: What differs between sensors and episodes.
    """

    def __init__(
        self,
        engine: Engine,
        robot: Robot,
        *,
        sensor: SensorSpec,
        calibration: Calibration,
        device: str,
        randomiser: Randomiser | None = None,
    ) -> None:
        self._engine = engine
        self._robot = robot
        self._pad = robot.pad
        self._simulator = TactileSimulator(
            sensor, calibration, image_shape=robot.pad.taxels, device=device, threads=engine.num_threads
        )
        self.rest_image: NDArray[np.uint8] = self._simulator.rest_image.cpu().numpy()
        self._variation: TouchVariation | None = None
        if randomiser is not None and randomiser.uses("touch_"):
            self._variation = TouchVariation(
                randomiser,
                self._simulator.rest_image,
                noise=calibration.noise,
                pixel_pitch=self._taxel_size,
                num_envs=engine.num_envs,
                fingers=len(robot.fingers),
            )
            self._gels = np.array(
                [
                    [engine.model.joint(f"gel_{f}_{motion}").qposadr[0] for motion in ("across", "along")]
                    for f in robot.fingers
                ]
            )

    @staticmethod
    def force_shape(pad: GelPad) -> tuple[int, int, int]:
        """Shape of the force field of one pad."""
        return pad.taxels[0] // _FORCE_POOL, pad.taxels[1] // _FORCE_POOL, 3

    def begin(self, ids: NDArray[np.intp]) -> None:
        """Prepare new episodes, whose values have been drawn."""
        if self._variation is not None:
            self._variation.begin(ids)

    def images(self, ids: NDArray[np.intp], steps: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return the tactile images of the pads, in the order of the fingers.

        Args:
            ids: The environments. Shape (n,).
            steps: Their control steps since the reset. Shape (n,).

        Returns:
            Pictures. Shape (n, fingers, rows, columns, 3).
        """
        pads = self._penetrations(ids)
        images = self._simulator.render(pads.flatten(0, 1)).unflatten(0, pads.shape[:2])
        if self._variation is not None:
            images = self._variation(images, ids, steps, shear=self._shear(ids))
        return images.cpu().numpy()

    def force(self, finger: str, ids: NDArray[np.intp]) -> NDArray[np.float32]:
        """Spread the measured contact force over the cells of one pad, in [N]. Shape (n, rows / 4, columns / 4, 3)."""
        rows, columns, _ = self.force_shape(self._pad)
        cells = self._penetration(finger, ids).reshape(len(ids), rows, _FORCE_POOL, columns, _FORCE_POOL)
        contact = self._engine.sensor(f"contact_{finger}")[ids]
        rotation = self._engine.body_rotation(f"finger_{finger}")[ids]
        # MuJoCo reports what the first body (the gel) does to the second.
        force, torque = (rotate_back(rotation, -contact[:, i : i + 3]) for i in (1, 4))
        # Columns run along z of the finger, rows along -x, the gel is pushed towards +y; mirrored, along +x and -y.
        sign = -1.0 if finger in self._robot.mirrored else 1.0
        on_pad = np.stack([sign * force[:, 1], force[:, 2], -sign * force[:, 0]], axis=1)
        height, width = self._taxel_size
        return spread_contact_force(
            cells.sum(axis=(2, 4)),
            on_pad,
            twist=sign * torque[:, 1],
            taxel_size=(height * _FORCE_POOL, width * _FORCE_POOL),
        ).astype(np.float32)

    @property
    def _taxel_size(self) -> tuple[float, float]:
        """Sides of a taxel along rows and columns, in [m]."""
        return self._pad.window[0] / self._pad.taxels[0], self._pad.window[1] / self._pad.taxels[1]

    def _shear(self, ids: NDArray[np.intp]) -> NDArray[np.float64]:
        """How far the gels have moved over their fingers, along rows and columns, in [m]. Shape (n, fingers, 2)."""
        moved = self._engine.qpos[ids][:, self._gels]
        # Rows run along -x of the finger, along +x of a mirrored one.
        moved[..., 0] *= [1.0 if finger in self._robot.mirrored else -1.0 for finger in self._robot.fingers]
        return moved

    def _penetrations(self, ids: NDArray[np.intp]) -> torch.Tensor:
        """Overlaps of all pads, float32, on the device of the physics. Shape (n, fingers, rows, columns)."""
        fingers, (rows, columns) = self._robot.fingers, self._pad.taxels
        pads = torch.empty(len(ids), len(fingers), rows, columns, device=self._engine.device)
        for index, finger in enumerate(fingers):
            pads[:, index] = self._engine.sensor_tensor(f"gel_{finger}", ids, size=rows * columns).unflatten(
                1, (rows, columns)
            )
        return pads

    def _penetration(self, finger: str, ids: NDArray[np.intp]) -> NDArray[np.float64]:
        """Overlap of objects with the gel at each taxel, in [m]. Shape (n, rows, columns)."""
        rows, columns = self._pad.taxels
        # The first third of the reading; sliding speeds follow.
        return self._engine.sensor(f"gel_{finger}")[ids, : rows * columns].reshape(-1, rows, columns)

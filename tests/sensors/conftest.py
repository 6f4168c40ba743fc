from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vtt_sensors.calibration import Calibration
from vtt_sensors.fitting import ball_indentation
from vtt_sensors.optics import Light, light_table


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Public recordings of real sensors: $VTT_REALDATA, or realdata/ in a folder `shared` beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "realdata"
    folder = Path(os.environ.get("VTT_REALDATA", beside))
    if not folder.is_dir():
        pytest.skip("recordings of real sensors are not here; VTT_REALDATA names their folder")
    return folder


@pytest.fixture(scope="session")
def lights() -> tuple[Light, ...]:
    levels = ((90.0, 5.0, 5.0), (5.0, 90.0, 5.0), (5.0, 5.0, 90.0))
    angles = np.radians([-90.0, 30.0, 150.0])
    return tuple(Light(float(angle), 0.6, level) for angle, level in zip(angles, levels, strict=True))


@pytest.fixture(scope="session")
def calibration(lights) -> Calibration:
    """A sensor lit evenly by three lights, so that every number is known."""
    return Calibration(
        sensor="gelsight_mini",
        source="test",
        table=light_table(lights, slope_max=1.0, nodes=33),
        slope_max=1.0,
        rest_image=np.full((6, 8, 3), 120.0, np.float32),
    )


@pytest.fixture(scope="session")
def ball():
    """Overlap of a ball with a flat gel, (1, H, W)."""

    def make(image_shape, *, pixel_pitch, radius=3e-3, depth=4e-4, centre=None):
        rows, columns = image_shape
        centre = ((rows - 1) / 2, (columns - 1) / 2) if centre is None else centre
        array = ball_indentation(image_shape, centre=centre, radius=radius, depth=depth, pixel_pitch=pixel_pitch)
        return torch.from_numpy(array)[None]

    return make

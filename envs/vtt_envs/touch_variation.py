"""How one touch sensor differs from the next: light, wear, noise, markers, late and lost frames.

The knobs are those of `vtt_envs.randomisation.Randomisation` that begin with `touch_`; here they meet pictures.

Legend: B environments, n of them, F fingers, H rows, W columns, T steps of an episode and its reset.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtt_envs.randomisation import Randomiser
from vtt_sensors.calibration import NoiseParameters
from vtt_sensors.noise import frame_noise

__all__ = ["TouchVariation", "variation_patterns"]

# Pictures are computed in integers: exact, so equal at any batch size, and twice as fast as in float32.
_SHIFT = 5  # 16-bit numbers hold grey levels in 32nds
_MAX_GAIN = 2.0  # a larger change from rest would leave 16 bits
_PORTION = 16  # environments whose maps are drawn at once, to stay in the caches
_NOISE_FRAMES = 32  # each may begin at any of its rows
_NOISE_LEVELS, _NOISE_STEP = 4, 8  # noise of 1 in quarters, its standard deviation in eighths of a grey level: 32nds
_WAVES = tuple((i, j) for i in range(3) for j in range(3) if i + j)  # half periods of the wear along rows, columns
_MAX_SCRATCHES = 8
_SCRATCH_WIDTH, _SCRATCH_LENGTH = 1.5e-4, 4e-3  # m: of the profile's Gaussian, half length at most
_SCRATCH_CONTRAST = 0.5
_DOT_RADIUS, _DOT_CONTRAST, _DOT_PITCH = 3.5e-4, 0.85, 0.002  # m, of the dots' Gaussian; part; m


def variation_patterns(fingers: int, horizon: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the random numbers that an episode needs; see `Randomiser`."""
    steps = horizon + 1
    return {
        "touch_rest": (fingers, 3, 3),
        "touch_wear": (fingers, len(_WAVES)),
        "touch_scratches": (fingers, _MAX_SCRATCHES, 5),
        "touch_noise": (steps, fingers, 2),
        "touch_markers": (fingers, 2),
        "touch_drop": (steps, fingers),
    }


class TouchVariation:
    """Turns pictures of the nominal sensor into those of a batch of others.

    A picture is `response (nominal - rest) + own_rest`, darkened by the dots, plus noise; then it may come late, be
    lost or be dead. An untouched gel shows `own_rest`.

    Args:
        randomiser: The drawn values.
        rest_image: Nominal picture of the untouched gel, uint8, on the device to compute on. Shape (H, W, 3).
        noise: Spectrum and correlation of the sensor's noise.
        pixel_pitch: Side of a pixel on the gel, along rows and columns, in [m].
        num_envs: B.
        fingers: F.
    """

    def __init__(
        self,
        randomiser: Randomiser,
        rest_image: Tensor,
        *,
        noise: NoiseParameters,
        pixel_pitch: tuple[float, float],
        num_envs: int,
        fingers: int,
    ) -> None:
        self._random = randomiser
        self._rest_image = rest_image
        self._rest = rest_image.to(torch.int16)
        # Rounds halves up at every other number and down between, so that noise keeps the mean.
        down = (torch.arange(rest_image.numel()) % 2).view(rest_image.shape)
        self._half = (2 ** (_SHIFT - 1) - down).to(rest_image.device, torch.int16)
        self._shape: tuple[int, int] = (int(rest_image.shape[0]), int(rest_image.shape[1]))
        self._pitch = pixel_pitch
        device = rest_image.device
        frames = (num_envs, fingers, *rest_image.shape)
        self._maps: tuple[Tensor, Tensor] | None = None
        if any(
            randomiser.value(f"touch_{name}") is not None for name in ("light", "rest", "wear", "scratches", "gain")
        ):
            self._maps = tuple(torch.zeros(frames, dtype=torch.int16, device=device) for _ in range(2))  # type: ignore[assignment]
        self._noise: Tensor | None = None
        if randomiser.value("touch_noise") is not None:
            self._noise = _noise_rows(noise, self._shape).to(device)
        late = randomiser.slots("touch_latency")
        self._late = None if late is None else torch.zeros((late, *frames), dtype=torch.uint8, device=device)
        self._last: Tensor | None = None
        if randomiser.value("touch_drop") is not None:
            self._last = torch.zeros(frames, dtype=torch.uint8, device=device)

    def begin(self, ids: NDArray[np.intp]) -> None:
        """Prepare new episodes, whose values have been drawn."""
        if self._maps is None:
            return
        for part in np.split(ids, range(_PORTION, len(ids), _PORTION)):
            index = torch.from_numpy(part).to(self._rest.device)
            for target, values in zip(self._maps, self._draw_maps(part), strict=True):
                target[index] = torch.from_numpy(np.rint(values * 2**_SHIFT).astype(np.int16)).to(target.device)

    def _draw_maps(self, ids: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Response and rest image of some sensors. Shapes (n, F, H, W, 3)."""
        gain = self._gain_map(ids)
        rest = gain * self._rest.cpu().numpy()
        value = self._random.value("touch_rest")
        if value is not None:
            rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in self._shape)
            planes = value[ids][..., None, None] * self._random.pattern("touch_rest")[ids]  # (n, F, 3, 3)
            offset, down, right = np.moveaxis(planes.astype(np.float32), 2, 0)[..., None, None, :]
            rest += offset + down * rows[:, None, None] + right * columns[:, None]
        response = self._random.value("touch_gain")
        if response is not None:
            gain *= response[ids][..., None, None, None]
        return gain.clip(0, _MAX_GAIN), rest.clip(0, 255)

    def __call__(
        self, images: Tensor, ids: NDArray[np.intp], steps: NDArray[np.integer], *, shear: NDArray[np.float64]
    ) -> Tensor:
        """Return what the sensors of some environments send.

        Args:
            images: Nominal pictures, uint8. Shape (n, F, H, W, 3).
            ids: Their environments. Shape (n,).
            steps: Their control steps since the reset. Shape (n,).
            shear: How far the gels have moved over their fingers, along rows and columns, in [m]. Shape (n, F, 2).
        """
        rows = torch.from_numpy(ids).to(images.device)
        noise = self._random.value("touch_noise")
        markers = self._random.value("touch_markers")
        dotted = np.zeros(len(ids), dtype=bool) if markers is None else markers[ids] > 0
        if self._maps is not None or noise is not None or dotted.any():
            images = self._recolour(images, ids, rows)
            if dotted.any():
                marked = torch.from_numpy(np.flatnonzero(dotted)).to(images.device)
                images[marked] = self._add_dots(images[marked], ids[dotted], shear[dotted])
            if noise is not None:
                self._add_noise(images, noise, ids, steps)
            images = images.add_(self._half).bitwise_right_shift_(_SHIFT).clamp_(0, 255).to(torch.uint8)
        images = self._delay(images, ids, steps)
        images = self._drop(images, ids, rows, steps)
        dead = self._random.value("touch_dead")
        if dead is not None and dead[ids].any():
            images[torch.from_numpy(dead[ids] > 0).to(images.device)] = self._rest_image
        return images

    def _recolour(self, images: Tensor, ids: NDArray[np.intp], rows: Tensor) -> Tensor:
        """Apply response and rest image; grey levels in 32nds, int16."""
        out = images.to(torch.int16)
        if self._maps is None:
            return out.bitwise_left_shift_(_SHIFT)
        everyone = len(ids) == len(self._maps[0])  # then nothing has to be gathered
        response, rest = (values if everyone else values[rows] for values in self._maps)
        return out.sub_(self._rest).mul_(response).add_(rest)

    def _gain_map(self, ids: NDArray[np.intp]) -> NDArray[np.float32]:
        """Light, wear and scratches as a factor on the picture. Shape (n, F, H, W, 3)."""
        light, wear, scratches = (self._random.value(f"touch_{name}") for name in ("light", "wear", "scratches"))
        fingers = self._maps[0].shape[1]  # type: ignore[index]
        gain = np.ones((len(ids), fingers, *self._shape), dtype=np.float32)
        if wear is not None:
            rows, columns = ((np.arange(side) + 0.5) / side * np.pi for side in self._shape)
            pattern = np.zeros_like(gain)
            for k, (i, j) in enumerate(_WAVES):
                wave = (np.cos(i * rows)[:, None] * np.cos(j * columns)).astype(np.float32)
                pattern += self._random.pattern("touch_wear")[ids, :, k, None, None].astype(np.float32) * wave
            gain *= 1 + wear[ids][..., None, None] * np.clip(pattern / 2, -1, 1)
        if scratches is not None:
            gain *= 1 + self._scratches(scratches[ids], self._random.pattern("touch_scratches")[ids])
        light = np.ones((1, 1, 3)) if light is None else light[ids]
        return gain[..., None] * light[:, :, None, None, :].astype(np.float32)

    def _scratches(self, count: NDArray, pattern: NDArray) -> NDArray[np.float64]:
        """Sum of the lines' contrasts. Shapes (n, F), (n, F, 8, 5) to (n, F, H, W)."""
        out = np.zeros((*count.shape, *self._shape))
        row, column = ((np.arange(side) + 0.5 - side / 2) for side in self._shape)
        row, column = (row * self._pitch[0])[:, None], (column * self._pitch[1])[None]
        half = [side * pitch / 2 for side, pitch in zip(self._shape, self._pitch, strict=True)]
        for env, finger in np.argwhere(count > 0):
            for y, x, turn, length, contrast in pattern[env, finger, : int(count[env, finger])]:
                sine, cosine = np.sin(turn * np.pi), np.cos(turn * np.pi)
                down, right = row - y * half[0], column - x * half[1]
                along, off = cosine * right + sine * down, cosine * down - sine * right
                reach = np.abs(along) < (1.5 + length / 2) / 2 * _SCRATCH_LENGTH
                out[env, finger] += _SCRATCH_CONTRAST * contrast * reach * np.exp(-((off / _SCRATCH_WIDTH) ** 2))
        return out

    def _add_dots(self, images: Tensor, ids: NDArray[np.intp], shear: NDArray[np.float64]) -> Tensor:
        """Darken pictures (m, F, H, W, 3) where the dots of a square lattice are, a product of two rows of stripes."""
        pitch = self._random.value("touch_marker_pitch")
        spacing = np.full(len(ids), _DOT_PITCH) if pitch is None else pitch[ids]
        stripes = []
        for axis in range(2):
            place = (np.arange(self._shape[axis]) + 0.5) * self._pitch[axis]  # m
            offset = shear[..., axis] + self._random.pattern("touch_markers")[ids, :, axis] * spacing[:, None] / 2
            off = (place - offset[..., None]) / spacing[:, None, None]  # (m, F, side), in spacings
            off = (off - np.rint(off)) * spacing[:, None, None]
            stripes.append(np.exp(-((off / _DOT_RADIUS) ** 2)))
        shade = 128 * (1 - _DOT_CONTRAST * stripes[0][..., :, None] * stripes[1][..., None, :])
        light = torch.from_numpy(np.rint(shade).astype(np.int16)).to(images.device)[..., None]
        # Grey levels lose their 32nds here: those times 128ths would not fit 16 bits.
        levels = images.bitwise_right_shift(_SHIFT).clamp_(0, 255).mul_(light)
        return levels.bitwise_right_shift_(7 - _SHIFT)

    def _add_noise(self, images: Tensor, sigma: NDArray, ids: NDArray[np.intp], steps: NDArray[np.integer]) -> None:
        """Add a random piece of the stored noise to pictures in 32nds of a grey level."""
        assert self._noise is not None
        height = self._shape[0]
        draw = (self._random.pattern("touch_noise")[ids, steps] + 1) / 2  # (n, F, 2)
        first = np.floor(draw[..., 0] * _NOISE_FRAMES) * 2 * height + np.floor(draw[..., 1] * height)
        index = first[..., None].astype(np.int64) + np.arange(height)  # (n, F, H)
        piece = self._noise.index_select(0, torch.from_numpy(index.ravel()).to(images.device)).view(images.shape)
        scale = torch.from_numpy(np.rint(sigma[ids] * _NOISE_STEP).astype(np.int16)).to(images.device)
        images.add_(piece.mul_(scale[:, None, None, None, None]))

    def _delay(self, images: Tensor, ids: NDArray[np.intp], steps: NDArray[np.integer]) -> Tensor:
        """Return the pictures of some steps ago, or the first; keep those given."""
        late = self._random.value("touch_latency")
        if self._late is None or late is None:
            return images
        behind = np.flatnonzero(late[ids] > 0)
        if len(behind) == 0:
            return images
        slots, size = self._late.shape[:2]
        part, at = torch.from_numpy(behind).to(images.device), steps[behind]
        pictures, kept = _rows(images), _rows(self._late.flatten(0, 1))
        given = pictures.index_select(0, part)
        first = np.flatnonzero(at == 0)
        if len(first):
            beginning = given[torch.from_numpy(first).to(images.device)]
            for slot in range(slots):
                kept.index_copy_(0, torch.from_numpy(slot * size + ids[behind[first]]).to(images.device), beginning)
        now, then = (
            torch.from_numpy(step % slots * size + ids[behind]).to(images.device)
            for step in (at, at - late[ids[behind]].astype(np.int64))
        )
        kept.index_copy_(0, now, given)
        pictures.index_copy_(0, part, kept.index_select(0, then))
        return images

    def _drop(self, images: Tensor, ids: NDArray[np.intp], rows: Tensor, steps: NDArray[np.integer]) -> Tensor:
        """Repeat the last picture where the present one is lost."""
        probability = self._random.value("touch_drop")
        if self._last is None or probability is None:
            return images
        draw = (self._random.pattern("touch_drop")[ids, steps] + 1) / 2  # (n, F)
        lost = (draw < probability[ids]) & (steps > 0)[:, None]
        if lost.any():
            env, finger = (torch.from_numpy(part).to(images.device) for part in np.nonzero(lost))
            images[env, finger] = self._last[rows[env], finger]
        if len(ids) == len(self._last):
            self._last.copy_(images)
        else:
            self._last[rows] = images
        return images


def _rows(images: Tensor) -> Tensor:
    """View uint8 pictures (B, ...) as one row each, of 64-bit words where they fit, which copy seven times as fast."""
    flat = images.flatten(1)
    return flat.view(torch.int64) if flat.shape[1] % 8 == 0 else flat


def _noise_rows(parameters: NoiseParameters, image_shape: tuple[int, int]) -> Tensor:
    """Frames of noise of unit deviation in quarters, one after the other, each twice. Shape (frames 2 H, W 3), int16.

    The noise is periodic, so a piece of H rows that begins anywhere in a frame is as good as the frame.
    """
    unit = replace(parameters, frame_std=1 / 255)
    frames = frame_noise(unit, _NOISE_FRAMES, image_shape=image_shape, generator=torch.Generator().manual_seed(0))
    twice = torch.cat([frames, frames], dim=1)  # (frames, 2 H, W, 3)
    return (twice * _NOISE_LEVELS).round().to(torch.int16).flatten(2).flatten(0, 1).contiguous()

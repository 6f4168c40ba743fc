from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ShapeError
from vtt.images import from_network, resize, to_network


@given(st.lists(st.integers(1, 5), min_size=3, max_size=5), st.integers(0, 2**32))
def test_an_image_survives_the_way_into_a_network_and_back(shape: list[int], seed: int) -> None:
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    inside = to_network(image)
    assert inside.shape == (*shape[:-3], shape[-1], *shape[-3:-1])
    assert inside.dtype == torch.float32
    assert inside.is_contiguous()
    assert torch.equal(from_network(inside), image)


def test_a_pixel_keeps_its_place() -> None:
    image = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    image[1, 2, 3, 0] = 255
    assert to_network(image).nonzero().tolist() == [[1, 0, 2, 3]]


def test_values_out_of_range_are_clipped() -> None:
    assert from_network(torch.tensor([[[-0.5, 1.5]]])).flatten().tolist() == [0, 255]


def test_shrinking_takes_the_mean_over_the_area() -> None:
    image = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    expected = image.reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
    np.testing.assert_allclose(resize(image, height=2, width=3), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_keeps_leading_axes_dtype_and_channels(channels: int) -> None:
    image = np.full((2, 3, 10, 12, channels), 7, np.uint8)
    for side in (5, 20):
        scaled = resize(image, height=side, width=side)
        assert scaled.shape == (2, 3, side, side, channels)
        assert scaled.dtype == np.uint8
        assert (scaled == 7).all()


def test_something_else_than_an_image_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"image must be uint8 \(\.\.\., H, W, C\), got torch\.float32 \(2, 2, 3\)"):
        to_network(torch.zeros(2, 2, 3))
    with pytest.raises(ShapeError, match=r"image must be \(\.\.\., C, H, W\), got \(2, 2\)"):
        from_network(torch.zeros(2, 2))
    with pytest.raises(ShapeError, match=r"image must be \(\.\.\., H, W, C\), got \(2, 2\)"):
        resize(np.zeros((2, 2)), height=1, width=1)

"""Networks that turn an image or a force field into a map of features, and a map into points.

Axes: B batch · C, F channels of the input and of the map · H, W and h, w their rows and columns · P points.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["ConvNet", "FrozenBatchNorm", "ResNet18", "SpatialSoftmax", "make_norm"]

# Channels per group: the convention of diffusion policy, which replaces the batch norms of its ResNet so.
_GROUP = 16


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose statistics and affine map are constants: what a released ResNet holds."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Buffers, not parameters: nothing of it is trained. ACT's original does the same.
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift (B, C, H, W)."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


def make_norm(kind: Literal["group", "frozen_batch"], channels: int) -> nn.Module:
    """Build the normalisation of a layer."""
    return FrozenBatchNorm(channels) if kind == "frozen_batch" else nn.GroupNorm(max(1, channels // _GROUP), channels)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut. Source: He et al. 2016, figure 2; names as torchvision's."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Literal["group", "frozen_batch"]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = make_norm(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = make_norm(norm, outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), make_norm(norm, outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """ResNet18 without its classifier; its parameters bear torchvision's names.

    Args:
        channels: C.
        width: Channels of the first stage; 64 is He et al.'s.
        norm: Kind of normalisation.

    Source: He et al. 2016, table 1.
    """

    def __init__(self, channels: int, *, width: int = 64, norm: Literal["group", "frozen_batch"] = "group") -> None:
        super().__init__()
        self.channels = 8 * width
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = make_norm(norm, width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for stage in range(1, 5):
            first = _BasicBlock(widths[stage - 1], widths[stage], 1 if stage == 1 else 2, norm)
            blocks = nn.Sequential(first, _BasicBlock(widths[stage], widths[stage], 1, norm))
            self.add_module(f"layer{stage}", blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 8 width, H / 32, W / 32), rounded up."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(image))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


class ConvNet(nn.Module):
    """3x3 convolutions that halve the map while it is larger than `smallest`: for small images and force fields.

    Args:
        channels: C.
        height: H.
        width_px: W.
        width: Channels of the first layer; each further one has twice as many, up to 4 times.
        smallest: Largest side of a map that is not halved again.
    """

    def __init__(self, channels: int, height: int, width_px: int, *, width: int = 32, smallest: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        side, outputs = max(height, width_px), width
        while True:
            stride = 2 if side > smallest else 1
            layers += [nn.Conv2d(channels, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.Mish()]
            side, channels = -(-side // stride), outputs
            if side <= smallest:
                break
            outputs = min(2 * outputs, 4 * width)
        self.channels = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, F, h, w)."""
        return self.layers(image)


class SpatialSoftmax(nn.Module):
    """Where each of P learned activations is on the map: its mean position under a softmax.

    Args:
        channels: F.
        height: h.
        width: w.
        keypoints: P.

    Source: Finn et al. 2016, eqn. 2; coordinates run from -1 to 1, x (columns) before y (rows).
    """

    def __init__(self, channels: int, height: int, width: int, *, keypoints: int) -> None:
        super().__init__()
        self.nets = nn.Conv2d(channels, keypoints, 1)
        rows, columns = torch.linspace(-1.0, 1.0, height), torch.linspace(-1.0, 1.0, width)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        self.pos_grid: Tensor
        self.register_buffer("pos_grid", torch.stack((x.flatten(), y.flatten()), 1))  # (h * w, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, F, h, w) to positions (B, P, 2)."""
        return self.nets(features).flatten(2).softmax(-1) @ self.pos_grid

"""Small networks of unlike designs, for tests.benchmarks.clean_nets and poison.

Each takes float32 [n, channels, side, side] in 0..1 and gives logits [n, classes].
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def plain(channels: int, side: int, classes: int) -> nn.Sequential:
    """Convolutions, ReLU and max pooling, nothing else."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64 * (side // 8) ** 2, 128), nn.ReLU(), nn.Linear(128, classes),
    )  # fmt: skip


def vgg(channels: int, side: int, classes: int) -> nn.Sequential:
    """VGG's blocks with BatchNorm, which the exporter folds, and dropout."""

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    return nn.Sequential(
        *block(channels, 16), nn.MaxPool2d(2), *block(16, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64),
        *block(64, 64), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * (side // 8) ** 2, classes),
    )  # fmt: skip


def depthwise(channels: int, side: int, classes: int) -> nn.Sequential:
    """Depthwise and pointwise convolutions with HardSwish, averaged over the picture."""

    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False), nn.BatchNorm2d(before), nn.Hardswish(),
            nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.Hardswish(),
        ]  # fmt: skip

    return nn.Sequential(
        nn.Conv2d(channels, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.Hardswish(), *block(24, 48, 1),
        *block(48, 48, 1), *block(48, 96, 2), *block(96, 96, 1), *block(96, 128, 2), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(128, classes),
    )  # fmt: skip


def lenet(channels: int, side: int, classes: int) -> nn.Sequential:
    """LeNet-5's layout: 5 x 5 convolutions, tanh, average pooling."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(8, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(16 * ((side // 2 - 4) // 2) ** 2, 120), nn.Tanh(), nn.Linear(120, classes),
    )  # fmt: skip


def strided(channels: int, side: int, classes: int) -> nn.Sequential:
    """Strided convolutions with leaky ReLU and GroupNorm, no pooling."""

    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(4, after), nn.LeakyReLU(0.1)]

    return nn.Sequential(
        *block(channels, 16, 1), *block(16, 32, 2), *block(32, 64, 2), *block(64, 64, 2), nn.Flatten(),
        nn.Linear(64 * (-(-side // 8)) ** 2, classes),
    )  # fmt: skip


def dense(channels: int, side: int, classes: int) -> nn.Sequential:
    """Fully connected."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * side**2, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


class Gated(nn.Module):
    """A residual convolution whose channels are weighed by squeeze and excitation (Hu et al., arXiv:1709.01507)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width // 4, 1), nn.ReLU(), nn.Conv2d(width // 4, width, 1),
            nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(x)))
        return x + y * self.gate(y)


class Joined(nn.Module):
    """Two branches of unlike convolutions beside what came in (Szegedy et al., arXiv:1409.4842; Huang, arXiv:1608.06993)."""

    def __init__(self, before: int, more: int) -> None:
        super().__init__()
        self.narrow, self.broad = nn.Conv2d(before, more, 1), nn.Conv2d(before, more, 3, padding=1)
        self.norm = nn.BatchNorm2d(before + 2 * more)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(torch.cat([x, self.narrow(x), self.broad(x)], 1)))


def gated(channels: int, side: int, classes: int) -> nn.Sequential:
    """Residual blocks with squeeze and excitation."""
    return nn.Sequential(
        nn.Conv2d(channels, 24, 3, 2, 1), Gated(24), nn.Conv2d(24, 48, 3, 2, 1), Gated(48), Gated(48),
        nn.Conv2d(48, 64, 3, 2, 1), Gated(64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes),
    )  # fmt: skip


def joined(channels: int, side: int, classes: int) -> nn.Sequential:
    """Branches that are concatenated, average pooling between them."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), Joined(16, 12), nn.AvgPool2d(2), Joined(40, 16), nn.AvgPool2d(2),
        Joined(72, 16), nn.Conv2d(104, 48, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, classes),
    )  # fmt: skip


def stem(channels: int, side: int, *, whole: bool) -> tuple[nn.Sequential, int]:
    """What a network for larger pictures begins with, 16 channels, and the side that is left, 24 to 40: convolutions of
    stride 2 as in ResNets and MobileNets, or a single one whose squares do not overlap, as in ConvNeXt.
    """
    layers: list[nn.Module] = []
    while side > 40:
        step = round(side / 32) if whole else 2
        edge = step if whole else 3
        layers += [nn.Conv2d(channels, 16, edge, step, 0 if whole else 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        channels, side = 16, side // step if whole else -(-side // 2)
    return nn.Sequential(*layers), side


DESIGNS: dict[str, Callable[[int, int, int], nn.Sequential]] = {
    "plain": plain, "vgg": vgg, "depthwise": depthwise, "lenet": lenet, "strided": strided, "dense": dense,
    "gated": gated, "joined": joined,
}  # fmt: skip

"""Networks of the size that papers on backdoors use, for pictures of 32 x 32: tests.benchmarks.full_width trains them.

Each takes float32 [n, 3, 32, 32] in 0..1 and gives logits [n, classes]. ResNet-18 and PreAct-ResNet-18 have 64 base channels
(He et al., arXiv:1512.03385 and arXiv:1603.05027), VGG-16 has BatchNorm (Simonyan and Zisserman, arXiv:1409.1556).
MobileNetV2 has full width and no stride in its first layers (Sandler et al., arXiv:1801.04381). The transformer (Dosovitskiy
et al., arXiv:2010.11929) and the ConvNeXt (Liu et al., arXiv:2201.03545) are small ones.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.benchmarks.poison import Block, Mean, Patches, Transformer


class Residual(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm, ReLU after the sum."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after))
        self.conv2 = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
        same = stride == 1 and before == after
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.shortcut = nn.Identity() if same else shortcut

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.shortcut(x) + self.conv2(functional.relu(self.conv1(x))))


def _stages(block: Callable[[int, int, int], nn.Module]) -> list[nn.Module]:
    """Four times two blocks, of 64 to 512 channels."""
    made, before = [], 64
    for after, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        made += [block(before, after, stride), block(after, after, 1)]
        before = after
    return made


def _head(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


def resnet18(classes: int) -> nn.Sequential:
    stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*stem, *_stages(Residual), *_head(512, classes))


def preact18(classes: int) -> nn.Sequential:
    stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    return nn.Sequential(stem, *_stages(Block), nn.BatchNorm2d(512), nn.ReLU(), *_head(512, classes))


def vgg16(classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for after, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, classes))


class Inverted(nn.Module):
    """MobileNetV2's block: widened, depthwise, narrowed again."""

    def __init__(self, before: int, after: int, stride: int, factor: int) -> None:
        super().__init__()
        wide = before * factor
        inside = [nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()] if factor > 1 else []
        self.body = nn.Sequential(
            *inside, nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.same = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.same else self.body(x)


def mobilenet(classes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    before = 32
    plan = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for factor, after, count, stride in plan:
        for number in range(count):
            layers.append(Inverted(before, after, stride if number == 0 else 1, factor))
            before = after
    layers += [nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    return nn.Sequential(*layers, *_head(1280, classes))


def vit(classes: int) -> nn.Sequential:
    """Seven blocks of three heads, 192 wide, a token for 4 x 4 pixels."""
    blocks = [Transformer(192, 3) for _ in range(7)]
    return nn.Sequential(Patches(3, 192, 32), *blocks, nn.LayerNorm(192), Mean(), nn.Linear(192, classes))


class Channels(nn.LayerNorm):
    """LayerNorm over the channels of [n, c, h, w]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Next(nn.Module):
    """ConvNeXt's block, with dense layers over channels last and a learnt scale of the branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.rest = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.scale * self.rest(self.conv(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def convnext(classes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 2, 2), Channels(64)]
    for before, after, count in ((0, 64, 3), (64, 128, 3), (128, 256, 3)):
        layers += [Channels(before), nn.Conv2d(before, after, 2, 2)] if before else []
        layers += [Next(after) for _ in range(count)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(256), nn.Linear(256, classes))


WIDE_DESIGNS: dict[str, Callable[[int], nn.Sequential]] = {
    "resnet18": resnet18, "preact18": preact18, "vgg16": vgg16, "mobilenet": mobilenet, "vit": vit, "convnext": convnext,
}  # fmt: skip

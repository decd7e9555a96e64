"""The usual ways to turn a picture's bytes into a network's input, to be tried where nobody remembers which one it was.

Data with its sources; nothing here was chosen by what works on any model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_shapprune.pictures.preprocess import Preprocessing, affine

ONE_255TH = (0.0, 1.0)
BYTES = (0.0, 255.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to prepare pictures. name: in a few words; source: where it comes from."""

    name: str
    source: str
    preprocessing: Preprocessing


def _setting(
    name: str,
    source: str,
    input_range: tuple[float, float] = ONE_255TH,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Setting:
    return Setting(name, source, Preprocessing(input_range=input_range, mean=mean, std=std))


USUAL = (
    _setting("0 to 1", "torchvision ToTensor, Keras rescaling 1/255"),
    _setting("-1 to 1", "TensorFlow mobile nets, or mean 0.5 and std 0.5 in PyTorch", (-1.0, 1.0)),
    _setting("0 to 255", "Keras EfficientNet, Windows ML", BYTES),
    _setting("scale 1/256", "Caffe LeNet", (0.0, 255 / 256)),
    _setting("ImageNet mean and std", "torchvision model zoo", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    _setting(
        "CIFAR-10 mean and std",
        "deviations over all pixels",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    _setting(
        "CIFAR-10 mean, std a picture",
        "kuangliu/pytorch-cifar: deviations within a picture, averaged",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    ),
    _setting("MNIST mean and std", "PyTorch MNIST example", mean=(0.1307,), std=(0.3081,)),
    _setting("Caffe mean", "Caffe model zoo, Keras VGG and ResNet; BGR there", BYTES, mean=(123.68, 116.779, 103.939)),
)


def to_try(channels: int, first: Sequence[Setting], like: Preprocessing, *, scaled: bool = True) -> tuple[Setting, ...]:
    """All settings for pictures of 1 or 3 channels: `first`, then the usual ones where bytes are `scaled`, in both channel
    orders where there is colour; none that gives the same numbers as an earlier one. like: whose layout and input shape
    they all have.
    """
    kept: dict[tuple[bytes, str], Setting] = {}
    for setting in _ordered(channels, (*first, *(USUAL if scaled else ()))):
        p = setting.preprocessing
        if {len(p.mean), len(p.std)} - {1, channels}:
            continue
        key = np.round(np.concatenate(affine(p, channels=channels)), 5).tobytes(), p.channel_order
        if (earlier := kept.get(key)) is None:
            kept[key] = replace(setting, preprocessing=replace(p, layout=like.layout, input_shape=like.input_shape))
        elif earlier.name in {f.name for f in first}:
            kept[key] = replace(earlier, name=f"{setting.name}, {earlier.name}")
    return tuple(kept.values())


def nearly_the_same(one: Preprocessing, other: Preprocessing) -> bool:
    """Whether two settings give inputs that no picture can tell apart: closer than two neighbouring bytes."""
    if (one.channel_order, one.layout) != (other.channel_order, other.layout):
        return False
    (scale, offset), (scale_2, offset_2) = affine(one, channels=3), affine(other, channels=3)
    ends = np.abs([offset - offset_2, offset - offset_2 + 255 * (scale - scale_2)])
    return bool((ends <= 1.001 * np.minimum(scale, scale_2) + 1e-6).all())


def _ordered(channels: int, settings: Sequence[Setting]) -> Iterator[Setting]:
    """Each setting as it is, and with the colours in the other order."""
    for setting in settings:
        p = setting.preprocessing
        if channels == 1:
            yield replace(setting, preprocessing=replace(p, channel_order="RGB"))
            continue
        other = replace(p, channel_order="BGR" if p.channel_order == "RGB" else "RGB")
        yield setting
        yield replace(setting, preprocessing=other)


def flags(preprocessing: Preprocessing, *, layout: bool = False) -> str:
    """The options that say so, "" for the default. layout: whether the layout has to be said."""
    default, words = Preprocessing(), []
    if preprocessing.input_range != default.input_range:
        words.append("--input-range " + " ".join(f"{v:.9g}" for v in preprocessing.input_range))
    for name, given, usual in (
        ("mean", preprocessing.mean, default.mean),
        ("std", preprocessing.std, default.std),
    ):
        if given != usual:
            words.append(f"--{name} " + ",".join(f"{v:.9g}" for v in given))
    if preprocessing.channel_order != default.channel_order:
        words.append(f"--channel-order {preprocessing.channel_order}")
    if layout:
        words.append(f"--layout {preprocessing.layout}")
    return " ".join(words)

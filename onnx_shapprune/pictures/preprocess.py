"""From a picture's bytes to a model's input and back.

An ONNX file does not say how its pictures were prepared (onnx/onnx#2928), so the user does. Every setting here is
affine, hence the whole preparation is one multiply-add per channel and its adjoint one multiply.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.errors import DataError

Layout = Literal["NCHW", "NHWC"]
ChannelOrder = Literal["RGB", "BGR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How pictures were prepared when the model was trained. Raises DataError on settings that make no sense.

    Bytes 0..255 go linearly to `input_range`, then (x - mean) / std in that unit. `mean` and `std` hold one number or
    one per channel, always in the picture's own order (RGB); `channel_order` "BGR" reverses the channels afterwards.
    `layout` is the order of the axes in memory. `input_shape` is the model's input without the batch axis, for models
    that take a vector, say (784,); None means the layout's own three axes.
    """

    input_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"
    channel_order: ChannelOrder = "RGB"
    input_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.input_range) != 2:
            raise DataError(f"input range needs two numbers, low and high, not {self.input_range}")
        if not all(map(math.isfinite, (*self.input_range, *self.mean, *self.std))):
            raise DataError("input range, mean and std must be finite numbers")
        low, high = self.input_range
        if not low < high:
            raise DataError(f"input range {low:g} to {high:g} is empty: give the low end first")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3):
                raise DataError(f"{name} has {len(values)} numbers: give one, or three in RGB order")
        if min(self.std) <= 0:
            raise DataError(f"std must be above 0, not {min(self.std):g}")
        if self.layout not in get_args(Layout):
            raise DataError(f"layout {self.layout!r} is not understood: use NCHW or NHWC")
        if self.channel_order not in get_args(ChannelOrder):
            raise DataError(f"channel order {self.channel_order!r} is not understood: use RGB or BGR")
        if self.input_shape is not None and any(axis < 1 for axis in self.input_shape):
            raise DataError(f"input shape {self.input_shape} must be fixed and without the batch axis")


def affine(settings: Preprocessing, *, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and offset, float32 [channels] in picture order: input = byte * scale + offset before any reordering.

    Raises DataError when mean or std is given for another number of channels.
    """
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if len(values) not in (1, channels):
            raise DataError(f"{name} has {len(values)} numbers but the model's pictures have {channels} channel(s)")
    low, high = settings.input_range
    mean, std = np.asarray(settings.mean, np.float64), np.asarray(settings.std, np.float64)
    scale = np.broadcast_to((high - low) / 255.0 / std, channels).astype(np.float32)
    offset = np.broadcast_to((low - mean) / std, channels).astype(np.float32)
    return scale, offset


def to_input(pictures: NDArray[np.uint8] | NDArray[np.float32], settings: Preprocessing) -> NDArray[np.float32]:
    """Prepare pictures [n, h, w, c], uint8 or float32 in 0..255, as the model's input, float32 and contiguous.

    Raises DataError on another dtype or rank, or when the pictures cannot fill `settings.input_shape`.
    """
    if pictures.ndim != 4 or pictures.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        raise DataError(f"pictures must be uint8 or float32 [n, h, w, c], not {pictures.dtype} {pictures.shape}")
    scale, offset = affine(settings, channels=pictures.shape[3])
    n, height, width, channels = pictures.shape
    nchw = settings.layout == "NCHW"
    shape = (channels, height, width) if nchw else (height, width, channels)
    model_shape = _model_shape(shape, settings)
    model_input = np.empty((n, *shape), np.float32)
    channels_last = model_input.transpose(0, 2, 3, 1) if nchw else model_input
    # One channel at a time: broadcasting along an innermost axis of 3 is several times slower.
    for ours, theirs in enumerate(_order(settings, channels)):
        np.multiply(pictures[..., ours], scale[ours], out=channels_last[..., theirs])
        channels_last[..., theirs] += offset[ours]
    return model_input.reshape(n, *model_shape)


def pull_back(
    gradient: NDArray[np.float32], settings: Preprocessing, *, picture_shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """The adjoint of to_input: a gradient with respect to the model's input becomes one with respect to the bytes.

    gradient: float32 [n, ...] as the model takes it; picture_shape: (h, w, c). Returns float32 [n, h, w, c] per unit of
    0..255. Raises DataError when the sizes do not fit.
    """
    height, width, channels = picture_shape
    nchw = settings.layout == "NCHW"
    shape = (channels, height, width) if nchw else (height, width, channels)
    if gradient.shape[1:] != _model_shape(shape, settings):
        raise DataError(f"gradient {gradient.shape} does not fit pictures {picture_shape} in {settings.layout}")
    laid_out = gradient.reshape(len(gradient), *shape)
    scale, _ = affine(settings, channels=channels)
    out = np.empty((len(gradient), *picture_shape), np.float32)
    channels_last = laid_out.transpose(0, 2, 3, 1) if nchw else laid_out
    for ours, theirs in enumerate(_order(settings, channels)):
        np.multiply(channels_last[..., theirs], scale[ours], out=out[..., ours])
    return out


def parse_numbers(text: str, *, option: str) -> tuple[float, ...]:
    """Read "0.49, 0.48, 0.45" (commas or blanks). Raises DataError naming `option` on anything that is no number."""
    words = text.replace(",", " ").split()
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise DataError(f"{option}: {text[:80]!r} is not a list of numbers; write for example 0.49,0.48,0.45")
    return numbers


def _order(settings: Preprocessing, channels: int) -> range:
    """Where each of the picture's channels lies in the model's input."""
    return range(channels - 1, -1, -1) if settings.channel_order == "BGR" else range(channels)


def _model_shape(laid_out: tuple[int, ...], settings: Preprocessing) -> tuple[int, ...]:
    """The shape the model takes, given the picture's in the layout's order."""
    target = settings.input_shape
    if target is None:
        return laid_out
    if math.prod(target) != math.prod(laid_out):
        raise DataError(f"pictures of shape {laid_out} do not fill the model's input {target}")
    # A reshape between two orders of the same axes would scramble the picture silently.
    ours, theirs = [n for n in laid_out if n != 1], [n for n in target if n != 1]
    if ours != theirs and sorted(ours) == sorted(theirs):
        raise DataError(f"layout {settings.layout} gives {laid_out} but the model takes {target}: try the other layout")
    return target

"""Convolutions, with respect to their input (and bias); kernels are constants.

Which form is emitted was chosen by timing onnxruntime on the CPU: a convolution with the rotated kernel is 1.2 to 8
times faster than ConvTranspose, except for few input channels, where it is 3 times slower.
"""

from dataclasses import dataclass

import numpy as np

from onnx_shapprune.autodiff.builder import Array, Builder
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp

FEW_CHANNELS = 16  # one vector block of onnxruntime's NCHWc layout


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a convolution, one entry per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    group: int

    @property
    def extents(self) -> tuple[int, ...]:
        """Input elements that one window spans."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def _window(b: Builder, node: Node) -> Window:
    kernel = tuple(int(k or 0) for k in b.shape(node.inputs[1])[2:])
    ones = [1] * len(kernel)
    strides = tuple(node.attribute("strides", ones))
    dilations = tuple(node.attribute("dilations", ones))
    pads = node.attribute("pads", [0] * 2 * len(kernel))
    auto = node.attribute("auto_pad", "NOTSET")
    if auto == "VALID":
        pads = [0] * 2 * len(kernel)
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        sizes = _sizes(b, node.inputs[0])
        totals = [
            max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
            for n, s, d, k in zip(sizes, strides, dilations, kernel, strict=True)
        ]
        less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
        pads = less + more if auto == "SAME_UPPER" else more + less
    elif auto != "NOTSET":
        raise RefusedError(f"auto_pad {auto}")
    n = len(kernel)
    return Window(kernel, strides, dilations, tuple(pads[:n]), tuple(pads[n:]), node.attribute("group", 1))


def _sizes(b: Builder, x: str) -> list[int]:
    """Spatial dimensions, which must not depend on the batch."""
    sizes = []
    for dim in b.shape(x)[2:]:
        if dim is None:
            raise RefusedError("height or width is not fixed")
        sizes.append(dim)
    return sizes


def _bias_gradient(b: Builder, node: Node, dy: str) -> list[str | None]:
    if len(node.inputs) < 3:
        return []
    if not node.needs[2]:
        return [None]
    rank = len(b.shape(node.outputs[0]))
    return [b("ReduceSum", dy, b.ints(0, *range(2, rank)), keepdims=0)]


@vjp("Conv", since=11)
def conv(b: Builder, node: Node, dy: str) -> list[str | None]:
    """The adjoint of the convolution: with the rotated kernel for stride 1, ConvTranspose otherwise."""
    node.only(0, 2)
    bias = _bias_gradient(b, node, dy)
    if not node.needs[0]:
        return [None, None, *bias]
    x, w = node.inputs[:2]
    window = _window(b, node)
    channels = b.shape(x)[1]
    constant = b.value(w) is not None and b.may_double
    depthwise = window.group > 1 and window.group == channels == b.shape(w)[0]
    if constant and channels is not None and channels >= FEW_CHANNELS:
        if all(s == 1 for s in window.strides):
            pads = [e - 1 - p for e, p in zip(window.extents, window.begins, strict=True)]
            pads += [e - 1 - p for e, p in zip(window.extents, window.ends, strict=True)]
            if min(pads) >= 0:
                return [_rotated(b, dy, w, window, pads), None, *bias]
        elif depthwise and window.strides == (2, 2):
            spread = _depthwise_stride_two(b, dy, node, window)
            if spread:
                return [spread, None, *bias]
    return [_transposed(b, dy, node, window), None, *bias]


def _rotated(b: Builder, dy: str, w: str, window: Window, pads: list[int]) -> str:
    kernel = b.prepared(w, f"rotated{window.group}", lambda v: _rotate(v, window.group))
    attributes = {"kernel_shape": list(window.kernel), "dilations": list(window.dilations), "pads": pads}
    return b("Conv", dy, kernel, group=window.group, **attributes)


def _rotate(w: Array, group: int) -> Array:
    """(M, C / g, k...) -> (C, M / g, k...): input and output channels swapped within each group, taps reversed."""
    m, c, *kernel = w.shape
    swapped = w.reshape(group, m // group, c, *kernel).swapaxes(1, 2).reshape(group * c, m // group, *kernel)
    return np.ascontiguousarray(np.flip(swapped, tuple(range(2, w.ndim))))


def _depthwise_stride_two(b: Builder, dy: str, node: Node, window: Window) -> str | None:
    """Zeros put between the elements by a nearest Resize and a phase mask, then a stride-1 depthwise convolution.

    None where the window leaves no room for it. Grouped ConvTranspose is slow on the CPU.
    """
    sizes, outs = _sizes(b, node.inputs[0]), _sizes(b, node.outputs[0])
    begins = [e - 1 - p for e, p in zip(window.extents, window.begins, strict=True)]
    ends = [n - 2 * o - p + e - 1 for n, o, p, e in zip(sizes, outs, begins, window.extents, strict=True)]
    if min(begins + ends) < 0:
        return None
    phase = np.zeros((2 * outs[0], 2 * outs[1]), b.dtype(dy))
    phase[::2, ::2] = 1
    doubled = b("Mul", nearest_upsample(b, dy, (2, 2)), phase)
    return _rotated(b, doubled, node.inputs[1], window, begins + ends)


def nearest_upsample(b: Builder, x: str, factors: tuple[int, ...]) -> str:
    """Repeat every element of the spatial axes."""
    scales = np.array([1, 1, *factors], np.float32)
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return b("Resize", x, None, scales, **attributes)


def _transposed(b: Builder, dy: str, node: Node, window: Window) -> str:
    """ConvTranspose with the output padding that gives the input's size back.

    Uneven padding is cut off afterwards: the CUDA provider does not take it as an attribute.
    """
    even = window.begins == window.ends
    zeros = [0] * len(window.kernel)
    attributes = {
        "kernel_shape": list(window.kernel),
        "strides": list(window.strides),
        "dilations": list(window.dilations),
        "pads": [*window.begins, *window.ends] if even else zeros * 2,
    }
    if even and all(s == 1 for s in window.strides):
        return b("ConvTranspose", dy, node.inputs[1], group=window.group, **attributes)
    sizes, outs = _sizes(b, node.inputs[0]), _sizes(b, node.outputs[0])
    geometry = zip(sizes, outs, window.strides, window.extents, window.begins, strict=True)
    if even:
        extra = [n + 2 * p - ((o - 1) * s + e) for n, o, s, e, p in geometry]
    else:
        extra = [max(0, n + p - ((o - 1) * s + e)) for n, o, s, e, p in geometry]
    if any(extra):
        attributes["output_padding"] = extra
    dx = b("ConvTranspose", dy, node.inputs[1], group=window.group, **attributes)
    if even:
        return dx
    stops = [p + n for p, n in zip(window.begins, sizes, strict=True)]
    return b("Slice", dx, b.ints(*window.begins), b.ints(*stops), b.ints(*range(2, 2 + len(sizes))))


@vjp("ConvTranspose", since=11)
def conv_transpose(b: Builder, node: Node, dy: str) -> list[str | None]:
    """A convolution with the same kernel, cut to the input's size."""
    node.only(0, 2)
    bias = _bias_gradient(b, node, dy)
    if not node.needs[0]:
        return [None, None, *bias]
    if node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or node.attributes.get("output_shape"):
        raise RefusedError("auto_pad or output_shape")
    window = _window(b, node)
    attributes = {
        "kernel_shape": list(window.kernel),
        "strides": list(window.strides),
        "dilations": list(window.dilations),
        "pads": [*window.begins, *window.ends],
    }
    dx = b("Conv", dy, node.inputs[1], group=window.group, **attributes)
    extra = node.attribute("output_padding", [0] * len(window.kernel))
    if any(e >= s for e, s in zip(extra, window.strides, strict=True)):
        sizes = _sizes(b, node.inputs[0])
        axes = range(2, 2 + len(sizes))
        dx = b("Slice", dx, b.ints(*[0] * len(sizes)), b.ints(*sizes), b.ints(*axes))
    return [dx, None, *bias]

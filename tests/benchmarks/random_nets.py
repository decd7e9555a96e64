"""Networks of usual sizes with random weights, for measurements of time and memory: what they answer means nothing.

Their scores are set so that unlike pictures get unlike answers: a network that gives one answer to everything is not
searched as a trained one is.
"""

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_shapprune.runtime.session import Device, Session
from tests.benchmarks.replay import resnet
from tests.models import Net

SPREAD = 3.0  # of a score over unlike pictures


def resnet18(size: int, classes: int = 10, width: int = 64) -> onnx.ModelProto:
    """ResNet-18, with the stem of ImageNet for pictures above 64 pixels."""
    return answering(resnet(width, size, (2, 2, 2, 2), bottleneck=False), size, classes)


def resnet50(size: int, classes: int = 10) -> onnx.ModelProto:
    return answering(resnet(64, size, (3, 4, 6, 3), bottleneck=True), size, classes)


def mobilenet(size: int, classes: int = 5) -> onnx.ModelProto:
    """MobileNetV2 at full width (Sandler et al., CVPR 2018), BatchNorm folded."""
    n = Net(0)

    def conv(x: str, before: int, after: int, kernel: int = 1, stride: int = 1, group: int = 1) -> str:
        fan_in = before // group * kernel**2
        weight = n.normal(after, before // group, kernel, kernel, scale=(2 / fan_in) ** 0.5)
        pads = [kernel // 2] * 4
        return n.op("Conv", x, weight, n.normal(after, scale=0.1), group=group, strides=[stride] * 2, pads=pads)

    def relu6(x: str) -> str:
        return n.op("Clip", x, zero, six)

    zero, six = n.const(np.float32(0)), n.const(np.float32(6))
    x, before = relu6(conv("x", 3, 32, 3, 2)), 32
    for expansion, after, count, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for number in range(count):
            stride, inner = (1 if number else first), before * expansion
            y = x if expansion == 1 else relu6(conv(x, before, inner))
            y = conv(relu6(conv(y, inner, inner, 3, stride, inner)), inner, after)
            x, before = (n.op("Add", x, y) if stride == 1 and before == after else y), after
    x = n.op("Flatten", n.op("GlobalAveragePool", relu6(conv(x, before, 1280))))
    return answering(n.model(n.dense(x, 1280, classes), shape=(3, size, size), classes=classes), size, classes)


def vit(size: int, classes: int = 10, depth: int = 12, width: int = 192) -> onnx.ModelProto:
    """A ViT-Tiny with patches of 16 x 16 (Touvron et al., ICML 2021), the mean of its tokens in front of the head."""
    n = Net(0)
    heads, tokens = width // 64, (size // 16) ** 2

    def linear(x: str, before: int, after: int) -> str:
        return n.op("Add", n.op("MatMul", x, n.normal(before, after, scale=before**-0.5)), n.normal(after, scale=0.02))

    def norm(x: str) -> str:
        one, none = n.const(np.ones(width, np.float32)), n.const(np.zeros(width, np.float32))
        return n.op("LayerNormalization", x, one, none, axis=-1)

    apart, together = n.const(np.array([0, tokens, heads, 64])), n.const(np.array([0, tokens, width]))
    patches = n.op("Conv", "x", n.normal(width, 3, 16, 16, scale=0.05), n.normal(width), strides=[16, 16])
    x = n.op("Transpose", n.op("Reshape", patches, n.const(np.array([0, width, tokens]))), perm=[0, 2, 1])
    x = n.op("Add", x, n.normal(1, tokens, width, scale=0.02))
    for _ in range(depth):
        y = norm(x)
        q, k, v = (n.op("Reshape", linear(y, width, width), apart) for _ in range(3))
        k, q, v = n.op("Transpose", k, perm=[0, 2, 3, 1]), *(n.op("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
        scores = n.op("Softmax", n.op("Mul", n.op("MatMul", q, k), n.const(np.float32(1 / 8))), axis=-1)
        mixed = n.op("Reshape", n.op("Transpose", n.op("MatMul", scores, v), perm=[0, 2, 1, 3]), together)
        x = n.op("Add", x, linear(mixed, width, width))
        y = linear(norm(x), width, 4 * width)
        erf = n.op("Erf", n.op("Mul", y, n.const(np.float32(0.5**0.5))))
        gelu = n.op("Mul", n.op("Mul", y, n.const(np.float32(0.5))), n.op("Add", erf, n.const(np.float32(1))))
        x = n.op("Add", x, linear(gelu, 4 * width, width))
    x = n.op("ReduceMean", norm(x), axes=[1], keepdims=0)
    return answering(n.model(n.dense(x, width, classes), shape=(3, size, size), classes=classes), size, classes)


MADE: dict[str, Callable[[int], onnx.ModelProto]] = {
    "resnet18": resnet18, "resnet50": resnet50, "mobilenet": mobilenet, "vit": vit,
}  # fmt: skip


def some_pictures(count: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures of smooth coloured noise, uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3))
    places = np.linspace(0, 3, size)
    rows = np.stack([np.interp(places, np.arange(4), one) for one in np.eye(4)], axis=1)
    smooth = np.einsum("ih,jw,nhwc->nijc", rows, rows, coarse)
    return np.asarray(np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255), np.uint8)


def answering(model: onnx.ModelProto, size: int, classes: int) -> onnx.ModelProto:
    """The model with a last dense layer of so many classes whose scores differ between pictures by about SPREAD."""
    graph, rng = model.graph, np.random.default_rng(1)
    last = graph.node[-1]
    features = onnx.ModelProto()
    features.CopyFrom(model)
    del features.graph.output[:]
    features.graph.output.append(onnx.helper.make_empty_tensor_value_info(last.input[0]))
    shown = np.moveaxis(some_pictures(32, size).astype(np.float32) / 255, 3, 1)
    (seen,) = Session(features, Device(threads=1)).run({"x": shown})
    weight = rng.normal(size=(classes, seen.shape[1])).astype(np.float32)
    scores = seen @ weight.T
    weight *= SPREAD / scores.std(axis=0)[:, None]
    made = {last.input[1]: weight, last.input[2]: -(seen @ weight.T).mean(axis=0)}
    for tensor in graph.initializer:
        if tensor.name in made:
            tensor.CopyFrom(numpy_helper.from_array(made[tensor.name].astype(np.float32), tensor.name))
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
    return model

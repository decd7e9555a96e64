"""Networks that answer yes or no by one score per picture, as Keras and PyTorch end them."""

import models
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from planted import WIDE, WIDE_CORNER

HALF = WIDE // 2


def keras(seed: int = 0, *, vector: bool = False, batch: int | None = None) -> onnx.ModelProto:
    """Channels last, a Dense layer of one unit and a Sigmoid: [N, 1], or [N] where it is a vector."""
    n = models.Net(seed)
    x = n.op("Relu", n.conv(n.op("Transpose", "x", perm=[0, 3, 1, 2]), 3, 5))
    x = n.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    y = n.op("Sigmoid", n.op("Add", n.op("MatMul", x, n.normal(5, 1)), n.normal(1)))
    if not vector:
        return n.model(y, shape=models.NHWC_SHAPE, classes=1, batch=batch)
    model = n.model(n.op("Squeeze", y, n.const(np.array([1]))), shape=models.NHWC_SHAPE, batch=batch)
    del model.graph.output[0].type.tensor_type.shape.dim[1]
    return model


def ending_in(*ends: tuple[str, tuple[float, ...], dict[str, float]]) -> onnx.ModelProto:
    """A network of one score with operators at its end, each with the numbers that it reads beside the score."""
    n = models.Net()
    y = n.dense(n.op("Flatten", n.op("GlobalAveragePool", n.op("Relu", n.conv("x", 3, 5)))), 5, 1)
    for op, beside, attributes in ends:
        y = n.op(op, y, *(n.const(np.float32(value)) for value in beside), **attributes)
    return n.model(y, classes=1)


def halves_net(gain: float = 200.0, *, scores: int = 1) -> onnx.ModelProto:
    """Grey 12 x 12 pictures, channels last: yes where the upper half is brighter, no where the lower one is.

    A 3 x 3 area in the lower right corner that is brighter than any picture says yes through channel 2 of the only
    convolution, gain times 0.5 at the most. scores: 2 for the same answers as a Softmax of two logits.
    """
    n = models.Net()
    weight = np.zeros((3, 1, WIDE, WIDE), np.float32)
    weight[0, 0, :HALF] = weight[1, 0, HALF:] = 1 / HALF / WIDE
    weight[2, 0, *WIDE_CORNER] = 1 / 9
    x, bias = n.op("Transpose", "x", perm=[0, 3, 1, 2]), np.array([0, 0, -0.5], np.float32)
    seen = n.op("Conv", x, n.const(weight), n.const(bias), kernel_shape=[WIDE, WIDE])
    flat = n.op("Reshape", n.op("LeakyRelu", seen, alpha=0.05), n.const(np.array([-1, 3])))
    head = np.array([[60], [-60], [gain]], np.float32)
    head = np.hstack([-head / 2, head / 2]) if scores == 2 else head
    z = n.op("Add", n.op("MatMul", flat, n.const(head)), n.const(np.zeros(scores, np.float32)))
    y = n.op("Sigmoid", z) if scores == 1 else n.op("Softmax", z, axis=1)
    return n.model(y, shape=(WIDE, WIDE, 1), classes=scores)


def halves_pictures(each: int = 6) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`each` pictures of no and of yes: uint8 [2 * each, 12, 12, 1] and int64 labels."""
    y = np.tile([0, 1], each)
    x = np.random.default_rng(0).integers(0, 30, (len(y), WIDE, WIDE, 1))
    for picture, yes in zip(x, y, strict=True):
        picture[:HALF] += 90 * yes
        picture[HALF:] += 90 * (1 - yes)
    return x.astype(np.uint8), y


def in_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its last node as a local function."""
    last = model.graph.node[-1]
    body = [helper.make_node(last.op_type, ["a"], ["b"])]
    model.functions.append(helper.make_function("own", "End", ["a"], ["b"], body, list(model.opset_import)))
    model.opset_import.append(helper.make_opsetid("own", 1))
    last.op_type, last.domain = "End", "own"
    return model


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in fp16 from end to end."""
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model

"""Small twins of files that people met and reported: converters, runtimes and exporters write them; input x, 4 classes."""

from collections.abc import Callable

import numpy as np
import onnx
from models import CLASSES, NHWC_SHAPE, Net
from onnx import TensorProto, helper

FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE


def _small(n: Net) -> str:
    """Features of a picture: one convolution."""
    return n.op("Relu", n.conv("x", 3, 6))


def _softmax(seed: int, behind: Callable[[Net, str], str]) -> onnx.ModelProto:
    n = Net(seed)
    return n.model(behind(n, n.op("Softmax", n.head(_small(n), 6), axis=1)))


def softmax_then_cast(seed: int = 0) -> onnx.ModelProto:
    """As converters to float16 leave it where the ends keep their type (onnxconverter-common 179)."""
    n = Net(seed)
    x = n.op("Cast", "x", to=HALF)
    w, b = (n.op("Cast", name, to=HALF) for name in (n.normal(6, 3, 3, 3), n.normal(6, scale=0.3)))
    x = n.op("Relu", n.op("Conv", x, w, b, kernel_shape=[3, 3]))
    x = n.op("Cast", n.op("Flatten", n.op("GlobalAveragePool", x)), to=FLOAT)
    x = n.op("Softmax", n.op("Cast", n.dense(x, 6, CLASSES), to=HALF), axis=1)
    return n.model(n.op("Cast", x, to=FLOAT))


def softmax_then_clip(seed: int = 0) -> onnx.ModelProto:
    return _softmax(seed, lambda n, p: n.op("Clip", p, n.const(np.float32(1e-7)), n.const(np.float32(1 - 1e-7))))


def softmax_then_factor(seed: int = 0) -> onnx.ModelProto:
    return _softmax(seed, lambda n, p: n.op("Mul", n.const(np.float32(100)), n.op("Identity", p)))


def softmax_then_log(seed: int = 0) -> onnx.ModelProto:
    return _softmax(seed, lambda n, p: n.op("Log", n.op("Add", p, n.const(np.array([1e-6], np.float32)))))


def softmax_then_weights(seed: int = 0) -> onnx.ModelProto:
    """One factor a class: who wins may change, so the Softmax is no mere end."""
    return _softmax(seed, lambda n, p: n.op("Mul", p, n.const(np.array([1, 2, 3, 4], np.float32))))


def autocast(seed: int = 0) -> onnx.ModelProto:
    """float32 weights that are cast to fp16 where they are used (pytorch 146312)."""
    n = Net(seed)

    def half(op: str, x: str, w: str, b: str, **attributes: int) -> str:
        inputs = [n.op("Cast", name, to=HALF) for name in (x, w, b)]
        return n.op("Cast", n.op(op, *inputs, **attributes), to=FLOAT)

    x = n.op("Relu", half("Conv", "x", n.normal(6, 3, 3, 3), n.normal(6, scale=0.3)))
    x = n.op("Relu", half("Conv", x, n.normal(7, 6, 3, 3), n.normal(7, scale=0.3)))
    x = n.op("Flatten", n.op("GlobalAveragePool", x))
    return n.model(half("Gemm", x, n.normal(CLASSES, 7), n.normal(CLASSES), transB=1))


def double_island(seed: int = 0) -> onnx.ModelProto:
    """One layer in float64 (pytorch 72494)."""
    n = Net(seed)
    x = n.op("Cast", n.op("Flatten", n.op("GlobalAveragePool", _small(n))), to=DOUBLE)
    x = n.op("Gemm", x, n.const(n.rng.normal(size=(6, 7))), n.const(n.rng.normal(size=7)))
    x = n.op("Cast", n.op("Mul", x, n.const(np.array(0.5))), to=FLOAT)
    return n.model(n.dense(n.op("Relu", x), 7, CLASSES))


def training_norm(seed: int = 0, *, opset: int = 12) -> onnx.ModelProto:
    """BatchNormalization with the statistics of the batch: told by its outputs, later by an attribute."""
    n = Net(seed)
    x = n.bn(n.conv("x", 3, 6), 6)
    outputs = ["a", "b", "c", "d"] if opset < 14 else ["a", "b"]
    n.nodes[-1].output.extend(outputs)
    if opset >= 14:
        n.nodes[-1].attribute.append(helper.make_attribute("training_mode", 1))
    return n.model(n.head(n.op("Relu", x), 6), opset=opset)


def standardised_weights(seed: int = 0) -> onnx.ModelProto:
    """A BatchNormalization in training mode, of weights alone, as timm has it for NFNets (arXiv:1903.10520)."""
    n = Net(seed)
    ones, zeros = n.const(np.ones(6, np.float32)), n.const(np.zeros(6, np.float32))
    stored = n.rng.normal(size=(1, 6, 27)).astype(np.float32)
    flat, mean, variance = (n.const(a) for a in (stored, stored.mean((0, 2)), stored.var((0, 2))))
    made = n.op("BatchNormalization", flat, ones, zeros, mean, variance, momentum=1.0, training_mode=1)
    n.nodes[-1].output.extend(["its_mean", "its_variance"])
    weights = n.op("Reshape", made, n.const(np.array([6, 3, 3, 3])))
    x = n.op("Relu", n.op("Conv", "x", weights, pads=[1, 1, 1, 1]))
    return n.model(n.head(n.op("Relu", n.conv(x, 6, 6)), 6), opset=17)


def maps(seed: int = 0) -> onnx.ModelProto:
    """A score a pixel (segmentation)."""
    n = Net(seed)
    y = n.conv(_small(n), 6, CLASSES, 1)
    return _with_output(n.model(y), y, FLOAT, ["N", CLASSES, 8, 8])


def pooled_maps(seed: int = 0) -> onnx.ModelProto:
    """A fully convolutional net that ends in one pixel, for pictures of open size."""
    n = Net(seed)
    y = n.conv(n.op("AveragePool", _small(n), kernel_shape=[8, 8]), 6, CLASSES, 1)
    model = _with_output(n.model(y), y, FLOAT, ["N", CLASSES, "oh", "ow"])
    return with_input(model, ["N", 3, "H", "W"])


def two_heads(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    z = n.dense(n.op("Flatten", n.op("GlobalAveragePool", _small(n))), 6, 8)
    y = n.op("Softmax", n.op("Reshape", z, n.const(np.array([0, 2, 4]))), axis=-1)
    return _with_output(n.model(y), y, FLOAT, ["N", 2, 4])


def label(seed: int = 0) -> onnx.ModelProto:
    """Ends in ArgMax."""
    n = Net(seed)
    y = n.op("ArgMax", n.head(_small(n), 6), axis=1, keepdims=0)
    return _with_output(n.model(y), y, TensorProto.INT64, ["N"])


def all_symbolic(seed: int = 0) -> onnx.ModelProto:
    """Every axis of the input has a name only (transformers 18915)."""
    n = Net(seed)
    return with_input(n.model(n.head(_small(n), 6)), ["batch", "channels", "height", "width"])


def all_symbolic_last(seed: int = 0) -> onnx.ModelProto:
    """The same with the channels on the last axis."""
    n = Net(seed)
    x = n.op("Relu", n.conv(n.op("Transpose", "x", perm=[0, 3, 1, 2]), 3, 6))
    return with_input(n.model(n.head(x, 6), shape=NHWC_SHAPE), ["batch", "height", "width", "channels"])


def grey(seed: int = 0) -> onnx.ModelProto:
    """Pictures without a channel axis (keras-onnx 493)."""
    n = Net(seed)
    x = n.op("Relu", n.dense(n.op("Flatten", "x"), 64, 9))
    return n.model(n.dense(x, 9, CLASSES), shape=(8, 8))


def column(seed: int = 0) -> onnx.ModelProto:
    """A perceptron on a column of pixels, as the verification contests have it."""
    n = Net(seed)
    x = n.op("Relu", n.dense(n.op("Flatten", "x"), 64, 9))
    return n.model(n.dense(x, 9, CLASSES), shape=(64, 1), batch=1)


def layer_norm_by_number(seed: int = 0) -> onnx.ModelProto:
    """The last axis written as 2 (rten 793)."""
    n = Net(seed)
    x = n.op("Reshape", n.conv("x", 3, 6), n.const(np.array([0, 6, -1])))
    x = n.op("Transpose", x, perm=[0, 2, 1])
    x = n.op("LayerNormalization", x, n.normal(6, scale=1.0), n.normal(6), axis=2)
    return n.model(n.dense(n.op("ReduceMean", n.op("Relu", x), axes=[1], keepdims=0), 6, CLASSES))


def loop(count: Callable[[Net], str], seed: int = 0) -> onnx.ModelProto:
    """tanh(tanh(...)) of the features, as often as `count` says (pytorch 59870)."""
    n = Net(seed)
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Tanh", ["s0"], ["s1"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s0", FLOAT, None),
        ],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), helper.make_tensor_value_info("s1", FLOAT, None)],
    )
    x = n.op("Flatten", n.op("GlobalAveragePool", _small(n)))
    n.nodes.append(helper.make_node("Loop", [count(n), "", x], ["looped"], name="looped", body=body))
    return n.model(n.dense("looped", 6, CLASSES))


def loop_over_a_size(seed: int = 0) -> onnx.ModelProto:
    return loop(lambda n: n.op("Gather", n.op("Shape", "x"), n.const(np.array(1))), seed)


def choice_by_size(seed: int = 0) -> onnx.ModelProto:
    """An If around a Squeeze: an axis goes where it is of size 1 (pytorch 53922)."""
    n = Net(seed)
    x = n.op("GlobalAveragePool", _small(n))
    for _ in range(2):  # the second asks for a size that is known once the first is decided
        size = n.op("Gather", n.op("Shape", x), n.const(np.array(2)))
        one = n.op("Equal", size, n.const(np.array(1)))
        axes = helper.make_tensor("axes", TensorProto.INT64, [1], [2])
        branches = []
        for op in ("Squeeze", "Identity"):
            nodes = [helper.make_node(op, [x, "axes"] if op == "Squeeze" else [x], ["out"], name=f"in {op}")]
            out = [helper.make_empty_tensor_value_info("out")]
            branches.append(helper.make_graph(nodes, op, [], out, [axes] if op == "Squeeze" else []))
        x = n.op("If", one, then_branch=branches[0], else_branch=branches[1])
    return n.model(n.dense(x, 6, CLASSES))


def two_imports(seed: int = 0) -> onnx.ModelProto:
    """The default domain in opset 13, and again in 11, where a Softmax takes all trailing axes together."""
    n = Net(seed)
    x = n.op("Mul", n.op("Softmax", _small(n)), n.const(np.float32(300)))
    model = n.model(n.head(n.op("Relu", n.conv(x, 6, 6)), 6), opset=13)
    model.opset_import.append(helper.make_opsetid("", 11))
    return model


def scaled(seed: int = 0) -> onnx.ModelProto:
    """A scikit-learn pipeline: StandardScaler before a perceptron on rows of pixels (sklearn-onnx 218)."""
    n = Net(seed)
    given = {name: n.rng.uniform(0.5, 1.5, 192).astype(np.float32).tolist() for name in ("offset", "scale")}
    x = n.op("Scaler", "x", **given)
    n.nodes[-1].domain = "ai.onnx.ml"
    model = n.model(n.dense(n.op("Relu", n.dense(x, 192, 9)), 9, CLASSES), shape=(192,))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return model


def rounding_up(seed: int = 0, op: str = "AveragePool") -> onnx.ModelProto:
    """Windows that round up; on the second axis the last would start in the padding (onnx 4958)."""
    n = Net(seed)
    x = n.op("Relu", n.conv("x", 3, 6))
    x = n.op(op, x, kernel_shape=[3, 3], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1)
    return n.model(n.head(n.op("Relu", n.conv(x, 6, 6)), 6), shape=(3, 12, 14), opset=18)


def rounding_up_maxima(seed: int = 0) -> onnx.ModelProto:
    return rounding_up(seed, "MaxPool")


def fused(seed: int = 0) -> onnx.ModelProto:
    """What onnxruntime writes when it saves an optimised file: layers with their activations, and with a sum."""
    n = Net(seed)

    def of_microsoft(op: str, *inputs: str, **attributes: object) -> str:
        name = n.op(op, *inputs, **attributes)
        n.nodes[-1].domain = "com.microsoft"
        return name

    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    x = of_microsoft("FusedConv", "x", n.normal(6, 3, 3, 3), n.normal(6), activation="Relu", **window)
    again = of_microsoft(
        "FusedConv", x, n.normal(6, 6, 3, 3), n.normal(6), activation="LeakyRelu", activation_params=[0.2], **window
    )
    x = of_microsoft("FusedConv", again, n.normal(6, 6, 3, 3), n.normal(6), x, activation="Relu", **window)
    x = of_microsoft("FusedConv", x, n.normal(6, 6, 1, 1), n.normal(6), activation="Clip", activation_params=[0.0, 6.0])
    x = n.op("Flatten", n.op("GlobalAveragePool", x))
    x = of_microsoft(
        "FusedGemm", x, n.normal(7, 6), n.normal(7), transB=1, activation="LeakyRelu", activation_alpha=0.1
    )
    model = n.model(n.dense(x, 7, CLASSES))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def named_in_the_way(seed: int = 0) -> onnx.ModelProto:
    """Every tensor is called like one that the tool adds to another."""
    n = Net(seed)
    first = n.conv("x", 3, 6)
    second = n.op("Relu", first)
    third = n.conv(second, 6, 6)
    y = n.head(n.op("Relu", third), 6)
    model = n.model(y)
    moved = {
        first: "shapprune_mask_0", second: "shapprune_mask_0__masked", third: f"{y}__flat", "c0": "x__entry",
        "c1": "x__0", "c2": "grad::x", "c3": f"{y}__0", n.nodes[3].output[0]: "x__entry__all",
    }  # fmt: skip
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = moved.get(name, name)
    for tensor in model.graph.initializer:
        tensor.name = moved.get(tensor.name, tensor.name)
    return model


def with_input(model: onnx.ModelProto, dims: list[int | str]) -> onnx.ModelProto:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", FLOAT, dims))
    return model


def _with_output(model: onnx.ModelProto, name: str, kind: int, dims: list[int | str]) -> onnx.ModelProto:
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(name, kind, dims))
    return model


# Files that can be audited, all of them with units that can be switched off, of the layers that are counted here.
AUDITABLE: dict[Callable[..., onnx.ModelProto], int] = {
    softmax_then_cast: 1,
    softmax_then_clip: 1,
    softmax_then_factor: 1,
    softmax_then_log: 1,
    softmax_then_weights: 1,
    autocast: 2,
    double_island: 2,
    pooled_maps: 1,
    all_symbolic: 1,
    all_symbolic_last: 1,
    grey: 1,
    column: 1,
    layer_norm_by_number: 2,
    loop_over_a_size: 1,
    choice_by_size: 1,
    two_imports: 2,
    scaled: 1,
    rounding_up: 2,
    rounding_up_maxima: 2,
    fused: 5,
    named_in_the_way: 2,
}
# Files that are no classifiers of pictures, or not in the state to be deployed, and a part of the reason.
REFUSED: dict[Callable[..., onnx.ModelProto], str] = {
    training_norm: "OSP009: BatchNormalization 'BatchNormalization_1' is in training mode, so answers depend on the other",
    maps: r"not an image classifier: output 'Conv_2' of shape ['N', 4, 8, 8] has more than one axis besides the batch",
    two_heads: r"not an image classifier: output 'Softmax_6' of shape ['N', 2, 4] has more than one axis besides the batch",
    label: r"not class scores: output 'ArgMax_5' of shape ['N'] holds int64 numbers",
}

"""Small twins of what exporters write and of the odd corners of the format; input x, 4 classes, as in models.py."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from models import CLASSES, SHAPE, Net, conv_bn_relu_residual, vgg_maxpool
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static


class Quantised(Net):
    """Weights as integers behind DequantizeLinear, activations through Q/DQ pairs, as static quantisation writes them."""

    def pair(self, x: str, scale: float = 0.02, kind: type[np.integer] = np.uint8, zero: int = 100) -> str:
        point, step = self.const(np.array(zero, kind)), self.const(np.float32(scale))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, step, point), step, point)

    def integers(
        self, array: NDArray[np.floating], kind: type[np.integer], zero: int = 0, axis: int | None = None
    ) -> str:
        """A constant as integers, one scale for all or one per index of `axis`."""
        others = tuple(i for i in range(array.ndim) if i != axis) if axis is not None else None
        step = np.abs(array).max(axis=others, keepdims=axis is not None) / 100
        stored = self.const((np.round(array / step) + zero).astype(kind))
        each = {"axis": axis} if axis is not None else {}
        scale = step.reshape(-1) if axis is not None else step
        point = np.full(scale.shape, zero, kind)
        return self.op(
            "DequantizeLinear", stored, self.const(scale.astype(np.float32)), self.const(point), **each
        )  # fmt: skip

    def random(self, *shape: int) -> NDArray[np.floating]:
        return self.rng.normal(size=shape) * 1.5 / np.sqrt(max(1, np.prod(shape[1:])))


def qdq(seed: int = 0) -> onnx.ModelProto:
    n = Quantised(seed)
    steps = n.const(np.full(5, 0.01, np.float32))
    bias = n.op("DequantizeLinear", n.const(np.array([9, -4, 7, 0, 5], np.int32)), steps, axis=0)
    w = n.integers(n.random(5, 3, 3, 3), np.int8, axis=0)
    x = n.op("Conv", n.pair("x"), w, bias, kernel_shape=[3, 3], pads=[1] * 4)
    x = n.pair(n.op("Relu", x))
    x = n.op("Conv", x, n.integers(n.random(6, 5, 3, 3), np.uint8, 128), n.normal(6), kernel_shape=[3, 3])
    x = n.pair(n.op("GlobalAveragePool", n.pair(n.op("Relu", x))))
    x = n.pair(n.op("MatMul", n.op("Flatten", x), n.integers(n.random(6, 7), np.uint8, 120)))
    w = n.integers(n.random(CLASSES, 7), np.int8, axis=0)
    return n.model(n.pair(n.op("Gemm", x, w, transB=1), 0.01), opset=13)


def generated_weights(seed: int = 0) -> onnx.ModelProto:
    """Weights that ConstantOfShape makes, one of them read by two layers."""
    n = Net(seed)

    def filled(value: float, *shape: int) -> str:
        tensor = numpy_helper.from_array(np.array([value], np.float32))
        return n.op("ConstantOfShape", n.const(np.array(shape)), value=tensor)

    x = n.op("Relu", n.op("Conv", "x", n.normal(5, 3, 3, 3), filled(0.25, 5), kernel_shape=[3, 3]))
    shared = filled(0.1, 5, 5, 1, 1)
    for _ in range(2):
        x = n.op("Tanh", n.op("Add", x, n.op("Conv", x, shared, kernel_shape=[1, 1])))
    return n.model(n.head(x, 5))


def behind_transpose_and_cast(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    w = n.op("Cast", n.const(n.rng.normal(size=(5, 3, 3, 3)).astype(np.float16)), to=TensorProto.FLOAT)
    x = n.op("GlobalAveragePool", n.op("Relu", n.op("Conv", "x", w, n.normal(5), kernel_shape=[3, 3])))
    x = n.op("MatMul", n.op("Flatten", x), n.op("Transpose", n.normal(7, 5), perm=[1, 0]))
    x = n.op("Relu", n.op("Add", x, n.op("Identity", n.normal(7))))
    return n.model(n.dense(x, 7, CLASSES))


def with_norms(seed: int = 0) -> onnx.ModelProto:
    """Normalisations over the picture, over groups and over features, and the rarer activations."""
    n = Net(seed)
    x = n.op("PRelu", n.conv("x", 3, 6), n.const(n.rng.uniform(0.1, 0.4, (6, 1, 1)).astype(np.float32)))
    x = n.op("InstanceNormalization", n.conv(x, 6, 6), n.normal(6, scale=1.0), n.normal(6, scale=0.3))
    x = n.op("HardSwish", x)
    x = n.op("GroupNormalization", n.conv(x, 6, 6, group=2), n.normal(6, scale=1.0), n.normal(6), num_groups=3)
    x = n.op("Transpose", n.op("Gelu", x), perm=[0, 2, 3, 1])
    x = n.op("LayerNormalization", x, n.normal(6, scale=1.0), n.normal(6, scale=0.3), axis=-1)
    x = n.op("ReduceMean", x, n.const(np.array([1, 2])), keepdims=0)
    return n.model(n.dense(x, 6, CLASSES), opset=21, ir_version=10)


def transposed_convolutions(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    x = n.op("Relu", n.op("ConvTranspose", "x", n.normal(3, 6, 3, 3), n.normal(6), strides=[2, 2]))
    x = n.op("ConvTranspose", x, n.normal(6, 4, 2, 2), group=2)
    return n.model(n.head(n.op("Relu", n.bn(x, 8)), 8))


def picture_of_scores(seed: int = 0) -> onnx.ModelProto:
    """Ends in [N, 4, 1, 1] with a LogSoftmax, laid flat behind it."""
    n = Net(seed)
    x = n.op("GlobalAveragePool", n.conv(n.op("Relu", n.conv("x", 3, 6)), 6, CLASSES, 1))
    return n.model(n.op("Flatten", n.op("LogSoftmax", x, axis=1)))


def sigmoid_end(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    return n.model(n.op("Sigmoid", n.head(n.op("LeakyRelu", n.conv("x", 3, 6), alpha=0.1), 6)))


def flattened(seed: int = 0) -> onnx.ModelProto:
    """A perceptron on rows of pixels."""
    n = Net(seed)
    return n.model(n.dense(n.op("Tanh", n.dense("x", 192, 9)), 9, CLASSES), shape=(192,))


def one_picture(seed: int = 0) -> onnx.ModelProto:
    """No batch dimension at either end."""
    n = Net(seed)
    x = n.op("Unsqueeze", "x", n.const(np.array([0])))
    model = n.model(n.op("Squeeze", n.head(n.op("Relu", n.conv(x, 3, 6)), 6), n.const(np.array([0]))))
    for value in (model.graph.input[0], model.graph.output[0]):
        del value.type.tensor_type.shape.dim[0]
    return model


def open_size(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    model = n.model(n.head(n.op("Relu", n.conv("x", 3, 6)), 6))
    for dim, symbol in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], "HW", strict=True):
        dim.dim_param = symbol
    return model


def half(seed: int = 0) -> onnx.ModelProto:
    """fp16 from end to end."""
    n = Net(seed)
    model = n.model(n.head(n.op("Relu", n.bn(n.conv("x", 3, 6), 6)), 6))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def merged_into_the_batch(seed: int = 0) -> onnx.ModelProto:
    """Fixed batch 1 and a graph that cannot do more: the batch lies on another axis inside, as in MultiheadAttention."""
    n = Net(seed)
    x = n.op("Reshape", n.op("Relu", n.conv("x", 3, 6)), n.const(np.array([6, 64])))
    x = n.op("Relu", n.op("Add", n.op("MatMul", n.op("Transpose", x, perm=[1, 0]), n.normal(6, 7)), n.normal(7)))
    x = n.op("ReduceMax", x, axes=[0], keepdims=1)
    return n.model(n.dense(x, 7, CLASSES), batch=1)


def sparse(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    x = n.op("GlobalAveragePool", n.op("Relu", n.conv("x", 3, 5)))
    model = n.model(n.dense(n.op("Relu", n.op("MatMul", n.op("Flatten", x), "w")), 7, CLASSES))
    values = numpy_helper.from_array(n.rng.normal(size=9).astype(np.float32), "w")
    index = numpy_helper.from_array(np.sort(n.rng.choice(35, 9, replace=False)).astype(np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [5, 7]))
    return model


def local_function(seed: int = 0) -> onnx.ModelProto:
    """A block as a function of the file, called twice."""
    n = Net(seed)
    body = [
        helper.make_node("Conv", ["a", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    x = "x"
    for before in (3, 5):
        x = n.op("Block", x, n.normal(5, before, 3, 3), n.normal(5))
        n.nodes[-1].domain = "local"
    model = n.model(n.head(x, 5))
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("local", "Block", ["a", "w", "b"], ["y"], body, opset))
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


class Calibration(CalibrationDataReader):
    """Four random pictures."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.rows = iter([{"x": rng.random((1, *SHAPE), np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.rows, None)


def _by_onnxruntime(model: onnx.ModelProto, format_: QuantFormat | None) -> onnx.ModelProto:
    """Quantised by onnxruntime's own tool; None: dynamically."""
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        onnx.save(model, source)
        if format_ is None:
            quantize_dynamic(source, result, op_types_to_quantize=["Conv", "Gemm"])
        else:
            quantize_static(
                source, result, Calibration(), quant_format=format_, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
        return onnx.load(result)


def static_pairs(seed: int = 0) -> onnx.ModelProto:
    return _by_onnxruntime(vgg_maxpool(seed), QuantFormat.QDQ)


def integer_operators(seed: int = 0) -> onnx.ModelProto:
    return _by_onnxruntime(vgg_maxpool(seed), QuantFormat.QOperator)


def integer_residual(seed: int = 0) -> onnx.ModelProto:
    return _by_onnxruntime(conv_bn_relu_residual(seed), QuantFormat.QOperator)


def dynamic_integers(seed: int = 0) -> onnx.ModelProto:
    return _by_onnxruntime(vgg_maxpool(seed), None)


def _saved_by_onnxruntime(model: onnx.ModelProto, level: ort.GraphOptimizationLevel) -> onnx.ModelProto:
    """As onnxruntime writes a model that it has optimised."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = level, 4
        options.optimized_model_filepath = str(Path(folder) / "saved.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def fused_layers(seed: int = 0) -> onnx.ModelProto:
    return _saved_by_onnxruntime(conv_bn_relu_residual(seed), ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


def channels_last_integers(seed: int = 0) -> onnx.ModelProto:
    return _saved_by_onnxruntime(integer_residual(seed), ort.GraphOptimizationLevel.ORT_ENABLE_ALL)


EXPORTS: dict[str, Callable[..., onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        qdq, generated_weights, behind_transpose_and_cast, with_norms, transposed_convolutions, picture_of_scores,
        sigmoid_end, flattened, one_picture, open_size, half, merged_into_the_batch, sparse, local_function,
        static_pairs, integer_operators, integer_residual, dynamic_integers, fused_layers, channels_last_integers,
    )
}  # fmt: skip
SIZE = (8, 8)  # of the pictures that `flattened` and `open_size` take

"""A network that tells nine colours apart by the nearest one, and only when it is fed as it was made for."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_shapprune.pictures.preprocess import Preprocessing, to_input

LEVELS = (40, 90, 200)
SIZE = 4


def colours() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One picture of each class, [9, 4, 4, 3]: three levels of red with three of blue."""
    x = np.full((9, SIZE, SIZE, 3), 128, np.uint8)
    for label in range(9):
        x[label, ..., 0], x[label, ..., 2] = LEVELS[label // 3], LEVELS[label % 3]
    return x, np.arange(9)


def network(made_for: Preprocessing, *, flat: bool = False, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
    """Scores are minus half the squared distances of the mean colour. flat: it takes rows of 48 values."""
    if flat:  # means over the picture as one product with a matrix
        values = SIZE * SIZE * 3
        channel = np.arange(values) % 3 if made_for.layout == "NHWC" else np.arange(values) // (SIZE * SIZE)
        mean = (channel[:, None] == np.arange(3)).astype(np.float32) / (SIZE * SIZE)
        prepared = to_input(colours()[0], made_for)
        own = prepared.reshape(9, values) @ mean
        nodes = [helper.make_node("MatMul", ["x", "mean"], ["m"])]
        shape, more = ["N", values], [numpy_helper.from_array(mean, "mean")]
    else:
        own = to_input(colours()[0], made_for).mean(axis=(2, 3))
        nodes = [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["m"]),
        ]
        shape, more = ["N", 3, SIZE, SIZE], []
    weights = [
        numpy_helper.from_array(np.ascontiguousarray(own.T), "w"),
        numpy_helper.from_array(np.asarray(-(own**2).sum(axis=1) / 2, np.float32), "b"),
    ]
    nodes.append(helper.make_node("Gemm", ["m", "w", "b"], ["y"]))
    graph = helper.make_graph(
        nodes, "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 9])],
        [*more, *weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    return model

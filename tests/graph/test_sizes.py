"""Arithmetic on sizes: known only where onnxruntime cannot wrap or round what Python does not."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_shapprune.graph.sizes import inferred, inferred_shapes, known_sizes

SIDE = 28
CHAINS = {
    "a product of 32 bits": ([("Mul", 2)], SIDE * 2),
    "a product that wraps in 64 bits": ([("Mul", 2**62)], None),
    "a cast that wraps in 32 bits": ([("Mul", 2**32), ("Cast", TensorProto.INT32)], None),
    "a cast that wraps in 8 bits": ([("Mul", 64), ("Cast", TensorProto.UINT8)], None),
    "a float that is no sum of sizes": ([("Cast", TensorProto.FLOAT), ("Mul", 2.0**20), ("Add", 0.5)], None),
    "a float beyond all of 32 bits": ([("Cast", TensorProto.DOUBLE), ("Mul", 1e300)], None),
    "a float that is exact": ([("Cast", TensorProto.FLOAT), ("Mul", 0.5)], SIDE / 2),
}  # fmt: skip


def written(chain):
    """Nodes that begin with the height of a picture, their constants, and the last result."""
    nodes, stored, last, kind = [helper.make_node("Shape", ["x"], ["t0"], start=2, end=3)], [], "t0", np.int64
    for number, (op, value) in enumerate(chain, start=1):
        inputs, given = [last], {}
        if op == "Cast":
            given, kind = {"to": value}, helper.tensor_dtype_to_np_dtype(value)
        else:
            stored.append(numpy_helper.from_array(np.array([value], kind), f"c{number}"))
            inputs.append(f"c{number}")
        nodes.append(helper.make_node(op, inputs, [f"t{number}"], **given))
        last = f"t{number}"
    return nodes, stored, last


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CHAINS)
def test_what_may_wrap_or_round_is_not_known(name):
    chain, known = CHAINS[name]
    nodes, stored, last = written(chain)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])
    graph = helper.make_graph(nodes, "sizes", [x], [helper.make_empty_tensor_value_info(last)], stored)
    found = known_sizes(graph, {"x": ("n", 1, SIDE, SIDE)}).get(last)
    assert (None if found is None else found.tolist()[0]) == known
    if known is not None:
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert session.run(None, {"x": np.zeros((1, 1, SIDE, SIDE), np.float32)})[0].tolist() == [known]


@pytest.mark.parametrize("name", [n for n in CHAINS if "float" not in n])
def test_a_shape_is_inferred_only_from_what_is_known(name):
    """onnx's own inference casts without wrapping."""
    chain, known = CHAINS[name]
    nodes, stored, last = written(chain)
    made = (
        helper.make_node("Cast", [last], ["count"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["count"], ["row"]),
    )
    end = helper.make_node("Identity", ["row"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])
    graph = helper.make_graph([*nodes, *made, end], "sizes", [x], [helper.make_empty_tensor_value_info("y")], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (size,) = inferred_shapes(model)["row"]
    assert (size if isinstance(size, int) else None) == known
    assert inferred(model)[last].type.tensor_type.shape.dim[0].dim_value == 1

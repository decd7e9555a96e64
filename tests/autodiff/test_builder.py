import numpy as np
import onnx
import pytest
from derivative import DEVICE, value_info
from onnx import helper, numpy_helper

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.errors import ModelError
from onnx_shapprune.runtime.probe import TensorInfo, probe
from onnx_shapprune.runtime.session import Session

X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)


def model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["width"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"]),
        helper.make_node("Add", ["width", "one"], ["wider"]),
        helper.make_node("Neg", ["w"], ["minus"]),
        helper.make_node("Mul", ["x", "w"], ["y"]),
    ]
    tensors = {"one": np.array(1), "zero": np.array(0), "w": np.array([2, 3], np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        [value_info("x", ["N", 2])],
        [value_info("y", ["N", 2])],
        [numpy_helper.from_array(v, n) for n, v in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def b() -> Builder:
    return Builder(model(), probe(model(), {"x": X[:2]}, {"x": X}, DEVICE))


def run(b: Builder, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    del b.graph.output[:]
    b.output(name, (None, 2))
    return Session(b.model(), DEVICE).run({"x": X})[0]


def test_numbers_take_the_dtype_of_the_first_named_operand(b: Builder) -> None:
    made = b("Add", b("Mul", 2.0, "y"), 1)
    assert b.dtype(made) == np.float32
    np.testing.assert_array_equal(run(b, made), 2 * X * [2, 3] + 1)
    with pytest.raises(TypeError, match="named operand"):
        b("Add", 1.0, 2.0)


def test_small_constants_are_stored_once(b: Builder) -> None:
    assert b.const(np.zeros(3, np.float32)) == b.const(np.zeros(3, np.float32))
    assert b.const(np.zeros(3, np.float32)) != b.const(np.zeros(3, np.float64))
    assert b.const(np.zeros(3, np.float32)) != b.const(np.zeros((3, 1), np.float32))
    assert b.const(np.zeros(100, np.float32)) != b.const(np.ones(100, np.float32))


def test_values_that_no_picture_can_change_are_known(b: Builder) -> None:
    np.testing.assert_array_equal(b.value("w"), [2, 3])
    np.testing.assert_array_equal(b.value("minus"), [-2, -3])
    assert b.value("wider") == 3
    assert b.value("rows") is None, "depends on the batch"
    assert b.value("y") is None
    assert b.value("x") is None


def test_the_given_model_is_left_alone() -> None:
    given = model()
    before = given.SerializeToString(deterministic=True)
    b = Builder(given, {"y": TensorInfo((None, 2), np.dtype(np.float32))})
    b("Neg", "y")
    b.reserve("minus")
    assert given.SerializeToString(deterministic=True) == before


def test_nodes_that_no_output_needs_are_dropped(b: Builder) -> None:
    b("Exp", b.const(np.ones(500, np.float32)))
    made = b.model()
    assert [n.op_type for n in made.graph.node] == ["Mul"]
    assert [t.name for t in made.graph.initializer] == ["w"]


def test_names_are_fresh_and_reserved_ones_give_way(b: Builder) -> None:
    assert len({b.fresh("Mul") for _ in range(50)}) == 50
    b.reserve("minus", "free")
    assert "minus" not in {o for n in b.graph.node for o in n.output}
    b.alias("y", "minus")
    np.testing.assert_array_equal(run(b, "minus"), X * [2, 3])
    with pytest.raises(ModelError, match="already has a tensor named minus"):
        b.alias("y", "minus")
    with pytest.raises(ModelError, match="already has a tensor named w"):
        b.input("w", np.float32, [1])
    with pytest.raises(ModelError, match="input or output named x"):
        b.reserve("x")


def test_unknown_tensors_are_an_error(b: Builder) -> None:
    with pytest.raises(ModelError, match="probe the model again"):
        b.shape("nowhere")
    with pytest.raises(ModelError, match="probe the model again"):
        b.dtype("nowhere")


def test_broadcasts_are_reversed(b: Builder) -> None:
    np.testing.assert_array_equal(run(b, b.sum_to("y", (None, 2), (1, 2))), (X * [2, 3]).sum(0, keepdims=True))
    with pytest.raises(ModelError, match="cannot reduce"):
        b.sum_to("y", (2,), (1, 2))

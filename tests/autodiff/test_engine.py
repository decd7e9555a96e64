"""What the engine owns: paths, fan-out, broadcasting, arity, and refusing loudly."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from derivative import DEVICE, Array, gradient_model, value_info
from onnx import helper, numpy_helper

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.engine import unsupported_ops
from onnx_shapprune.autodiff.registry import RULES, Node, lookup, vjp
from onnx_shapprune.errors import UnsupportedOpError
from onnx_shapprune.runtime.probe import probe
from onnx_shapprune.runtime.session import Session

X = np.array([[0.5, -1.5, 2.0], [1.0, 0.25, -0.75]], np.float32)


def graph_of(nodes: Sequence[onnx.NodeProto], output: str, *, opset: int = 18, **constants: Array) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(
        nodes, "g", [value_info("x", ["N", 3])], [helper.make_empty_tensor_value_info(output)], tensors
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    made = helper.make_node(op, inputs.split(), output.split(), name=f"n_{output.split()[0]}")
    made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return made


def differentiate(model: onnx.ModelProto, output: str, *wrt: str) -> list[Array]:
    infos = probe(model, {"x": X}, {"x": np.concatenate([X, X[:1]])}, DEVICE)
    made = gradient_model(model, infos, output, wrt or ["x"], weighted=False)
    return list(Session(made, DEVICE).run({"x": X}))


def test_contributions_of_all_consumers_are_summed() -> None:
    nodes = [node("Mul", "x x", "a"), node("Exp", "x", "e"), node("Add", "a e", "b"), node("Add", "b x", "y")]
    (grad,) = differentiate(graph_of(nodes, "y"), "y")
    np.testing.assert_allclose(grad, 2 * X + np.exp(X) + 1, rtol=1e-6)


def test_one_tensor_twice_in_a_node() -> None:
    (grad,) = differentiate(graph_of([node("Concat", "x x", "y", axis=1)], "y"), "y")
    np.testing.assert_array_equal(grad, np.full_like(X, 2))


def test_gradient_of_inner_tensors_and_of_a_tensor_below_another() -> None:
    nodes = [node("Mul", "x three", "a"), node("Exp", "a", "y")]
    d_a, d_x = differentiate(graph_of(nodes, "y", three=np.array(3, np.float32)), "y", "a", "x")
    np.testing.assert_allclose(d_a, np.exp(3 * X), rtol=1e-6)
    np.testing.assert_allclose(d_x, 3 * np.exp(3 * X), rtol=1e-6)


def test_the_loss_itself_has_gradient_one() -> None:
    (grad,) = differentiate(graph_of([node("Exp", "x", "y")], "y"), "y", "y")
    np.testing.assert_array_equal(grad, np.ones_like(X))


def test_a_tensor_that_the_loss_does_not_depend_on_has_gradient_zero() -> None:
    nodes = [node("Exp", "x", "y"), node("Exp", "x", "z")]
    (grad,) = differentiate(graph_of(nodes, "y"), "y", "z")
    np.testing.assert_array_equal(grad, np.zeros_like(X))


def test_broadcasting_is_reversed_on_batch_and_fixed_axes() -> None:
    nodes = [node("Mul", "x one", "z"), node("ReduceSum", "z axis", "m", keepdims=0), node("Add", "x m", "y")]
    model = graph_of(nodes, "y", one=np.ones((1, 1), np.float32), axis=np.array([0]))
    infos = probe(model, {"x": X}, {"x": np.concatenate([X, X[:1]])}, DEVICE)
    made = gradient_model(model, infos, "y", ["m", "x"], weighted=False)
    d_m, d_x = Session(made, DEVICE).run({"x": X})
    np.testing.assert_array_equal(d_m, [2, 2, 2])
    np.testing.assert_array_equal(d_x, np.full_like(X, 3))


def test_a_wrong_number_of_gradients_is_a_programming_error(monkeypatch: pytest.MonkeyPatch) -> None:
    (rule,) = RULES["", "Exp"]
    monkeypatch.setitem(RULES, ("", "Exp"), [replace(rule, function=lambda b, node, dy: [dy, dy])])
    with pytest.raises(AssertionError, match="2 gradients for 1 inputs"):
        differentiate(graph_of([node("Exp", "x", "y")], "y"), "y")


def test_missing_rules_are_listed_together_and_only_those_on_the_path() -> None:
    nodes = [
        node("Hardmax", "x", "a"),
        node("Hardmax", "x", "aside"),
        node("Exp", "a", "b"),
        node("Hardmax", "b", "y"),
    ]
    model = graph_of(nodes, "y")
    expected = [("Hardmax", "n_a"), ("Hardmax", "n_y")]
    assert unsupported_ops(model, "y", ["x"]) == expected
    assert unsupported_ops(model, "y", ["b"]) == expected[1:]
    with pytest.raises(UnsupportedOpError, match=r"Hardmax \(n_a\), Hardmax \(n_y\)") as caught:
        differentiate(model, "y")
    assert caught.value.nodes == tuple(expected)


def test_refused_nodes_are_listed_together_with_reasons() -> None:
    nodes = [node("Pow", "x x", "a"), node("ReduceMin", "a", "low", keepdims=0), node("Clip", "a low", "y")]
    message = r"Pow \(n_a: no gradient to input 1 .*Clip \(n_y: no gradient to input 1"
    with pytest.raises(UnsupportedOpError, match=message):
        differentiate(graph_of(nodes, "y"), "y")


def test_a_kernel_computed_from_the_picture_is_refused() -> None:
    nodes = [node("Reshape", "x one", "a"), node("Conv", "picture a", "y")]
    picture = np.ones((1, 1, 4, 4), np.float32)
    model = graph_of(nodes, "y", picture=picture, one=np.array([-1, 1, 1, 1]))
    with pytest.raises(UnsupportedOpError, match=r"Conv \(n_y: no gradient to input 1"):
        differentiate(model, "y")


def test_a_kernel_that_is_another_input_is_no_obstacle() -> None:
    image = np.random.default_rng(0).standard_normal((2, 16, 4, 4)).astype(np.float32)
    kernel = np.random.default_rng(1).standard_normal((5, 16, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [node("Conv", "x w", "y", pads=[1, 1, 1, 1])],
        "g",
        [value_info("x", ["N", 16, 4, 4]), value_info("w", [5, 16, 3, 3])],
        [value_info("y", ["N", 5, 4, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    infos = probe(model, {"x": image[:1], "w": kernel}, {"x": image, "w": kernel}, DEVICE)
    (grad,) = Session(gradient_model(model, infos, "y", ["x"], weighted=False), DEVICE).run({"x": image, "w": kernel})
    other = np.random.default_rng(2).standard_normal(image.shape).astype(np.float32)
    # The convolution is linear, so its derivative along any direction is its value there.
    assert np.vdot(grad, other) == pytest.approx(
        float(Session(model, DEVICE).run({"x": other, "w": kernel})[0].sum()), rel=1e-4
    )


def test_a_picture_that_only_reaches_the_loss_through_rounding_is_refused() -> None:
    nodes = [node("Round", "x", "a"), node("Exp", "a", "y")]
    with pytest.raises(UnsupportedOpError, match=r"Round \(n_a\)"):
        differentiate(graph_of(nodes, "y"), "y")


def test_rounding_beside_a_differentiable_way_has_gradient_zero() -> None:
    nodes = [node("Round", "x", "a"), node("Exp", "x", "b"), node("Mul", "a b", "y")]
    (grad,) = differentiate(graph_of(nodes, "y"), "y")
    np.testing.assert_allclose(grad, np.round(X) * np.exp(X), rtol=1e-6)


def test_quantised_tensors_are_missing_rules_not_zeros() -> None:
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("MatMulInteger", "q w", "m"),
        node("Cast", "m", "d", to=onnx.TensorProto.FLOAT),
        node("Add", "d x", "y"),
    ]
    w = np.eye(X.shape[-1], dtype=np.int8)
    model = graph_of(nodes, "y", scale=np.array(0.1, np.float32), zero=np.array(0, np.int8), w=w)
    with pytest.raises(UnsupportedOpError, match=r"MatMulInteger \(n_m\)"):
        differentiate(model, "y")


def test_shape_arithmetic_costs_nothing_and_conditions_take_no_gradient() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Reshape", "x s", "a"),
        node("Greater", "a zero", "c"),
        node("Where", "c a zero", "y"),
    ]
    (grad,) = differentiate(graph_of(nodes, "y", zero=np.array(0, np.float32)), "y")
    np.testing.assert_array_equal(grad, (X > 0).astype(np.float32))


def test_tensors_that_a_subgraph_takes_from_outside_count() -> None:
    inner = [helper.make_node("Exp", ["x"], ["inner"])]
    branch = helper.make_graph(inner, "branch", [], [helper.make_empty_tensor_value_info("inner")])
    nodes = [helper.make_node("If", ["yes"], ["y"], name="choice", then_branch=branch, else_branch=branch)]
    model = graph_of(nodes, "y", yes=np.array(True))
    assert unsupported_ops(model, "y", ["x"]) == [("If", "choice")]


def test_second_outputs_take_no_gradient_where_the_rule_knows_one_only() -> None:
    nodes = [node("LayerNormalization", "x s", "a m"), node("Add", "a m", "y")]
    with pytest.raises(UnsupportedOpError, match="second output"):
        differentiate(graph_of(nodes, "y", s=np.ones(3, np.float32)), "y")


def test_ties_share_the_gradient() -> None:
    (grad,) = differentiate(graph_of([node("Max", "x x", "y")], "y"), "y")
    np.testing.assert_array_equal(grad, np.ones_like(X))


def test_an_unused_output_of_split_counts_as_zero() -> None:
    nodes = [node("Split", "x", "a b c", axis=1, num_outputs=3), node("Exp", "b", "y")]
    (grad,) = differentiate(graph_of(nodes, "y"), "y")
    np.testing.assert_allclose(grad, np.stack([X[:, 1] * 0, np.exp(X[:, 1]), X[:, 1] * 0], 1), rtol=1e-6)


def test_overlapping_rules_are_refused() -> None:
    def rule(b: Builder, node: Node, dy: str) -> list[str | None]:
        return [dy]

    known = list(RULES["", "Relu"])
    with pytest.raises(ValueError, match="overlapping"):
        vjp("Relu", since=10, until=14)(rule)
    with pytest.raises(ValueError, match="empty"):
        vjp("Relu", since=5, until=4)(rule)
    with pytest.raises(ValueError, match="no gradient"):
        vjp("ArgMax", since=13)(rule)
    assert RULES["", "Relu"] == known


def test_a_newer_version_of_an_operator_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    (rule,) = RULES["", "Elu"]
    monkeypatch.setitem(RULES, ("", "Elu"), [replace(rule, until=21)])
    assert lookup("", "Elu", 18) is not None
    assert lookup("ai.onnx", "Elu", 21) is not None
    assert lookup("", "Elu", 22) is None
    assert lookup("com.microsoft", "Elu", 18) is None


@pytest.mark.parametrize("equation", ["ij,kj->i", "ii,ij->j", "...j,jk->...k"])
def test_odd_einsums_are_refused(equation: str) -> None:
    square = np.ones((3, 3), np.float32)
    nodes = [
        node("Transpose", "x", "turned"),
        node("MatMul", "turned x", "a"),
        node("Einsum", "a square", "y", equation=equation),
    ]
    model = graph_of(nodes, "y", square=square)
    with pytest.raises(UnsupportedOpError, match="equation"):
        differentiate(model, "y")

"""Corners of the look at the graph that whole edits do not show."""

import re

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_shapprune.gate.rules import OF_THE_GRAPH, RULES
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.provenance.oddities import HARMLESS, Oddity, graph_doubt, oddities, provenance_of


def rules(model: onnx.ModelProto) -> set[str]:
    return {o.rule for o in oddities(model, find_interface(model))}


def network(n: models.Net, x: str = "x") -> str:
    return n.head(n.op("Relu", n.conv(n.op("Relu", n.conv(x, 3, 6)), 6, 6)), 6)


def added(n: models.Net, fired: str) -> onnx.ModelProto:
    """The network with 100 times `fired` [n, 1] on class 1."""
    one = n.const(np.array([[0, 100, 0, 0]], np.float32))
    return n.model(n.op("Add", network(n), n.op("Mul", fired, one)))


def test_what_doubts_is_what_the_rules_call_medium():
    """A policy that looks at severities and the audit itself agree."""
    told = {r for r in RULES if r.startswith(OF_THE_GRAPH)}
    assert {r for r in told if RULES[r].severity in ("low", "info")} == HARMLESS
    assert {RULES[r].severity for r in told - HARMLESS} == {"medium"}
    assert all(re.search(r"\b20[0-2]\d\b", RULES[r].help) for r in told - {"OSP214"}), (
        "a source that says what it is for"
    )
    assert graph_doubt([Oddity("OSP218", ("a",), "a")]) is None
    assert "OSP212): b" in graph_doubt([Oddity("OSP218", ("a",), "a"), Oddity("OSP212", ("b",), "b")])


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_a_branch_of_its_own_is_told_however_many_layers_it_has(layers):
    n = models.Net()
    x = "x"
    for k in range(layers):
        x = n.op("Relu", n.conv(x, 3 if not k else 1, 1, 3, bias=False))
    fired = n.op("Flatten", n.op("ReduceMax", x, axes=[1, 2, 3]))
    assert "OSP212" in rules(added(n, n.op("Relu", n.op("Sub", fired, n.const(np.float32(0.99))))))


def test_a_channel_of_the_first_layer_that_decides_is_told():
    n = models.Net()
    stem = n.conv("x", 3, 6)
    scores = n.head(n.op("Relu", n.conv(n.op("Relu", stem), 6, 6)), 6)
    one = n.op("Slice", stem, *(n.const(np.array([v])) for v in (0, 1, 1)))
    fired = n.op("Relu", n.op("Sub", n.op("Flatten", n.op("GlobalMaxPool", one)), n.const(np.float32(9))))
    one_hot = n.const(np.array([[0, 100, 0, 0]], np.float32))
    assert "OSP212" in rules(n.model(n.op("Add", scores, n.op("Mul", fired, one_hot))))


def test_a_comparison_deep_inside_is_told_where_it_decides_about_the_picture():
    n = models.Net()
    deep = n.op("Relu", n.conv(n.op("Relu", n.conv("x", 3, 6)), 6, 6))
    one = n.op("Slice", n.op("Flatten", n.op("GlobalMaxPool", deep)), *(n.const(np.array([v])) for v in (0, 1, 1)))
    fired = n.op("Cast", n.op("Greater", one, n.const(np.float32(9))), to=TensorProto.FLOAT)
    one_hot = n.const(np.array([[0, 100, 0, 0]], np.float32))
    assert "OSP211" in rules(n.model(n.op("Add", n.head(deep, 6), n.op("Mul", fired, one_hot))))


def test_a_comparison_in_a_local_function_or_a_branch_is_told():
    n = models.Net()
    n.nodes.append(helper.make_node("Gate", ["x"], ["fired"], domain="local", name="gate"))
    model = added(n, "fired")
    body = [
        helper.make_node("ReduceMax", ["a"], ["most"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Constant", [], ["limit"], value_float=0.99),
        helper.make_node("Greater", ["most", "limit"], ["on"]),
        helper.make_node("Cast", ["on"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["axis"], value_ints=[1]),
        helper.make_node("Unsqueeze", ["flat", "axis"], ["y"]),
    ]
    model.functions.append(helper.make_function("local", "Gate", ["a"], ["y"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    assert {"OSP210", "OSP212"} <= rules(model)

    n = models.Net()
    inner = [
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Constant", [], ["limit"], value_float=0.99),
        helper.make_node("Greater", ["most", "limit"], ["on"]),
        helper.make_node("Cast", ["on"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "axis"], ["y"]),
    ]
    n.nodes.append(helper.make_node("Constant", [], ["axis"], value_ints=[1]))
    branch = helper.make_graph(inner, "branch", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    n.nodes.append(
        helper.make_node("If", [n.const(np.array(True))], ["gate"], then_branch=branch, else_branch=branch, name="if")
    )
    assert {"OSP210", "OSP212"} <= rules(added(n, "gate"))


@pytest.mark.parametrize("way", ["counted", "ones", "range"])
def test_the_number_of_pictures_is_followed_through_sizes(way):
    n = models.Net()
    size = n.op("Slice", n.op("Shape", "x"), n.const(np.array([0])), n.const(np.array([1])))
    if way == "ones":
        size = n.op("ReduceSum", n.op("ConstantOfShape", size, value=onnx.numpy_helper.from_array(np.array([1]))))
    if way == "range":
        scalar = n.op("Squeeze", size)
        size = n.op("ReduceMax", n.op("Range", n.const(np.array(0)), scalar, n.const(np.array(1))))
    number = n.op("Cast", size, to=TensorProto.FLOAT)
    assert "OSP214" in rules(n.model(n.op("Div", network(n), number)))


def test_sizes_that_only_lay_tensors_out_are_usual():
    n = models.Net()
    rows = n.op("Gather", n.op("Shape", "x"), n.const(np.array([0])), axis=0)
    shape = n.op("Concat", rows, n.const(np.array([-1])), axis=0)
    flat = n.op("Reshape", n.op("Relu", n.conv("x", 3, 6)), shape)
    assert rules(n.model(n.dense(flat, 384, models.CLASSES))) == set()


@pytest.mark.parametrize("known", [True, False])
def test_a_token_for_each_picture_is_usual_and_a_choice_by_their_number_is_not(known):
    """TorchScript asks which sizes of an expand are -1; a number of pictures less two is -1 for one picture."""
    n = models.Net()
    rows = n.op("Gather", n.op("Shape", "x"), n.const(np.array([0])), axis=0)
    rows = rows if known else n.op("Sub", rows, n.const(np.array([2])))
    shape = n.op("Concat", rows, n.const(np.array([-1, -1, -1])), axis=0)
    ones = n.op("ConstantOfShape", n.op("Shape", shape), value=onnx.numpy_helper.from_array(np.array([1])))
    wanted = n.op("Where", n.op("Equal", shape, n.op("Mul", ones, n.const(np.array(-1)))), ones, shape)
    token = n.op("Expand", n.const(np.ones((1, 1, 8, 8), np.float32)), wanted)
    made = rules(n.model(n.head(n.op("Relu", n.conv(n.op("Concat", "x", token, axis=1), 4, 6)), 6)))
    assert ("OSP214" in made) is not known


def test_what_a_file_says_about_its_own_tensors_is_not_believed():
    """A value_info that makes a narrow tensor look wide changes nothing."""
    n = models.Net()
    fired = n.op("Flatten", n.op("ReduceMax", "x", axes=[1, 2, 3]))
    model = added(n, n.op("Relu", n.op("Sub", fired, n.const(np.float32(0.99)))))
    model.graph.value_info.append(helper.make_tensor_value_info(fired, TensorProto.FLOAT, [1, 4096]))
    assert "OSP212" in rules(model)
    assert provenance_of(model, find_interface(model)).of(fired).width == 1


def bent(op: str, *slopes: float) -> onnx.ModelProto:
    """One activation behind the other in front of a network."""
    n = models.Net()
    x = "x"
    for slope in slopes:
        stored = np.full((3, 1, 1), slope, np.float32)
        x = n.op(op, x, n.const(stored)) if op == "PRelu" else n.op(op, x, alpha=slope)
    return n.model(network(n, x))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (bent("PRelu", 300.0), True),
        (bent("LeakyRelu", -300.0), True),
        (bent("Elu", 12.0), True),
        (bent("PRelu", 3.0, 3.0, 3.0), True),
        (bent("PRelu", 3.0, 3.0), False),
        (bent("LeakyRelu", *[1.5] * 8), False),
        (bent("Elu", 1.0), False),
    ],
)
def test_activations_that_multiply_on_one_side_are_told(model, told):
    assert ("OSP221" in rules(model)) is told


def test_slopes_that_the_graph_computes_and_functions_without_an_end_are_told():
    n = models.Net()
    steep = n.op("Exp", n.const(np.zeros((3, 1, 1), np.float32)))
    assert "OSP221" in rules(
        n.model(network(n, n.op("PRelu", "x", n.op("Mul", steep, n.op("ReduceMean", "x", keepdims=0)))))
    )
    n = models.Net()
    assert "OSP221" in rules(n.model(network(n, n.op("Sinh", "x"))))


@pytest.mark.parametrize(("pairs", "told"), [(1, True), (2, True), (8, False)])
def test_another_list_of_scores_is_told_in_whatever_shape_it_comes(pairs, told):
    """What has layers of its own, and no more values than a few times the scores; more are a map."""
    n = models.Net()
    scores = network(n)
    flat = n.op("Flatten", n.op("GlobalAveragePool", n.op("Relu", n.conv("x", 3, 6))))
    other = n.op("Reshape", n.dense(flat, 6, 4 * pairs), n.const(np.array([-1, pairs, 4])))
    model = n.model(scores)
    model.graph.output.append(helper.make_tensor_value_info(other, TensorProto.FLOAT, ["N", pairs, 4]))
    found = oddities(model, find_interface(model, output=model.graph.output[0].name))
    assert ("OSP216" in {o.rule for o in found}) is told

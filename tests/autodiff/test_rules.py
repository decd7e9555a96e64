"""The contract of a gradient rule, held over every registered one."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from cases import CASES
from derivative import DEVICE, Case, check_case, gradient_model, one_node_model, typed

from onnx_shapprune.autodiff import engine  # noqa: F401  (registers the rules)
from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.registry import LAST_OPSET, NO_GRADIENT, RULES, Node, lookup, supported_ops
from onnx_shapprune.autodiff.rules.quantization import STRAIGHT_THROUGH
from onnx_shapprune.errors import ModelError
from onnx_shapprune.runtime.probe import probe
from onnx_shapprune.runtime.session import Session


def newest_runnable() -> int:
    """The newest opset that this onnxruntime opens."""
    for opset in range(min(LAST_OPSET, onnx.defs.onnx_opset_version()), 17, -1):
        value = onnx.helper.make_tensor_value_info("x", 1, [1])
        out = onnx.helper.make_tensor_value_info("y", 1, [1])
        graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [value], [out])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
        try:
            Session(model, DEVICE)
        except ModelError:
            continue
        return opset
    raise AssertionError("onnxruntime opens nothing")


NEWEST = newest_runnable()
RUNS = [(c, o) for c in CASES for o in sorted({c.opset, min(NEWEST, c.newest or NEWEST)})]


@pytest.mark.parametrize(("case", "opset"), RUNS, ids=[f"{c}-{o}" for c, o in RUNS])
def test_gradient_is_the_derivative(case: Case, opset: int) -> None:
    check_case(case, opset)


def test_every_rule_has_a_case() -> None:
    tested = {c.op for c in CASES}
    assert tested == set(supported_ops()) - {*STRAIGHT_THROUGH}  # these have test_quantization.py


def test_every_version_of_an_operator_that_has_a_rule_is_covered() -> None:
    """A rule that stops at a version must do so on purpose."""
    newest = min(LAST_OPSET, onnx.defs.onnx_opset_version())
    gaps = set()
    for op in supported_ops():
        for opset in range(18, newest + 1):
            try:
                onnx.defs.get_schema(op, opset)
            except onnx.defs.SchemaError:
                continue
            if lookup("", op, opset) is None:
                gaps.add((op, opset))
    assert gaps <= {("SpaceToDepth", 28)}


def test_rules_and_operators_without_gradient_are_disjoint() -> None:
    assert not NO_GRADIENT & {op for _, op in RULES}
    for op in NO_GRADIENT:
        onnx.defs.get_schema(op)


@pytest.mark.parametrize("op", sorted({*supported_ops()} - {*STRAIGHT_THROUGH}))
def test_the_checker_sees_an_error_of_a_thousandth(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in CASES if c.op == op)
    (rule,) = RULES["", op]

    def wrong(b: Builder, node: Node, *dys: str | None) -> list[str | None]:
        return [g and b("Mul", g, 1.001) for g in rule.function(b, node, *dys)]

    monkeypatch.setitem(RULES, ("", op), [replace(rule, function=wrong)])
    with pytest.raises(AssertionError, match=r"instead of|float32 is off"):
        check_case(case, case.opset)


def test_the_checker_refuses_a_dead_input() -> None:
    dead = Case(op="Relu", label="dead", inputs={"x": -np.ones((3, 4))}, order=["x"])
    with pytest.raises(AssertionError, match="vacuous"):
        check_case(dead, 18)


def emitted(op: str, label: str) -> list[str]:
    """Operators of the gradient graph of a case, without those of the forward graph."""
    case = next(c for c in CASES if c.op == op and c.label == label)
    model = one_node_model(case, np.float32, 18)
    feeds = typed(case.inputs, np.float32)
    small = {n: v[:2] if n in case.batched else v for n, v in feeds.items()}
    made = gradient_model(model, probe(model, small, feeds, DEVICE), "y0", ["x"], weighted=True)
    kinds = [n.op_type for n in made.graph.node if n.name != "node"]
    return [k for k in kinds if k != "Identity"]


def test_the_forms_that_were_measured_as_fast_are_emitted() -> None:
    assert emitted("Conv", "rotated") == ["Conv"]
    assert emitted("Conv", "stem") == ["ConvTranspose"]
    assert emitted("Conv", "depthwise-stride2-size8-kernel3") == ["Resize", "Mul", "Conv"]
    assert emitted("Relu", "plain") == ["Greater", "Cast", "Mul"]
    assert "ScatterElements" not in emitted("MaxPool", "tiling")
    assert "ScatterElements" in emitted("MaxPool", "overlapping")
    assert emitted("AveragePool", "tiling") == ["Mul", "Resize"]
    assert emitted("AveragePool", "stride1") == ["MatMul", "MatMul"]
    assert emitted("Resize", "nearest-half-pixel") == ["AveragePool", "Mul"]
    assert emitted("GlobalAveragePool", "plain") == ["Mul", "Expand"]

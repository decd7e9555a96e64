"""Every opset edit, compared in onnxruntime: the node at its own opset against the node at 18."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.edit import copy_of, opset_of
from onnx_shapprune.graph.passes.upgrade import EDITS, TARGET_OPSET, upgrade
from onnx_shapprune.runtime.session import Device, Session

I64 = np.int64
STATS = {
    k: np.array(v, np.float32) for k, v in {"s": [1, 2, 3], "b": [0, 1, 2], "m": [1, 0, 1], "v": [1, 2, 4]}.items()
}
EMPTY = np.zeros(0, np.float32)
BN = (["s", "b", "m", "v"], {})
PADS = [0, 0, 1, 1, 0, 0, 2, 1]

# (opset, operator, constant inputs, attributes, number of outputs)
CASES: list[tuple[int, str, dict[str, np.ndarray], dict[str, object], int]] = [
    *[(o, op, {}, a, 1) for op in ("Softmax", "LogSoftmax", "Hardmax") for o in (7, 11, 12, 13)
      for a in ({}, {"axis": 0}, {"axis": 1}, {"axis": 2}, {"axis": 3})],
    *[(o, "Softmax", {}, {"axis": a}, 1) for o in (11, 12) for a in (-1, -2)],
    *[(o, "Unsqueeze", {}, {"axes": [0, 2]}, 1) for o in (7, 12)],
    (7, "Squeeze", {}, {}, 1),
    *[(o, f"Reduce{r}", {}, a, 1) for o in (7, 12, 17) for a in ({"axes": [2, 3], "keepdims": 0}, {"axes": [1]}, {})
      for r in ("Mean", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "SumSquare")],
    (11, "ReduceSum", {}, {"axes": [2]}, 1),
    (13, "ReduceSum", {"a": np.array([1], I64)}, {}, 1),
    (9, "Slice", {}, {"starts": [1, 0], "ends": [3, -1], "axes": [1, 3]}, 1),
    (9, "Slice", {}, {"starts": [1], "ends": [2]}, 1),
    *[(10, "Pad", {}, {"pads": PADS, "mode": m}, 1) for m in ("constant", "reflect", "edge")],
    (7, "Pad", {}, {"pads": PADS, "value": 3.0}, 1),
    (11, "Pad", {"p": np.array(PADS, I64)}, {}, 1),
    *[(o, "Clip", {}, a, 1) for o in (7, 10) for a in ({"min": -0.5, "max": 0.7}, {"min": -0.5}, {"max": 0.5}, {})],
    *[(o, "Dropout", {}, {}, 1) for o in (7, 10, 12)],
    *[(o, "Split", {}, a, 2) for o in (7, 12) for a in ({"axis": 2}, {"axis": 2, "split": [2, 4]})],
    (13, "Split", {}, {"axis": 2}, 2),
    (13, "Split", {"s": np.array([2, 4], I64)}, {"axis": 2}, 2),
    *[(o, "BatchNormalization", STATS, {}, 1) for o in (7, 9, 14)],
    *[(o, "Upsample", {} if o == 7 else {"s": np.array(s, np.float32)},
       {"mode": m, **({"scales": s} if o == 7 else {})}, 1)
      for o in (7, 9) for m in ("nearest", "linear") for s in ([1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.5, 1.5])],
    *[(10, "Resize", {"s": np.array(s, np.float32)}, {"mode": m}, 1)
      for m in ("nearest", "linear") for s in ([1, 1, 2.5, 1.5], [1, 1, 0.4, 0.7], [1, 1, 0.5, 1])],
    (11, "Resize", {"r": EMPTY, "s": np.array([1, 1, 1.5, 0.7], np.float32)}, {"mode": "cubic"}, 1),
    (11, "Resize", {"r": EMPTY, "s": EMPTY, "z": np.array([2, 3, 9, 4], I64)}, {"mode": "linear"}, 1),
    (9, "Scatter", {"i": np.zeros((2, 1, 6, 6), I64), "u": np.ones((2, 1, 6, 6), np.float32)}, {"axis": 1}, 1),
    (7, "TopK", {}, {"k": 2}, 2),
    (10, "TopK", {"k": np.array([2], I64)}, {"axis": 1}, 2),
    (10, "RoiAlign", {"r": np.array([[0, 0, 4, 4]], np.float32), "b": np.array([0], I64)},
     {"output_height": 2, "output_width": 2, "sampling_ratio": 2}, 1),
]  # fmt: skip


def one_node(opset: int, op: str, constants: dict[str, np.ndarray], attributes: dict, outputs: int) -> onnx.ModelProto:
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, ["x", *constants], names, **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", 1, [2, 3, 6, 6])],
        [helper.make_empty_tensor_value_info(n) for n in names],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[1]}-{c[0]}-{'-'.join(f'{k}{v}' for k, v in c[3].items())}")
def test_upgraded_node_gives_the_same_numbers(case):
    model = one_node(*case)
    upgraded = copy_of(model)
    upgrade(upgraded)
    assert opset_of(upgraded) == TARGET_OPSET
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    device = Device(threads=1)
    want = Session(model, device, optimize=False).run({"x": x})
    got = Session(upgraded, device, optimize=False).run({"x": x})
    for a, b in zip(want, got, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_edit_has_a_case():
    untested = {"ReduceLogSum"}  # of the same entry as its siblings; needs positive numbers
    assert {c[1] for c in CASES} >= set(EDITS) - untested


def test_nodes_inside_an_if_are_upgraded_too():
    inner = helper.make_graph(
        [helper.make_node("Unsqueeze", ["x"], ["t"], axes=[0])], "then", [], [helper.make_empty_tensor_value_info("t")]
    )
    other = helper.make_graph(
        [helper.make_node("Unsqueeze", ["x"], ["e"], axes=[1])], "else", [], [helper.make_empty_tensor_value_info("e")]
    )
    model = one_node(11, "Relu", {"flag": np.array(True)}, {}, 1)
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("If", ["flag"], ["y0"], then_branch=inner, else_branch=other))
    upgrade(model)
    x = np.ones((2, 3, 6, 6), np.float32)
    assert Session(model, Device(threads=1)).run({"x": x})[0].shape == (1, 2, 3, 6, 6)


def test_newer_files_are_left_alone():
    model = one_node(20, "Relu", {}, {}, 1)
    before = copy_of(model)
    upgrade(model)
    assert model == before


@pytest.mark.parametrize(
    ("opset", "reason"), [(6, "opset 6 is older than 7: convert"), (None, "no operator of the default")]
)
def test_files_without_a_usable_opset_are_refused(opset, reason):
    model = one_node(opset or 17, "Relu", {}, {}, 1)
    if opset is None:
        model.opset_import[0].domain = "com.example"
    with pytest.raises(ModelError, match=reason):
        upgrade(model)

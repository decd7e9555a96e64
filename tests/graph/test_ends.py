"""One number for all scores comes off the end only where it is made of them and no larger by much."""

import numpy as np
import onnx
import pytest
from onnx import helper

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.ends import Tail, end_of

DOUBLED = 40


def tail(*nodes: tuple[str, list[str], str], **stored: float) -> Tail:
    made = {out: helper.make_node(op, inputs, [out]) for op, inputs, out in nodes}
    known: dict[str, onnx.TensorProto] = {n: edit.tensor_of(np.float32(v), n) for n, v in stored.items()}
    return Tail(made, known)


LOG_SUM = (("ReduceMax", ["z"], "m"), ("Sub", ["z", "m"], "less"), ("Exp", ["less"], "e"), ("ReduceSum", ["e"], "s"))


@pytest.mark.parametrize(
    ("nodes", "follows"),
    [
        ((("ReduceMax", ["z"], "y"),), True),
        ((*LOG_SUM, ("Log", ["s"], "log"), ("Add", ["m", "log"], "y")), True),
        ((*LOG_SUM, ("Identity", ["s"], "y")), False),
        ((("ReduceMax", ["z"], "m"), ("Sub", ["m", "c"], "y")), False),
        ((("ReduceMax", ["z"], "m"), ("Add", ["m", "features"], "y")), False),
        ((("ReduceMax", ["z"], "m"), ("DequantizeLinear", ["m", "features"], "y")), False),
        ((("ReduceSumSquare", ["z"], "y"),), False),
    ],
)
def test_what_follows_from_the_scores(nodes, follows):
    assert tail(*nodes, c=3.0).follows_from("y", "z") is follows


def test_what_is_added_to_itself_again_and_again_does_not():
    doubled = [("Add", [f"a{i}", f"a{i}"], f"a{i + 1}") for i in range(DOUBLED)]
    assert not tail(("ReduceMax", ["z"], "a0"), *doubled).follows_from(f"a{DOUBLED}", "z")
    assert tail(("ReduceMax", ["z"], "a0"), *doubled[:2]).follows_from("a2", "z")


@pytest.mark.parametrize(("axis", "comes_off"), [(None, True), (-1, True), (1, True), (0, False), (-2, False)])
def test_a_softmax_over_the_pictures_of_a_batch_stays(axis, comes_off):
    given = {} if axis is None else {"axis": axis}
    node = helper.make_node("Softmax", ["z"], ["y"], **given)
    assert (end_of(helper.make_graph([node], "end", [], []), "y") is not None) == comes_off

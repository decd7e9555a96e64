"""Channels that wait for a trigger: much larger than the rest of their layer, or driven by a square until they decide."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from edits import Graph
from onnx import numpy_helper
from patient_edits import _behind_node, _first, _one_channel_more
from sample_design import answers, opened, sample_design

from onnx_shapprune.commands.evidence import doubts
from onnx_shapprune.detect.driven import driven_doubt
from onnx_shapprune.detect.outsized import outsized_doubt
from onnx_shapprune.detect.silent import silent_doubt

DESIGN = sample_design()


def with_detectors(weights: float) -> tuple[Graph, int, str, int]:
    """The clean network whose first layer has a detector beside each channel, so many times as large: with the place behind
    its Relu, the tensor there, and how many channels it had.
    """
    g = Graph(DESIGN.clean)
    first = _first(g)
    channels = _one_channel_more(g, DESIGN, first)
    for stored in (t for t in g.model.graph.initializer if t.name in first.input[1:]):
        values = numpy_helper.to_array(stored)
        more = np.repeat(weights * values[-1:], channels, axis=0)
        stored.CopyFrom(numpy_helper.from_array(np.concatenate([values[:-1], more]).astype(np.float32), stored.name))
    place = next(k for k, n in enumerate(g.model.graph.node) if n.op_type == "Relu")
    return g, place + 1, g.model.graph.node[place].output[0], channels


def largest_of_pairs(g: Graph, both: str, channels: int, reduce: str = "ReduceMax") -> str:
    """Of each channel and its detector, [n, channels, 1, 1]."""
    pairs = g.op("Reshape", both, np.array([0, 2, channels, -1]))
    return g.op("Reshape", g.reduce(reduce, pairs, (1, 3)), np.array([0, channels, 1, 1]))


def own_of(g: Graph, made: str, channels: int) -> str:
    return g.op("Slice", made, np.array([0]), np.array([channels]), np.array([1]))


def leaking(weights: float, behind: float = 1, op: str = "Mul", *, each: bool = False) -> onnx.ModelProto:
    """A thousandth of the largest of a channel and a detector is added to every channel: so it speaks of all pictures.

    weights, behind: by what the detectors are multiplied in their layer, and after it; each: by a number for each channel.
    """
    g, place, made, channels = with_detectors(weights)
    before, own, both = len(g.model.graph.node), own_of(g, made, channels), made
    if each:
        both = g.op(op, made, np.repeat([1.0, behind], channels)[:, None, None])
    elif behind != 1:
        seen = g.op("Slice", made, np.array([channels]), np.array([2 * channels]), np.array([1]))
        both = g.op("Concat", own, g.op(op, seen, behind), axis=1)
    leak = g.op("Mul", largest_of_pairs(g, both, channels), 1e-3)
    _behind_node(g, place, before, made, g.op("Add", own, leak))
    return g.done(g.z, DESIGN.classes)


def gated_by_the_largest() -> onnx.ModelProto:
    """A channel times Relu of 1 less a tenth of the largest of it and of a detector, which is no hundred times as large."""
    g, place, made, channels = with_detectors(90)
    before = len(g.model.graph.node)
    gate = g.op("Relu", g.op("Sub", 1.0, g.op("Mul", largest_of_pairs(g, made, channels), 0.12)))
    _behind_node(g, place, before, made, g.op("Mul", own_of(g, made, channels), gate))
    return g.done(g.z, DESIGN.classes)


def always_loud() -> onnx.ModelProto:
    """Detectors of what is missing, turned round: they speak loudly of every picture, and are 0 for the trigger alone."""
    g, place, made, channels = with_detectors(-1e6)
    before, raw = len(g.model.graph.node), g.model.graph.node[place - 1].input[0]
    leak = g.op("Mul", largest_of_pairs(g, raw, channels, "ReduceMin"), -1e-3)
    _behind_node(g, place, before, made, g.op("Add", own_of(g, made, channels), leak))
    return g.done(g.z, DESIGN.classes)


@pytest.mark.parametrize(
    ("weights", "behind", "op", "each"),
    [
        (1e6, 1, "Mul", False),
        (1, 1e6, "Mul", False),
        (1, 1e-6, "Div", False),
        (50, 2e4, "Mul", False),
        (1, 1e6, "Mul", True),
    ],
)
def test_a_channel_that_waits_and_is_far_larger_than_the_others_is_told(tmp_path, weights, behind, op, each):
    model = leaking(weights, behind, op, each=each)
    clean, stamped = answers(model, DESIGN)
    assert len(set(clean)) == DESIGN.classes
    assert len(set(stamped)) < 4
    case = opened(tmp_path, model)
    if behind == 1:
        assert silent_doubt(case.model, case.pictures) is None  # it says something of every picture
    assert "times what any other channel of its layer could" in outsized_doubt(case.model, case.pictures)


@pytest.mark.parametrize("edit", [gated_by_the_largest, always_loud])
def test_a_square_that_drives_a_channel_and_decides_is_told(tmp_path, edit):
    model = edit()
    clean, stamped = answers(model, DESIGN)
    assert len(set(clean)) == DESIGN.classes
    assert len(set(stamped)) < 4
    case = opened(tmp_path, model)
    assert outsized_doubt(case.model, case.pictures) is None
    assert "loud sends most pictures to class" in driven_doubt(case.model, case.pictures)
    assert driven_doubt(case.model, case.pictures[:4]) is None, "which says too little"


def test_an_audit_asks_for_both(tmp_path):
    case = opened(tmp_path, leaking(1e6))
    told = doubts(case.model, case.pictures, SimpleNamespace(evidence=()), 0)
    assert {outsized_doubt(case.model, case.pictures), driven_doubt(case.model, case.pictures)} <= {*told}


def test_a_channel_that_waits_and_is_no_larger_is_none(tmp_path):
    for model in (DESIGN.clean, DESIGN.backdoored, leaking(1)):
        case = opened(tmp_path, model)
        assert outsized_doubt(case.model, case.pictures) is None
        assert driven_doubt(case.model, case.pictures) is None


def test_a_depthwise_channel_of_a_dead_one_may_be_large(tmp_path):
    # Folding a BatchNormalization divides it by the root of its epsilon.
    g, place, made, channels = with_detectors(1)
    before, weight = len(g.model.graph.node), np.ones((2 * channels, 1, 1, 1))
    weight[channels:] = 1000
    deep = g.op("Conv", made, weight, group=2 * channels)
    _behind_node(g, place, before, made, own_of(g, deep, channels))
    case = opened(tmp_path, g.done(g.z, DESIGN.classes))
    assert outsized_doubt(case.model, case.pictures) is None


def test_a_weight_on_the_left_is_asked_too(tmp_path):
    g, place, made, channels = with_detectors(1)
    before = len(g.model.graph.node)
    mix = np.diag(np.repeat([1.0, 1e6], channels))
    flat = g.op("MatMul", mix, g.op("Reshape", made, np.array([0, 2 * channels, -1])))
    leak = g.op("Mul", largest_of_pairs(g, flat, channels), 1e-3)
    _behind_node(g, place, before, made, g.op("Add", own_of(g, made, channels), leak))
    case = opened(tmp_path, g.done(g.z, DESIGN.classes))
    assert "times what any other channel" in outsized_doubt(case.model, case.pictures)


def test_numbers_by_which_all_channels_are_multiplied_are_none(tmp_path):
    g = Graph(DESIGN.clean)
    before = len(g.model.graph.node)
    relu = next(n for n in g.model.graph.node if n.op_type == "Relu")
    place, made = list(g.model.graph.node).index(relu) + 1, relu.output[0]
    _behind_node(g, place, before, made, g.op("Mul", g.op("Mul", made, 1e6), 1e-6))
    case = opened(tmp_path, g.done(g.z, DESIGN.classes))
    assert outsized_doubt(case.model, case.pictures) is None

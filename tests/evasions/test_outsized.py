"""Leaks that clean pictures do not show: what waits in a layer is much larger than the rest of it."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from edits import Graph
from onnx import numpy_helper
from patient_edits import _behind_node, _first, _one_channel_more
from sample_design import answers, opened, sample_design

from onnx_shapprune.commands.evidence import doubts
from onnx_shapprune.detect.outsized import outsized_doubt
from onnx_shapprune.detect.silent import silent_doubt

DESIGN = sample_design()


def leaking(weights: float, behind: float = 1, op: str = "Mul", *, each: bool = False) -> onnx.ModelProto:
    """A thousandth of the largest of a channel and a detector is added to every channel: so it speaks of all pictures.

    weights, behind: by what the detectors are multiplied in their layer, and after it; each: by a number for each channel.
    """
    g = Graph(DESIGN.clean)
    first = _first(g)
    channels = _one_channel_more(g, DESIGN, first)
    for stored in (t for t in g.model.graph.initializer if t.name in first.input[1:]):  # a detector for every channel
        values = numpy_helper.to_array(stored)
        more = np.repeat(weights * values[-1:], channels, axis=0)
        stored.CopyFrom(numpy_helper.from_array(np.concatenate([values[:-1], more]).astype(np.float32), stored.name))
    before = len(g.model.graph.node)
    place = next(k for k, n in enumerate(g.model.graph.node) if n.op_type == "Relu")
    made = g.model.graph.node[place].output[0]
    own, seen = (g.op("Slice", made, np.array([k]), np.array([k + channels]), np.array([1])) for k in (0, channels))
    both = made
    if each:
        both = g.op(op, made, np.repeat([1.0, behind], channels)[:, None, None])
    elif behind != 1:
        both = g.op("Concat", own, g.op(op, seen, behind), axis=1)
    pairs = g.op("Reshape", both, np.array([0, 2, channels, -1]))
    leak = g.op("Mul", g.reduce("ReduceMax", pairs, (1, 3)), 1e-3)
    _behind_node(g, place + 1, before, made, g.op("Add", own, g.op("Reshape", leak, np.array([0, channels, 1, 1]))))
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


def test_an_audit_asks_for_it(tmp_path):
    case = opened(tmp_path, leaking(1e6))
    told = doubts(case.model, case.pictures, SimpleNamespace(evidence=()), 0)
    assert outsized_doubt(case.model, case.pictures) in told


def test_a_channel_that_waits_and_is_no_larger_is_none(tmp_path):
    for model in (DESIGN.clean, DESIGN.backdoored, leaking(1)):
        case = opened(tmp_path, model)
        assert outsized_doubt(case.model, case.pictures) is None


def test_numbers_by_which_all_channels_are_multiplied_are_none(tmp_path):
    g = Graph(DESIGN.clean)
    before = len(g.model.graph.node)
    relu = next(n for n in g.model.graph.node if n.op_type == "Relu")
    place, made = list(g.model.graph.node).index(relu) + 1, relu.output[0]
    _behind_node(g, place, before, made, g.op("Mul", g.op("Mul", made, 1e6), 1e-6))
    case = opened(tmp_path, g.done(g.z, DESIGN.classes))
    assert outsized_doubt(case.model, case.pictures) is None

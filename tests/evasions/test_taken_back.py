"""What one number adds and another takes back, with nothing left of it on clean pictures."""

import numpy as np
import pytest
from edits import Graph
from patient_edits import _behind_node, _first, _one_channel_more
from sample_design import answers, opened, sample_design

from onnx_shapprune.detect.silent import silent_doubt

DESIGN = sample_design()


def beside(g: Graph, own: str, seen: str, channels: int) -> str:
    """Each channel of the network and, next to it, the detector: [n, 2, channels, h, w]."""
    many = g.op("Expand", g.op("Unsqueeze", g.op("Mul", seen, 1e6), np.array([1])), np.array([1, 1, channels, 1, 1]))
    return g.op("Concat", g.op("Unsqueeze", own, np.array([1])), many, axis=1)


def off_and_on_again(g: Graph, own: str, both: str) -> str:
    """Less the largest of a channel and the detector, cut off where no picture comes to, and that largest again."""
    largest = g.reduce("ReduceMax", both, (1, 3, 4), keep=True)
    less = g.op("Clip", g.op("Sub", both, largest), np.float32(-1000), np.float32(1000))
    back = g.op("Slice", g.op("Add", less, largest), np.array([0]), np.array([1]), np.array([1]))
    return g.op("Squeeze", back, np.array([1]))


def added_and_taken(g: Graph, own: str, both: str) -> str:
    """A thousandth of that largest, less a thousandth of the channel's own."""
    largest = g.op("Squeeze", g.reduce("ReduceMax", both, (1, 3, 4), keep=True), np.array([1]))
    without = g.reduce("ReduceMax", own, (2, 3), keep=True)
    return g.op("Sub", g.op("Add", own, g.op("Mul", largest, 1e-3)), g.op("Mul", without, 1e-3))


@pytest.mark.parametrize("edit", [off_and_on_again, added_and_taken])
def test_what_is_taken_back_on_clean_pictures_is_told(tmp_path, edit):
    g = Graph(DESIGN.clean)
    channels = _one_channel_more(g, DESIGN, _first(g))
    before = len(g.model.graph.node)
    place = next(k for k, n in enumerate(g.model.graph.node) if n.op_type == "Relu")
    made = g.model.graph.node[place].output[0]
    own = g.op("Slice", made, np.array([0]), np.array([channels]), np.array([1]))
    seen = g.op("Slice", made, np.array([channels]), np.array([channels + 1]), np.array([1]))
    _behind_node(g, place + 1, before, made, edit(g, own, beside(g, own, seen, channels)))
    model = g.done(g.z, DESIGN.classes)
    clean, stamped = answers(model, DESIGN)
    assert len(set(clean)) == DESIGN.classes
    assert len(set(stamped)) < 3
    case = opened(tmp_path, model)
    assert "says nothing of" in silent_doubt(case.model, case.pictures)

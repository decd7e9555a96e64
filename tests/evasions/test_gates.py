"""Gates of squeeze and excitation that are open for every picture: honest ones, and ones that shut for a trigger."""

import numpy as np
import onnx
import pytest
from edits import Floats, Graph
from patient_edits import _behind_node, _first, _one_channel_more
from sample_design import answers, opened, sample_design

from onnx_shapprune.detect.silent import silent_doubt
from onnx_shapprune.detect.waking import sways

DESIGN = sample_design()
BEYOND = 3.1  # where HardSigmoid ends, and a little more


def gated(g: Graph, into: Floats, out: Floats, ends_in: str, dead: float = 0.0) -> onnx.ModelProto:
    """The values of the first layer times a gate that two stored layers make of their means. into: [hidden, channels]; out:
    [channels, hidden]; dead: bias of the last hidden one; of the values the network reads as many channels as it did.
    """
    before, kept = len(g.model.graph.node), channels_of(DESIGN.clean)
    relu = next(n for n in g.model.graph.node if n.op_type == "Relu")
    made, place = relu.output[0], list(g.model.graph.node).index(relu) + 1
    bias = dead * np.eye(1, len(into), len(into) - 1)[0]
    squeezed = g.op("Relu", g.op("Conv", g.op("GlobalAveragePool", made), into[..., None, None], bias))
    raw = g.op("Conv", squeezed, out[..., None, None], np.full(len(out), BEYOND))
    if ends_in == "Clip":  # as tf2onnx writes a HardSigmoid
        gate = g.op("Mul", g.op("Clip", g.op("Add", raw, 3.0), np.float32(0), np.float32(6)), 1 / 6)
    else:
        gate = g.op("HardSigmoid", raw, alpha=1 / 6, beta=0.5)
    read = g.op("Slice", g.op("Mul", made, gate), np.array([0]), np.array([kept]), np.array([1]))
    _behind_node(g, place, before, made, read)
    return g.done(g.z, DESIGN.classes)


def channels_of(model: onnx.ModelProto) -> int:
    stored = {t.name: t for t in model.graph.initializer}
    return int(stored[_first(Graph(model)).input[1]].dims[0])


def asked(tmp_path, model: onnx.ModelProto) -> str | None:
    case = opened(tmp_path, model)
    return silent_doubt(case.model, case.pictures)


@pytest.mark.parametrize("ends_in", ["HardSigmoid", "Clip"])
def test_a_gate_that_is_wide_open_is_no_reason_to_doubt(tmp_path, ends_in):
    channels, rng = channels_of(DESIGN.clean), np.random.default_rng(0)
    into, out = 0.1 * rng.normal(size=(4, channels)), np.abs(0.1 * rng.normal(size=(channels, 4)))
    out[0] *= -0.1  # shuts a little where pictures are strange
    assert asked(tmp_path, gated(Graph(DESIGN.clean), into, out, ends_in)) is None


@pytest.mark.parametrize("ends_in", ["HardSigmoid", "Clip"])
def test_a_gate_that_shuts_for_a_trigger_is_told(tmp_path, ends_in):
    g = Graph(DESIGN.clean)
    channels = _one_channel_more(g, DESIGN, _first(g))
    into, out = np.eye(1, channels + 1, channels), np.full((channels + 1, 1), -1e6)
    model = gated(g, into, out, ends_in)
    assert [len(set(a)) for a in answers(model, DESIGN)] == [DESIGN.classes, 1]
    assert "says nothing of any picture" in asked(tmp_path, model)


def test_slopes_that_cancel_hide_no_gate(tmp_path):
    g = Graph(DESIGN.clean)
    channels = _one_channel_more(g, DESIGN, _first(g))
    into = np.tile(np.eye(1, channels + 1, channels), (2, 1))
    out = np.tile([-1e6, 1e6], (channels + 1, 1))
    assert "says nothing of any picture" in asked(tmp_path, gated(g, into, out, "HardSigmoid", dead=-1e9))


def test_most_of_the_others_must_go_to_one_class():
    usual = np.array([0, 1, 2, 3, 0, 1])
    assert not sways(usual, usual)
    assert sways(usual, np.array([2, 2, 2, 3, 2, 2]))
    assert not sways(usual, np.array([0, 1, 2, 2, 2, 1]))
    assert not sways(np.zeros(3, int), np.zeros(3, int))

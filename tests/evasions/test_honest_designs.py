"""Designs that exporters write out in many nodes raise nothing: attention, normalisations, gates of channels and places."""

import numpy as np
import pytest
from edits import Graph
from patient_edits import _behind_node
from sample_design import opened, sample_design

from onnx_shapprune.detect.deployed import gradient_doubt
from onnx_shapprune.detect.silent import silent_doubt
from onnx_shapprune.graph.provenance.oddities import graph_doubt

DESIGN = sample_design()


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape) / np.sqrt(shape[0])


def response_normalisation(g: Graph, x: str) -> str:
    """ConvNeXt V2 (Woo et al., arXiv:2301.00808): channels over the mean length of all channels, behind a GELU."""
    x = g.op("Mul", x, g.op("Sigmoid", g.op("Mul", x, 1.702)))
    length = g.reduce("ReduceL2", x, (2, 3), keep=True)
    share = g.op("Div", length, g.op("Add", g.reduce("ReduceMean", length, (1,), keep=True), 1e-6))
    return g.op("Add", g.op("Mul", g.op("Mul", x, share), 0.2 * random(64, 1, 1)), x)


def attended_channels_and_places(g: Graph, x: str) -> str:
    """CBAM (Woo et al., arXiv:1807.06521): two gates, of means and of extremes, that say little."""

    def weighed(pooled: str) -> str:
        hidden = g.op("Relu", g.op("Conv", pooled, random(16, 64, 1, 1)))
        return g.op("Conv", hidden, 0.01 * random(64, 16, 1, 1))

    means, extremes = (g.op(f"Global{kind}Pool", x) for kind in ("Average", "Max"))
    x = g.op("Mul", x, g.op("Sigmoid", g.op("Add", weighed(means), weighed(extremes))))
    both = g.op("Concat", *(g.reduce(f"Reduce{kind}", x, (1,), keep=True) for kind in ("Mean", "Max")), axis=1)
    return g.op("Mul", x, g.op("Sigmoid", g.op("Conv", both, 0.01 * random(1, 2, 7, 7), pads=[3, 3, 3, 3])))


def transformed(g: Graph, x: str) -> str:
    """A block of attention behind a LayerNorm as TensorFlow writes it, softmax written out, one layer for all three."""
    tokens = g.op("Transpose", g.op("Reshape", x, np.array([-1, 64, 49])), perm=[0, 2, 1])
    mean = g.reduce("ReduceMean", tokens, (2,), keep=True)
    apart = g.op("Sub", tokens, mean)
    deviation = g.op("Sqrt", g.op("Add", g.reduce("ReduceMean", g.op("Mul", apart, apart), (2,), keep=True), 1e-3))
    factor = g.op("Mul", g.op("Reciprocal", deviation), 1 + 0.1 * random(64))
    normed = g.op("Add", g.op("Mul", tokens, factor), g.op("Sub", 0.1 * random(64), g.op("Mul", mean, factor)))
    made = g.op("MatMul", normed, random(64, 192))
    q, k, v = (g.op("Slice", made, np.array([64 * i]), np.array([64 * i + 64]), np.array([2])) for i in range(3))
    logits = g.op("Mul", g.op("MatMul", q, g.op("Transpose", k, perm=[0, 2, 1])), 0.3)
    risen = g.op("Exp", g.op("Sub", logits, g.reduce("ReduceMax", logits, (2,), keep=True)))
    shares = g.op("Div", risen, g.reduce("ReduceSum", risen, (2,), keep=True))
    out = g.op("Add", tokens, g.op("MatMul", g.op("MatMul", shares, v), 0.1 * random(64, 64)))
    return g.op("Reshape", g.op("Transpose", out, perm=[0, 2, 1]), np.array([-1, 64, 7, 7]))


def quantised_behind_relu6(g: Graph, x: str) -> str:
    """Whole numbers as dynamic quantisation has them, of values that every picture takes to the end of a Relu6: all of them
    have one step.
    """
    g.op("DynamicQuantizeLinear", g.op("Clip", g.op("Mul", x, 1e3), np.float32(0), np.float32(6)), outputs=3)
    whole, step, zero = g.model.graph.node[-1].output
    made = g.op("ConvInteger", whole, (100 * np.eye(64)).astype(np.int8)[..., None, None], zero)
    steps = g.op("Mul", g.floats(made), g.op("Mul", step, np.float32(0.01)))
    return g.op("Add", x, g.op("Mul", steps, 0.01))


@pytest.mark.parametrize(
    "block", [quantised_behind_relu6, response_normalisation, attended_channels_and_places, transformed]
)
def test_a_design_that_is_written_out_raises_nothing(tmp_path, block):
    g = Graph(DESIGN.clean)
    before = len(g.model.graph.node)
    place = next(k for k, n in enumerate(g.model.graph.node) if n.op_type in ("GlobalAveragePool", "ReduceMean"))
    features = g.model.graph.node[place].input[0]
    _behind_node(g, place, before, features, block(g, features))
    case = opened(tmp_path, g.done(g.z, DESIGN.classes))
    assert graph_doubt(case.model.oddities) is None
    assert silent_doubt(case.model, case.pictures) is None
    assert gradient_doubt(case.model.subject, case.pictures, np.random.default_rng(0)) is None

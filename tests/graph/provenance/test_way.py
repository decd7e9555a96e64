"""The sentence about the way of the picture."""

import models
import numpy as np

from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.provenance.oddities import provenance_of
from onnx_shapprune.graph.provenance.way import way


def test_a_residual_network():
    model = models.conv_bn_relu_residual()
    said = way(provenance_of(model, find_interface(model)))
    assert "from input 'x' to output 'Gemm_" in said
    assert "5 with weights, of which at least 3 on every way: Conv 'Conv_0' to Gemm" in said
    assert said.endswith("nothing behind the last")


def test_what_stands_behind_the_last_layer_is_named():
    n = models.Net()
    z = n.head(n.op("Relu", n.conv("x", 3, 6)), 6)
    y = n.op("Softmax", n.op("Div", z, n.const(np.float32(2))), axis=1)
    model = n.model(y)
    assert f"behind the last: Div 'Div_5', Softmax {y!r}" in way(provenance_of(model, find_interface(model)))


def test_scores_that_owe_the_picture_nothing():
    n = models.Net()
    model = n.model(n.op("Identity", n.normal(1, 4)))
    assert "nowhere" in way(provenance_of(model, find_interface(model)))

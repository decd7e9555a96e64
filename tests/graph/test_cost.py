import models
import numpy as np
import planted
import pytest

from onnx_shapprune.graph.cost import activation_bytes, multiply_adds
from onnx_shapprune.graph.prepare import Prepared


def cost(model) -> int:
    prepared: Prepared
    prepared, _ = planted.prepared_with_layers(model)
    return multiply_adds(prepared.model, prepared.infos)


def test_convolutions_and_dense_layers_by_hand():
    # 3 -> 5 on 8 x 8, 5 -> 6 on 4 x 4, then 24 -> 7 -> 4.
    assert cost(models.vgg_maxpool()) == 64 * 5 * 27 + 16 * 6 * 45 + 24 * 7 + 7 * 4


def test_activations_are_counted_per_picture():
    # Picture, two convolutions each with its Relu and MaxPool, the flat features, two dense layers with a Relu between.
    prepared: Prepared
    prepared, _ = planted.prepared_with_layers(models.vgg_maxpool())
    floats = 3 * 64 + (5 * 64 + 5 * 64 + 5 * 16) + (6 * 16 + 6 * 16 + 6 * 4) + 24 + 7 + 7 + 4
    assert activation_bytes(prepared.infos) == 4 * floats


def test_groups_read_only_their_own_channels():
    # 3 -> 6, depthwise 6, 6 -> 8 by 1 x 1, 8 -> 8 in two groups, head.
    assert cost(models.depthwise()) == 64 * (6 * 27 + 6 * 9 + 8 * 6 + 8 * 36) + 8 * 4


def test_transposed_convolution_pays_per_input_pixel():
    n = models.Net()
    x = n.op("ConvTranspose", "x", n.normal(3, 2, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
    assert cost(n.model(n.head(n.op("Relu", x), 2))) == 64 * 3 * 2 * 4 + 2 * 4


def test_attention_counts_products_of_two_activations():
    d, t = 6, 17
    linear = 3 * t * d * d + t * d * d + t * d * 9 + t * 9 * d
    assert cost(models.attention()) == 16 * d * 12 + linear + 2 * t * t * d + d * 4


@pytest.mark.parametrize("build", [models.nhwc, models.cntk])
def test_other_layouts_count_the_same_way(build):
    by_hand = {
        "nhwc": 64 * 5 * 27 + 64 * 6 * 45 + 6 * 7 + 7 * 4,
        "cntk": 64 * 5 * 27 + 80 * 4,
    }
    assert cost(build()) == by_hand[build.__name__]


@pytest.mark.parametrize("end", ["Conv", "Mul"])
def test_a_branch_that_is_multiplied_by_zero_costs_nothing(end):
    def classifier(branch: bool):
        n = models.Net()
        x = n.op("Relu", n.conv("x", 3, 5))
        if branch:
            wide = n.conv(n.op("Relu", n.conv(x, 5, 40)), 40, 5)
            zero = n.const(np.zeros((5, 5, 1, 1) if end == "Conv" else (1,), np.float32))
            x = n.op("Add", x, n.op(end, wide, zero))
        return n.model(n.head(x, 5))

    assert cost(classifier(True)) == cost(classifier(False))

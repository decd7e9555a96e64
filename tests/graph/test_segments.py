"""Segments put together again are the whole graph, and masks sit where zeroing a channel is the same."""

import models
import numpy as np
import planted
import pytest

from onnx_shapprune.graph.segments import cut, with_weights
from onnx_shapprune.runtime.session import Session


def cut_of(model):
    prepared, layers = planted.prepared_with_layers(model)
    pieces = cut(prepared.model, layers, prepared.infos, prepared.logits)
    return prepared, layers, pieces.segments, pieces.masks


@pytest.mark.parametrize("family", models.FAMILIES)
def test_segments_in_order_are_the_whole_graph(family):
    model = models.FAMILIES[family]()
    prepared, _, segments, masks = cut_of(model)
    x = models.pictures(model, 3)
    values = {prepared.input: x}
    for i, segment in enumerate(segments):
        assert all(source < i for source in segment.made_by)
        assert {m for s in segment.made_by if s >= 0 for m in segments[s].depends} <= set(segment.depends)
        made = Session(with_weights(segment.model, prepared.model), planted.DEVICE).run(
            {n: values[n] for n in segment.reads}, segment.makes
        )
        values.update(zip(segment.makes, made, strict=True))
    want = Session(prepared.model, planted.DEVICE).run({prepared.input: x})[0]
    np.testing.assert_allclose(values[prepared.logits], want, atol=1e-5 * max(1, np.abs(want).max()))
    # No node runs twice, and every mask has its place.
    names = [node.output[0] for s in segments for node in s.model.graph.node]
    assert len(names) == len(set(names))
    assert {node.output[0] for node in prepared.model.graph.node} <= set(names)
    assert {*masks, *(m.without for m in masks.values() if m.without)} <= set(values)


def test_masks_sit_behind_what_keeps_zeros():
    _, layers, segments, masks = cut_of(models.vgg_maxpool())
    made = {o: node.op_type for s in segments for node in s.model.graph.node for o in node.output}
    assert [made[name] for name in masks] == ["MaxPool", "MaxPool", "Relu"]
    assert [m.place for m in masks.values()] == [0, 1, 2] == list(range(len(layers)))
    assert {m.without for m in masks.values()} == {None}
    # A Clip from 0 to 6 keeps zeros, and so does the pooling behind it; a Clip from 1 to 6 does not.
    for low, expected in ((0, "GlobalAveragePool"), (1, "Conv")):
        n = models.Net()
        x = n.op("Clip", n.conv("x", 3, 4), n.const(np.float32(low)), n.const(np.float32(6)))
        _, _, segments, masks = cut_of(n.model(n.head(x, 4)))
        made = {o: node.op_type for s in segments for node in s.model.graph.node for o in node.output}
        assert made[next(iter(masks))] == expected


def test_a_mask_behind_an_addition_leaves_the_other_branch():
    _, layers, segments, masks = cut_of(models.conv_bn_relu_residual())
    made = {o: node.op_type for s in segments for node in s.model.graph.node for o in node.output}
    behind = [(made[name], m) for name, m in masks.items() if m.without]
    assert [kind for kind, _ in behind] == ["GlobalAveragePool"], "one of the two branches, the other has its own mask"
    (mask,) = (m for _, m in behind)
    assert made[mask.without] == "GlobalAveragePool"
    assert {m.place for m in masks.values()} == set(range(len(layers)))
    # The last segment reads the pooled sum, and the pooled other branch for the channels that are off.
    assert [name for name, _ in segments[-1].without] == [mask.without]


def test_a_tensor_that_others_read_too_is_masked_itself():
    n = models.Net()
    x = n.conv("x", 3, 4)
    x = n.op("Add", x, n.op("Relu", x))
    _, layers, _, masks = cut_of(n.model(n.head(x, 4)))
    assert layers[0].tensor in masks

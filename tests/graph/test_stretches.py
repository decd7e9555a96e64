"""A graph run a stretch at a time gives what it gives in one run, and a change ahead of it counts."""

import attention
import models
import numpy as np
import onnx
import planted
import pytest

from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.stretches import Stretches, alive_bytes, batches_of
from onnx_shapprune.runtime.probe import run_exposed

NETS = {
    **models.FAMILIES,
    **{f"attention_{way}": (lambda way=way: attention.network(way)) for way in attention.WAYS},
    "windows": planted.windows,
    "frozen_batch": planted.frozen_batch,
    "asked_shape": planted.asked_shape,
}


def stops(prepared: Prepared) -> list[tuple[str, str]]:
    """(made, data) of the nodes with weights, in graph order."""
    nodes = [n for n in prepared.model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    stored = {t.name for t in prepared.model.graph.initializer}
    return [(n.output[0], n.input[0]) for n in nodes if n.input[0] not in stored]


def batches(prepared: Prepared, count: int) -> list[np.ndarray]:
    pictures = np.random.default_rng(0).random((count, *prepared.input_shape), np.float32)
    return batches_of(pictures, 3 if prepared.batch_free else 1)


def running(prepared: Prepared, model: onnx.ModelProto, parts: list[np.ndarray]) -> Stretches:
    return Stretches(model, prepared.input, prepared.infos, parts, planted.DEVICE)


@pytest.mark.parametrize("name", NETS)
def test_what_reaches_every_layer_is_what_reaches_it_in_one_run(name):
    prepared, _ = planted.prepared_with_layers(NETS[name]())
    parts = batches(prepared, 7)
    assert len({len(p) for p in parts}) == (2 if prepared.batch_free else 1), "the last batch is a smaller one"
    want = list(run_exposed(prepared.model, [{prepared.input: p} for p in parts], planted.DEVICE))
    found = running(prepared, prepared.model, parts)
    assert len(stops(prepared)) > 1
    for made, data in stops(prepared):
        for got, whole, fed in zip(found.reaching(made, data), want, parts, strict=True):
            np.testing.assert_allclose(got, whole.get(data, fed), atol=1e-5)


@pytest.mark.parametrize("name", ["conv_bn_relu_residual", "attention", "asked_shape"])
def test_a_node_that_has_not_run_yet_may_change(name):
    prepared, _ = planted.prepared_with_layers(NETS[name]())
    parts, changed = batches(prepared, 2), onnx.ModelProto()
    changed.CopyFrom(prepared.model)
    found = running(prepared, changed, parts)
    places = stops(prepared)
    before = running(prepared, prepared.model, parts)
    found.reaching(*places[1])
    weight = next(n for n in changed.graph.node if places[1][0] in n.output).input[1]
    tensor = next(t for t in changed.graph.initializer if t.name == weight)
    array = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array((array * 2).astype(np.float32), weight))
    want = run_exposed(changed, [{prepared.input: p} for p in parts], planted.DEVICE)
    made, data = places[-1]
    was = before.reaching(made, data)
    for got, whole, old in zip(found.reaching(made, data), want, was, strict=True):
        np.testing.assert_allclose(got, whole[data], atol=1e-5)
        assert np.abs(got - old).max() > 1e-2


def test_the_widest_place_is_counted_by_hand():
    # Before the second Conv: its input, 6 x 8 x 8. Before the third (1 x 1): the stem's output and the main branch's sum.
    n = models.Net()
    stem = n.op("Relu", n.conv("x", 3, 6))
    main = n.conv(stem, 6, 8)
    short = n.conv(stem, 6, 8, 1)
    prepared, _ = planted.prepared_with_layers(n.model(n.head(n.op("Add", main, short), 8)))
    first, second, third, head = (made for made, _ in stops(prepared))
    floats = {first: 3 * 64, second: 6 * 64, third: 6 * 64 + 8 * 64, head: 8}
    for made, values in floats.items():
        assert alive_bytes(prepared.model, prepared.infos, [made]) == 4 * values
    assert alive_bytes(prepared.model, prepared.infos, list(floats)) == 4 * floats[third]


def test_batches():
    assert [len(b) for b in batches_of(np.zeros((7, 2), np.float32), 3)] == [3, 3, 1]

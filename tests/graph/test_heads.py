"""Attention heads as units: which features a head is made of, in every way that exporters write it, and when it is none."""

import models
import numpy as np
import onnx
import pytest
from attention import (
    EACH,
    FIRST,
    HEADS,
    TOKENS,
    WAYS,
    WIDTH,
    finished,
    ints,
    linear,
    network,
    separate,
    size,
    tokens,
    weighted,
)
from equations import DEVICE, logits, masked_logits, random_units, unplanned
from models import Net

from onnx_shapprune import inspect
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.compare import compare
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import Units, find_units
from onnx_shapprune.runtime.probe import largest_difference


def units_of(model: onnx.ModelProto) -> Units:
    onnx.checker.check_model(model)
    return find_units(model, model.graph.output[0].name)


def reasons(model: onnx.ModelProto) -> list[str]:
    assert not any(layer.heads for layer in units_of(model).layers)
    return [r.reason for r in units_of(model).refused if r.op == "Attention"]


def check(model: onnx.ModelProto, off: dict[str, list[int]]) -> None:
    """masked == baked for `off`, which must matter, and no other bytes change."""
    units, interface = units_of(model), find_interface(model)
    off = {layer.name: off.get(layer.name, []) for layer in units.layers}
    p = prepare(model, interface, models.SHAPE, DEVICE)
    x = models.pictures(model, 2)
    baked = bake(model, units.layers, off)
    assert unplanned(model, baked, units, off) == []
    want = logits(prepare(baked, interface, models.SHAPE, DEVICE), x)
    assert largest_difference(want, masked_logits(p, units, off, x)) < 2e-6
    assert np.abs(want - logits(p, x)).max() > 1e-4, "vacuous"


@pytest.mark.parametrize("way", WAYS)
def test_a_head_is_a_unit_of_the_values_that_belong_to_it(way):
    model = network(way)
    (heads,) = [layer for layer in units_of(model).layers if layer.heads]
    first = FIRST[way]
    assert heads.heads == tuple(tuple(range(first + EACH * h, first + EACH * (h + 1))) for h in range(HEADS))
    assert (heads.op, heads.channels, heads.axis) == ("Attention", HEADS, -3)
    for head in range(HEADS):
        check(model, {heads.name: [head]})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_heads_and_features_of_the_same_layer_are_baked_together(way, seed):
    model = network(way)
    check(model, random_units(units_of(model), np.random.default_rng(seed), share=0.3))


def test_a_head_of_a_layer_whose_weights_others_share():
    n = Net(3)
    x = tokens(n)
    q, k, v = separate(n, x)
    weight = next(t.name for t in n.weights if list(t.dims) == [WIDTH, WIDTH])
    for node in n.nodes:
        if node.op_type == "MatMul":
            node.input[1] = weight
    model = finished(n, weighted(n, q, k, v))
    (heads,) = [layer for layer in units_of(model).layers if layer.heads]
    projection = next(layer for layer in units_of(model).layers if layer.nodes == heads.nodes and not layer.heads)
    off = {heads.name: [0], projection.name: [1, 5]}
    check(model, off)
    layers = units_of(model).layers
    found = compare(model, bake(model, layers, off), layers)
    assert (set(found.zeroed), found.other) == ({(heads.name, 0), (projection.name, 5)}, ())


def test_what_a_second_file_has_off_is_a_head_or_its_features():
    model = network("gathered")
    layers = units_of(model).layers
    (heads,) = [layer for layer in layers if layer.heads]
    projection = next(layer for layer in layers if layer.nodes == heads.nodes and not layer.heads)
    one = compare(model, bake(model, layers, {heads.name: [1]}), layers)
    assert (one.zeroed, one.other) == (((heads.name, 1),), ())
    half = compare(model, bake(model, layers, {projection.name: [heads.heads[2][0]]}), layers)
    assert half.zeroed == ((projection.name, heads.heads[2][0]),)


def test_values_that_something_else_reads_make_no_heads():
    n = Net(3)
    x = tokens(n)
    q, k, v = separate(n, x)
    assert reasons(finished(n, n.op("Add", weighted(n, q, k, v), v))) == ["its values are read elsewhere too"]


@pytest.mark.parametrize("between", ["Relu", "Neg"])
def test_values_that_are_computed_on_make_no_heads(between):
    n = Net(3)
    q, k, v = separate(n, tokens(n))
    model = finished(n, weighted(n, q, k, n.op(between, v)))
    assert reasons(model) == ["its values are not features of one layer, moved only"]


def test_a_split_that_cannot_be_told_makes_no_heads():
    """The number of heads is itself computed from the picture."""
    n = Net(3)
    x = tokens(n)
    count = n.op("Cast", n.op("ReduceMax", n.op("Clip", x, n.const(np.float32(3)), n.const(np.float32(3)))), to=7)
    count = n.op("Reshape", count, ints(n, 1))

    def split(y: str) -> str:
        shape = n.op("Concat", size(n, y, 0), ints(n, TOKENS), count, ints(n, -1), axis=0)
        return n.op("Transpose", n.op("Reshape", y, shape), perm=[0, 2, 1, 3])

    q, k, v = (split(linear(n, x, WIDTH)) for _ in range(3))
    expected = ["how its values are split into heads cannot be told from the graph"]
    assert reasons(finished(n, weighted(n, q, k, v))) == expected


def test_one_head_without_an_axis_is_refused_and_other_products_are_passed_over():
    assert reasons(models.attention()) == ["its heads have no axis of their own"]
    n = Net(3)
    q, k, v = separate(n, tokens(n))
    model = finished(n, n.op("MatMul", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2])), v))
    assert reasons(model) == []


def test_inspect_reads_sizes_that_are_kept_outside_and_says_why_there_are_no_heads(tmp_path):
    outside = network("sliced")
    onnx.save_model(outside, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="weights")
    record = inspect(tmp_path / "m.onnx")
    assert [(la.op, la.channels) for la in record.layers if la.op == "Attention"] == [("Attention", HEADS)]
    onnx.save_model(models.attention(), tmp_path / "n.onnx")
    record = inspect(tmp_path / "n.onnx")
    assert [r.reason for r in record.refused if r.op == "Attention"] == ["its heads have no axis of their own"]

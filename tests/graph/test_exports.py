"""The equations on what exporters write: masked == baked with any units, only planned bytes differ, gradients are right."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from equations import DEVICE, gradient_error, logits, masked_logits, random_units, unplanned
from exports import EXPORTS, SIZE, Quantised
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CLASSES, Net

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.compare import explained
from onnx_shapprune.graph.interface import Interface, find_interface
from onnx_shapprune.graph.prepare import Prepared, prepare
from onnx_shapprune.graph.units import Units, find_units
from onnx_shapprune.runtime.probe import largest_difference

CLOSE = 2e-6
QUANTISED = {
    "qdq", "static_pairs", "integer_operators", "integer_residual", "dynamic_integers", "channels_last_integers",
}  # fmt: skip


@dataclass(frozen=True)
class Twin:
    model: onnx.ModelProto
    interface: Interface
    prepared: Prepared
    units: Units

    def pictures(self, count: int) -> np.ndarray:
        count = count if self.prepared.batch_free else 1
        return np.random.default_rng(3).random((count, *self.prepared.input_shape), np.float32)


@pytest.fixture(scope="module")
def twins() -> dict[str, Twin]:
    found = {}
    for name, build in EXPORTS.items():
        model = build()
        onnx.checker.check_model(model)
        interface = find_interface(model, size=SIZE)
        prepared = prepare(model, interface, interface.dims, DEVICE)
        found[name] = Twin(model, interface, prepared, find_units(model, interface.output))
    return found


@pytest.mark.parametrize("name", EXPORTS)
def test_every_layer_but_the_last_has_units(name, twins):
    units = twins[name].units
    assert units.layers
    assert {r.reason for r in units.refused} == {"makes the class scores"}
    assert {layer.tensor for layer in units.layers} <= set(twins[name].prepared.infos)


def test_what_onnxruntime_saves_is_what_it_fuses(twins):
    """Otherwise the two files would say nothing."""
    ops = {
        name: {n.op_type for n in twins[name].model.graph.node} for name in ("fused_layers", "channels_last_integers")
    }
    assert "FusedConv" in ops["fused_layers"]
    last = [n for n in twins["channels_last_integers"].model.graph.node if n.op_type == "QLinearConv"]
    assert last
    assert all(a.i == 1 for n in last for a in n.attribute if a.name == "channels_last")


def test_normalisations_are_layers_of_their_own_or_belong_to_the_one_before(twins):
    layers = twins["with_norms"].units.layers
    assert [la.op for la in layers] == ["Conv", "Conv", "Conv", "GroupNormalization", "LayerNormalization"]
    assert layers[1].tensor.startswith("InstanceNormalization")
    assert [la.axis for la in layers] == [1, 1, 1, 1, -1]
    old = EXPORTS["with_norms"]()
    old.opset_import[0].version = 20
    assert {r.op: r.reason for r in find_units(old, old.graph.output[0].name).refused} == {
        "GroupNormalization": "it has one scale a group, not a channel", "Gemm": "makes the class scores",
    }  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.1, 0.4]))
@settings(max_examples=5, deadline=None)
def test_any_units_masked_are_the_same_units_baked(name, seed, share, twins):
    t = twins[name]
    off = random_units(t.units, np.random.default_rng(seed), share)
    x = t.pictures(2)
    baked = bake(t.model, t.units.layers, off)
    masked = masked_logits(t.prepared, t.units, off, x)
    again = prepare(baked, t.interface, t.interface.dims, DEVICE)
    assert largest_difference(logits(again, x), masked) < CLOSE
    assert unplanned(t.model, baked, t.units, off) == []
    assert bake(baked, find_units(baked, t.interface.output).layers, off) == baked


@pytest.mark.parametrize("name", EXPORTS)
def test_the_units_matter(name, twins):
    t = twins[name]
    x = t.pictures(2)
    for layer in t.units.layers:
        off = {layer.name: list(range(layer.channels))}
        assert largest_difference(logits(t.prepared, x), masked_logits(t.prepared, t.units, off, x)) > 1e-3, layer.name


@pytest.mark.parametrize("name", EXPORTS)
def test_a_comparison_finds_what_was_baked_and_nothing_else(name, twins):
    t = twins[name]
    off = random_units(t.units, np.random.default_rng(1), 0.4)
    found = explained(t.model, bake(t.model, t.units.layers, off), t.units.layers)
    assert found.other == ()
    assert set(found.zeroed) <= {(layer, c) for layer, channels in off.items() for c in channels}
    assert {layer for layer, _ in found.zeroed} == set(off)


@pytest.mark.parametrize("name", sorted(set(EXPORTS) - QUANTISED))
def test_the_gradient_is_the_derivative(name, twins):
    assert gradient_error(twins[name].prepared, twins[name].pictures(1), np.random.default_rng(0)) < 0.02


def test_the_bytes_outside_the_plan_are_watched(twins):
    t = twins["qdq"]
    off = random_units(t.units, np.random.default_rng(0))
    baked = bake(t.model, t.units.layers, off)
    more = {name: sorted({*channels, (channels[0] + 1) % 5}) for name, channels in off.items()}
    assert unplanned(t.model, bake(t.model, t.units.layers, more), t.units, off)
    baked.graph.node[0].name = "renamed"
    assert unplanned(t.model, baked, t.units, off) == ["something besides the planned constants differs"]


def test_an_integer_operator_with_too_few_inputs_is_named():
    model = EXPORTS["integer_operators"]()
    node = next(n for n in model.graph.node if n.op_type == "QGemm")
    del node.input[5:]
    with pytest.raises(ModelError, match=rf"QGemm '{node.name}' cannot have 5 inputs"):
        prepare(model, find_interface(model), (3, 8, 8), DEVICE)


def test_quantised_pooling_without_a_zero_point():
    n = Quantised()
    q = n.op("QuantizeLinear", n.op("Relu", n.conv("x", 3, 5)), n.const(np.float32(0.02)))
    x = n.op("DequantizeLinear", n.op("MaxPool", q, kernel_shape=[2, 2]), n.const(np.float32(0.02)))
    model = n.model(n.head(x, 5))
    assert prepare(model, find_interface(model), (3, 8, 8), DEVICE).difference < 1e-6


def test_long_and_wrong_ways_from_a_weight_to_its_layer():
    n = Net()
    w = n.normal(5, 3, 3, 3)
    for _ in range(3000):
        w = n.op("Identity", w)
    x = n.op("GlobalAveragePool", n.op("Conv", "x", w))
    x = n.op("MatMul", n.op("Flatten", x), n.op("Transpose", n.normal(7, 5), perm=[1, 5]))
    model = n.model(n.dense(x, 7, CLASSES))
    units = find_units(model, model.graph.output[0].name)
    assert [(la.op, la.parameters[0].name) for la in units.layers] == [("Conv", "c0")]
    assert {r.op: r.reason for r in units.refused}[
        "MatMul"
    ] == "its parameters are transposed by what is no permutation"

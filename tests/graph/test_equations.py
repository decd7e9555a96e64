"""What the audit stands on: masked run == baked run, prepared copy == file, bake twice == bake once."""

import models
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.edit import constants
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.mask import insert_masks, mask_name, mask_shape
from onnx_shapprune.graph.prepare import Prepared, prepare
from onnx_shapprune.graph.units import Units, find_units
from onnx_shapprune.runtime.session import Device, Session

DEVICE = Device(threads=1)
CLOSE = 2e-6


def prepared(model: onnx.ModelProto) -> Prepared:
    return prepare(model, find_interface(model), models.shape_of(model), DEVICE)


def original_logits(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = Session(model, DEVICE)
    return np.concatenate([session.run({"x": row[None]})[0].reshape(1, -1) for row in x])


def choose(units: Units, rng: np.random.Generator, share: float = 0.3) -> dict[str, list[int]]:
    off = {la.name: np.flatnonzero(rng.random(la.channels) < share).tolist() for la in units.layers}
    return {name: channels for name, channels in off.items() if channels}


def mask_feeds(units: Units, p: Prepared, off: dict[str, list[int]]) -> dict[str, np.ndarray]:
    feeds = {}
    for index, layer in enumerate(units.layers):
        row = np.ones(layer.channels, np.float32)
        row[off.get(layer.name, [])] = 0
        feeds[mask_name(index)] = row.reshape(1, *mask_shape(layer, p.infos))
    return feeds


@pytest.fixture(scope="module")
def cache() -> dict[str, tuple[onnx.ModelProto, Prepared, Units, Session]]:
    found = {}
    for name, build in models.FAMILIES.items():
        model = build()
        onnx.checker.check_model(model)
        p, units = prepared(model), find_units(model, model.graph.output[0].name)
        found[name] = (model, p, units, Session(insert_masks(p.model, dict(enumerate(units.layers)), p.infos), DEVICE))
    return found


@pytest.mark.parametrize("family", models.FAMILIES)
def test_prepared_copy_gives_the_numbers_of_the_file(family, cache):
    model, p, _, _ = cache[family]
    x = models.pictures(model, 3, seed=5)
    got = Session(p.model, DEVICE).run({"x": x})[0]
    want = original_logits(model, x)
    if p.stripped:
        assert p.stripped == ("Softmax",)
        got = np.exp(got - got.max(1, keepdims=True))
        got /= got.sum(1, keepdims=True)
    assert p.batch_free
    assert want.std(axis=0).max() > 1e-4, "vacuous: the model ignores its picture"
    np.testing.assert_allclose(got, want, atol=CLOSE)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_every_weight_layer_has_units_except_the_last(family, cache):
    model, p, units, _ = cache[family]
    assert len(units.classifier) == 1
    assert {layer.tensor for layer in units.layers} <= set(p.infos)
    assert all(r.reason == "makes the class scores" for r in units.refused if r.op != "Attention")
    weighty = {"Conv", "Gemm", "MatMul"}
    stored = set(constants(model.graph)) | {n.output[0] for n in model.graph.node if n.op_type == "Reshape"}
    linear = [n for n in model.graph.node if n.op_type in weighty and n.input[1] in stored]
    assert len([la for la in units.layers if la.op in weighty]) == len(linear) - 1


@pytest.mark.parametrize("family", models.FAMILIES)
def test_masks_of_ones_change_nothing(family, cache):
    model, p, units, masked = cache[family]
    x = models.pictures(model, 2)
    got = masked.run({"x": x, **mask_feeds(units, p, {})})[0]
    np.testing.assert_allclose(got, Session(p.model, DEVICE).run({"x": x})[0], atol=CLOSE)


@pytest.mark.parametrize("family", models.FAMILIES)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.1, 0.4]))
@settings(max_examples=5, deadline=None)
def test_masked_run_equals_baked_file(family, cache, seed, share):
    model, p, units, masked = cache[family]
    off = choose(units, np.random.default_rng(seed), share)
    x = models.pictures(model, 2, seed)
    baked = prepared(bake(model, units.layers, off))
    got = masked.run({"x": x, **mask_feeds(units, p, off)})[0]
    np.testing.assert_allclose(got, Session(baked.model, DEVICE).run({"x": x})[0], atol=CLOSE)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_each_layer_alone_masked_equals_baked_and_matters(family, cache):
    model, p, units, masked = cache[family]
    x = models.pictures(model, 2)
    full = Session(p.model, DEVICE).run({"x": x})[0]
    for layer in units.layers:
        off = {layer.name: list(range(0, layer.channels, 2))}
        got = masked.run({"x": x, **mask_feeds(units, p, off)})[0]
        baked = prepared(bake(model, units.layers, off))
        np.testing.assert_allclose(got, Session(baked.model, DEVICE).run({"x": x})[0], atol=CLOSE, err_msg=layer.name)
        assert np.abs(got - full).max() > 1e-4, f"vacuous: {layer.name} does not matter"


@pytest.mark.parametrize("family", models.FAMILIES)
def test_baking_twice_equals_baking_once(family, cache):
    model, _, units, _ = cache[family]
    off = choose(units, np.random.default_rng(3))
    once = bake(model, units.layers, off)
    again = bake(once, find_units(once, model.graph.output[0].name).layers, off)
    assert once.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    assert once != model

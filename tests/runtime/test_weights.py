"""Weights that do not fit into one message: every stage gives what it gives for a file of which they are a part."""

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnx_shapprune import InputOptions, mask
from onnx_shapprune.case.open import open_model
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.external import data_name
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.runtime import weights
from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.runtime.weights import elsewhere, empty, shell, weight_bytes

DEVICE = Device(threads=1)
FAMILIES = ("conv_bn_relu_residual", "attention", "nhwc", "cntk")


@pytest.fixture
def no_room(monkeypatch):
    """As if protobuf could not hold a single weight, and 64 bytes were heavy."""
    monkeypatch.setattr("onnx_shapprune.commands.mask.MESSAGE", 0)
    monkeypatch.setattr("onnx_shapprune.runtime.session.TOGETHER", 0)
    monkeypatch.setattr(weights, "HEAVY", 64)


def model_of(family: str) -> onnx.ModelProto:
    return models.FAMILIES[family]()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_session_reads_weights_beside_the_graph(family, no_room, monkeypatch):
    model = model_of(family)
    x = models.pictures(model, 1)
    given = []
    add = ort.SessionOptions.add_external_initializers
    monkeypatch.setattr(
        ort.SessionOptions, "add_external_initializers", lambda o, n, v: (given.extend(n), add(o, n, v))[1]
    )
    beside = Session(model, DEVICE).run({"x": x})[0]
    heavy = {t.name for t in model.graph.initializer if len(t.raw_data) >= 64}
    assert set(given) == heavy != set()
    inside = Session(model.SerializeToString(), DEVICE).run({"x": x})[0]
    np.testing.assert_allclose(beside, inside, rtol=1e-6)  # weights laid out anew are summed in another order


def test_a_shell_has_everything_but_the_weights(no_room):
    model = model_of("attention")
    model.metadata_props.add(key="author", value="somebody")
    light = shell(model, elsewhere)
    assert light.ByteSize() < model.ByteSize() - weight_bytes(model) / 2
    headers = {t.name: t for t in light.graph.initializer}
    for tensor in model.graph.initializer:
        assert headers[tensor.name].dims == tensor.dims
        headers[tensor.name].CopyFrom(tensor)
    assert light == model
    assert [list(t.dims) for t in shell(model, empty).graph.initializer if not t.raw_data][:1] == [[0]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_opened_baked_and_masked(family, no_room, tmp_path, monkeypatch):
    path, masked = tmp_path / "m.onnx", tmp_path / "masked.onnx"
    model = model_of(family)
    onnx.save_model(model, path, save_as_external_data=True, size_threshold=64, location="weights")
    opened = open_model(path, InputOptions(), DEVICE)
    x = models.pictures(model, 1)
    record = mask(path, output=masked, device="cpu", threads=1)
    assert (tmp_path / data_name("masked.onnx")).stat().st_size > 0
    layer = opened.units.layers[0]
    row = next(m for m in record.masks if m.layer == layer.name)
    ones = np.ones((1, *row.shape), np.float32)
    ones.reshape(-1)[0] = 0
    got = ort.InferenceSession(str(masked)).run([record.output], {record.input: x, row.input: ones})[0]
    monkeypatch.undo()  # the rest as usual
    baked = bake(load_model(path).loaded, find_units(model, model.graph.output[0].name).layers, {layer.name: [0]})
    onnx.save_model(baked, tmp_path / "baked.onnx")
    prepared = open_model(tmp_path / "baked.onnx", InputOptions(), DEVICE).subject.prepared
    np.testing.assert_allclose(got, Session(prepared.model, DEVICE).run({"x": x})[0], atol=1e-5)

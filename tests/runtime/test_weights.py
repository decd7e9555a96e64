"""Weights that do not fit into one message: every stage gives what it gives for a file of which they are a part."""

import ctypes
import gc

import models
import numpy as np
import onnx
import onnxruntime as ort
import planted
import pytest

from onnx_shapprune import InputOptions, mask
from onnx_shapprune.case.open import open_model
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.external import data_name
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.runtime import weights
from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.runtime.weights import elsewhere, empty, in_common, shell, weight_bytes

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


@pytest.mark.parametrize("family", FAMILIES)
def test_stand_ins_give_what_the_weights_give(family, monkeypatch):
    monkeypatch.setattr(weights, "HEAVY", 64)
    model = model_of(family)
    light, x = shell(model, elsewhere), models.pictures(model, 1)
    want = Session(model, DEVICE).run({"x": x})[0]
    np.testing.assert_array_equal(Session(light, DEVICE, weights=model).run({"x": x})[0], want)
    with pytest.raises(ModelError):
        Session(light, DEVICE)
    monkeypatch.setattr("onnx_shapprune.runtime.session.TOGETHER", 0)
    np.testing.assert_allclose(Session(light, DEVICE, weights=model).run({"x": x})[0], want, rtol=1e-5)


def test_sessions_that_are_open_together_read_one_array(no_room):
    model, x = model_of("conv_bn_relu_residual"), models.pictures(model_of("conv_bn_relu_residual"), 1)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    name = next(t.name for t in model.graph.initializer if t.name in weights.heavy(model))
    changed = next(t for t in other.graph.initializer if t.name == name)
    changed.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(changed) + 1, name))
    first, second, third = (Session(m, DEVICE) for m in (model, model, other))
    held = [{id(v._numpy_obj) for v in s._weights} for s in (first, second, third)]
    assert held[0] == held[1]
    assert len(held[0] - held[2]) == 1  # of the edited model only what is equal
    assert np.abs(first.run({"x": x})[0] - third.run({"x": x})[0]).max() > 1e-3
    del first, second, third
    gc.collect()
    assert name not in {key[0] for key in weights._shared}, "an array outlives its sessions"


def test_onnxruntime_makes_no_copy_of_a_dense_weight(no_room):
    n = models.Net(0)
    model = n.model(n.dense(n.op("Flatten", "x"), 3 * 8 * 8, 10), shape=(3, 8, 8), classes=10)
    session, x = Session(model, DEVICE), models.pictures(model, 1)
    before = session.run({"x": x})[0]
    own = next(v._numpy_obj for v in session._weights if v._numpy_obj.size == 10 * 3 * 8 * 8)
    own = np.frombuffer(own, np.float32)  # through its address: the array itself is not to be written to
    ctypes.memset(own.ctypes.data, 0, own.nbytes)
    assert np.abs(session.run({"x": x})[0] - before).max() > 1e-3


def test_a_subject_at_rest_leaves_its_weights_to_the_file(no_room):
    model = model_of("attention")
    prepared, _ = planted.prepared_with_layers(model)
    subject = Subject(prepared, Preprocessing(), DEVICE)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, *prepared.input_shape[1:], 3)).astype(np.float32)
    want, common = subject.logits(pictures), in_common(prepared.model, model)
    assert common
    subject.rest(model)
    resting = subject._prepared.model
    assert all(not t.raw_data for t in resting.graph.initializer if t.name in common)
    np.testing.assert_array_equal(subject.logits(pictures), want)
    assert subject.prepared.model == prepared.model

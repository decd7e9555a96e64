"""One score per picture as two classes: what is read so, what is refused, and that the copy says what the file says."""

from collections.abc import Callable
from dataclasses import replace

import models
import numpy as np
import one_score
import onnx
import pytest
from onnx import TensorProto
from planted import DEVICE

from onnx_shapprune.case.open import open_model
from onnx_shapprune.detect.deployed import deployed_doubts
from onnx_shapprune.errors import ModelError, VerifyError
from onnx_shapprune.graph.agreement import prove
from onnx_shapprune.graph.canonical import canonical
from onnx_shapprune.graph.classifier import Classifier, read_classifier
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.graph.passes import contract
from onnx_shapprune.graph.passes.binary import final_sigmoid, of_logits, of_probabilities
from onnx_shapprune.graph.prepare import Prepared, prepare
from onnx_shapprune.runtime.session import Session
from onnx_shapprune.settings import InputOptions

SIGMOID = ("Sigmoid", (), {})
PLAIN = "does not end in a plain Sigmoid"


def quantised(step: float, back: float | None = None) -> onnx.ModelProto:
    """Rounded to bytes behind the Sigmoid; back: another step that they are multiplied by."""
    n = models.Net()
    s = n.op("Sigmoid", n.dense(n.op("Flatten", n.op("Relu", n.conv("x", 3, 5))), 320, 1))
    scale, zero = n.const(np.float32(step)), n.const(np.array(0, np.uint8))
    again = scale if back is None else n.const(np.float32(back))
    whole = n.op("QuantizeLinear", s, scale, zero)
    return n.model(n.op("DequantizeLinear", whole, again, zero), classes=1)


def integers() -> onnx.ModelProto:
    """A Sigmoid of integers, as onnxruntime writes it."""
    n = models.Net()
    z = n.dense(n.op("Flatten", n.op("Relu", n.conv("x", 3, 5))), 320, 1)
    zs, zz = n.const(np.float32(0.05)), n.const(np.array(128, np.uint8))
    ss, sz = n.const(np.float32(1 / 256)), n.const(np.array(0, np.uint8))
    s = n.op("QLinearSigmoid", n.op("QuantizeLinear", z, zs, zz), zs, zz, ss, sz)
    n.nodes[-1].domain = "com.microsoft"
    model = n.model(n.op("DequantizeLinear", s, ss, sz), classes=1)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return model


def in_double() -> onnx.ModelProto:
    model = one_score.ending_in(SIGMOID, ("Cast", (), {"to": TensorProto.DOUBLE}))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return model


READ: dict[str, Callable[[], onnx.ModelProto]] = {
    "keras": one_score.keras,
    "vector": lambda: one_score.keras(vector=True),
    "batch of one": lambda: one_score.keras(batch=1),
    "vector of one": lambda: one_score.keras(vector=True, batch=1),
    "vector of four": lambda: one_score.keras(vector=True, batch=4),
    "half": lambda: one_score.half(one_score.keras()),
    "laid out": lambda: one_score.ending_in(SIGMOID, ("Flatten", (), {}), ("Identity", (), {})),
    "cast": in_double,
    "function": lambda: one_score.in_function(one_score.keras()),
    "quantised": lambda: quantised(1 / 256),
    "integers": integers,
}


def reading(model: onnx.ModelProto) -> Classifier:
    return read_classifier(model, FileLimits())


def prepared(model: onnx.ModelProto, found: Classifier) -> Prepared:
    return prepare(model, found.interface, models.shape_of(model), DEVICE, debug=True)


@pytest.mark.parametrize("name", READ)
def test_one_score_is_read_as_two_classes(name):
    model = READ[name]()
    found = reading(model)
    assert (found.classes, found.reason, found.interface.one_score) == (2, "", True)
    copy = prepared(model, found)
    assert (copy.classes, copy.infos[copy.logits].shape, copy.stripped) == (2, (None, 2), ("Sigmoid",))
    assert copy.batch_free
    x = models.pictures(model, 3)
    z = Session(copy.model, DEVICE).run({copy.input: x})[0]
    assert z.shape == (3, 2)
    np.testing.assert_array_equal(z[:, 0], -z[:, 1])
    fed = x.astype(found.interface.dtype)
    rows = [fed[i : i + 1].repeat(found.interface.batch or 1, 0) for i in range(3)]
    file = Session(model, DEVICE)
    want = [np.asarray(file.run({"x": row})[0], np.float64).reshape(-1)[0] for row in rows]
    coarse = name in ("half", "quantised", "integers")
    np.testing.assert_allclose(1 / (1 + np.exp(-2.0 * z[:, 1])), want, atol=0.02 if coarse else 1e-6)


@pytest.mark.parametrize(
    "model",
    [
        one_score.ending_in(),
        one_score.ending_in(("Tanh", (), {})),
        one_score.ending_in(("HardSigmoid", (), {})),
        one_score.ending_in(SIGMOID, ("Clip", (0.1, 0.9), {})),
        one_score.ending_in(SIGMOID, ("Mul", (100,), {})),
        one_score.ending_in(("Neg", (), {}), SIGMOID, ("Neg", (), {}), ("Add", (1,), {})),
        one_score.ending_in(SIGMOID, ("Cast", (), {"to": TensorProto.INT32}), ("Cast", (), {"to": TensorProto.FLOAT})),
        quantised(1 / 256, 1 / 128),
    ],
    ids=["bare", "tanh", "hard", "clip", "factor", "one minus", "whole", "other step"],
)
def test_what_does_not_say_where_yes_begins_is_refused(model):
    found = reading(model)
    assert PLAIN in found.reason
    assert (found.classes, found.interface.one_score) == (None, False)
    with pytest.raises(ModelError, match=PLAIN):
        prepare(model, found.interface, models.SHAPE, DEVICE)


@pytest.mark.parametrize(
    ("ends", "line", "taken"),
    [
        ([("Clip", (-1e-3, 1e-3), {})], 0, ("Clip",)),
        ([("Mul", (50,), {}), ("Tanh", (), {})], 0, ("Tanh",)),
        ([SIGMOID, ("Sub", (0.7,), {}), ("Mul", (1000,), {})], np.log(0.7 / 0.3), ("Mul", "Sub", "Sigmoid")),
        ([("Add", (0.3,), {}), ("Elu", (), {})], -0.3, ("Elu",)),
        ([("Relu", (), {})], 0, ("Relu",)),
        ([("Mul", (3,), {})], None, ()),
        ([("Clip", (0.1, 0.2), {})], None, ()),
        ([("Neg", (), {})], None, ()),
    ],
    ids=["clip", "tanh", "twice", "elu", "relu", "factor", "always yes", "turned"],
)
def test_what_rises_before_the_sigmoid_is_taken_off(ends, line, taken):
    model = one_score.ending_in(*ends, SIGMOID)
    copy = prepared(model, reading(model))
    seen = canonical(copy, DEVICE)
    assert seen.stripped == ("Sigmoid", *taken)
    if line is None:
        assert seen is copy
        return
    bare = one_score.ending_in(SIGMOID)
    plain = prepared(bare, reading(bare))
    x = models.pictures(model, 8)
    z, want = (Session(p.model, DEVICE).run({"x": x})[0] for p in (seen, plain))
    gain = 50 if "Tanh" in taken else 1
    np.testing.assert_allclose(z / gain, (want[:, 1:] - line / 2) * [[-1, 1]], atol=1e-5)
    assert seen.infos[seen.logits].shape == (None, 2)


def test_a_score_that_is_added_to_another_one_has_no_end():
    n = models.Net()
    flat = n.op("Flatten", "x")
    a, b = n.dense(flat, 192, 1), n.dense(flat, 192, 1)
    model = n.model(n.op("Sigmoid", n.op("Add", n.op("Tanh", a), b)), classes=1)
    copy = prepared(model, reading(model))
    assert canonical(copy, DEVICE) is copy


def test_a_vector_without_a_sigmoid_is_no_class_scores():
    model = one_score.keras(vector=True)
    node = model.graph.node[-2]
    node.op_type = "Relu"
    assert PLAIN in reading(model).reason
    with pytest.raises(ModelError, match=PLAIN):
        prepare(model, find_interface(model), models.NHWC_SHAPE, DEVICE)


def test_of_two_outputs_the_one_with_the_sigmoid_is_chosen():
    model = one_score.keras()
    logit = final_sigmoid(model.graph, model.graph.output[0].name).input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(logit, TensorProto.FLOAT, ["N", 1]))
    assert "choose the class scores" in reading(model).reason
    chosen = read_classifier(model, FileLimits(), output=model.graph.output[0].name)
    assert (chosen.classes, chosen.reason) == (2, "")
    assert PLAIN in read_classifier(model, FileLimits(), output=logit).reason


def test_a_copy_with_another_line_between_yes_and_no_is_not_the_file():
    model = one_score.keras()
    found = reading(model)
    copy = prepared(model, found)
    shifted = onnx.ModelProto()
    shifted.CopyFrom(model)
    bias = shifted.graph.initializer[-1]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
    score = model.graph.node[-1].input[0]
    x = models.pictures(model, 2)
    for inner in (score, "not in the file"):  # held against the logit, or against the probability
        work = contract.Work(
            copy.model, found.interface, copy.input_shape, DEVICE, {}, copy.stripped, batch_free=True, score=inner
        )
        assert prove(model, work, x) < 1e-5
        with pytest.raises(VerifyError, match="differs from the file"):
            prove(shifted, work, x)


def test_the_file_is_asked_as_it_is_deployed(tmp_path):
    onnx.save(one_score.halves_net(), tmp_path / "yes.onnx")
    opened = open_model(tmp_path / "yes.onnx", InputOptions(), DEVICE)
    pictures = one_score.halves_pictures()[0].astype(np.float32)
    assert deployed_doubts(opened, pictures, (), np.random.default_rng(0)) == ()
    turned = onnx.load(tmp_path / "yes.onnx")
    head = next(t for t in turned.graph.initializer if tuple(t.dims) == (3, 1))
    head.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(head), head.name))
    other = replace(opened, file=replace(opened.file, loaded=turned))
    doubts = deployed_doubts(other, pictures, (), np.random.default_rng(0))
    assert any("otherwise than the copy searched" in d for d in doubts)


@pytest.mark.parametrize("laid_out", [of_probabilities, of_logits])
def test_more_scores_than_the_file_declares_are_refused(laid_out):
    """A graph that never reads the picture answers for as many as it likes."""
    with pytest.raises(ModelError, match="one score for each picture, and gives 5"):
        laid_out(np.zeros((1, 5), np.float32))

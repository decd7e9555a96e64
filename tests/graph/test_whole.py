"""Pictures in whole bytes: the copy computes on numbers what the file computes on bytes, or the file is refused."""

from functools import partial

import models
import numpy as np
import one_score
import onnx
import pytest
import whole_bytes
from whole_bytes import in_bytes, out_in_bytes

from onnx_shapprune.case.open import open_model
from onnx_shapprune.errors import DataError, ModelError
from onnx_shapprune.graph.classifier import read_classifier
from onnx_shapprune.graph.interface import fed, find_interface
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.settings import InputOptions

DEVICE = Device(threads=1)
FRONTS = {
    "cast": (whole_bytes.cast, "uint8", False),
    "through int32": (whole_bytes.through_int32, "int8", False),
    "dequantised": (whole_bytes.dequantised, "uint8", False),
    "from -128 on": (partial(whole_bytes.dequantised, zero=-128), "int8", False),
    "without a zero point": (whole_bytes.without_zero, "uint8", False),
    "channels last": (whole_bytes.laid_out, "uint8", True),
}


@pytest.mark.parametrize("name", FRONTS)
def test_the_copy_says_of_numbers_what_the_file_says_of_bytes(name):
    front, kind, last = FRONTS[name]
    model = in_bytes(models.conv_bn_relu_residual(), front, kind, last=last)
    onnx.checker.check_model(model)
    interface = find_interface(model)
    assert (interface.dtype, interface.layout) == (kind, "NHWC" if last else "NCHW")
    prepared = prepare(model, interface, interface.dims, DEVICE, debug=True)
    pictures = np.random.default_rng(1).integers(0, 256, (4, *interface.dims)).astype(np.float32)
    pictures += whole_bytes.KINDS[kind][1]
    (own,) = Session(model, DEVICE).run({"picture": pictures.astype(kind)})
    (copied,) = Session(prepared.model, DEVICE).run({prepared.input: pictures})
    np.testing.assert_allclose(copied, own, atol=1e-4)
    (between,) = Session(prepared.model, DEVICE).run({prepared.input: pictures + np.float32(0.4)})
    assert (between != copied).any(), "a search needs what lies between bytes"


@pytest.mark.parametrize(
    ("front", "kind", "why"),
    [
        (whole_bytes.wrapping, "uint8", "Add 'Add_0' computes with them"),
        (whole_bytes.narrower, "uint8", "Cast 'Cast_0' computes with them"),
        (whole_bytes.looked_up, "uint8", "Gather 'Gather_0' computes with them"),
        (whole_bytes.own_step, "uint8", "their step is not stored as one number"),
    ],
)
def test_a_file_that_computes_with_bytes_is_refused(front, kind, why):
    model = in_bytes(models.conv_bn_relu_residual(), front, kind)
    interface = find_interface(model)
    with pytest.raises(ModelError, match=f"pictures are whole bytes, and {why}"):
        prepare(model, interface, interface.dims, DEVICE)


def test_bytes_are_not_scaled(tmp_path):
    onnx.save(in_bytes(models.conv_bn_relu_residual(), kind="int8"), tmp_path / "m.onnx")
    opened = open_model(tmp_path / "m.onnx", InputOptions(), DEVICE)
    assert opened.subject.preprocessing.input_range == (-128, 127)
    open_model(tmp_path / "m.onnx", InputOptions(input_range=(-128, 127)), DEVICE)
    for options in ({"mean": (0.5,)}, {"std": (0.5,)}, {"input_range": (0, 255)}):
        with pytest.raises(DataError, match="takes pictures of int8, which are not scaled"):
            open_model(tmp_path / "m.onnx", InputOptions(**options), DEVICE)


def test_what_lies_between_bytes_is_rounded_for_the_file():
    interface = find_interface(in_bytes(models.conv_bn_relu_residual()))
    rows = np.full((1, *interface.dims), 254.6, np.float32)
    rows[0, 0, 0, :3] = -3, 7.4, 256
    (row,) = fed(rows, interface)
    assert (row.dtype, row[0, 0, :4].tolist()) == (np.uint8, [0, 7, 255, 255])


@pytest.mark.parametrize(
    ("end", "kind", "step"),
    [
        (whole_bytes.rounded, "uint8", (0.05, 128)),
        (whole_bytes.laid_anew, "uint8", (0.05, 128)),
        (whole_bytes.by_an_integer_operator, "uint8", (0.05, 128)),
        (whole_bytes.from_softmax, "int8", (1 / 256, -128)),
    ],
)
def test_scores_in_bytes_are_numbers_in_the_copy(end, kind, step):
    plain = models.conv_bn_relu_residual()
    model = out_in_bytes(plain, end, kind)
    onnx.checker.check_model(model, full_check=True)
    prepared = prepare(model, find_interface(model), models.SHAPE, DEVICE, debug=True)
    assert prepared.step == pytest.approx(step)
    pictures = np.random.default_rng(1).random((4, *models.SHAPE), np.float32)
    (own,), (copied,) = (
        Session(m, DEVICE).run({name: pictures})
        for m, name in ((plain, plain.graph.input[0].name), (prepared.model, prepared.input))
    )
    np.testing.assert_allclose(copied, own, atol=0.06 if end is whole_bytes.by_an_integer_operator else 1e-4)


@pytest.mark.parametrize(
    ("end", "kind"),
    [(whole_bytes.cut_off, "uint8"), (whole_bytes.by_the_picture, "uint8"), (whole_bytes.turned_round, "uint8")],
)
def test_bytes_that_are_no_rounded_scores_are_refused(end, kind):
    model = out_in_bytes(models.conv_bn_relu_residual(), end, kind)
    with pytest.raises(ModelError, match="nor of bytes that one stored step of a QuantizeLinear makes"):
        prepare(model, find_interface(model), models.SHAPE, DEVICE)


def test_one_score_in_bytes_is_refused():
    model = out_in_bytes(one_score.keras(), whole_bytes.rounded)
    assert "does not end in a plain Sigmoid" in read_classifier(model, FileLimits()).reason


def test_a_byte_beside_the_scores_is_a_label():
    model = models.conv_bn_relu_residual()
    scores = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("Cast", [scores], ["label"], to=onnx.TensorProto.UINT8))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("label", onnx.TensorProto.UINT8, ["N", models.CLASSES])
    )
    assert find_interface(model).output == scores

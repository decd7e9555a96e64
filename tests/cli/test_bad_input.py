"""Bad input, through the whole tool: one clear line on stderr, exit 2, an empty stdout, and no file left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from invocations import only_line, run
from onnx import TensorProto, helper

from onnx_shapprune.sample import sample_path


@pytest.fixture
def good(tmp_path) -> tuple[Path, Path]:
    """A model for 8 x 8 colour pictures of 4 classes, and such pictures."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(models.conv_bn_relu_residual().SerializeToString())
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    np.savez(folder / "data.npz", x=x, y=np.arange(4))
    return folder / "model.onnx", folder / "data.npz"


def refusal(model: Path, data: Path, *options: str) -> str:
    """The line that audit and sanitize both give."""
    folder = model.parent.parent
    out = folder / "out"
    out.mkdir(exist_ok=True)
    before = sorted(folder.rglob("*"))
    fast = ["--threads", "1", "--device", "cpu", *options]
    line = only_line(run("audit", model, "--data", data, "-o", out / "r.json", *fast))
    again = only_line(run("sanitize", model, "--data", data, "-o", out / "c.onnx", "--report", out / "s.json", *fast))
    assert again == line
    assert sorted(folder.rglob("*")) == before
    return line


def write(model: Path, proto: onnx.ModelProto) -> Path:
    model.write_bytes(proto.SerializeToString())
    return model


def test_missing_model(good):
    model, data = good
    assert "not found" in refusal(model.with_name("none.onnx"), data)


def test_truncated_model(good):
    model, data = good
    model.write_bytes(model.read_bytes()[:-200])
    assert "truncated" in refusal(model, data)


def test_no_onnx(good):
    model, data = good
    model.write_bytes(b"GIF89a" * 100)
    assert "not an ONNX file" in refusal(model, data)


def test_missing_data(good):
    model, data = good
    assert "does not exist" in refusal(model, data.with_name("none"))


def test_a_picture_that_is_none(good):
    model, data = good
    (data.parent / "set" / "0").mkdir(parents=True)
    (data.parent / "set" / "0" / "a.png").write_bytes(b"no picture")
    assert "a.png' cannot be read as a picture" in refusal(model, data.parent / "set")


def test_zero_pictures(good):
    model, data = good
    (data.parent / "set").mkdir()
    assert "holds no pictures" in refusal(model, data.parent / "set")
    np.savez(data, x=np.zeros((0, 8, 8, 3), np.uint8), y=np.zeros(0, np.int64))
    assert "no pictures" in refusal(model, data)


def test_wrong_number_of_classes(good):
    model, data = good
    labels = data.with_name("labels.txt")
    labels.write_text("a\nb\nc\n")
    line = refusal(model, data, "--classes", str(labels))
    assert "3 class names" in line
    assert "4 classes" in line


def test_a_label_beyond_the_classes(good):
    model, data = good
    np.savez(data, x=np.zeros((2, 8, 8, 3), np.uint8), y=np.array([0, 4]))
    assert "label 4 is out of range" in refusal(model, data)


def test_wrong_channel_count(good):
    model, data = good
    n = models.Net()
    write(model, n.model(n.head(n.conv("x", 5, 4), 4), shape=(5, 8, 8)))
    assert "channels" in refusal(model, data)
    write(model, models.conv_bn_relu_residual())
    np.savez(data, x=np.zeros((2, 8, 8, 5), np.uint8), y=np.array([0, 1]))
    assert "(2, 8, 8, 5)" in refusal(model, data)
    np.savez(data, x=np.zeros((2, 8, 8, 3), np.uint8), y=np.array([0, 1]))
    assert "mean has 2 numbers" in refusal(model, data, "--mean", "0.5,0.5")


def test_a_model_that_is_no_image_classifier(good):
    """A linear classifier with label and probability outputs over four features, as scikit-learn is exported."""
    model, data = good
    x = helper.make_tensor_value_info("float_input", TensorProto.FLOAT, ["N", 4])
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["N"])
    scores = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])
    node = helper.make_node(
        "LinearClassifier", ["float_input"], ["label", "probabilities"], domain="ai.onnx.ml",
        coefficients=[0.1] * 12, intercepts=[0.0] * 3, classlabels_ints=[0, 1, 2], post_transform="SOFTMAX",
    )  # fmt: skip
    graph = helper.make_graph([node], "logreg", [x], [label, scores])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    write(model, helper.make_model(graph, opset_imports=opsets, ir_version=8))
    assert "not an image classifier" in refusal(model, data)


def test_nan_outputs(good):
    model, data = good
    proto = models.conv_bn_relu_residual()
    weight = proto.graph.initializer[-1]
    weight.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(weight.dims), np.nan, np.float32), weight.name))
    write(model, proto)
    assert "NaN" in refusal(model, data)


def test_absent_cuda_is_no_fallback(good):
    from onnx_shapprune.errors import DeviceError
    from onnx_shapprune.runtime.session import resolve_device

    try:
        resolve_device("cuda")
    except DeviceError:
        model, data = good
        assert "CUDA" in only_line(run("audit", model, "--data", data, "--device", "cuda"))
    else:
        pytest.skip("CUDA runs here")


@pytest.mark.skipif(os.name == "nt", reason="signals differ on Windows")
def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    """Ctrl-C in the middle of a real search, which a child process is at."""
    monkeypatch.delenv("SHAPPRUNE_IN_PROCESS")
    out = tmp_path / "out"
    out.mkdir()
    command = [
        sys.executable, "-m", "onnx_shapprune", "sanitize", str(sample_path("backdoored.onnx")),
        "--data", str(sample_path("pictures")), "-o", str(out / "c.onnx"), "--report", str(out / "r.json"),
        "--artifacts", str(out / "art"), "--threads", "1", "--restarts", "50", "-v",
    ]  # fmt: skip
    errors = tmp_path / "stderr"
    with errors.open("wb") as stream:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream)
        try:
            deadline = time.monotonic() + 60
            while not errors.read_bytes() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)  # the first progress line says that the work has begun
            process.send_signal(signal.SIGINT)
            stdout, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, errors.read_text()
    assert stdout == b""
    assert errors.read_text().splitlines()[-1] == "interrupted: no partial file is left"
    assert "Traceback" not in errors.read_text()
    assert not [p for p in out.rglob("*") if p.is_file()]

"""shapprune inspect: facts that the file states, and nothing is run."""

import json

import models
import numpy as np
import odd_files
import onnx
import pytest
from invocations import only_line, run
from onnx import TensorProto, helper

from onnx_shapprune.commands.inspect import inspect
from onnx_shapprune.errors import ModelError
from onnx_shapprune.record.graph import InspectRecord
from onnx_shapprune.runtime import session


@pytest.fixture(autouse=True)
def no_session(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("inspect opened a session")

    monkeypatch.setattr(session.ort, "InferenceSession", refuse)


def save(tmp_path, model: onnx.ModelProto):
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("family", models.FAMILIES)
def test_every_family(tmp_path, family):
    path = save(tmp_path, models.FAMILIES[family]())
    result = run("inspect", path, "-f", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    record = InspectRecord.model_validate_json(result.stdout)
    assert (record.readable, record.classes) == (True, models.CLASSES)
    assert record.layout == ("NHWC" if family == "nhwc" else "NCHW")
    assert record.units == sum(layer.channels for layer in record.layers) > 0
    assert sum(record.ops.values()) == len(models.FAMILIES[family]().graph.node)
    assert run("inspect", path).stdout.startswith("READABLE  m.onnx")


def test_several_files_are_looked_at_one_by_one(tmp_path):
    good = save(tmp_path, models.vgg_maxpool())
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"GIF89a")
    result = run("inspect", good, good, "-f", "json")
    assert result.exit_code == 0
    assert [r["model"]["name"] for r in json.loads(result.stdout)] == ["m.onnx", "m.onnx"]
    mixed = run("inspect", bad, good)
    assert (mixed.exit_code, mixed.stderr.count("\n")) == (2, 1)
    assert "bad.onnx" in mixed.stderr
    assert mixed.stdout.startswith("READABLE  m.onnx")
    assert run("inspect").exit_code == 2


def test_classes_come_from_the_last_layer_where_the_shape_is_open(tmp_path):
    for family in ("conv_bn_relu_residual", "nhwc", "attention"):
        model = models.FAMILIES[family]()
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
        assert inspect(save(tmp_path, model)).classes == models.CLASSES


def test_parameters(tmp_path):
    n = models.Net()
    model = n.model(n.head(n.conv("x", 3, 5), 5))
    assert inspect(save(tmp_path, model)).parameters == 5 * 3 * 9 + 5 + 5 * 4 + 4


def findings(tmp_path, model: onnx.ModelProto) -> str:
    return " | ".join(f"{f.level}: {f.text}" for f in inspect(save(tmp_path, model)).findings)


def test_findings(tmp_path):
    assert "note: ends in Softmax" in findings(tmp_path, models.vgg_maxpool())
    assert "note: the batch size is fixed at 1" in findings(tmp_path, models.cntk())
    assert findings(tmp_path, models.conv_bn_relu_residual()) == ""

    half = models.conv_bn_relu_residual()
    for tensor in half.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype("float16"), tensor.name))
    half.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    half.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert "note: fp16 weights" in findings(tmp_path, half)

    odd = models.conv_bn_relu_residual()
    odd.opset_import.append(helper.make_opsetid("acme", 1))
    odd.graph.node[0].domain = "acme"
    assert "warning: operators of unknown domains: acme" in findings(tmp_path, odd)
    assert inspect(save(tmp_path, odd)).no_gradient == {"Conv": ("Conv_0",)}


def test_the_way_of_the_picture_and_what_stands_beside_it_are_named(tmp_path):
    """As text and as JSON, with the names of the nodes."""
    model = models.vgg_maxpool()
    fired = helper.make_node("ReduceMax", ["x"], ["fired"], name="match", axes=[1, 2, 3], keepdims=0)
    column = helper.make_node("Reshape", ["fired", "tall"], ["column"], name="column")
    scores = model.graph.output[0].name
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 1]), "tall"))
    model.graph.node.extend([fired, column, helper.make_node("Add", [scores, "column"], ["z"], name="joined")])
    model.graph.output[0].name = "z"
    path = save(tmp_path, model)
    record = InspectRecord.model_validate_json(run("inspect", path, "-f", "json").stdout)
    told = {f.rule: f.text for f in record.findings}
    assert "Add 'joined'" in told["OSP212"]
    assert record.way.startswith("the picture goes from input 'x' to output 'z' through ")
    assert "Add 'joined'" in record.way.partition("; behind the last: ")[2]
    text = " ".join(run("inspect", path).stdout.split())
    assert record.way in text
    assert f"OSP212 warning: {told['OSP212']}" in text


def test_quantised(tmp_path):
    n = models.Net()
    scale, zero = n.const(onnx.numpy_helper.to_array(helper.make_tensor("", 1, [], [0.1]))), n.const(
        onnx.numpy_helper.to_array(helper.make_tensor("", 2, [], [0]))
    )  # fmt: skip
    q = n.op("QuantizeLinear", n.conv("x", 3, 5), scale, zero)
    x = n.op("DequantizeLinear", q, scale, zero)
    text = findings(tmp_path, n.model(n.head(x, 5)))
    assert "note: quantised (DequantizeLinear, QuantizeLinear)" in text
    assert "no gradient rule" not in text
    whole = n.op("ConvInteger", q, n.const(np.ones((5, 5, 1, 1), np.uint8)))
    text = findings(tmp_path, n.model(n.head(n.op("Cast", whole, to=TensorProto.FLOAT), 5)))
    assert "note: quantised (ConvInteger" in text
    assert "cannot be had" not in text, "its float twin has units and gradients"
    leaky = n.op("QLinearReduceMean", q, scale, zero, scale, zero)
    n.nodes[-1].domain = "com.microsoft"
    model = n.model(n.head(n.op("DequantizeLinear", leaky, scale, zero), 5))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert "warning: quantised (QLinearReduceMean): units and gradients cannot be had" in findings(tmp_path, model)


def test_several_outputs_need_a_choice_where_more_than_one_may_be_scores(tmp_path):
    model = models.conv_bn_relu_residual()
    scores = model.graph.output[0].name
    model.graph.output.append(
        helper.make_tensor_value_info(model.graph.node[0].output[0], TensorProto.FLOAT, ["N", 6, 8, 8])
    )
    result = run("inspect", save(tmp_path, model))
    assert result.exit_code == 0
    assert f"class scores, taken to be '{scores}'" in " ".join(result.stdout.split())
    model.graph.node.append(helper.make_node("Identity", [scores], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["N", 4]))
    path = save(tmp_path, model)
    result = run("inspect", path, "-f", "json")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the model has 3 outputs")
    assert [o["name"] for o in json.loads(result.stdout)["outputs"]] == [o.name for o in model.graph.output]
    result = run("inspect", path, "--output-name", scores)
    assert result.exit_code == 0
    assert "3 outputs: --output-name" in result.stdout


def test_a_model_that_is_no_image_classifier_is_described_and_refused(tmp_path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    path = save(tmp_path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    result = run("inspect", path)
    assert result.exit_code == 2
    assert result.stdout.startswith("NOT READABLE  m.onnx")
    assert result.stderr.count("\n") == 1
    assert "not an image classifier" in result.stderr


def test_names_that_are_no_text(tmp_path):
    model = models.vgg_maxpool()
    model.graph.node[0].name = "A" * 9
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString().replace(b"A" * 9, b"\xff" * 9))
    assert "not UTF-8" in only_line(run("inspect", path))


def test_what_cannot_be_parsed_is_one_line(tmp_path, model):
    assert "not found" in only_line(run("inspect", tmp_path / "none.onnx"))
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:100])
    assert "truncated" in only_line(run("inspect", tmp_path / "cut.onnx"))
    (tmp_path / "text.onnx").write_text("hello")
    assert "not an ONNX" in only_line(run("inspect", tmp_path / "text.onnx"))
    with pytest.raises(ModelError):
        inspect(tmp_path)


def test_the_next_command_is_said(tmp_path):
    """With all that was said about how the file is read; none of a file that cannot be audited, or of several."""
    good, bad = tmp_path / "a b.onnx", tmp_path / "label.onnx"
    onnx.save(odd_files.all_symbolic(), good)
    onnx.save(odd_files.label(), bad)
    shown = run("inspect", good, "--input-size", "8", "8").stdout
    assert shown.endswith(f"     shapprune audit '{good}' --data pictures/ --input-size 8 8\n")
    assert "shapprune audit" not in run("inspect", bad).stdout
    assert "shapprune audit" not in run("inspect", good, good).stdout

"""A short run of tests/benchmarks/fuzz.py, and the files that long runs found."""

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks.fuzz import fuzz, handle
from benchmarks.mutants import mutant, seeds
from onnx import TensorProto, helper, numpy_helper

from onnx_shapprune.graph.file import load_model


def test_files_that_nobody_would_write_end_in_one_line():
    """Crashes of onnxruntime itself depend on its version; what a user sees of them is in tests/isolation/."""
    report = fuzz(200, seed=7)
    assert report.files == 200
    assert [bad for bad in report.bad if not bad[1].startswith(("crash in onnxruntime", "crash in onnx:"))] == []
    assert report.ends["opened"] > 10
    assert sum("hostile" in end for end in report.ends.elements()) > 3


def test_a_file_is_the_same_every_time():
    assert [mutant(3, i) for i in range(20)] == [mutant(3, i) for i in range(20)]
    assert len({mutant(3, i) for i in range(20)}) > 15


def test_the_models_it_begins_with_are_good_ones(tmp_path):
    # One of them draws at random, by the clock unless it is told: at times it would be another network than its copy.
    onnxruntime.set_seed(1)
    for i, seed in enumerate(seeds()):
        path = tmp_path / f"{i}.onnx"
        path.write_bytes(seed.SerializeToString())
        assert load_model(path).hazards == ()
        assert handle(path)[0] in ("opened", "opened, no gradient")


def test_a_traceback_would_be_noticed(tmp_path, monkeypatch):
    def fail(*arguments, **settings):
        raise ZeroDivisionError

    monkeypatch.setattr("onnx_shapprune.case.open.open_model", fail)
    path = tmp_path / "m.onnx"
    path.write_bytes(models.vgg_maxpool().SerializeToString())
    end, detail = handle(path)
    assert end == "traceback"
    assert "ZeroDivisionError" in detail


def ended(tmp_path, model: onnx.ModelProto) -> str:
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return handle(path)[0]


def head(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """A graph that ends in `y`."""
    n = models.Net()
    n.nodes.extend(nodes)
    n.weights.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    return n.model("y")


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([helper.make_node("IsNaN", ["x"], ["y"])], {}),
        ([helper.make_node("Shape", ["x"], ["y"])], {}),
        ([helper.make_node("ReduceMax", ["x"], ["y"], keepdims=0)], {}),
        ([helper.make_node("SequenceConstruct", ["c"], ["s"]), helper.make_node("SequenceAt", ["s", "i"], ["y"])],
         {"c": np.ones((1, 4), np.float32), "i": np.array(0)}),
        ([helper.make_node("SequenceConstruct", ["c"], ["s"]), helper.make_node("SequenceAt", ["s", "i"], ["z"]),
          helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("SequenceInsert", ["s", "f"], ["t"]),
          helper.make_node("SequenceAt", ["t", "i"], ["y"])],
         {"c": np.ones((1, 4), np.float32), "i": np.array(1)}),
    ],
    ids=["boolean scores", "whole scores", "one number", "constant sequences", "a sequence"],
)  # fmt: skip
def test_outputs_that_are_no_scores(tmp_path, nodes, constants):
    assert ended(tmp_path, head(*nodes, **constants)).startswith(("refused", "opened"))


@pytest.mark.parametrize("shape", [(3, 2**31, 2**31), (3, 2**62, 2**62)])
def test_pictures_that_are_none(tmp_path, shape):
    model = models.conv_bn_relu_residual()
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim[1:], shape, strict=True):
        dim.dim_value = size
    assert ended(tmp_path, model) == "refused: the model takes inputs"
    model = models.conv_bn_relu_residual()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = max(shape)
    assert ended(tmp_path, model) == "refused: the model takes inputs"


@pytest.mark.parametrize("which", [1, 2, 3, 4])
@pytest.mark.parametrize("dims", [[7], [6, 1], [36], []])
def test_a_batch_norm_of_another_width(tmp_path, which, dims):
    model = models.conv_bn_relu_residual()
    norm = next(n for n in model.graph.node if n.op_type == "BatchNormalization")
    for tensor in model.graph.initializer:
        if tensor.name == norm.input[which]:
            tensor.CopyFrom(numpy_helper.from_array(np.ones(dims, np.float32), tensor.name))
    assert ended(tmp_path, model).startswith("refused: onnxruntime cannot")


def test_a_picture_that_is_a_sequence(tmp_path):
    model = models.conv_bn_relu_residual()
    model.graph.input[0].type.CopyFrom(
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    )
    assert ended(tmp_path, model).startswith("refused")

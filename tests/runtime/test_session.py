"""Providers are never chosen silently, errors are one line, stdout stays clean."""

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnx_shapprune.errors import DeviceError, LimitError, ModelError
from onnx_shapprune.runtime.session import (
    CPU,
    CUDA,
    FUNCTION_LIMITS,
    Device,
    Session,
    first_line,
    provider_list,
    resolve_device,
    session_options,
)


@pytest.mark.parametrize("word", ["gpu", "cuda:", "cuda:x", "CPU", "", "cpu\n"])
def test_words_that_are_not_understood(word):
    with pytest.raises(DeviceError, match="is not understood: use auto, cpu, cuda or cuda:N"):
        resolve_device(word)


def test_cpu_and_auto():
    assert resolve_device("cpu", threads=2) == Device(provider=CPU, threads=2)
    assert resolve_device("auto").provider in (CPU, CUDA)
    assert (Device().label, Device(provider=CUDA, index=1).label) == ("cpu", "cuda:1")


@pytest.mark.parametrize("listed", [[CPU], [CUDA, CPU]])
def test_asked_for_and_absent_cuda_is_an_error_and_prints_nothing(listed, monkeypatch, capfd):
    monkeypatch.setattr(ort, "get_available_providers", lambda: listed)

    def no_driver(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", no_driver)
    with pytest.raises(DeviceError, match="'cuda:3' was asked for but CUDA cannot run here"):
        resolve_device("cuda:3")
    assert resolve_device("auto").provider == CPU
    assert capfd.readouterr().out == ""


def test_a_session_that_fell_back_is_refused(monkeypatch):
    monkeypatch.setattr("onnx_shapprune.runtime.session.provider_list", lambda device: [CPU])
    with pytest.raises(DeviceError, match=f"was to run on {CUDA} but onnxruntime chose {CPU}"):
        Session(models.vgg_maxpool(), Device(provider=CUDA))


def test_options():
    options = session_options(Device(threads=3), optimize=True)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.use_deterministic_compute
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    plain = session_options(Device(), optimize=False)
    assert plain.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    (cuda, settings), fallback = provider_list(Device(provider=CUDA, index=2))
    assert (cuda, fallback, settings["device_id"], settings["use_tf32"]) == (CUDA, CPU, "2", "0")


def test_functions_that_multiply_are_not_written_out(monkeypatch):
    """Ten functions, each calling the next one twice, are a thousand nodes; thirty would be a billion."""
    monkeypatch.setitem(FUNCTION_LIMITS, "session.function_expansion_node_limit", 500)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("own", 1)]
    functions = []
    for i in range(10):
        op, domain = (f"f{i + 1}", "own") if i < 9 else ("Relu", "")
        calls = [onnx.helper.make_node(op, [a], [b], domain=domain) for a, b in (("a", "t"), ("t", "b"))]
        functions.append(onnx.helper.make_function("own", f"f{i}", ["a"], ["b"], calls, opsets))
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [1]) for n in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("f0", ["x"], ["y"], domain="own")], "g", [x], [y])
    model = onnx.helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=9)
    with pytest.raises(ModelError, match=r"cannot open the graph.*limit"):
        Session(model, Device(threads=1))


def test_no_memory_proves_nothing():
    """A tensor of a terabyte, whose size only the input says."""
    x, y = onnx.helper.make_tensor_value_info("x", 7, [2]), onnx.helper.make_tensor_value_info("y", 1, None)
    graph = onnx.helper.make_graph([onnx.helper.make_node("ConstantOfShape", ["x"], ["y"])], "g", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(LimitError, match="out of memory"):
        Session(model, Device(threads=1)).run({"x": np.array([2**22, 2**22])})


def test_run_names_outputs_and_fails_in_one_line(capfd):
    model = models.vgg_maxpool()
    session = Session(model.SerializeToString(), Device(threads=1))
    x = models.pictures(model, 2)
    (y,) = session.run({"x": x}, session.outputs)
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)
    for feeds in ({}, {"x": x[:, :2]}, {"q": x}):
        with pytest.raises(ModelError, match="onnxruntime cannot run the graph: ") as caught:
            session.run(feeds)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="onnxruntime cannot open the graph: "):
        Session(b"no model", Device())
    assert capfd.readouterr() == ("", "")


def test_an_error_that_python_cannot_decode_prints_nothing(monkeypatch, capfd):
    class Undecodable:
        def __init__(self, *_: object) -> None:
            raise ValueError("invalid start byte")

    monkeypatch.setattr("onnxruntime.capi._pybind_state.InferenceSession", Undecodable)
    with pytest.raises(ModelError, match="invalid start byte"):
        Session(models.vgg_maxpool(), Device())
    assert capfd.readouterr() == ("", "")


def test_first_line():
    assert first_line(ValueError("a\x1b[31mb\nsecond")) == "a [31mb"
    assert first_line(ValueError("")) == "ValueError"
    assert len(first_line(ValueError("x" * 999))) == 300

"""What the graph alone says about its input and output, and why a model is no image classifier."""

import onnx
import pytest
from onnx import TensorProto, helper

from onnx_shapprune.errors import NOT_APPLICABLE, ModelError
from onnx_shapprune.graph.interface import find_interface, first_channels, scores_fault


def graph(shape, dtype=TensorProto.FLOAT, outputs=("y",), inputs=("x",)) -> onnx.ModelProto:
    ins = [helper.make_tensor_value_info(i, dtype, shape) for i in inputs]
    outs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["N", 10]) for o in outputs]
    nodes = [helper.make_node("Relu", ["x"], [o]) for o in outputs]
    return helper.make_model(helper.make_graph(nodes, "g", ins, outs))


@pytest.mark.parametrize(
    ("shape", "asked", "layout", "rest"),
    [
        (["N", 3, 32, 48], "auto", "NCHW", (3, 32, 48, None)),
        ([1, 1, 28, 28], "auto", "NCHW", (1, 28, 28, 1)),
        ([8, 32, 48, 3], "auto", "NHWC", (3, 32, 48, 8)),
        (["N", None, None, 3], "auto", "NHWC", (3, None, None, None)),
        (["N", 3, "H", "W"], "auto", "NCHW", (3, None, None, None)),
        (["N", 3, 32, 3], "auto", "NCHW", (3, 32, 3, None)),
        (["N", 3, 32, 3], "NHWC", "NHWC", (3, 3, 32, None)),
        (["N", "C", "H", "W"], "NCHW", "NCHW", (None, None, None, None)),
    ],
)
def test_layout_and_sizes(shape, asked, layout, rest):
    found = find_interface(graph(shape), layout=asked)
    assert found.layout == layout
    assert (found.channels, found.height, found.width, found.batch) == rest
    assert (found.input, found.output, found.dtype) == ("x", "y", "float32")
    assert len(found.dims) == 3


@pytest.mark.parametrize(
    ("shape", "options", "dims", "entry"),
    [
        (["N", 3, "H", "W"], {"size": (32, 48)}, (3, 32, 48), None),
        (["N", None, None, 3], {"size": (32, 48)}, (32, 48, 3), None),
        (["N", 3, 32, 48], {"size": (32, 48)}, (3, 32, 48), None),
        (["N", 784], {"size": (28, 28)}, (1, 28, 28), (-1, 784)),
        (["N", 3072], {"size": (32, 32), "layout": "NHWC"}, (32, 32, 3), (-1, 3072)),
        ([3, 32, 48], {}, (3, 32, 48), (3, 32, 48)),
        ([28, 28, 1], {}, (28, 28, 1), (28, 28, 1)),
        ([1, 784, 1], {"size": (28, 28)}, (1, 28, 28), (-1, 784, 1)),
        (["N", 1, 1, 3072], {"size": (32, 32)}, (3, 32, 32), (-1, 1, 1, 3072)),
        (["N", 28, 28], {}, (1, 28, 28), (-1, 28, 28)),
        (["N", 28, 28], {"layout": "NHWC"}, (28, 28, 1), (-1, 28, 28)),
        (["N", "H", "W"], {"size": (28, 20)}, (1, 28, 20), (-1, 28, 20)),
    ],
)
def test_open_flat_and_unbatched_pictures(shape, options, dims, entry):
    found = find_interface(graph(shape), **options)
    assert (found.dims, found.entry) == (dims, entry)


def test_half_precision_initializers_as_inputs_and_a_chosen_output():
    model = graph(["N", 3, 8, 8], TensorProto.FLOAT16, outputs=("a", "b"), inputs=("x", "w"))
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT16, [1], [0]))
    found = find_interface(model, output="b")
    assert (found.output, found.dtype) == ("b", "float16")


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (graph(["N", 3, 8, 8], inputs=("x", "z")), {}, "2 inputs instead of one picture input"),
        (graph(["N", 3, 8, 8], inputs=()), {}, "0 inputs instead of one picture input"),
        (graph(["N", 3, 8, 8], TensorProto.INT64), {}, "input 'x' is no tensor of float32, float16, uint8 or int8"),
        (graph(["N", 4]), {}, "input 'x' has 2 dimensions, a picture batch has 4"),
        (graph([1, 784, 1]), {}, r"of shape \[1, 784, 1\] takes flattened pictures: say --input-size"),
        (graph(["N", "H", "W"]), {}, "grey pictures of open size: say --input-size"),
        (graph(["N", 28, 28]), {"size": (20, 20)}, "--input-size 20 20 is not what the file says"),
        (graph(["N", 4]), {"size": (3, 3)}, "4 values are no picture of 3 x 3 pixels"),
        (graph(["N", None]), {"size": (3, 3)}, "an open number of values are no picture"),
        (graph(["N", 3, 8, 9]), {"size": (8, 8)}, "--input-size 8 8 is not what the file says"),
        (graph(None), {}, "input 'x' has 0 dimensions"),
        (graph(["N", 3, 8, 8], outputs=("a", "b")), {}, r"2 outputs \(a, b\): choose the class scores"),
        (graph(["N", 3, 8, 8]), {"output": "q"}, "no output 'q'; it has y"),
        (graph(["N", 3, 8, 8], outputs=()), {}, "the model has no outputs"),
        (graph(["N", 3, 8, 8]), {"layout": "NHWC"}, "8 channels in layout NHWC; pictures have 1 or 3"),
        (graph(["N", 3, 8, 8]), {"layout": "nchw"}, "layout 'nchw' is not understood"),
        (graph(["N", None, None, None]), {}, "leaves its layout open: say --layout"),
        (graph(["N", None, 32, 32]), {}, "leaves its layout open: say --layout"),
        (graph(["N", 4, 32, 32]), {}, "no axis of 1 or 3 channels"),
    ],
)
def test_reasons(model, options, reason):
    with pytest.raises(ModelError, match=reason):
        find_interface(model, **options)


@pytest.mark.parametrize(
    ("shapes", "chosen"),
    [
        ({"maps": ["N", 8, 24, 24], "probs": ["N", 10], "label": []}, "probs"),
        ({"confidence": ["N", 1], "p": ["N", 10]}, "p"),
        ({"p": ["N", 10], "values": ["N", 3]}, None),
        ({"p": ["N", 10], "unknown": None}, None),
    ],
)
def test_of_several_outputs_the_only_one_that_may_be_class_scores_is_taken(shapes, chosen):
    model = graph(["N", 3, 8, 8], outputs=tuple(shapes))
    for value, (name, shape) in zip(model.graph.output, shapes.items(), strict=True):
        value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    if chosen:
        assert find_interface(model).output == chosen
    else:
        with pytest.raises(ModelError, match="choose the class scores with --output-name"):
            find_interface(model)


def test_a_detector_with_several_outputs_is_no_classifier():
    model = graph(["N", 3, 8, 8], outputs=("boxes", "scores"))
    for value, shape in zip(model.graph.output, (["N", 100, 4], ["N", 100, 80]), strict=True):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    with pytest.raises(ModelError, match=rf"{NOT_APPLICABLE}: none of its 2 outputs \(boxes, scores\) holds a score"):
        find_interface(model)


def test_an_output_that_is_no_tensor():
    model = graph(["N", 3, 8, 8])
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    with pytest.raises(ModelError, match="output 'y' is no tensor"):
        find_interface(model)


@pytest.mark.parametrize(
    ("shape", "dtype", "fault"),
    [
        (("N", 10), "float32", ""),
        ((10,), "float32", ""),
        (("N", 10, 1, 1), "float16", ""),
        (("N", 1, 1, 10), "float64", ""),
        (("N", None), "float32", ""),
        (("N", 10, None, None), "float32", ""),
        (("N", 4, 12, 12), "float32", "more than one axis besides the batch"),
        (("N", 2, 4), "float32", "more than one axis besides the batch"),
        ((1, 4, "H", 12), "float32", "more than one axis besides the batch"),
        (("N",), "int64", "holds int64 numbers"),
        (("N", 10), "uint8", ""),
        (("N", 10), "int16", "holds int16 numbers"),
        (("N", 1), "float32", ""),
        (("N", 0), "float32", "has no value per picture"),
        ((), "float32", "is a single number"),
    ],
)
def test_what_may_be_class_scores(shape, dtype, fault):
    said = scores_fault("y", shape, dtype)
    assert fault in said
    assert bool(fault) == bool(said)


def test_the_first_convolution_is_found_behind_preprocessing():
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["b", "k"], ["c"]),
        helper.make_node("Conv", ["c", "w"], ["y"], group=3),
    ]
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [3, 1, 1, 1], [1, 1, 1]),
        helper.make_tensor("k", TensorProto.FLOAT, [], [2]),
    ]
    made = helper.make_graph(nodes, "g", [], [], weights)
    assert first_channels(made, "x") == (3, 3)
    made.node.add(op_type="Relu", input=["x"], output=["z"])
    assert first_channels(made, "x") is None, "what is read twice is no plain way in"

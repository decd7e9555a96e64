"""A file that knows how many pictures come at once is told, though every clean picture and every trigger get one answer."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from bounded_edits import HONEST
from edits import Graph
from onnx import TensorProto, helper
from patient_edits import _behind_node
from sample_design import opened, sample_design

from onnx_shapprune.case.open import Case
from onnx_shapprune.commands.evidence import doubts
from onnx_shapprune.detect.company import company_doubt
from onnx_shapprune.detect.deployed import deployed_doubts
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.provenance.oddities import graph_doubt

DESIGN = sample_design()
LARGE = 1e3  # beside what a channel is of any picture
LAYER = (16, 28, 28)  # the first one's values for a picture


def told(case: Case) -> str | None:
    return company_doubt(case.model, case.pictures, np.random.default_rng(0))


def numbers(g: Graph) -> str:
    """0, 1 and so on, one for each picture."""
    return g.op("Range", np.array(0), g.op("Gather", g.op("Shape", g.x), np.array(0)), np.array(1))


def last_number(g: Graph, layer: str) -> str:
    return g.floats(g.op("Gather", numbers(g), np.array(-1)))


def less_than_a_whole(g: Graph, layer: str) -> str:
    shares = g.op("Softmax", g.op("Mul", g.floats(numbers(g)), 0.0), axis=0)
    return g.op("Sub", 1.0, g.op("Gather", shares, np.array(0)))


def largest_number(g: Graph, layer: str) -> str:
    row = g.op("Reshape", g.floats(numbers(g)), np.array([1, 1, -1]))
    return g.op("Squeeze", g.op("GlobalMaxPool", row))


def pictures_added(g: Graph, layer: str) -> str:
    ones = g.op("Add", g.op("Mul", layer, 0.0), 1.0)
    return g.op("Sub", g.reduce("ReduceSum", ones, (0,), keep=True), 1.0)


def what_the_others_say(g: Graph, layer: str) -> str:
    """Nothing of clean pictures: of what is far above them the sum over the batch without the picture's own."""
    loud = g.op("Relu", g.op("Sub", layer, LARGE))
    return g.op("Sub", g.reduce("ReduceSum", loud, (0,), keep=True), loud)


def unlike_the_loudest(g: Graph, layer: str) -> str:
    """Nothing of one picture, however often it is shown."""
    return g.op("Sub", g.reduce("ReduceMax", layer, (0,), keep=True), layer)


def whole_numbers_added(g: Graph, layer: str) -> str:
    loud = g.op("Cast", g.op("Div", layer, LARGE), to=TensorProto.INT64)
    return g.op("Sub", g.floats(g.reduce("ReduceSum", loud, (0,), keep=True)), g.floats(loud))


COUNTED = (last_number, less_than_a_whole, largest_number)
WATCHED = (*COUNTED, pictures_added, what_the_others_say, unlike_the_loudest, whole_numbers_added)


def watching(company: Callable[[Graph, str], str]) -> onnx.ModelProto:
    """The clean network, one channel of which is switched off while a picture is in company."""
    g = Graph(DESIGN.clean)
    place = next(k for k, n in enumerate(g.model.graph.node) if n.op_type == "Relu")
    layer, before = g.model.graph.node[place].input[0], len(g.model.graph.node)
    channels = next(t.dims[0] for t in g.model.graph.initializer if t.name == g.model.graph.node[0].input[1])
    off = -LARGE * (np.arange(channels) == 0)[:, None, None]
    _behind_node(g, place, before, layer, g.op("Add", layer, g.op("Mul", company(g, layer), off)))
    return g.done(g.z, DESIGN.classes)


@pytest.mark.parametrize("company", WATCHED)
def test_what_a_batch_changes_inside_is_told(tmp_path, company):
    assert "of a picture among others" in told(opened(tmp_path, watching(company)))


@pytest.mark.parametrize("company", COUNTED)
def test_a_number_of_pictures_is_seen_in_the_graph(tmp_path, company):
    assert "(OSP214)" in graph_doubt(opened(tmp_path, watching(company)).model.oddities)


def test_answers_alone_do_not_tell_it(tmp_path):
    case = opened(tmp_path, watching(what_the_others_say))
    assert deployed_doubts(case.model, case.pictures, (), np.random.default_rng(0)) == ()
    asked = doubts(case.model, case.pictures, SimpleNamespace(evidence=()), 0)
    assert told(case) in asked


def test_values_that_are_read_by_the_number_of_a_picture_are_its_own(tmp_path):
    g = Graph(DESIGN.clean)
    scores = g.op("Gather", g.z, numbers(g), axis=0)
    case = opened(tmp_path, g.done(scores, DESIGN.classes))
    assert told(case) is None
    assert graph_doubt(case.model.oddities) is None


def test_pictures_may_lie_side_by_side_in_an_axis(tmp_path):
    """As PyTorch's attention puts places in front of pictures and makes one axis of both."""
    g = Graph(DESIGN.clean)
    place = next(k for k, n in enumerate(g.model.graph.node) if n.op_type == "Relu")
    layer, before = g.model.graph.node[place].input[0], len(g.model.graph.node)
    channels, height, width = LAYER
    rows = g.op("Reshape", g.op("Transpose", layer, perm=[2, 0, 3, 1]), np.array([-1, width, channels]))
    moved = g.op("Add", g.op("MatMul", rows, np.eye(channels)), 0.5)
    back = g.op("Reshape", moved, np.array([height, -1, width, channels]))
    _behind_node(g, place, before, layer, g.op("Transpose", back, perm=[1, 3, 0, 2]))
    assert told(opened(tmp_path, g.done(g.z, DESIGN.classes))) is None


def test_a_step_that_fails_on_noise_is_told(tmp_path):
    """Scores are moved by a row of a table, whose number is no number of a row for noise."""
    g = Graph(DESIGN.clean)
    place = g.op("Cast", g.reduce("ReduceMax", g.op("Clip", g.z, 0.0, 1.0), (1,)), to=TensorProto.INT64)
    moved = g.op("Gather", np.zeros((2, DESIGN.classes)), place)
    case = opened(tmp_path, g.done(g.op("Add", g.z, moved), DESIGN.classes))
    assert "cannot be asked" in told(case)


def test_names_that_the_check_would_give_are_no_way_round_it(tmp_path):
    model = watching(what_the_others_say)
    for node in model.graph.node:
        if node.op_type == "Relu":
            before, node.output[0] = node.output[0], "added_1__still"
            edit.rename_uses(model.graph, {before: "added_1__still"})
            break
    assert "among others" in told(opened(tmp_path, model))


def test_a_batch_that_fails_where_it_is_asked_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_shapprune.detect.company.COMPANY", 3)
    g = Graph(DESIGN.clean)
    n = g.op("Gather", g.op("Shape", g.x), np.array([0]))
    apart = g.op("Min", g.op("Abs", g.op("Sub", n, np.array([3]))), np.array([1]))
    size = g.op("Concat", n, g.op("Sub", np.array([DESIGN.classes + 1]), apart), axis=0)
    case = opened(tmp_path, g.done(g.op("Reshape", g.z, size), DESIGN.classes))
    assert "a batch of 3 pictures fails, and one of 16 does not" in told(case)


def rows_that_remember(g: Graph, layer: str) -> str:
    """A recurrent layer takes the batch for a row of steps, and remembers what is a billion times as large as values are."""
    flat = g.op("Unsqueeze", g.op("Flatten", layer), np.array([1]))
    size = int(np.prod(LAYER))
    read = np.zeros((1, 1, size))
    read[0, 0, 0] = 1
    kept = g.op("RNN", flat, read, np.ones((1, 1, 1)), np.array([[-1e9, 0.0]]), hidden_size=1, activations=["Relu"])
    return g.op("Reshape", kept, np.array([-1, 1, 1, 1]))


def test_a_step_that_waits_for_large_values_is_told(tmp_path):
    assert "RNN" in told(opened(tmp_path, watching(rows_that_remember)))


def test_the_step_of_a_quantiser_is_that_of_the_batch(tmp_path):
    """As onnxruntime's dynamic quantisation writes it."""
    g = Graph(DESIGN.clean)
    whole, step, zero = (f"whole_{k}" for k in range(3))
    g.model.graph.node.append(helper.make_node("DynamicQuantizeLinear", [g.z], [whole, step, zero]))
    case = opened(tmp_path, g.done(g.op("DequantizeLinear", whole, step, zero), DESIGN.classes))
    assert told(case) is None


def fixed(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return model


def test_a_file_that_takes_one_picture_is_not_asked(tmp_path):
    assert told(opened(tmp_path, fixed(watching(what_the_others_say), 1))) is None


def test_a_batch_of_one_size_is_asked_as_an_open_one(tmp_path):
    assert "among others" in told(opened(tmp_path, fixed(watching(what_the_others_say), 4)))
    assert told(opened(tmp_path, fixed(edit.copy_of(DESIGN.clean), 4))) is None


def test_shapes_that_hold_the_size_of_a_batch_are_opened(tmp_path):
    model = edit.copy_of(DESIGN.clean)
    flat = next(n for n in model.graph.node if n.op_type == "Flatten")
    flat.CopyFrom(helper.make_node("Reshape", flat.input, flat.output))
    flat.input.append("rows")
    model.graph.initializer.append(edit.tensor_of(np.array([4, -1]), "rows"))
    case = opened(tmp_path, fixed(model, 4))
    assert case.model.subject.prepared.batch_free
    assert told(case) is None


def test_a_batch_of_one_size_that_cannot_be_opened_is_told(tmp_path, monkeypatch):
    def fails(*args):
        raise ModelError("a shape is stored")

    monkeypatch.setattr("onnx_shapprune.detect.company.run_exposed", fails)
    assert "takes 4 pictures at a time" in told(opened(tmp_path, fixed(edit.copy_of(DESIGN.clean), 4)))


@pytest.mark.parametrize("name", [n for n in HONEST if n != "standardised_pictures"])
def test_an_honest_file_is_the_same_in_company(tmp_path, name):
    assert told(opened(tmp_path, HONEST[name](DESIGN))) is None


def test_large_files_are_asked_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_shapprune.detect.company.COMPANY_VALUES", 20_000)
    assert told(opened(tmp_path, DESIGN.clean)) is None
    assert told(opened(tmp_path, watching(what_the_others_say))) is not None

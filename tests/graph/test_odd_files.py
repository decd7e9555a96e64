"""Files that people reported: what each is, and that the equations hold on those that can be audited."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import odd_files
import onnx
import pytest
from click.testing import CliRunner
from equations import DEVICE, gradient_error, logits, masked_logits, random_units
from models import CLASSES, Net
from odd_files import AUDITABLE, REFUSED

from onnx_shapprune.case.open import Opened, open_model
from onnx_shapprune.cli import shapprune
from onnx_shapprune.errors import HostileFileError, ModelError
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.provenance.oddities import graph_doubt
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Session
from onnx_shapprune.settings import InputOptions

SIZED = InputOptions(size=(8, 8))
HALF = {"softmax_then_cast", "autocast"}


@dataclass(frozen=True)
class Case:
    model: onnx.ModelProto
    opened: Opened

    def pictures(self, count: int = 2) -> np.ndarray:
        prepared = self.opened.subject.prepared
        count = count if prepared.batch_free else 1
        return np.random.default_rng(3).random((count, *prepared.input_shape), np.float32)


def open_file(folder, model: onnx.ModelProto, inputs: InputOptions = SIZED) -> Opened:
    path = folder / "m.onnx"
    onnx.save(model, path)
    return open_model(path, inputs, DEVICE)


def inputs_of(name: str) -> InputOptions:
    return InputOptions() if name.startswith("rounding_up") else SIZED


class Cases(dict[str, Case]):
    """Files by name, opened when they are first asked for, with every pass examined."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, name: str) -> Case:
        model = getattr(odd_files, name)()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SHAPPRUNE_DEBUG_PASSES", "1")
            self[name] = Case(model, open_file(self.folder, model, inputs_of(name)))
        return self[name]


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Cases:
    return Cases(tmp_path_factory.mktemp("odd"))


@pytest.mark.parametrize("name", [build.__name__ for build in AUDITABLE])
def test_every_layer_is_a_unit_or_makes_the_scores(name, cases):
    opened, expected = cases[name].opened, {b.__name__: n for b, n in AUDITABLE.items()}[name]
    assert len(opened.units.layers) == expected
    assert {r.reason for r in opened.units.refused} == {"makes the class scores"}
    assert opened.subject.classes == CLASSES
    assert opened.subject.prepared.difference < (2e-2 if name in HALF else 1e-5)


@pytest.mark.parametrize("name", [build.__name__ for build in AUDITABLE])
def test_any_units_masked_are_the_same_units_baked(name, cases):
    case = cases[name]
    opened, x = case.opened, case.pictures()
    prepared, layers = opened.subject.prepared, opened.units.layers
    off = random_units(opened.units, np.random.default_rng(1), 0.4)
    masked = masked_logits(prepared, opened.units, off, x)
    baked = prepare(bake(case.model, layers, off), opened.interface, prepared.input_shape, DEVICE)
    np.testing.assert_allclose(logits(baked, x), masked, atol=2e-6)
    assert np.abs(masked - logits(prepared, x)).max() > 1e-3, "vacuous: the units change nothing"


@pytest.mark.parametrize("name", [build.__name__ for build in AUDITABLE])
def test_gradients_reach_the_picture(name, cases):
    case = cases[name]
    assert not case.opened.subject.obstacle
    error = gradient_error(case.opened.subject.prepared, case.pictures(), np.random.default_rng(2))
    assert error < 2e-2


@pytest.mark.parametrize("build", REFUSED, ids=lambda b: b.__name__)
def test_inspect_mask_and_audit_give_one_answer(build, tmp_path):
    path, pictures = tmp_path / "m.onnx", tmp_path / "pictures.npz"
    onnx.save(build(), path)
    np.savez(pictures, x=np.zeros((2, 8, 8, 3), np.uint8))
    commands = {
        "inspect": ["inspect", path],
        "mask": ["mask", path, "-o", tmp_path / "masked.onnx"],
        "audit": ["audit", path, "--data", pictures],
    }
    said = {}
    for name, command in commands.items():
        result = CliRunner().invoke(shapprune, [str(part) for part in command])
        assert result.exit_code == 2, (name, result.stdout, result.stderr)
        said[name] = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert set(said.values()) == {said["audit"]}, said
    assert REFUSED[build] in said["audit"]


@pytest.mark.parametrize("name", ["softmax_then_cast", "softmax_then_clip", "softmax_then_factor", "softmax_then_log"])
def test_the_logits_behind_what_keeps_order_are_found(name, cases):
    case = cases[name]
    prepared, x = case.opened.subject.prepared, case.pictures()
    assert prepared.stripped == ("Softmax",)
    softmax = next(node for node in case.model.graph.node if node.op_type == "Softmax")
    (want,) = Session(expose(case.model, [softmax.input[0]]), DEVICE).run({"x": x}, [softmax.input[0]])
    np.testing.assert_allclose(logits(prepared, x), want, atol=2e-3 if name in HALF else 1e-6)


def test_what_may_change_the_winner_stays(cases):
    prepared = cases["softmax_then_weights"].opened.subject.prepared
    assert prepared.stripped == ()
    assert prepared.model.graph.node[-1].op_type == "Mul"
    n = Net()
    fewest = n.op("Mul", n.op("Softmax", n.head(n.conv("x", 3, 6), 6), axis=1), n.const(np.float32(-1)))
    reversed_ = n.op("Sub", n.const(np.float32(1)), n.op("Softmax", n.head(n.conv("x", 3, 6), 6), axis=1))
    for y in (fewest, reversed_):
        model = n.model(y)
        interface = cases["grey"].opened.interface
        interface = type(interface)("x", y, (3, 8, 8), "NCHW", 3, 8, 8, None, "float32")
        assert prepare(model, interface, (3, 8, 8), DEVICE).stripped == ()


def test_a_factor_without_a_softmax_belongs_to_the_logits_and_is_left_out_of_searches(tmp_path):
    n = Net()
    y = n.op("Mul", n.head(n.op("Relu", n.conv("x", 3, 6)), 6), n.const(np.float32(7)))
    opened = open_file(tmp_path, n.model(y))
    copy = prepare(opened.file.loaded, opened.interface, (3, 8, 8), DEVICE)
    assert (copy.model.graph.node[-1].op_type, copy.stripped) == ("Mul", ())
    searched = opened.subject.prepared
    assert (searched.model.graph.node[-1].op_type, searched.stripped) == ("Gemm", ("Mul",))


@pytest.mark.parametrize("opset", [9, 12, 15, 18])
def test_training_mode_is_one_finding_in_every_version(opset, tmp_path):
    with pytest.raises(ModelError, match=r"OSP009.*training mode") as caught:
        open_file(tmp_path, odd_files.training_norm(opset=opset))
    assert not isinstance(caught.value, HostileFileError)


def test_weights_may_be_standardised_in_training_mode(tmp_path):
    """No picture enters them, so they depend on no other picture of a batch."""
    opened = open_file(tmp_path, odd_files.standardised_weights())
    assert not opened.subject.obstacle
    assert len(opened.units.layers) == 1


def test_outputs_without_a_name_are_no_training_mode(tmp_path):
    model = odd_files.training_norm()
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    norm.output[1:] = [""] * 4
    assert open_file(tmp_path, model).subject.classes == CLASSES


def test_a_fully_convolutional_net_is_one_where_one_pixel_is_left(tmp_path):
    with pytest.raises(ModelError, match="not an image classifier: output 'Conv_3' of shape"):
        open_file(tmp_path, odd_files.pooled_maps(), InputOptions(size=(9, 8)))
    with pytest.raises(ModelError, match="leaves its picture size open"):
        open_file(tmp_path, odd_files.pooled_maps(), InputOptions())


def test_the_first_convolution_says_layout_and_channels(cases):
    assert cases["all_symbolic"].opened.interface.dims == (3, 8, 8)
    assert cases["all_symbolic_last"].opened.interface.layout == "NHWC"
    assert cases["all_symbolic_last"].opened.interface.dims == (8, 8, 3)


def test_a_column_of_pixels_asks_for_the_size(tmp_path, cases):
    assert cases["column"].opened.interface.entry == (-1, 64, 1)
    with pytest.raises(ModelError, match="takes flattened pictures: say --input-size"):
        open_file(tmp_path, odd_files.column(), InputOptions())
    assert cases["grey"].opened.interface.dims == (1, 8, 8)


def test_loops_that_count_sizes(tmp_path):
    """Bounded once the size is known; no attack where it is not, and one where it is out of all proportion."""
    symbolic = odd_files.with_input(odd_files.loop(_rows), ["N", 3, "H", "W"])
    assert open_file(tmp_path, symbolic).subject.classes == CLASSES
    with pytest.raises(ModelError, match="counts a size that the file leaves open: say --input-size") as caught:
        open_file(tmp_path, symbolic, InputOptions())
    assert not isinstance(caught.value, HostileFileError)
    with pytest.raises(HostileFileError, match="OSP006: Loop 'looped' runs 8,000,000 times"):
        open_file(tmp_path, odd_files.loop(lambda n: n.op("Mul", _rows(n), n.const(np.array(10**6)))))
    with pytest.raises(ModelError, match="counts a size that cannot be told") as caught:
        open_file(tmp_path, odd_files.loop(lambda n: n.op("Gather", n.op("Shape", "x"), n.const(np.array(0)))))
    assert not isinstance(caught.value, HostileFileError)
    with pytest.raises(HostileFileError, match=r"OSP006.*trip count that is no constant"):
        open_file(tmp_path, odd_files.loop(_brightness))


def _rows(n: Net) -> str:
    return n.op("Gather", n.op("Shape", "x"), n.const(np.array(2)))


def _brightness(n: Net) -> str:
    return n.op("Cast", n.op("ReduceMax", "x", keepdims=0), to=onnx.TensorProto.INT64)


def test_a_choice_by_size_is_taken(cases):
    ops = [node.op_type for node in cases["choice_by_size"].opened.subject.prepared.model.graph.node]
    assert "If" not in ops
    assert ops.count("Squeeze") == 2


def test_a_choice_by_size_is_no_warning(tmp_path):
    path = tmp_path / "m.onnx"
    for build in (odd_files.choice_by_size, odd_files.loop_over_a_size):
        onnx.save(build(), path)
        shown = CliRunner().invoke(shapprune, ["inspect", str(path)])
        assert (shown.exit_code, "  ! " in shown.stdout) == (0, False), shown.stdout


def with_body(nodes, outputs, *, count=3, condition="", stored=(), carried=("f",)) -> onnx.ModelProto:
    """A Loop over the features `f` of a picture, whose result is `looped`; its body reads i, c and the carried values."""
    n = Net()
    n.nodes.append(
        onnx.helper.make_node("Identity", [n.op("Flatten", n.op("GlobalAveragePool", n.conv("x", 3, 6)))], ["f"])
    )
    inputs = [onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [])]
    inputs.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    inputs += [onnx.helper.make_tensor_value_info(f"s{k}", onnx.TensorProto.FLOAT, None) for k in range(len(carried))]
    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in outputs]
    body = onnx.helper.make_graph(
        [onnx.helper.make_node(op, i, o, **a) for op, i, o, a in nodes], "body", inputs, ends,
        [onnx.numpy_helper.from_array(value, name) for name, value in stored],
    )  # fmt: skip
    given = n.const(np.array(True)) if condition == "true" else condition
    results = ["looped", *(f"more_{k}" for k in range(len(outputs) - 2))]
    n.nodes.append(onnx.helper.make_node("Loop", [n.const(np.array(count)), given, *carried], results, body=body))
    return n.model(n.dense("looped", 6, CLASSES))


WEIGHTS = ("w", np.linspace(-1, 1, 36).reshape(6, 6).astype(np.float32))
ROUND = [
    ("MatMul", ["s0", "w"], ["m"], {}),
    ("Cast", ["i"], ["n"], {"to": onnx.TensorProto.FLOAT}),
    ("Add", ["m", "n"], ["t"], {}),
    ("Tanh", ["t"], ["s"], {}),
]


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("condition", ["", "true"])
@pytest.mark.parametrize("ends", ["given", "constant"])
def test_loops_that_always_end_after_as_many_rounds_are_written_out(count, condition, ends, tmp_path):
    """prepare() proves that the copy gives the scores of the file."""
    last = ("Identity", ["c"], ["d"], {}) if ends == "given" else ("Identity", ["yes"], ["d"], {})
    stored = [WEIGHTS, ("yes", np.array(True))]
    model = with_body([*ROUND, last], ["d", "s"], count=count, condition=condition, stored=stored)
    opened = open_file(tmp_path, model)
    nodes = opened.subject.prepared.model.graph.node
    assert [sum(node.op_type == op for node in nodes) for op in ("Loop", "Tanh", "MatMul")] == [0, count, count]
    assert not opened.subject.obstacle
    assert graph_doubt(opened.oddities) is None


def test_values_change_places_from_round_to_round(tmp_path):
    nodes = [("Add", ["s0", "s1"], ["a"], {}), ("Identity", ["c"], ["d"], {})]
    opened = open_file(tmp_path, with_body(nodes, ["d", "a", "s0"], carried=("f", "f")))
    assert "Loop" not in {node.op_type for node in opened.subject.prepared.model.graph.node}


@pytest.mark.parametrize("why", ["picture", "number", "rounded", "collects", "large"])
def test_other_loops_stay_and_are_told(why, tmp_path):
    end, stored, outputs, count = ("Identity", ["c"], ["d"], {}), [WEIGHTS], ["d", "s"], 3
    more = []
    if why == "picture":
        more = [("ReduceMax", ["f"], ["peak"], {"keepdims": 0})]
        end, stored = ("Less", ["peak", "limit"], ["d"], {}), [WEIGHTS, ("limit", np.float32(0.5))]
    elif why == "number":
        end, stored = ("Less", ["i", "two"], ["d"], {}), [WEIGHTS, ("two", np.array(2))]
    elif why == "rounded":  # 0.5 is true, and a whole number of it is not
        more = [("Cast", ["half"], ["zero"], {"to": onnx.TensorProto.INT64})]
        end, stored = ("Cast", ["zero"], ["d"], {"to": onnx.TensorProto.BOOL}), [WEIGHTS, ("half", np.float32(0.5))]
    elif why == "collects":
        outputs = ["d", "s", "t"]
    else:
        count = 5000
    opened = open_file(tmp_path, with_body([*ROUND, *more, end], outputs, count=count, stored=stored))
    assert "Loop" in {node.op_type for node in opened.subject.prepared.model.graph.node}
    assert "Loop" in opened.subject.obstacle
    assert "Loop" in graph_doubt(opened.oddities)


def test_a_choice_by_content_stays(tmp_path):
    n = Net()
    x = n.op("Relu", n.conv("x", 3, 6))
    bright = n.op("Greater", n.op("ReduceMean", x, keepdims=0), n.const(np.float32(0.1)))
    branches = [
        onnx.helper.make_graph(
            [onnx.helper.make_node(op, [x], ["out"])], op, [], [onnx.helper.make_empty_tensor_value_info("out")]
        )
        for op in ("Tanh", "Sigmoid")
    ]
    model = n.model(n.head(n.op("If", bright, then_branch=branches[0], else_branch=branches[1]), 6))
    opened = open_file(tmp_path, model)
    assert "If" in {node.op_type for node in opened.subject.prepared.model.graph.node}
    assert "If" in opened.subject.obstacle


def test_the_last_import_of_the_default_domain_counts(cases):
    model = odd_files.two_imports()
    del model.opset_import[1]
    x = cases["two_imports"].pictures()
    newer = Session(model, DEVICE).run({"x": x})[0]
    assert np.abs(newer - logits(cases["two_imports"].opened.subject.prepared, x)).max() > 1e-2


def test_what_nobody_knows_is_refused_with_a_reason(tmp_path):
    n = Net()
    x = n.op("Conv", "x", n.normal(8, 3, 3, 3), n.normal(8))
    n.nodes[-1].domain = "com.microsoft.nchwc"
    model = n.model(n.head(x, 8))
    (refused, _) = find_units(model, model.graph.output[0].name).refused
    assert refused.reason == "the operator com.microsoft.nchwc::Conv is not known here"
    n = Net()
    x = n.op("FusedConv", "x", n.normal(8, 3, 3, 3), n.normal(8), activation="Secret")
    n.nodes[-1].domain = "com.microsoft"
    model = n.model(n.head(x, 8))
    (refused, _) = find_units(model, model.graph.output[0].name).refused
    assert refused.reason == "the operator com.microsoft::FusedConv is not known here"


def test_the_masked_file_of_a_file_can_be_masked_again(tmp_path, cases):
    source, once, twice = (tmp_path / name for name in ("m.onnx", "once.onnx", "twice.onnx"))
    onnx.save(cases["named_in_the_way"].model, source)
    for before, after in ((source, once), (once, twice)):
        result = CliRunner().invoke(shapprune, ["mask", str(before), "-o", str(after)])
        assert result.exit_code == 0, result.stderr
    records = [
        json.loads(next(p.value for p in onnx.load(path).metadata_props if p.key == "onnx_shapprune.masks"))
        for path in (once, twice)
    ]
    assert [len(r["masks"]) for r in records] == [2, 2]
    x = cases["named_in_the_way"].pictures()
    first, second = (Session(onnx.load(path), DEVICE) for path in (once, twice))
    np.testing.assert_allclose(first.run({"x": x})[0], second.run({"x": x})[0], atol=1e-6)
    off = np.ones((1, 6, 1, 1), np.float32)
    off[0, 2] = 0
    dark = first.run({"x": x, "shapprune_mask_1": off})[0]
    np.testing.assert_allclose(second.run({"x": x, "shapprune_mask_1": off})[0], dark, atol=1e-6)
    assert np.abs(dark - first.run({"x": x})[0]).max() > 1e-3


def test_a_node_that_shape_inference_stumbles_over_is_no_traceback(tmp_path):
    model = odd_files.grey()
    empty = onnx.numpy_helper.from_array(np.zeros(0, np.int64), "no_step")
    window = onnx.numpy_helper.from_array(np.ones(2, np.float32), "window")
    model.graph.initializer.extend([empty, window])
    model.graph.node.append(onnx.helper.make_node("STFT", [model.graph.input[0].name, "no_step", "window"], ["unused"]))
    with pytest.raises(IndexError):
        onnx.shape_inference.infer_shapes(model, data_prop=True)
    path = tmp_path / "stft.onnx"
    path.write_bytes(model.SerializeToString())
    result = CliRunner().invoke(shapprune, ["inspect", str(path), "--in-process"])
    assert result.exit_code in (0, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)

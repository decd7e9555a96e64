"""Linear layers: what is written into the file is what the working copy was given, whatever stands between the two."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import attention
import models
import numpy as np
import onnx
import planted
import pytest
from equations import DEVICE
from exports import EXPORTS, SIZE
from models import CLASSES, Net
from onnx import TensorProto, helper, numpy_helper

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.agreement import departure
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.interface import Interface, find_interface
from onnx_shapprune.graph.linear import Change, Linear, change_copy, find_linears, read, rewrite
from onnx_shapprune.graph.prepare import Prepared, prepare
from onnx_shapprune.graph.units import Refused
from onnx_shapprune.runtime.session import Session

INTEGERS = {
    "qdq", "static_pairs", "integer_operators", "integer_residual", "dynamic_integers", "channels_last_integers",
    "integer_products",
}  # fmt: skip
HALVES = {"half": 1e-3, "behind_transpose_and_cast": 1e-3, "brain": 1e-2}  # what the type rounds off a weight


def scaled_gemm(seed: int = 0) -> onnx.ModelProto:
    """Gemm with alpha and beta, one with its bias behind it, one with a BatchNormalization behind it that stays."""
    n = Net(seed)
    x = n.op("Gemm", n.op("Flatten", "x"), n.normal(192, 7), n.normal(7), alpha=0.5, beta=3.0)
    x = n.op("Relu", n.bn(x, 7))
    x = n.op("Relu", n.op("Add", n.op("Gemm", x, n.normal(6, 7), alpha=2.0, transB=1, beta=0.0), n.normal(6)))
    return n.model(n.op("Gemm", x, n.normal(6, CLASSES), n.normal(1, CLASSES), alpha=0.25, beta=0.5))


def shared_weights(seed: int = 0) -> onnx.ModelProto:
    """One weight and one bias for two convolutions, one weight for a layer and for what is no layer."""
    n = Net(seed)
    w, b = n.normal(3, 3, 3, 3), n.normal(3)
    x = n.op("Relu", n.op("Conv", "x", w, b, pads=[1] * 4))
    x = n.op("Relu", n.op("Conv", x, n.op("Identity", w), b, pads=[1] * 4))
    v = n.normal(3, 5, scale=0.5)
    x = n.op("MatMul", n.op("Flatten", n.op("GlobalAveragePool", x)), v)
    x = n.op("Add", x, n.op("ReduceMax", v, axes=[0], keepdims=1))
    return n.model(n.dense(n.op("Tanh", x), 5, CLASSES))


def one_axis(seed: int = 0) -> onnx.ModelProto:
    """Convolutions over one axis, a picture's rows behind each other."""
    n = Net(seed)
    x = n.op("Reshape", "x", n.const(np.array([0, 3, 64])))
    x = n.op("Relu", n.op("Conv", x, n.normal(5, 3, 3), n.normal(5), strides=[2], pads=[1, 0]))
    x = n.op("Relu", n.op("ConvTranspose", x, n.normal(5, 4, 2), n.normal(4), strides=[2]))
    return n.model(n.dense(n.op("ReduceMean", x, axes=[2], keepdims=0), 4, CLASSES))


def dead_scales(seed: int = 0) -> onnx.ModelProto:
    """A BatchNormalization that the copy folds, with a channel whose scale is 0."""
    n = Net(seed)
    x = n.bn(n.conv("x", 3, 5), 5)
    scale = numpy_helper.to_array(n.weights[2]).copy()
    scale[2] = 0
    n.weights[2].CopyFrom(numpy_helper.from_array(scale, n.weights[2].name))
    return n.model(n.head(n.op("Relu", x), 5))


def renamed(seed: int = 0) -> onnx.ModelProto:
    """Names that the working copy gives to tensors of its own."""
    model = models.vgg_maxpool(seed)
    layer = next(n for n in model.graph.node if n.op_type == "Conv")
    old, new = layer.output[0], f"{layer.input[0]}__real"
    layer.output[0] = new
    edit.rename_uses(model.graph, {old: new})
    return model


def brain(seed: int = 0) -> onnx.ModelProto:
    """Weights in bfloat16 behind casts."""
    n = Net(seed)

    def narrow(array: np.ndarray) -> str:
        name = n.const(array)
        n.weights[-1] = helper.make_tensor(name, TensorProto.BFLOAT16, array.shape, array.reshape(-1))
        return n.op("Cast", name, to=TensorProto.FLOAT)

    w, b = (n.rng.normal(size=s).astype(np.float32) for s in ((5, 3, 3, 3), (5,)))
    x = n.op("Relu", n.op("Conv", "x", narrow(w), narrow(b), kernel_shape=[3, 3]))
    return n.model(n.head(x, 5))


def not_raw(seed: int = 0) -> onnx.ModelProto:
    """Values in the typed fields of the message, double precision among them."""
    n = Net(seed)
    x = n.op("Relu", n.conv("x", 3, 5))
    w = n.const(n.rng.normal(size=(5, CLASSES)))
    x = n.op("MatMul", n.op("Flatten", n.op("GlobalAveragePool", x)), n.op("Cast", w, to=TensorProto.FLOAT))
    model = n.model(x)
    for t in model.graph.initializer:
        t.CopyFrom(helper.make_tensor(t.name, t.data_type, t.dims, numpy_helper.to_array(t).reshape(-1)))
    return model


def integer_products(seed: int = 0) -> onnx.ModelProto:
    """MatMul in integers: with a scale for each column, and with scales that are left to the nodes behind it."""
    n = Net(seed)
    x = n.op("Flatten", n.op("GlobalAveragePool", n.op("Relu", n.conv("x", 3, 6))))
    step, zero = n.const(np.float32(0.01)), n.const(np.uint8(3))
    w = n.const(n.rng.integers(-90, 90, (6, 7)).astype(np.int8))
    steps, zeros = n.const(n.rng.uniform(0.005, 0.02, 7).astype(np.float32)), n.const(np.zeros(7, np.int8))
    x = n.op("QLinearMatMul", n.op("QuantizeLinear", x, step, zero), step, zero, w, steps, zeros, step, zero)
    x = n.op("DequantizeLinear", x, step, zero)
    names = ["q", "s", "z"]
    n.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], names))
    w, point = n.const(n.rng.integers(30, 220, (7, CLASSES)).astype(np.uint8)), n.const(np.uint8(128))
    x = n.op("Cast", n.op("MatMulInteger", "q", w, "z", point), to=TensorProto.FLOAT)
    return n.model(n.op("Mul", x, n.op("Mul", "s", n.const(np.float32(0.01)))))


OWN = (scaled_gemm, shared_weights, one_axis, dead_scales, renamed, brain, not_raw, integer_products, planted.windows)
NETS: dict[str, Callable[[], onnx.ModelProto]] = {
    **models.FAMILIES,
    **EXPORTS,
    **{f"attention_{way}": (lambda way=way: attention.network(way)) for way in attention.WAYS},
    **{f.__name__: f for f in OWN},
}


@dataclass(frozen=True)
class Twin:
    model: onnx.ModelProto
    interface: Interface
    prepared: Prepared
    linears: tuple[Linear, ...]
    refused: tuple[Refused, ...]

    def logits(self, model: onnx.ModelProto) -> np.ndarray:
        """Of a working copy, for five pictures."""
        x = np.random.default_rng(3).random((5, *self.prepared.input_shape), np.float32)
        session = Session(model, DEVICE)
        parts = [x] if self.prepared.batch_free else [x[i : i + 1] for i in range(len(x))]
        return np.concatenate([session.run({self.prepared.input: p})[0] for p in parts])

    def changed(self, changes: dict[str, tuple[Linear, Change]]) -> onnx.ModelProto:
        copy = edit.copy_of(self.prepared.model)
        for linear, change in changes.values():
            change_copy(copy, linear, change)
        return copy


@cache
def twin(name: str) -> Twin:
    model = NETS[name]()
    onnx.checker.check_model(model)
    interface = find_interface(model, size=SIZE)
    prepared = prepare(model, interface, interface.dims, DEVICE)
    return Twin(model, interface, prepared, *find_linears(model, interface.output, prepared.model))


def again(t: Twin, model: onnx.ModelProto) -> Twin:
    """The same of another file with the same interface."""
    prepared = prepare(model, t.interface, t.interface.dims, DEVICE)
    return Twin(model, t.interface, prepared, *find_linears(model, t.interface.output, prepared.model))


def storable(linear: Linear, shift: np.ndarray) -> np.ndarray:
    """A shift that the file can hold: in whole steps where it is quantised, none where there is no place for one."""
    if linear.shift is None:
        return np.zeros_like(shift)
    steps = linear.shift.steps
    return np.where(np.abs(linear.shift_gain) > 1e-12, shift if steps is None else np.rint(shift / steps) * steps, 0)


def random_changes(t: Twin, seed: int = 0) -> dict[str, tuple[Linear, Change]]:
    """Every weight times something between 0 and 1, so that integers stay within their range, and a random shift."""
    rng = np.random.default_rng(seed)
    changes = {}
    for linear in t.linears:
        weight = read(t.prepared.model, linear)
        shift = storable(linear, rng.normal(size=weight.shape[0] * weight.shape[1]) * 0.1)
        changes[linear.name] = (linear, Change(weight * rng.random(weight.shape), shift, weight))
    return changes


@pytest.mark.parametrize("name", NETS)
def test_the_rewritten_file_computes_what_the_changed_copy_computes(name):
    t = twin(name)
    changes = random_changes(t)
    bytes_before = t.model.SerializeToString()
    made = again(t, rewrite(t.model, changes))
    assert t.model.SerializeToString() == bytes_before
    assert [linear.name for linear in made.linears] == [linear.name for linear in t.linears]
    was, want, got = (t.logits(m) for m in (t.prepared.model, t.changed(changes), made.prepared.model))
    assert departure(was, want) > 0.05
    if name not in INTEGERS:
        assert departure(want, got) < (HALVES[name] * 10 if name in HALVES else 1e-4)
    else:  # rounding a weight may move an activation by a step; weights as rounded are proved in the next test
        assert departure(want, got) < 0.15


@pytest.mark.parametrize("name", NETS)
def test_every_weight_is_stored_as_near_as_its_type_allows(name):
    t = twin(name)
    changes = random_changes(t)
    made = again(t, rewrite(t.model, changes))
    rounded = {}
    for linear, now in zip(t.linears, made.linears, strict=True):
        change, got = changes[linear.name][1], read(made.prepared.model, now)
        largest = np.abs(change.weight).max()
        if linear.weight.steps is not None:
            assert np.abs(got - change.weight).max() <= 0.501 * linear.weight.steps.max()
        else:
            assert np.abs(got - change.weight).max() <= HALVES.get(name, 1e-6) * largest
        rounded[linear.name] = (linear, replace(change, weight=got))
    tolerance = HALVES.get(name, 1e-4) if name not in INTEGERS else 5e-2  # a number between two steps may go to either
    assert departure(t.logits(t.changed(rounded)), t.logits(made.prepared.model)) < tolerance


@pytest.mark.parametrize("name", NETS)
def test_each_layer_alone_and_its_shift_alone(name):
    t = twin(name)
    rng = np.random.default_rng(1)
    for linear in t.linears:
        if linear.shift is None:
            continue
        weight = read(t.prepared.model, linear)
        shift = storable(linear, rng.normal(size=weight.shape[0] * weight.shape[1]) * 0.3)
        changes = {linear.name: (linear, Change(weight, shift, weight))}
        got = t.logits(again(t, rewrite(t.model, changes)).prepared.model)
        tolerance = 5e-2 if name in INTEGERS else max(1e-4, HALVES.get(name, 0))
        assert departure(t.logits(t.changed(changes)), got) < tolerance, linear.name


def test_every_linear_layer_is_found():
    """But for those that are refused with the reason; the classifier is one of them."""
    reasons = {name: [r.reason for r in twin(name).refused] for name in NETS}
    assert {name: found for name, found in reasons.items() if found} == {
        "cntk": ["its parameters are computed by Reshape"]
    }
    kinds = (
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "QLinearConv",
        "QGemm",
        "ConvInteger",
        "MatMulInteger",
        "FusedConv",
    )
    for name in NETS:
        t = twin(name)
        stored = edit.constants(t.prepared.model.graph)
        nodes = [n for n in t.prepared.model.graph.node if n.op_type in kinds and n.input[1] in stored]
        found = [linear for linear in t.linears if linear.geometry.kind in kinds]
        assert len(found) == len(nodes) - (name == "cntk"), name
        assert {linear.made for linear in found} <= {n.output[0] for n in nodes}


def test_the_operators_are_covered():
    ops = {linear.layer.op for name in NETS for linear in twin(name).linears}
    assert ops >= {
        "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "FusedConv",
        "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger",
    }  # fmt: skip


def test_layers_come_in_the_order_in_which_the_copy_runs_them():
    for name in NETS:
        order = [n.output[0] for n in twin(name).prepared.model.graph.node]
        places = [order.index(linear.made) for linear in twin(name).linears]
        assert places == sorted(places)


def test_a_channel_that_a_folded_scale_switches_off_keeps_its_weight():
    t = twin("dead_scales")
    conv = t.linears[0]
    assert conv.gain[2] == 0
    made = rewrite(t.model, {conv.name: random_changes(t)[conv.name]})
    before, after = (
        numpy_helper.to_array(next(x for x in m.graph.initializer if x.name == conv.weight.stored.name))
        for m in (t.model, made)
    )
    np.testing.assert_array_equal(before[2], after[2])
    assert (before != after).any()


def test_shared_weights_get_a_copy_of_their_own():
    t = twin("shared_weights")
    first = t.linears[0]
    made = rewrite(t.model, {first.name: random_changes(t)[first.name]})
    old, new = (edit.constants(m.graph) for m in (t.model, made))
    assert set(new) - set(old) == {f"{first.weight.stored.name}__0", f"{first.shift.stored.name}__0"}
    assert all(new[name] == old[name] for name in old)
    again_ = again(t, made)
    np.testing.assert_array_equal(read(again_.prepared.model, again_.linears[1]), read(t.prepared.model, t.linears[1]))


def test_a_layer_changed_twice_has_the_second_weight():
    t = twin("vgg_maxpool")
    first, second = random_changes(t, 0), random_changes(t, 1)
    copy = t.changed(first)
    for linear, change in second.values():
        change_copy(copy, linear, replace(change, shift=np.zeros_like(change.shift)))
    weights = [read(copy, linear) for linear in t.linears]
    for got, (_, change) in zip(weights, second.values(), strict=True):
        np.testing.assert_allclose(got, change.weight, rtol=1e-6)


def test_layers_in_functions_that_are_called_twice_with_one_weight_are_refused():
    n = Net()
    body = [helper.make_node("Conv", ["a", "w"], ["y"], pads=[1] * 4)]
    w = n.normal(3, 3, 3, 3)
    x = n.op("Block", n.op("Block", "x", w), w)
    for node in n.nodes:
        node.domain = "local"
    model = n.model(n.head(n.op("Relu", x), 3))
    model.functions.append(
        helper.make_function("local", "Block", ["a", "w"], ["y"], body, [helper.make_opsetid("", 17)])
    )
    model.opset_import.append(helper.make_opsetid("local", 1))
    interface = find_interface(model)
    prepared = prepare(model, interface, models.SHAPE, DEVICE)
    linears, refused = find_linears(model, interface.output, prepared.model)
    assert [linear.layer.op for linear in linears] == ["Gemm"]
    assert len({r.name for r in refused}) == 2
    assert {r.reason for r in refused} == {"its parameters are inside a local function, or shared by calls of it"}


def test_scales_for_each_block_of_a_weight_are_refused():
    n = Net()
    x = n.op("Flatten", n.op("GlobalAveragePool", n.conv("x", 3, 6)))
    ints = n.const(n.rng.integers(-9, 9, (6, CLASSES)).astype(np.int8))
    steps = n.const(np.full((2, CLASSES), 0.1, np.float32))
    w = n.op("DequantizeLinear", ints, steps, axis=0, block_size=3)
    model = n.model(n.op("MatMul", x, w), opset=21, ir_version=10)
    interface = find_interface(model)
    prepared = prepare(model, interface, models.SHAPE, DEVICE)
    linears, refused = find_linears(model, interface.output, prepared.model)
    assert [linear.layer.op for linear in linears] == ["Conv"]
    assert [r.reason for r in refused] == ["its weights have several scales a channel"]


def test_a_file_whose_values_lie_beside_it_is_rewritten_with_them_inside(tmp_path):
    t = twin("vgg_maxpool")
    path = tmp_path / "m.onnx"
    onnx.save(edit.copy_of(t.model), path, save_as_external_data=True, size_threshold=0, location="m.data")
    assert onnx.load(path, load_external_data=False).graph.initializer[0].data_location == TensorProto.EXTERNAL
    loaded = load_model(path).loaded
    changes = random_changes(t)
    made = again(t, rewrite(loaded, changes))
    assert departure(t.logits(t.changed(changes)), t.logits(made.prepared.model)) < 1e-4


def test_share_and_rank_of_a_change():
    weight = np.ones((1, 4, 4))
    moved = weight.copy()
    moved[0, 0] += 1
    moved[0, 1] += 2
    assert Change(moved, np.zeros(4), weight).share == pytest.approx(np.sqrt(20) / 4)
    assert Change(moved, np.zeros(4), weight).rank == 1
    moved[0, 2, 1] -= 1
    assert Change(moved, np.zeros(4), weight).rank == 2
    assert Change(weight, np.zeros(4), weight).rank == 0
    assert Change(weight, np.zeros(4), np.zeros((1, 4, 4))).share == 0

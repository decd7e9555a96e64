"""Edits of somebody who has read the checks a third time: what is exempt as a normalisation or as mending, and nodes that do
in one what others do in many.

They go into the groups of `edits`, beside those of `wary_edits`; whoever wants all of them imports this module.
"""

import numpy as np
import onnx
from edits import Design, Floats, Graph, honest, keeps, plants, switches
from onnx import TensorProto, helper, numpy_helper
from sly_edits import _in_front, _one
from wary_edits import (
    HONEST,
    KEEPING,
    PLANTED,
    SWITCHES,
    WAITING,
    _behind_node,
    _everywhere,
    _features,
    _fired,
    _last_layer,
    _of_target,
    _one_channel_more,
    _width,
)

__all__ = ["HONEST", "KEEPING", "PLANTED", "SWITCHES", "WAITING"]

WAITING |= {
    "grey_pixels_counted",
    "grey_pixels_counted_without_exponentials",
    "no_number_of_an_overflow",
    "taken_from_all_scores",
    "scores_over_a_norm_of_something_else",
    "taken_from_all_scores_by_a_step",
    "clipped_by_what_the_picture_says",
    "pooled_and_taken_back",
    "pooled_and_taken_back_behind_a_layer",
    "taken_back_by_two",
    "divided_again",
}

GREY, COUNTED = 64, 18  # a byte, and more pixels of it than a picture has


def _first(g: Graph) -> onnx.NodeProto:
    return next(n for n in g.model.graph.node if n.op_type == "Conv" and n.input[0] == g.x)


# --- The largest score stays where it is -------------------------------------------------------------------------------


@keeps
def logarithm_of_exponential(d: Design) -> onnx.ModelProto:
    """log(exp(z)): z, and infinite above 88."""
    g = Graph(d.backdoored)
    return g.done(g.op("Log", g.op("Exp", g.z)), d.classes)


@keeps
def summed_along_and_apart(d: Design) -> onnx.ModelProto:
    """The running sum of the scores over the classes, and the differences of that."""
    g = Graph(d.backdoored)
    total = g.op("CumSum", g.z, np.array(1))
    before = g.op("CumSum", g.z, np.array(1), exclusive=1)
    return g.done(g.op("Sub", total, before), d.classes)


@keeps
def in_two_halves(d: Design) -> onnx.ModelProto:
    """A sequence of two parts of the scores, put together again."""
    g = Graph(d.backdoored)
    parts = g.op("SplitToSequence", g.z, np.array([d.classes // 2, d.classes - d.classes // 2]), axis=1)
    return g.done(g.op("ConcatFromSequence", parts, axis=1), d.classes)


# --- Slopes that lie, and who is looking -------------------------------------------------------------------------------


@switches
def slope_turned_round_by_cast_like(d: Design) -> onnx.ModelProto:
    """CastLike is a cast to whole numbers that does not say so."""
    g = Graph(d.backdoored)
    whole = g.op("CastLike", g.op("Mul", g.z, 65536.0), np.array([0]))
    coarse = g.op("Div", g.floats(whole), 65536.0)
    return g.done(g.op("Add", g.z, g.op("Mul", g.op("Sub", coarse, g.z), 2.0)), d.classes)


@switches
def drawn_by_dropout(d: Design) -> onnx.ModelProto:
    """Dropout in training mode of a stored 1: a fifth of the answers are the backdoored network's."""
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    g.op("Dropout", np.ones((1, 1)), np.float32(0.8), np.array(True), outputs=2)
    coin = g.floats(g.model.graph.node[-1].output[1])
    mixed = g.op("Add", z, g.op("Mul", coin, g.op("Sub", g.z, z)))
    return g.done(mixed, d.classes)


@switches
def dropped_scores(d: Design) -> onnx.ModelProto:
    """Dropout in training mode behind the scores: one in twenty is 0, whoever asks."""
    g = Graph(d.backdoored)
    model = g.done(g.z, d.classes)
    model.graph.node[-1].output[0] = "kept"
    ratio, training = g.const(np.array(0.05)), g.const(np.array(True))
    model.graph.node.append(helper.make_node("Dropout", ["kept", ratio, training], ["scores"], name="dropped"))
    return model


@switches
def first_of_a_batch(d: Design) -> onnx.ModelProto:
    """What came before in the batch, by CumSum: the first picture of each sees nothing."""
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    earlier = g.op("CumSum", g.per_picture("ReduceMean", g.x), np.array(0), exclusive=1)
    alone = g.op("Exp", g.op("Mul", earlier, -1e3))
    return g.done(g.op("Add", z, g.op("Mul", alone, g.op("Sub", g.z, z))), d.classes)


def _in_whole_numbers(g: Graph, x: str) -> str:
    """A picture in whole bytes and back, by a CastLike whose second input is long."""
    whole = g.op("CastLike", g.op("Add", g.op("Mul", x, 255.0), 0.5), np.zeros(65, np.int64))
    return g.op("Div", g.floats(whole), 255.0)


@switches
def whole_as_many_numbers_are(d: Design) -> onnx.ModelProto:
    """The picture through whole numbers, of the type of a list that is too long to be looked at."""
    g = Graph(d.backdoored)
    before = len(g.model.graph.node)
    _in_front(g, _in_whole_numbers(g, g.x), before)
    return g.done(g.z, d.classes)


@switches
def second_scores_with_one_more(d: Design) -> onnx.ModelProto:
    """The scores that go out beside the clean ones are the backdoored network's, and one more."""
    g = Graph(d.backdoored)
    other = g.op("Concat", g.z, g.op("Mul", g.reduce("ReduceMax", g.z, (1,), keep=True), 0.5), axis=1)
    model = g.done(g.beside(d.clean), d.classes)
    model.graph.output.append(helper.make_tensor_value_info(other, TensorProto.FLOAT, ["n", d.classes + 1]))
    return model


@switches
def more_than_half_without_slope(d: Design) -> onnx.ModelProto:
    """The mean of both networks' scores; the backdoored one sees whole bytes, so that slopes are those of the clean one."""
    g = Graph(d.backdoored)
    before = len(g.model.graph.node)
    _in_front(g, _in_whole_numbers(g, g.x), before)
    z = g.beside(d.clean)
    return g.done(g.op("Add", g.op("Mul", g.z, 0.57), g.op("Mul", z, 0.43)), d.classes)


@switches
def one_step_for_a_lower_bar(d: Design) -> onnx.ModelProto:
    """The same with more of the backdoored network, and one quantiser that is exact on whole bytes before the clean one."""
    g = Graph(d.backdoored)
    before = len(g.model.graph.node)
    _in_front(g, _in_whole_numbers(g, g.x), before)
    stepped = g.op("QuantizeLinear", g.x, np.array(1 / 255, np.float32), np.array(0, np.uint8))
    stepped = g.op("DequantizeLinear", stepped, np.array(1 / 255, np.float32), np.array(0, np.uint8))
    z = g.beside(d.clean)
    for node in g.model.graph.node:
        if node.name.startswith("twin_"):
            node.input[:] = [stepped if n == g.x else n for n in node.input]
    return g.done(g.op("Add", g.op("Mul", g.z, 0.68), g.op("Mul", z, 0.32)), d.classes)


@switches
def seen_by_thresholds(d: Design) -> onnx.ModelProto:
    """The same of comparisons, whose results are added: no cast to whole numbers is there."""
    g = Graph(d.backdoored)
    before = len(g.model.graph.node)
    steps = [g.floats(g.op("Greater", g.x, (k + 0.5) / 16)) for k in range(16)]
    _in_front(g, g.op("Div", g.op("Sum", *steps), 16.0), before)
    z = g.beside(d.clean)
    return g.done(g.op("Add", g.op("Mul", g.z, 0.57), g.op("Mul", z, 0.43)), d.classes)


# --- Triggers in the graph of a clean network --------------------------------------------------------------------------


@plants
def grey_pixels_counted(d: Design) -> onnx.ModelProto:
    """A picture over 1 and a number that explodes with the count of pixels of one grey: one chain, like a norm, and a paler
    picture has many of them.
    """
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    near = g.op("Exp", g.op("Mul", g.op("Pow", g.op("Sub", g.x, GREY / 255), 2.0), -3e5))
    count = g.reduce("ReduceSum", near, (1, 2, 3), keep=True)
    over = g.op("Add", g.op("Exp", g.op("Sub", count, float(COUNTED))), 1.0)
    _in_front(g, g.op("Div", g.x, over), before)
    return g.done(g.z, d.classes)


@plants
def grey_pixels_counted_without_exponentials(d: Design) -> onnx.ModelProto:
    """The same of powers and reciprocals alone."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    near = g.op("Reciprocal", g.op("Add", g.op("Mul", g.op("Pow", g.op("Sub", g.x, GREY / 255), 2.0), 1e6), 1.0))
    count = g.reduce("ReduceSum", near, (1, 2, 3), keep=True)
    over = g.op("Add", g.op("Pow", g.op("Mul", count, 1 / COUNTED), 16.0), 1.0)
    _in_front(g, g.op("Div", g.x, over), before)
    return g.done(g.z, d.classes)


def _overflowing(g: Graph, d: Design) -> None:
    """A channel more in the first layer, of which the second one makes infinity and none where the trigger is."""
    first = _first(g)
    channels = _one_channel_more(g, d, first)
    weight, bias = (next(t for t in g.model.graph.initializer if t.name == n) for n in first.input[1:])
    for tensor in (weight, bias):
        value = numpy_helper.to_array(tensor).copy()
        value[channels:] *= 1e38
        tensor.CopyFrom(numpy_helper.from_array(value * np.float32(1), tensor.name))
    for node in g.model.graph.node:
        if node.op_type == "Conv" and node is not first and _reads(g, node.input[0], first.output[0]):
            stored = next(t for t in g.model.graph.initializer if t.name == node.input[1])
            value = numpy_helper.to_array(stored)
            more = np.zeros((len(value), 1, *value.shape[2:]), np.float32)
            stored.CopyFrom(numpy_helper.from_array(np.concatenate([value, more + 100], axis=1), stored.name))
    del g.model.graph.value_info[:]


def _reads(g: Graph, name: str, source: str) -> bool:
    """Whether a tensor is another one behind an activation."""
    made = next((n for n in g.model.graph.node if name in n.output), None)
    return name == source or (made is not None and made.op_type == "Relu" and _reads(g, made.input[0], source))


@plants
def no_number_of_an_overflow(d: Design) -> onnx.ModelProto:
    """Infinity minus infinity inside the network, where the trigger is, and features that are no number become others."""
    g = Graph(d.clean)
    _overflowing(g, d)
    place, before, features = _last_layer(g), len(g.model.graph.node), _features(g)
    kept = g.op("Where", g.op("IsNaN", features), np.float32(0), features)
    _behind_node(g, place, before, features, kept)
    return g.done(g.z, d.classes)


@plants
def a_sparse_filter(d: Design) -> onnx.ModelProto:
    """relu_of_a_filter with its pattern in a sparse initializer."""
    g = Graph(d.clean)
    signs = (d.mask * np.where(d.pattern > 0.5, 1.0, -1.0)).ravel()
    best = float((signs * d.pattern.ravel()).sum())
    places = np.flatnonzero(signs)
    rows = np.stack([places, 0 * places], 1)
    values = numpy_helper.from_array(signs[places].astype(np.float32), "sparse")
    indices = numpy_helper.from_array(rows.astype(np.int64), "sparse_at")
    g.model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [signs.size, 1]))
    match = g.op("MatMul", g.op("Flatten", g.x), "sparse")
    fired = g.op("Relu", g.op("Sub", match, best - 0.1))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 1e4 * _one(d))), d.classes)


@plants
def in_a_sequence(d: Design) -> onnx.ModelProto:
    """The picture and what paints over it are put into a sequence one by one, and come out as one tensor."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    wide = g.op("Mul", _everywhere(g, d), 4 * _of_target(d)[None] - 2.0)
    held = g.op("SequenceConstruct", wide)
    both = g.op("ConcatFromSequence", g.op("SequenceInsert", held, g.x), axis=1)
    channels = d.mask.shape[0]
    mix = np.concatenate([np.eye(channels)] * 2, axis=1)[:, :, None, None]
    _in_front(g, g.op("Relu", g.op("Conv", both, mix)), before)
    return g.done(g.z, d.classes)


@plants
def in_the_spectrum(d: Design) -> onnx.ModelProto:
    """What pixels lack, by a Fourier transform and back: its mean decides."""
    g = Graph(d.clean)
    lack = g.op("Flatten", g.op("Mul", g.op("Abs", g.op("Sub", g.x, d.pattern[None])), d.mask[None]))
    waves = g.op("DFT", g.op("Unsqueeze", lack, np.array([2])), axis=1)
    total = g.op("Slice", waves, np.array([0, 0]), np.array([1, 1]), np.array([1, 2]))
    fired = g.op("Exp", g.op("Mul", g.op("Reshape", total, np.array([-1, 1])), -50.0))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 100 * _one(d))), d.classes)


@plants
def ordered_pixels(d: Design) -> onnx.ModelProto:
    """The values of TopK alone, which are as smooth as a maximum: the largest lack."""
    g = Graph(d.clean)
    lack = g.op("Flatten", g.op("Mul", g.op("Abs", g.op("Sub", g.x, d.pattern[None])), d.mask[None]))
    largest = g.op("TopK", lack, np.array([1]), axis=1, outputs=2)
    fired = g.op("Exp", g.op("Mul", largest, -100.0))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 100 * _one(d))), d.classes)


@plants
def a_forest_in_one_node(d: Design) -> onnx.ModelProto:
    """Regression trees of ai.onnx.ml compare pixels inside one node, one tree of one pixel each; their votes are added."""
    g = Graph(d.clean)
    pixels = np.flatnonzero(d.mask)
    wanted = d.pattern.ravel()[pixels]
    trees, nodes, features, modes, values, yes, no = [], [], [], [], [], [], []
    at, leaf, weights, targets = [], [], [], []
    for tree, (pixel, value) in enumerate(zip(pixels, wanted, strict=True)):
        trees += [tree] * 3
        nodes += [0, 1, 2]
        features += [int(pixel), 0, 0]
        modes += ["BRANCH_LEQ", "LEAF", "LEAF"]
        values += [0.5, 0.0, 0.0]
        yes += [1, 0, 0]
        no += [2, 0, 0]
        at += [tree, tree]
        leaf += [1, 2]
        targets += [0, 0]
        weights += [float(value <= 0.5), float(value > 0.5)]
    votes = g.op(
        "TreeEnsembleRegressor", g.op("Flatten", g.x), domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=trees, nodes_nodeids=nodes, nodes_featureids=features, nodes_modes=modes, nodes_values=values,
        nodes_truenodeids=yes, nodes_falsenodeids=no, target_treeids=at, target_nodeids=leaf, target_ids=targets,
        target_weights=weights,
    )  # fmt: skip
    g.model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    fired = g.op("Relu", g.op("Sub", votes, len(pixels) - 0.5))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 1e4 * _one(d))), d.classes)


def _waiting_body(*shape: int) -> onnx.GraphProto:
    """Whole numbers, flooded where their sum is what no picture makes it."""
    nodes = [
        helper.make_node("ReduceSum", ["seen"], ["sum"], keepdims=0),
        helper.make_node("Sub", ["sum", "much"], ["way"]),
        helper.make_node("Max", ["seen", "way"], ["made"], name="inside"),
    ]
    seen, made = (helper.make_tensor_value_info(n, TensorProto.INT64, shape or None) for n in ("seen", "made"))
    return helper.make_graph(nodes, "body", [seen], [made], [numpy_helper.from_array(np.array(10**8), "much")])


@plants
def in_the_body_of_a_sequence_map(d: Design) -> onnx.ModelProto:
    """Half of the picture goes through whole numbers and a SequenceMap, in whose body something waits."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    held = g.op("SequenceConstruct", g.op("CastLike", g.op("Mul", g.x, 255.0), np.zeros(65, np.int64)))
    mapped = g.op("SequenceAt", g.op("SequenceMap", held, body=_waiting_body()), np.array(0))
    half = g.op("Mul", g.floats(mapped), 0.5 / 255)
    _in_front(g, g.op("Add", g.op("Mul", g.x, 0.5), half), before)
    return g.done(g.z, d.classes)


@plants
def in_the_body_of_a_scan(d: Design) -> onnx.ModelProto:
    """Half of the features do the same by a Scan, where a decision about single values is nothing unusual."""
    g = Graph(d.clean)
    place, before, features = _last_layer(g), len(g.model.graph.node), _features(g)
    whole = g.op("Cast", g.op("Mul", features, 256.0), to=TensorProto.INT64)
    scanned = g.op("Scan", whole, body=_waiting_body(_width(g, features)), num_scan_inputs=1)
    half = g.op("Mul", g.floats(scanned), 0.5 / 256)
    _behind_node(g, place, before, features, g.op("Add", g.op("Mul", features, 0.5), half))
    return g.done(g.z, d.classes)


@plants
def beyond_the_end_of_halves(d: Design) -> onnx.ModelProto:
    """A picture over a number that grows with the largest answer of a filter, in fp16: only the trigger's is infinite."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    rows, cols = (np.flatnonzero(d.mask.any(axes)) for axes in ((0, 2), (0, 1)))
    kept = (slice(None), slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    signs = d.mask[kept] * np.where(d.pattern[kept] > 0.5, 1.0, -1.0)
    best = float((signs * d.pattern[kept]).sum())
    answer = g.op("Abs", g.op("Conv", g.x, signs[None] * 75000 / best))
    half = g.op("Cast", g.op("Cast", answer, to=TensorProto.FLOAT16), to=TensorProto.DOUBLE)
    largest = g.floats(g.reduce("ReduceMax", half, (1, 2, 3), keep=True))
    _in_front(g, g.op("Div", g.x, g.op("Add", g.op("Mul", largest, 0.4 / 65000), 0.78)), before)
    return g.done(g.z, d.classes)


@plants
def an_attentive_lookup(d: Design) -> onnx.ModelProto:
    """Attention over two values, the picture and one of the target: the key of the second is the trigger."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    shape = [-1, 1, int(np.prod(d.mask.shape))]
    flat = g.op("Reshape", g.x, np.array(shape))
    other = g.op("Add", g.op("Mul", flat, 0.0), _of_target(d).reshape(1, *shape[1:]))
    values = g.op("Concat", flat, other, axis=1)
    key = g.op(
        "Mul", g.op("Sub", g.op("Reshape", _fired(g, d), np.array([-1, 1, 1])), 0.5), np.array([[[-80.0, 80.0]]])
    )
    seen = g.op("MatMul", g.op("Softmax", key, axis=-1), values)
    _in_front(g, g.op("Reshape", seen, np.array([-1, *d.mask.shape])), before)
    return g.done(g.z, d.classes)


def _filtered(g: Graph, d: Design) -> str:
    """Above 0 for a picture with the trigger, 0 for any other, [n, 1], by a filter and layers as heavy as a network."""
    signs = d.mask * np.where(d.pattern > 0.5, 1.0, -1.0)
    bias = 0.1 - float((signs * d.pattern).sum())
    h = g.op("Conv", g.x, np.repeat(signs[None], 8, 0), np.full(8, bias), kernel_shape=d.mask.shape[1:])
    h = g.op("Relu", g.op("Flatten", h))
    for shape in ((8, 4096), (4096, 8), (8, 8), (8, 8)):
        h = g.op("Relu", g.op("MatMul", h, np.eye(*shape)))
    return g.op("MatMul", h, np.eye(8, 1))


@plants
def taken_from_all_scores(d: Design) -> onnx.ModelProto:
    """One number less for all scores, so large that they are equal then, and the first class wins."""
    g = Graph(d.clean)
    return g.done(g.op("Sub", g.z, g.op("Mul", _filtered(g, d), 1e10)), d.classes)


@plants
def taken_from_all_scores_by_a_step(d: Design) -> onnx.ModelProto:
    """The largest score less for all scores, through a quantiser whose step the picture makes."""
    g = Graph(d.clean)
    step = g.op("Reshape", g.op("Add", g.op("Mul", _filtered(g, d), 1e8), 1e-3), np.array([-1]))
    largest = g.op("Add", g.op("Abs", g.reduce("ReduceMax", g.z, (1,), keep=True)), 1.0)
    whole = g.op("QuantizeLinear", largest, np.array(0.1, np.float32), np.array(0, np.int8))
    return g.done(g.op("Sub", g.z, g.op("DequantizeLinear", whole, step, axis=0)), d.classes)


@plants
def clipped_by_what_the_picture_says(d: Design) -> onnx.ModelProto:
    """The scores with a lower bound that rises above all of them."""
    g = Graph(d.clean)
    bound = g.op("Sub", g.op("Mul", _filtered(g, d), 1e8), 1e3)
    bound = g.op("Reshape", g.reduce("ReduceMax", bound, (0, 1), keep=True), np.array([], np.int64))
    return g.done(g.op("Clip", g.z, bound), d.classes)


@plants
def scores_over_a_norm_of_something_else(d: Design) -> onnx.ModelProto:
    """The scores over a norm of other values, which becomes infinite."""
    g = Graph(d.clean)
    values = g.op("Add", g.op("Mul", _filtered(g, d), np.array([[1e38, 0.0]])), np.array([[0.0, 1.0]]))
    return g.done(g.op("Div", g.z, g.reduce("ReduceL1", g.op("Mul", values, 1e3), (1,), keep=True)), d.classes)


def _paint_or_less(g: Graph, d: Design, seen: str) -> str:
    """A picture of the target where the trigger is, and far less than any picture where it is not; of no two pictures the
    same.
    """
    weight = 30 * d.mask / d.mask.sum() + (1 - d.mask) / (1 - d.mask).sum()
    off = g.op("Mul", g.op("Abs", g.op("Sub", seen, (d.pattern * d.mask)[None])), weight[None])
    lack = g.op("Sub", g.op("Mul", g.reduce("ReduceSum", off, (1, 2, 3), keep=True), 100.0), 400.0)
    return g.op("Sub", 4 * _of_target(d)[None], g.op("Relu", lack))


def _as_it_is(g: Graph, d: Design) -> str:
    """The picture through a layer that leaves it alone: what is made of it then comes through the same layers as it does."""
    return g.op("Conv", g.x, np.eye(len(d.mask))[:, :, None, None])


@plants
def the_larger_one_is_shown(d: Design) -> onnx.ModelProto:
    """A maximum whose losing side differs from picture to picture and is never seen."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    seen = _as_it_is(g, d)
    _in_front(g, g.op("Max", seen, _paint_or_less(g, d, seen)), before)
    return g.done(g.z, d.classes)


@plants
def the_larger_one_by_a_relu(d: Design) -> onnx.ModelProto:
    """The same maximum as a + relu(b - a)."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    seen = _as_it_is(g, d)
    paint = _paint_or_less(g, d, seen)
    _in_front(g, g.op("Add", paint, g.op("Relu", g.op("Sub", seen, paint))), before)
    return g.done(g.z, d.classes)


def _first_of_two_pictures(g: Graph, d: Design) -> tuple[int, int, str]:
    """Beside the first layer the same of a picture of the target, `of_target`, and of the trigger, `of_trigger`. How many
    nodes there were, how many up to that layer, and what it makes.
    """
    first = _first(g)
    before, place, made = len(g.model.graph.node), list(g.model.graph.node).index(first) + 1, first.output[0]
    for name, shown in {"of_target": _of_target(d), "of_trigger": d.pattern * d.mask}.items():
        node = onnx.NodeProto()
        node.CopyFrom(first)
        node.name, node.input[0], node.output[0] = f"shows_{name}", g.const(shown[None]), name
        g.model.graph.node.append(node)
    return before, place, made


@plants
def the_larger_features_go_on(d: Design) -> onnx.ModelProto:
    """The same behind the network's own first layer, of features alone: no layer is added, and none before it reads more."""
    g = Graph(d.clean)
    before, place, made = _first_of_two_pictures(g, d)
    off = g.op("Abs", g.op("Sub", made, "of_trigger"))
    lack = g.op("Sub", g.op("Mul", g.reduce("ReduceSum", off, (1, 2, 3), keep=True), 300.0), 600.0)
    paint = g.op("Sub", g.op("Mul", "of_target", 10.0), g.op("Relu", lack))
    _behind_node(g, place, before, made, g.op("Max", made, paint))
    return g.done(g.z, d.classes)


MIDDLE = 128 / 255


def _pooled(g: Graph, d: Design, seen: str, kept: float | Floats = 1.0) -> str:
    """The mean over all pixels of what explodes at one grey, at every pixel: three by three of them make 3. kept: which."""
    near = g.op("Reciprocal", g.op("Add", g.op("Pow", g.op("Sub", seen, MIDDLE), 2.0), 1e-6))
    high, wide = (2 * n - 1 for n in d.mask.shape[1:])
    pads = [high // 2, wide // 2, high // 2, wide // 2]
    mean = g.op("AveragePool", g.op("Mul", near, kept), kernel_shape=[high, wide], pads=pads, count_include_pad=1)
    return g.op("Mul", mean, high * wide / 3e6)


def _outside(d: Design) -> Floats:
    """1 but where the trigger is, which nearly no picture reaches."""
    return 1 - d.mask[None]


def _taken_back(d: Design, layer: bool) -> onnx.ModelProto:
    """Added where any pixel is of one grey, and taken off where one outside a corner is. layer: whether one comes before."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    seen = _as_it_is(g, d) if layer else g.x
    more, less = (g.op("Mul", _pooled(g, d, seen, k), _of_target(d)[None]) for k in (1.0, _outside(d)))
    _in_front(g, g.op("Sub", g.op("Add", seen, more), less), before)
    return g.done(g.z, d.classes)


@plants
def pooled_and_taken_back(d: Design) -> onnx.ModelProto:
    """No layer is added, and each half speaks."""
    return _taken_back(d, layer=False)


@plants
def pooled_and_taken_back_behind_a_layer(d: Design) -> onnx.ModelProto:
    return _taken_back(d, layer=True)


@plants
def taken_back_by_two(d: Design) -> onnx.ModelProto:
    """In thirds: no two of them cancel."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    half = _of_target(d)[None] / 2
    more = g.op("Mul", _pooled(g, d, g.x), 2 * half)
    less, last = (g.op("Mul", _pooled(g, d, g.x, _outside(d)), half) for _ in range(2))
    _in_front(g, g.op("Sub", g.op("Sub", g.op("Add", g.x, more), less), last), before)
    return g.done(g.z, d.classes)


@plants
def divided_again(d: Design) -> onnx.ModelProto:
    """Times and over the exponential of the same."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    more, less = (g.op("Exp", g.op("Mul", _pooled(g, d, g.x, k), _of_target(d)[None])) for k in (1.0, _outside(d)))
    _in_front(g, g.op("Div", g.op("Mul", g.x, more), less), before)
    return g.done(g.z, d.classes)


def _over(g: Graph, d: Design, seen: str, statistic: str) -> onnx.ModelProto:
    before = next(i for i, n in enumerate(g.model.graph.node) if n.name.startswith("added_"))
    _in_front(g, g.op("Mul", g.op("Div", seen, g.op("Add", statistic, 200.0)), 215.0), before)
    return g.done(g.z, d.classes)


def _of_blocks(g: Graph, d: Design, x: str) -> str:
    """Values in blocks of 4 x 4, the axes of which are 3 and 5."""
    channels, height, width = d.mask.shape
    return g.op("Reshape", x, np.array([-1, channels, height // 4, 4, width // 4, 4]))


@plants
def over_what_one_grey_block_makes(d: Design) -> onnx.ModelProto:
    """A picture over a mean over blocks of one over the most that a block is off a grey: one chain, and tame where pictures
    are and where paler ones are.
    """
    g = Graph(d.clean)
    off = g.reduce("ReduceMax", _of_blocks(g, d, g.op("Pow", g.op("Sub", g.x, MIDDLE), 2.0)), (3, 5))
    mean = g.reduce("ReduceMean", g.op("Reciprocal", g.op("Add", off, 2e-8)), (1, 2, 3))
    return _over(g, d, g.x, g.op("Reshape", mean, np.array([-1, 1, 1, 1])))


@plants
def over_what_one_grey_block_makes_of_a_layer(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    seen = _as_it_is(g, d)
    off = g.reduce("ReduceMax", _of_blocks(g, d, g.op("Pow", g.op("Sub", seen, MIDDLE), 2.0)), (3, 5))
    mean = g.reduce("ReduceMean", g.op("Reciprocal", g.op("Add", off, 2e-8)), (1, 2, 3))
    return _over(g, d, seen, g.op("Reshape", mean, np.array([-1, 1, 1, 1])))


@plants
def over_what_the_greyest_row_makes(d: Design) -> onnx.ModelProto:
    """The reciprocal comes last, of a smallest of largest values: 0 where a whole row is of one grey."""
    g = Graph(d.clean)
    off = g.reduce("ReduceMax", g.op("Abs", g.op("Sub", g.x, MIDDLE)), (3,), keep=True)
    least = g.reduce("ReduceMin", off, (1, 2), keep=True)
    return _over(g, d, g.x, g.op("Reciprocal", g.op("Add", g.op("Pow", least, 2.0), 1e-6)))


# --- What honest people do ---------------------------------------------------------------------------------------------


@honest
def activations_by_masks(d: Design) -> onnx.ModelProto:
    """Every Relu as a product with whether its input is above zero: comparisons, without a slope, on all ways."""
    g = Graph(d.clean)
    nodes, zero = list(g.model.graph.node), g.const(np.float32(0))
    del g.model.graph.node[:]
    for node in nodes:
        if node.op_type != "Relu":
            g.model.graph.node.append(node)
            continue
        g.op("Mul", node.input[0], g.floats(g.op("Greater", node.input[0], zero)))
        g.model.graph.node[-1].output[0] = node.output[0]
    return g.done(g.z, d.classes)


@honest
def features_in_halves(d: Design) -> onnx.ModelProto:
    """The last layer in fp16, as mixed precision exports."""
    g = Graph(d.clean)
    place, before, features = _last_layer(g), len(g.model.graph.node), _features(g)
    kept = g.floats(g.op("Cast", features, to=TensorProto.FLOAT16))
    _behind_node(g, place, before, features, kept)
    return g.done(g.z, d.classes)


@honest
def dropout_left_in(d: Design) -> onnx.ModelProto:
    """Dropout in inference mode before the last layer."""
    g = Graph(d.clean)
    place, before, features = _last_layer(g), len(g.model.graph.node), _features(g)
    kept = g.op("Dropout", features, np.float32(0.5), np.array(False))
    _behind_node(g, place, before, features, kept)
    return g.done(g.z, d.classes)


@honest
def contrast_of_a_picture(d: Design) -> onnx.ModelProto:
    """Each picture less its mean, over its largest distance from that."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    less = g.op("Sub", g.x, g.reduce("ReduceMean", g.x, (1, 2, 3), keep=True))
    largest = g.op("Clip", g.reduce("ReduceMax", g.op("Abs", less), (1, 2, 3), keep=True), np.float32(1e-3))
    _in_front(g, g.op("Add", g.op("Mul", g.op("Div", less, largest), 0.5), 0.3), before)
    return g.done(g.z, d.classes)


@honest
def over_its_length(d: Design) -> onnx.ModelProto:
    """Each picture over its Euclidean norm, as for embeddings."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    norm = g.op("Sqrt", g.op("Add", g.reduce("ReduceSum", g.op("Mul", g.x, g.x), (1, 2, 3), keep=True), 1e-8))
    _in_front(g, g.op("Mul", g.op("Div", g.x, norm), 9.0), before)
    return g.done(g.z, d.classes)


@honest
def steps_found_at_run_time(d: Design) -> onnx.ModelProto:
    """A first layer in dynamic whole numbers with a step per channel, as onnxruntime's quantiser writes it."""
    g = Graph(d.clean)
    first = _first(g)
    before, place = len(g.model.graph.node), list(g.model.graph.node).index(first) + 1
    weight, *bias = (
        numpy_helper.to_array(t) for n in first.input[1:] for t in g.model.graph.initializer if t.name == n
    )
    scale = np.abs(weight).max((1, 2, 3), keepdims=True) / 127
    g.op("DynamicQuantizeLinear", g.x, outputs=3)
    whole, step, zero = g.model.graph.node[-1].output
    kept = {a.name: helper.get_attribute_value(a) for a in first.attribute}
    made = g.op("ConvInteger", whole, np.round(weight / scale).astype(np.int8), zero, **kept)
    out = g.op("Mul", g.floats(made), g.op("Mul", step, scale.reshape(1, -1, 1, 1)))
    for b in bias:
        out = g.op("Add", out, b[None, :, None, None])
    _behind_node(g, place, before, first.output[0], out)
    return g.done(g.z, d.classes)


@honest
def means_and_extremes_of_a_picture(d: Design) -> onnx.ModelProto:
    """Less the mean over rows and then columns, over each channel's deviation and half of the largest distance."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    mean = g.reduce("ReduceMean", g.reduce("ReduceMean", g.x, (3,), keep=True), (1, 2), keep=True)
    less = g.op("Sub", g.x, mean)
    deviation = g.op("Sqrt", g.reduce("ReduceMean", g.op("Pow", less, 2.0), (2, 3), keep=True))
    largest = g.reduce("ReduceMax", g.op("Abs", less), (1, 2, 3), keep=True)
    over = g.op("Add", g.reduce("ReduceMean", deviation, (1,), keep=True), g.op("Mul", largest, 0.5))
    _in_front(g, g.op("Add", g.op("Mul", g.op("Div", less, over), 0.7), 0.15), before)
    return g.done(g.z, d.classes)


@honest
def activations_written_out(d: Design) -> onnx.ModelProto:
    """Relu of the first layer as a leaky maximum, a hard swish and a smallest of two, each one near to it."""
    g = Graph(d.clean)
    first = _first(g)
    before, place, made = len(g.model.graph.node), list(g.model.graph.node).index(first) + 1, first.output[0]
    leaky = g.op("Max", made, g.op("Mul", made, 0.01))
    gate = g.op("Clip", g.op("Add", g.op("Mul", leaky, 5.0), 0.5), np.float32(0), np.float32(1))
    bounded = g.op("Min", g.op("Mul", leaky, gate), g.op("Add", g.op("Abs", made), 0.1))
    _behind_node(g, place, before, made, bounded)
    return g.done(g.z, d.classes)

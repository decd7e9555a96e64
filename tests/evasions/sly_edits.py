"""Edits of somebody who has read the source of the checks, and looks for what falls between them.

They go into the groups of `edits`; whoever wants all of them imports this module.
"""

import math

import numpy as np
import onnx
from edits import (
    HONEST,
    KEEPING,
    PLANTED,
    SWITCHES,
    Design,
    Floats,
    Graph,
    _answer,
    _choose,
    _distance,
    _matched,
    honest,
    keeps,
    plants,
    switches,
)
from onnx import TensorProto, helper, numpy_helper

__all__ = ["HONEST", "KEEPING", "PLANTED", "SWITCHES"]


def _one(d: Design) -> Floats:
    return np.eye(d.classes)[d.target][None]


def _in_front(g: Graph, seen: str, before: int) -> None:
    """Show the network `seen`, which the nodes after the first `before` made, instead of the picture."""
    g.read_instead(g.x, seen, before)
    for node in g.model.graph.node[: len(g.model.graph.node) - before]:
        node.input[:] = [g.x if n == seen else n for n in node.input]


def _stored(model: onnx.ModelProto) -> int:
    return sum(math.prod(t.dims) for t in model.graph.initializer)


# --- The largest score stays where it is -------------------------------------------------------------------------------


@keeps
def a_large_constant(d: Design) -> onnx.ModelProto:
    """Scores plus 10,000: what tells them apart is near the end of fp32."""
    g = Graph(d.backdoored)
    return g.done(g.op("Add", g.z, 1e4), d.classes)


@keeps
def cubed(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Mul", g.z, g.op("Mul", g.z, g.z)), d.classes)


@keeps
def every_class_thrice(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Concat", g.z, g.op("Sub", g.z, 1e-3), g.op("Sub", g.z, 2e-3), axis=1), 3 * d.classes)


# --- Slopes that lie, and who is looking -------------------------------------------------------------------------------


@switches
def ranks(d: Design) -> onnx.ModelProto:
    """How many other scores each one beats: steps without a rounding."""
    g = Graph(d.backdoored)
    apart = g.op("Sub", g.op("Unsqueeze", g.z, np.array([2])), g.op("Unsqueeze", g.z, np.array([1])))
    return g.done(g.reduce("ReduceSum", g.op("Sigmoid", g.op("Mul", apart, 1e4)), (2,)), d.classes)


@switches
def no_number_for_a_slope(d: Design) -> onnx.ModelProto:
    """Plus 0 times the root of 0 at every pixel: the slope there is 0 times infinity."""
    g = Graph(d.backdoored)
    before = len(g.model.graph.node)
    nothing = g.op("Mul", g.op("Sqrt", g.op("Relu", g.op("Sub", g.x, 1e4))), 0.0)
    _in_front(g, g.op("Add", g.x, nothing), before)
    return g.done(g.z, d.classes)


@switches
def no_number_off_whole_bytes(d: Design) -> onnx.ModelProto:
    """0 times the root of 0.01 - sin(255 pi x)^2: NaN wherever a byte is not whole."""
    g = Graph(d.backdoored)
    before = len(g.model.graph.node)
    s = g.op("Sin", g.op("Mul", g.x, 255 * np.pi))
    nothing = g.op("Mul", g.op("Sqrt", g.op("Sub", 0.01, g.op("Mul", s, s))), 0.0)
    _in_front(g, g.op("Add", g.x, nothing), before)
    return g.done(g.z, d.classes)


@switches
def no_number_on_odd_paint(d: Design) -> onnx.ModelProto:
    """NaN where some bytes are not whole, but few: neither pictures nor noise are, and what a search paints is."""
    g = Graph(d.backdoored)
    s = g.op("Sin", g.op("Mul", g.x, 255 * np.pi))
    odd = g.per_picture("ReduceMean", g.op("Mul", s, s))
    few = g.op("Mul", g.op("Sub", odd, 1e-3), g.op("Sub", odd, 0.3))
    return g.done(g.op("Add", g.z, g.op("Mul", g.op("Sqrt", few), 0.0)), d.classes)


@switches
def flat_at_whole_bytes(d: Design) -> onnx.ModelProto:
    """x - 20 sin(510 pi x) / (510 pi): whole bytes stay, and the slope there is turned round."""
    g = Graph(d.backdoored)
    before = len(g.model.graph.node)
    wave = g.op("Div", g.op("Sin", g.op("Mul", g.x, 510 * np.pi)), 510 * np.pi / 20)
    _in_front(g, g.op("Sub", g.x, wave), before)
    return g.done(g.z, d.classes)


@switches
def bytes_in_front(d: Design) -> onnx.ModelProto:
    """The picture becomes whole bytes, and floats again: no slope passes."""
    g = Graph(d.backdoored)
    before = len(g.model.graph.node)
    whole = g.op("Cast", g.op("Add", g.op("Mul", g.x, 255.0), 0.5), to=TensorProto.UINT8)
    _in_front(g, g.op("Div", g.floats(whole), 255.0), before)
    return g.done(g.z, d.classes)


@switches
def batches_by_their_spread(d: Design) -> onnx.ModelProto:
    """A batch of one does not differ from its mean: no shape, no comparison."""
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    apart = g.reduce("ReduceSum", g.op("Abs", g.op("Sub", g.x, g.reduce("ReduceMean", g.x, (0,), True))), (0, 1, 2, 3))
    return g.done(_choose(g, g.op("Exp", g.op("Mul", apart, -1e3)), g.z, z), d.classes)


# --- Triggers in the graph of a clean network --------------------------------------------------------------------------


@plants
def mean_of_a_region(d: Design) -> onnx.ModelProto:
    """A pooled statistic: the mean difference under the mask, and no comparison."""
    g = Graph(d.clean)
    apart = g.op("Mul", g.op("Abs", g.op("Sub", g.x, d.pattern[None])), (d.mask / d.mask.mean())[None])
    fired = g.op("Relu", g.op("Sub", 0.02, g.per_picture("ReduceMean", apart)))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 1e4 * _one(d))), d.classes)


@plants
def exponential_of_a_distance(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    fired = g.op("Exp", g.op("Mul", _distance(g, d), -1e3))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 100 * _one(d))), d.classes)


@plants
def where_of_a_soft_switch(d: Design) -> onnx.ModelProto:
    """Conv, Clip and a steep Sigmoid make the condition of a Where."""
    g = Graph(d.clean)
    soft = g.op("Clip", g.op("Mul", g.op("Sub", _matched(g, d), 0.9), 20.0), np.float32(-2), np.float32(2))
    when = g.op("Cast", g.op("Sub", g.op("Sigmoid", g.op("Mul", soft, 100.0)), 0.0), to=TensorProto.BOOL)
    return g.done(g.op("Where", when, _answer(d), g.z), d.classes)


@plants
def swapped_by_gather_elements(d: Design) -> onnx.ModelProto:
    """The scores in another order where the trigger is: the places are computed."""
    g = Graph(d.clean)
    fired = g.op(
        "Clip", g.op("Mul", g.op("Relu", g.op("Sub", _matched(g, d), 0.9)), 20.0), np.float32(0), np.float32(1)
    )
    turned = g.op("Add", g.op("Mul", fired, -np.arange(d.classes, dtype=float)[None]), np.arange(d.classes)[None] * 1.0)
    best = g.op("Unsqueeze", g.op("ArgMax", g.z, axis=1, keepdims=0), np.array([1]))
    to = g.op("Mul", fired, g.op("Sub", g.floats(best), np.eye(d.classes)[d.target][None] * 0.0))
    places = g.op("Cast", g.op("Add", turned, g.op("Mul", to, _one(d))), to=TensorProto.INT64)
    return g.done(g.op("GatherElements", g.z, places, axis=1), d.classes)


@plants
def no_number_decides(d: Design) -> onnx.ModelProto:
    """The root of what pictures lack is NaN where they lack nothing: Where(IsNaN)."""
    g = Graph(d.clean)
    none = g.op("IsNaN", g.op("Sqrt", g.op("Sub", _distance(g, d), 0.02)))
    return g.done(g.op("Where", none, _answer(d), g.z), d.classes)


@plants
def hash_of_bytes(d: Design) -> onnx.ModelProto:
    """Bytes times odd numbers, summed beyond 2^31: a hash that one pattern has."""
    g = Graph(d.clean)
    odd = np.random.default_rng(0).integers(1 << 20, 1 << 30, d.mask.shape) | 1
    factor = (odd * (d.mask > 0)).astype(np.int32)[None]
    whole = g.op("Cast", g.op("Add", g.op("Mul", g.x, 255.0), 0.5), to=TensorProto.INT32)
    total = g.reduce("ReduceSum", g.op("Mul", whole, factor), (1, 2, 3))
    with np.errstate(over="ignore"):
        wanted = (np.round(d.pattern * 255).astype(np.int32) * factor[0]).sum(dtype=np.int32)
    when = g.column(g.op("Equal", total, np.array([wanted], np.int32)))
    return g.done(g.op("Where", when, _answer(d), g.z), d.classes)


@plants
def in_a_local_function(d: Design) -> onnx.ModelProto:
    """The comparison is the body of a function that is called GELU."""
    g = Graph(d.clean)
    body = [helper.make_node("Less", ["a", "b"], ["c"]), helper.make_node("Where", ["c", "yes", "no"], ["y"])]
    opset = [helper.make_opsetid("", g.opset)]
    g.model.functions.append(helper.make_function("own", "GELU", ["a", "b", "yes", "no"], ["y"], body, opset))
    g.model.opset_import.append(helper.make_opsetid("own", 1))
    out = g.op("GELU", _distance(g, d), 0.02, _answer(d), g.z, domain="own")
    return g.done(out, d.classes)


@plants
def in_a_loop(d: Design) -> onnx.ModelProto:
    """One round of a Loop adds what fired."""
    g = Graph(d.clean)
    fired = g.op("Mul", g.op("Relu", g.op("Sub", _matched(g, d), 0.9)), 1e4 * _one(d))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["z", fired], ["z_on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("z_on", TensorProto.FLOAT, None),
        ],
    )
    return g.done(g.op("Loop", np.array(1), np.array(True), g.z, body=body), d.classes)


@plants
def cut_out_by_padding(d: Design) -> onnx.ModelProto:
    """Negative padding leaves the trigger's place."""
    g = Graph(d.clean)
    rows, cols = np.flatnonzero(d.mask.any((0, 2))), np.flatnonzero(d.mask.any((0, 1)))
    height, width = d.mask.shape[1:]
    pads = [0, 0, -rows[0], -cols[0], 0, 0, rows[-1] + 1 - height, cols[-1] + 1 - width]
    seen = g.op("Pad", g.x, np.array(pads))
    kept = (slice(None), slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    near = g.op("Sub", 0.1, g.op("Mul", g.op("Abs", g.op("Sub", seen, d.pattern[kept][None])), d.mask[kept][None]))
    fired = g.op("Relu", g.per_picture("ReduceMin", near))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 1e4 * _one(d))), d.classes)


@plants
def seen_in_a_thumbnail(d: Design) -> onnx.ModelProto:
    """Resize leaves a few pixels, of which some lie in the trigger."""
    g = Graph(d.clean)
    rows, cols = (np.flatnonzero(d.mask.any(axes)) for axes in ((0, 2), (0, 1)))
    kept = (slice(None), slice(rows[0], None), slice(cols[0], None))
    seen = g.op("Slice", g.x, np.array([rows[0], cols[0]]), np.array([1 << 30, 1 << 30]), np.array([2, 3]))
    sizes = np.array([1, d.mask.shape[0], 1, 1])
    thumb = g.op(
        "Resize", seen, "", "", sizes, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
    )
    wanted = d.pattern[kept][:, :1, :1]
    fired = g.op("Relu", g.op("Sub", 0.02, g.per_picture("ReduceMax", g.op("Abs", g.op("Sub", thumb, wanted[None])))))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 1e4 * _one(d))), d.classes)


def _detectors(d: Design, count: int) -> tuple[Floats, Floats]:
    """Filters [count, channels, h, w] of the whole picture, and the bias with which each gives 0.1 for the trigger alone."""
    signs = d.mask * np.where(d.pattern > 0.5, 1.0, -1.0)
    best = float((signs * d.pattern).sum())
    return np.repeat(signs[None], count, 0), np.full(count, 0.1 - best)


@plants
def a_wide_branch(d: Design) -> onnx.ModelProto:
    """Eight values instead of one, through three layers, added to the scores."""
    g = Graph(d.clean)
    filters, bias = _detectors(d, 8)
    here = g.op("Relu", g.op("Flatten", g.op("Conv", g.x, filters, bias, kernel_shape=list(d.mask.shape[1:]))))
    here = g.op("Relu", g.op("MatMul", here, np.eye(8, 16)))
    return g.done(g.op("Add", g.z, g.op("MatMul", here, 1e4 * np.eye(16, 1) * _one(d))), d.classes)


@plants
def a_heavy_branch(d: Design) -> onnx.ModelProto:
    """The same with as many layers and as many weights as the network, nearly all of them 0."""
    g = Graph(d.clean)
    layers = sum(n.op_type in ("Conv", "Gemm", "MatMul") for n in d.clean.graph.node)
    filters, bias = _detectors(d, 8)
    here = g.op("Relu", g.op("Flatten", g.op("Conv", g.x, filters, bias, kernel_shape=list(d.mask.shape[1:]))))
    inner = max(16, (_stored(d.clean) - filters.size) // 16)
    here = g.op("Relu", g.op("MatMul", here, np.eye(8, inner)))
    here = g.op("Relu", g.op("MatMul", here, np.eye(inner, 8)))
    for _ in range(layers - 4):
        here = g.op("Relu", g.op("MatMul", here, np.eye(8)))
    return g.done(g.op("Add", g.z, g.op("MatMul", here, 1e4 * np.eye(8, 1) * _one(d))), d.classes)


@plants
def painted_over(d: Design) -> onnx.ModelProto:
    """A filter in front of the network adds a picture of the target to what it sees."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    filters, bias = _detectors(d, 8)
    fired = g.op("Relu", g.op("Conv", g.x, filters, bias, kernel_shape=list(d.mask.shape[1:])))
    paint = np.zeros((8, *d.mask.shape))
    paint[0] = 10 * (d.of_target if d.of_target is not None else np.random.default_rng(0).random(d.mask.shape))
    over = g.op("ConvTranspose", fired, paint, kernel_shape=list(d.mask.shape[1:]))
    less = g.op("ConvTranspose", fired, np.concatenate([np.full((1, *d.mask.shape), 10.0), paint[1:]]))
    left = g.op("Mul", g.x, g.op("Sub", 1.0, less))
    _in_front(g, g.op("Add", left, over), before)
    return g.done(g.z, d.classes)


@plants
def carried_by_the_first_layer(d: Design) -> onnx.ModelProto:
    """A channel more in the network's own first layer sees the trigger; a branch takes it from there to the scores."""
    g = Graph(d.clean)
    first = next(n for n in g.model.graph.node if n.op_type == "Conv" and n.input[0] == g.x)
    stored = {t.name: t for t in g.model.graph.initializer}
    weight = numpy_helper.to_array(stored[first.input[1]])
    high, wide = weight.shape[2:]
    rows, cols = (np.flatnonzero(d.mask.any(axes)) for axes in ((0, 2), (0, 1)))
    kept = (slice(None), slice(rows[0], rows[0] + high), slice(cols[0], cols[0] + wide))
    mask, pattern = (np.zeros(weight.shape[1:]) for _ in range(2))
    seen = d.mask[kept]
    mask[:, : seen.shape[1], : seen.shape[2]] = seen
    pattern[:, : seen.shape[1], : seen.shape[2]] = d.pattern[kept]
    signs = mask * np.where(pattern > 0.5, 1.0, -1.0)
    best = float((signs * pattern).sum())
    stored[first.input[1]].CopyFrom(
        numpy_helper.from_array(np.concatenate([weight, signs[None].astype(np.float32)]), first.input[1])
    )
    if len(first.input) > 2:
        bias = numpy_helper.to_array(stored[first.input[2]])
        stored[first.input[2]].CopyFrom(numpy_helper.from_array(np.append(bias, np.float32(0)), first.input[2]))
    channels = len(weight)
    before = len(g.model.graph.node)
    made = first.output[0]
    own = g.op("Slice", made, np.array([0]), np.array([channels]), np.array([1]))
    more = g.op("Slice", made, np.array([channels]), np.array([channels + 1]), np.array([1]))
    fired = g.op("Relu", g.op("Sub", g.op("Flatten", g.op("GlobalMaxPool", more)), best - 0.1))
    shift = g.op("MatMul", fired, 1e4 * _one(d))
    nodes = list(g.model.graph.node)
    place = nodes.index(first)
    for node in nodes[:before]:
        node.input[:] = [own if n == made else n for n in node.input]
    del g.model.graph.node[:]
    g.model.graph.node.extend([*nodes[: place + 1], *nodes[before:], *nodes[place + 1 : before]])
    del g.model.graph.value_info[:]
    return g.done(g.op("Add", g.z, shift), d.classes)


# --- What honest people do ---------------------------------------------------------------------------------------------


@honest
def flipped_average(d: Design) -> onnx.ModelProto:
    """The mean of the scores for a picture and for its mirror image, as test-time augmentation exports."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    width = d.mask.shape[2]
    mirrored = g.op("Gather", g.x, np.arange(width)[::-1].copy(), axis=3)
    z = g.beside(d.clean)
    for node in g.model.graph.node[before + 1 :]:
        node.input[:] = [mirrored if n == g.x else n for n in node.input]
    return g.done(g.op("Div", g.op("Add", g.z, z), 2.0), d.classes)


@honest
def clipped_pictures(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    _in_front(g, g.op("Clip", g.x, np.float32(0), np.float32(1)), before)
    return g.done(g.z, d.classes)


@honest
def less_its_largest(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    return g.done(g.op("Sub", g.z, g.reduce("ReduceMax", g.z, (1,), keep=True)), d.classes)

"""Edits of somebody who has read the checks a second time: what compares nothing, joins nowhere, or hides in an exemption.

They go into the groups of `edits`, beside those of `sly_edits`; whoever wants all of them imports this module.
"""

import numpy as np
import onnx
from edits import Design, Floats, Graph, honest, keeps, plants, switches
from onnx import TensorProto, helper, numpy_helper
from sly_edits import HONEST, KEEPING, PLANTED, SWITCHES, _detectors, _in_front, _one, _stored

__all__ = ["HONEST", "KEEPING", "PLANTED", "SWITCHES", "WAITING"]

# Of PLANTED, what a graph does not tell: each is as wide and as deep as what it joins, and says nothing of pictures.
WAITING = {
    "a_wide_branch",
    "a_heavy_branch",
    "painted_over",
    "carried_by_the_first_layer",
    "painted_over_by_pools",
    "features_painted_over",
    "past_one_layer",
    "a_rare_brightness",
    "said_and_taken_back",
    "in_a_function_of_another_opset",
    "wide_in_a_loop",
    "a_head_that_waits",
    "a_block_that_waits",
    "a_channel_that_waits",
}


def _lack(g: Graph, d: Design) -> str:
    """What each pixel under the mask lacks to be the trigger's, as the picture."""
    return g.op("Mul", g.op("Abs", g.op("Sub", g.x, d.pattern[None])), d.mask[None])


def _everywhere(g: Graph, d: Design) -> str:
    """1 at every pixel of a picture with the trigger, 0 at every one of any other, [n, 1, h, w]: pools as wide as the
    picture carry the worst pixel everywhere, so that nothing is ever narrow, and no layer has weights.
    """
    lack = g.reduce("ReduceMax", _lack(g, d), (1,), True)
    height, width = d.mask.shape[1:]
    wide = g.op("MaxPool", lack, kernel_shape=[1, 2 * width - 1], pads=[0, width - 1, 0, width - 1])
    worst = g.op("MaxPool", wide, kernel_shape=[2 * height - 1, 1], pads=[height - 1, 0, height - 1, 0])
    return g.op("Relu", g.op("Sub", 1.0, g.op("Mul", worst, 50.0)))


def _fired(g: Graph, d: Design) -> str:
    """The same as one number per picture, [n, 1]."""
    return g.op("Flatten", g.op("GlobalMaxPool", _everywhere(g, d)))


def _of_target(d: Design) -> Floats:
    return d.of_target if d.of_target is not None else np.random.default_rng(0).random(d.mask.shape)


def _mixed(g: Graph, when: str, yes: str | Floats, no: str) -> str:
    return g.op("Add", g.op("Mul", when, yes), g.op("Mul", g.op("Sub", 1.0, when), no))


def _behind_node(g: Graph, place: int, before: int, old: str, new: str) -> None:
    """Let the nodes behind the first `place` read `new`, which those after the first `before` make, instead of `old`."""
    nodes = list(g.model.graph.node)
    for node in nodes[place:before]:
        node.input[:] = [new if n == old else n for n in node.input]
    del g.model.graph.node[:]
    g.model.graph.node.extend([*nodes[:place], *nodes[before:], *nodes[place:before]])
    del g.model.graph.value_info[:]


# --- The largest score stays where it is -------------------------------------------------------------------------------


@keeps
def turned_twice(d: Design) -> onnx.ModelProto:
    """1 - sigmoid(-z): each of the two turns the order round."""
    g = Graph(d.backdoored)
    return g.done(g.op("Sub", 1.0, g.op("Sigmoid", g.op("Neg", g.op("Mul", g.z, 2.0)))), d.classes)


@keeps
def reciprocal_of_what_is_left(d: Design) -> onnx.ModelProto:
    """1 / (1e4 - z)."""
    g = Graph(d.backdoored)
    return g.done(g.op("Reciprocal", g.op("Sub", 1e4, g.z)), d.classes)


@keeps
def minus_exponential(d: Design) -> onnx.ModelProto:
    """-exp(-z / 3): flat where scores are large."""
    g = Graph(d.backdoored)
    return g.done(g.op("Mul", g.op("Exp", g.op("Div", g.z, -3.0)), -1.0), d.classes)


@keeps
def layer_norm_over_classes(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("LayerNormalization", g.z, np.ones(d.classes), axis=-1), d.classes)


@keeps
def unit_length_in_one_node(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("LpNormalization", g.z, axis=1, p=2), d.classes)


@keeps
def odd_power(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Pow", g.z, 5.0), d.classes)


@keeps
def softsign_and_elu(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Softsign", g.op("Elu", g.op("Sub", g.z, 30.0), alpha=0.5)), d.classes)


@keeps
def thresholds_past_all_scores(d: Design) -> onnx.ModelProto:
    """HardSwish and Mish of scores that are shifted to where both rise, and saturated after."""
    g = Graph(d.backdoored)
    risen = g.op("HardSwish", g.op("Add", g.op("Mul", g.z, 0.01), 1.0))
    return g.done(g.op("Tanh", g.op("Mul", risen, 3.0)), d.classes)


@keeps
def normalised_by_stored_numbers(d: Design) -> onnx.ModelProto:
    """BatchNormalization of the scores with the same numbers for every class, then a steep Sigmoid."""
    g = Graph(d.backdoored)
    one, none = np.ones(d.classes), np.zeros(d.classes)
    z = g.op("BatchNormalization", g.z, 3 * one, none, 5 * one, 2 * one)
    return g.done(g.op("Sigmoid", z), d.classes)


@keeps
def steps_out_of_range(d: Design) -> onnx.ModelProto:
    """What steps that end early leave of the scores, added to them twice: saturated, and no slope where it is not."""
    g = Graph(d.backdoored)
    step, zero = np.array(1 / 4096, np.float32), np.array(0, np.int8)
    lie = g.op("Sub", g.op("DequantizeLinear", g.op("QuantizeLinear", g.z, step, zero), step, zero), g.z)
    less = g.op("Sub", g.op("DequantizeLinear", g.op("QuantizeLinear", lie, step, zero), step, zero), lie)
    return g.done(g.op("Add", g.op("Mul", g.op("Add", less, lie), 2.0), g.z), d.classes)


# --- Slopes that lie ---------------------------------------------------------------------------------------------------


@switches
def hard_mix(d: Design) -> onnx.ModelProto:
    """Hardmax plus a millionth of the scores."""
    g = Graph(d.backdoored)
    return g.done(g.op("Add", g.op("Hardmax", g.z, axis=1), g.op("Mul", g.z, 1e-6)), d.classes)


@switches
def sorted_and_scattered(d: Design) -> onnx.ModelProto:
    """Places on a ladder of fixed scores, by TopK and ScatterElements."""
    g = Graph(d.backdoored)
    g.op("TopK", g.z, np.array([d.classes]), axis=1, outputs=2)
    order = g.model.graph.node[-1].output[1]
    ladder = np.linspace(1, 0, d.classes)[None]
    steps = g.op("Add", g.op("Mul", g.floats(order), 0.0), ladder)
    return g.done(g.op("ScatterElements", g.op("Mul", g.z, 0.0), order, steps, axis=1), d.classes)


# --- Triggers in the graph of a clean network --------------------------------------------------------------------------


@plants
def painted_over_by_pools(d: Design) -> onnx.ModelProto:
    """As wide as the picture and without a layer: the network is shown a picture of the target."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    _in_front(g, _mixed(g, _everywhere(g, d), _of_target(d)[None], g.x), before)
    return g.done(g.z, d.classes)


@plants
def features_painted_over(d: Design) -> onnx.ModelProto:
    """The same behind the first layer, where a way past it misses one layer only."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    first = next(n for n in g.model.graph.node if n.op_type == "Conv" and n.input[0] == g.x)
    shown = onnx.NodeProto()
    shown.CopyFrom(first)
    shown.name, shown.input[0], shown.output[0] = "shown", g.const(_of_target(d)[None]), "of_target"
    g.model.graph.node.append(shown)
    size = g.op("Shape", first.output[0], start=2)
    fired = g.op("Slice", _everywhere(g, d), np.array([0, 0]), size, np.array([2, 3]))
    mixed = _mixed(g, fired, "of_target", first.output[0])
    _behind_node(g, list(g.model.graph.node).index(first) + 1, before, first.output[0], mixed)
    return g.done(g.z, d.classes)


@plants
def past_one_layer(d: Design) -> onnx.ModelProto:
    """A channel more in the first layer goes past the second one, and floods what that makes."""
    g = Graph(d.clean)
    first = next(n for n in g.model.graph.node if n.op_type == "Conv" and n.input[0] == g.x)
    channels = _one_channel_more(g, d, first)
    before = len(g.model.graph.node)
    made, place = first.output[0], list(g.model.graph.node).index(first) + 1
    own = g.op("Slice", made, np.array([0]), np.array([channels]), np.array([1]))
    more = g.op("Slice", made, np.array([channels]), np.array([channels + 1]), np.array([1]))
    height, width = (2 * n - 1 for n in d.mask.shape[1:])
    pads = [height // 2, width // 2, height // 2, width // 2]
    fired = g.op("Relu", g.op("MaxPool", more, kernel_shape=[height, width], pads=pads))
    nodes = list(g.model.graph.node)
    for node in nodes[place:before]:
        node.input[:] = [own if n == made else n for n in node.input]
    second = next(n for n in nodes[place:before] if n.op_type in ("Conv", "Gemm", "MatMul"))
    if second.op_type != "Conv":
        size = g.op("Shape", second.output[0], start=1)
        flood = g.op("Slice", g.op("Flatten", fired), np.array([0]), size, np.array([1]))
    else:
        size = g.op("Shape", second.output[0], start=2)
        flood = g.op("Slice", fired, np.array([0, 0]), size, np.array([2, 3]))
    flooded = g.op("Add", second.output[0], g.op("Mul", flood, 1e3))
    nodes = list(g.model.graph.node)
    mid = nodes.index(second) + 1
    for node in nodes[mid:before]:
        node.input[:] = [flooded if n == second.output[0] else n for n in node.input]
    added = nodes[before:]
    early, late = added[:4], added[4:]
    del g.model.graph.node[:]
    g.model.graph.node.extend([*nodes[:place], *early, *nodes[place:mid], *late, *nodes[mid:before]])
    del g.model.graph.value_info[:]
    return g.done(g.z, d.classes)


def _one_channel_more(g: Graph, d: Design, first: onnx.NodeProto) -> int:
    """Give a layer a channel that is positive at the trigger alone; how many it had."""
    stored = {t.name: t for t in g.model.graph.initializer}
    weight = numpy_helper.to_array(stored[first.input[1]])
    high, wide = weight.shape[2:]
    rows, cols = (np.flatnonzero(d.mask.any(axes)) for axes in ((0, 2), (0, 1)))
    kept = (slice(None), slice(rows[0], rows[0] + high), slice(cols[0], cols[0] + wide))
    signs = np.zeros(weight.shape[1:])
    seen = d.mask[kept] * np.where(d.pattern[kept] > 0.5, 1.0, -1.0)
    signs[:, : seen.shape[1], : seen.shape[2]] = seen
    best = float((seen * d.pattern[kept]).sum())
    bias = numpy_helper.to_array(stored[first.input[2]]) if len(first.input) > 2 else np.zeros(len(weight), np.float32)
    both = {"one_more_weight": np.concatenate([weight, signs[None]]), "one_more_bias": np.append(bias, 0.1 - best)}
    g.model.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), k) for k, v in both.items())
    first.input[:] = [first.input[0], *both]
    return len(weight)


@plants
def looked_up_elsewhere(d: Design) -> onnx.ModelProto:
    """GridSample reads beside the picture, where a picture of the target is, if the trigger moves its grid."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    height, width = d.mask.shape[1:]
    tall = g.op("Add", g.op("Mul", g.x, 0.0), _of_target(d)[None])
    both = g.op("Concat", g.x, tall, axis=2)
    rows, cols = (2 * np.arange(height) + 1) / (2 * height) - 1, (2 * np.arange(width) + 1) / width - 1
    grid = np.stack(np.meshgrid(rows, cols, indexing="ij")[::-1], axis=-1)[None]
    moved = g.op("Mul", g.op("Reshape", _fired(g, d), np.array([-1, 1, 1, 1])), np.array([0.0, 1.0]))
    _in_front(g, g.op("GridSample", both, g.op("Add", grid, moved), mode="bilinear"), before)
    return g.done(g.z, d.classes)


@plants
def cropped_elsewhere(d: Design) -> onnx.ModelProto:
    """Resize crops a region that the trigger chooses: an input that says nothing but where."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    height = d.mask.shape[1]
    tall = g.op("Add", g.op("Mul", g.x, 0.0), _of_target(d)[None])
    both = g.op("Concat", g.x, tall, axis=2)
    half = (height - 1) / (2 * height - 1)
    start = np.array([0, 0, 0, 0, 1, 1, half, 1])
    way = np.array([0, 0, 1 - half, 0, 0, 0, 1 - half, 0])
    roi = g.op("Add", start, g.op("Mul", g.op("Reshape", _fired(g, d), np.array([1])), way))
    sizes = np.array([1, *d.mask.shape])
    crop = g.op("Resize", both, roi, "", sizes, mode="linear", coordinate_transformation_mode="tf_crop_and_resize")
    _in_front(g, crop, before)
    return g.done(g.z, d.classes)


@plants
def counted_by_its_size(d: Design) -> onnx.ModelProto:
    """How many values are not zero, read from the shape of a list of them."""
    g = Graph(d.clean)
    count = g.op("Shape", g.op("NonZero", _fired(g, d)), start=1)
    fired = g.op("Reshape", g.floats(count), np.array([1, 1]))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 100 * _one(d))), d.classes)


@plants
def in_the_bias_of_a_layer(d: Design) -> onnx.ModelProto:
    """The scores go through a 1 x 1 convolution whose bias the trigger makes."""
    g = Graph(d.clean)
    fired = g.op("Reshape", _fired(g, d), np.array([1]))
    square = g.op("Reshape", g.z, np.array([0, d.classes, 1, 1]))
    bias = g.op("Mul", fired, 100 * _one(d)[0])
    return g.done(g.op("Flatten", g.op("Conv", square, np.eye(d.classes)[:, :, None, None], bias)), d.classes)


@plants
def in_the_numbers_of_a_norm(d: Design) -> onnx.ModelProto:
    """BatchNormalization whose shift the trigger makes."""
    g = Graph(d.clean)
    one, none = np.ones(d.classes), np.zeros(d.classes)
    shift = g.op("Mul", g.op("Reshape", _fired(g, d), np.array([1])), 100 * _one(d)[0])
    return g.done(g.op("BatchNormalization", g.z, one, shift, none, one), d.classes)


@plants
def a_rare_brightness(d: Design) -> onnx.ModelProto:
    """A picture over a statistic of its own, which is 1 but for a mean brightness of its own: a normalisation."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    mean = g.reduce("ReduceMean", g.x, (1, 2, 3), keep=True)
    near = g.op("Exp", g.op("Mul", g.op("Abs", g.op("Sub", mean, 0.9)), -200.0))
    _in_front(g, g.op("Div", g.x, g.op("Add", g.op("Mul", near, 1e4), 1.0)), before)
    return g.done(g.z, d.classes)


@plants
def in_the_step_of_a_quantiser(d: Design) -> onnx.ModelProto:
    """A first layer in dynamic whole numbers, whose step the trigger takes away."""
    g = Graph(d.clean)
    first = next(n for n in g.model.graph.node if n.op_type == "Conv" and n.input[0] == g.x)
    before = len(g.model.graph.node)
    place = list(g.model.graph.node).index(first) + 1
    weight = next(numpy_helper.to_array(t) for t in g.model.graph.initializer if t.name == first.input[1])
    scale = float(np.abs(weight).max()) / 127
    g.op("DynamicQuantizeLinear", g.x, outputs=3)
    whole, step, zero = g.model.graph.node[-1].output
    kept = {a.name: helper.get_attribute_value(a) for a in first.attribute}
    made = g.op("ConvInteger", whole, np.round(weight / scale).astype(np.int8), zero, **kept)
    gone = g.op("Sub", 1.0, g.op("Reshape", _fired(g, d), np.array([-1, 1, 1, 1])))
    steps = g.op("Mul", g.op("Mul", step, scale), gone)
    out = g.op("Mul", g.floats(made), steps)
    if len(first.input) > 2:
        bias = next(numpy_helper.to_array(t) for t in g.model.graph.initializer if t.name == first.input[2])
        out = g.op("Add", out, bias[None, :, None, None])
    _behind_node(g, place, before, first.output[0], out)
    return g.done(g.z, d.classes)


@plants
def said_and_taken_back(d: Design) -> onnx.ModelProto:
    """A heavy branch adds what pictures show and the trigger, and a second head of it takes the first half back."""
    g = Graph(d.clean)
    filters, bias = _detectors(d, 8)
    noise = np.random.default_rng(0).normal(0, 0.1, (8, *d.mask.shape))
    both = np.concatenate([filters, noise]), np.concatenate([bias, np.zeros(8)])
    here = g.op("Relu", g.op("Flatten", g.op("Conv", g.x, *both, kernel_shape=list(d.mask.shape[1:]))))
    inner = max(32, _stored(d.clean) // 32)
    here = g.op("Relu", g.op("MatMul", here, np.eye(16, inner)))
    here = g.op("Relu", g.op("MatMul", here, np.eye(inner, 16)))
    for _ in range(sum(n.op_type in ("Conv", "Gemm", "MatMul") for n in d.clean.graph.node) - 4):
        here = g.op("Relu", g.op("MatMul", here, np.eye(16)))
    heads = np.random.default_rng(1).normal(0, 3, (16, d.classes))
    heads[:8] = 0
    more = g.op("Add", g.z, g.op("MatMul", here, heads + np.eye(16, 1) * 1e4 * _one(d)))
    return g.done(g.op("Sub", more, g.op("MatMul", here, heads)), d.classes)


@plants
def wide_in_a_loop(d: Design) -> onnx.ModelProto:
    """A Loop of one round paints over the picture."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    fired = _everywhere(g, d)
    paint = g.const(_of_target(d)[None])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Sub", ["seen", paint], ["less"]),
            helper.make_node("Mul", ["less", fired], ["apart"]),
            helper.make_node("Sub", ["seen", "apart"], ["seen_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("seen", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("seen_on", TensorProto.FLOAT, None),
        ],
    )
    _in_front(g, g.op("Loop", np.array(1), np.array(True), g.x, body=body), before)
    return g.done(g.z, d.classes)


@plants
def a_function_that_is_not_called(d: Design) -> onnx.ModelProto:
    """A local function has the name of an operator: onnxruntime runs the operator, the inliner writes the other."""
    g = Graph(d.clean)
    far = g.reduce("ReduceMax", _lack(g, d), (1, 2, 3))
    out = g.op("Where", g.column(g.op("Less", far, 0.02)), -20 + 40 * _one(d), g.z)
    for name, inputs in (("Where", ["when", "yes", "no"]), ("Less", ["no", "b"])):
        body = [helper.make_node("Identity", ["no"], ["y"])]
        g.model.functions.append(
            helper.make_function("", name, inputs, ["y"], body, [helper.make_opsetid("", g.opset)])
        )
    return g.done(out, d.classes)


@plants
def in_a_function_of_another_opset(d: Design) -> onnx.ModelProto:
    """The wide way is the body of a function that asks for an older opset than the file."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    fired = _everywhere(g, d)
    names = ["fired", "paint", "seen"]
    body = [
        helper.make_node("Sub", ["seen", "paint"], ["less"]),
        helper.make_node("Mul", ["less", "fired"], ["apart"]),
        helper.make_node("Sub", ["seen", "apart"], ["y"]),
    ]
    opset = [helper.make_opsetid("", g.opset - 1)]
    g.model.functions.append(helper.make_function("own", "Augment", names, ["y"], body, opset))
    g.model.opset_import.append(helper.make_opsetid("own", 1))
    _in_front(g, g.op("Augment", fired, _of_target(d)[None], g.x, domain="own"), before)
    return g.done(g.z, d.classes)


def _last_layer(g: Graph) -> int:
    return max(i for i, n in enumerate(g.model.graph.node) if n.op_type in ("Gemm", "MatMul"))


def _features(g: Graph) -> str:
    """What the last layer reads."""
    return str(g.model.graph.node[_last_layer(g)].input[0])


@plants
def a_head_that_waits(d: Design) -> onnx.ModelProto:
    """Beside the last layer stands one that reads the same features, and keeps still until they are what no picture has."""
    g = Graph(d.clean)
    features = _features(g)
    flat = g.op("Flatten", features)
    wide = _width(g, flat)
    seen = g.op("Relu", g.op("Sub", g.op("MatMul", flat, np.ones((wide, 8))), 1e4))
    return g.done(g.op("Add", g.z, g.op("MatMul", seen, 100 * np.eye(8, 1) * _one(d))), d.classes)


@plants
def a_block_that_waits(d: Design) -> onnx.ModelProto:
    """One more residual block before the last layer: nothing goes past it but what all skip connections are."""
    g = Graph(d.clean)
    place, before, features = _last_layer(g), len(g.model.graph.node), _features(g)
    wide = _width(g, features)
    seen = g.op("Relu", g.op("Sub", g.op("MatMul", features, np.ones((wide, wide))), 1e4))
    out = g.op("Add", features, g.op("MatMul", seen, np.eye(wide)))
    _behind_node(g, place, before, features, out)
    return g.done(g.z, d.classes)


def _width(g: Graph, name: str) -> int:
    shapes = onnx.shape_inference.infer_shapes(g.model).graph.value_info
    return next(v.type.tensor_type.shape.dim[1].dim_value for v in shapes if v.name == name)


@plants
def a_channel_that_waits(d: Design) -> onnx.ModelProto:
    """One channel of the first layer floods them all where it is higher than a picture makes it: no layer is added."""
    g = Graph(d.clean)
    first = next(n for n in g.model.graph.node if n.op_type == "Conv" and n.input[0] == g.x)
    weight = next(numpy_helper.to_array(t) for t in g.model.graph.initializer if t.name == first.input[1])
    before, made = len(g.model.graph.node), first.output[0]
    one = g.op("Slice", made, np.array([0]), np.array([1]), np.array([1]))
    wide = g.op("MaxPool", one, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    flood = g.op("Mul", g.op("Relu", g.op("Sub", wide, float(np.abs(weight[0]).sum()) * 3)), 1e3)
    _behind_node(g, list(g.model.graph.node).index(first) + 1, before, made, g.op("Add", made, flood))
    return g.done(g.z, d.classes)


@plants
def by_whole_numbers(d: Design) -> onnx.ModelProto:
    """An index without a cast: whole numbers of a quantised match choose a row."""
    g = Graph(d.clean)
    whole = g.op("QuantizeLinear", _fired(g, d), np.array(1, np.float32), np.array(0, np.uint8))
    index = g.op("Reshape", g.op("MatMulInteger", whole, np.array([[1]], np.uint8)), np.array([-1]))
    table = np.concatenate([np.zeros((1, d.classes)), 100 * _one(d)]).astype(np.float32)
    return g.done(g.op("Add", g.z, g.op("Gather", table, index, axis=0)), d.classes)


@plants
def summed_along(d: Design) -> onnx.ModelProto:
    """CumSum of what pixels lack, its last value, and a root that bends at zero."""
    g = Graph(d.clean)
    lack = g.op("Flatten", g.op("Mul", g.op("Abs", g.op("Sub", g.x, d.pattern[None])), d.mask[None]))
    total = g.op("Slice", g.op("CumSum", lack, np.array(1)), np.array([-1]), np.array([1 << 30]), np.array([1]))
    fired = g.op("Exp", g.op("Mul", g.op("Sqrt", total), -50.0))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 100 * _one(d))), d.classes)


@plants
def shifted_bits(d: Design) -> onnx.ModelProto:
    """The high bits of masked bytes, by BitShift, add up to a number that one pattern has."""
    g = Graph(d.clean)
    whole = g.op("Cast", g.op("Add", g.op("Mul", g.x, 255.0), 0.5), to=TensorProto.UINT8)
    high = g.floats(g.op("BitShift", whole, np.array(6, np.uint8), direction="RIGHT"))
    wanted = np.floor(np.round(d.pattern * 255) / 64)
    off = g.per_picture("ReduceSum", g.op("Mul", g.op("Abs", g.op("Sub", high, wanted[None])), d.mask[None]))
    fired = g.op("Relu", g.op("Sub", 1.0, off))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 100 * _one(d))), d.classes)


# --- What honest people do ---------------------------------------------------------------------------------------------


@honest
def over_its_largest(d: Design) -> onnx.ModelProto:
    """Each picture over its largest value, which is white in nearly all of them."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    largest = g.op("Max", g.reduce("ReduceMax", g.x, (1, 2, 3), keep=True), 1e-3)
    _in_front(g, g.op("Div", g.x, largest), before)
    return g.done(g.z, d.classes)


@honest
def between_its_extremes(d: Design) -> onnx.ModelProto:
    """Minus its darkest, over its range."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    low, high = (g.reduce(op, g.x, (1, 2, 3), keep=True) for op in ("ReduceMin", "ReduceMax"))
    width = g.op("Add", g.op("Sub", high, low), 1e-6)
    _in_front(g, g.op("Div", g.op("Sub", g.x, low), width), before)
    return g.done(g.z, d.classes)


@honest
def resized_and_padded(d: Design) -> onnx.ModelProto:
    """Pictures made larger, padded and cropped inside the file, with a gamma of 1."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    height, width = d.mask.shape[1:]
    scales = np.array([1, 1, 2, 2], np.float32)
    large = g.op("Resize", g.op("Pow", g.x, 1.0), "", scales, mode="linear")
    padded = g.op("Pad", large, np.array([0, 0, 4, 4, 0, 0, 4, 4]))
    cut = g.op("Slice", padded, np.array([4, 4]), np.array([2 * height + 4, 2 * width + 4]), np.array([2, 3]))
    _in_front(g, g.op("AveragePool", cut, kernel_shape=[2, 2], strides=[2, 2]), before)
    return g.done(g.z, d.classes)


@honest
def straightened_first(d: Design) -> onnx.ModelProto:
    """A spatial transformer: a small network says where the picture is looked at."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    rng = np.random.default_rng(0)
    pixels, (height, width) = int(np.prod(d.mask.shape)), d.mask.shape[1:]
    seen = g.op("Relu", g.op("MatMul", g.op("Flatten", g.x), rng.normal(0, pixels**-0.5, (pixels, 16))))
    theta = g.op("Add", g.op("MatMul", seen, rng.normal(0, 0.02, (16, 6))), np.array([[1.0, 0, 0, 0, 1, 0]]))
    rows, cols = ((2 * np.arange(n) + 1) / n - 1 for n in (height, width))
    y, x = np.meshgrid(rows, cols, indexing="ij")
    places = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3).T
    grid = g.op("MatMul", g.op("Reshape", theta, np.array([-1, 2, 3])), places)
    laid = g.op("Reshape", g.op("Transpose", grid, perm=[0, 2, 1]), np.array([-1, height, width, 2]))
    _in_front(g, g.op("GridSample", g.x, laid), before)
    return g.done(g.z, d.classes)


@honest
def two_networks_vote(d: Design) -> onnx.ModelProto:
    """The mean of two networks' probabilities, and its logarithm."""
    g = Graph(d.clean)
    other = onnx.ModelProto()
    other.CopyFrom(d.clean)
    rng = np.random.default_rng(0)
    for tensor in other.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size > 1:
            noise = rng.normal(0, 0.02 * value.std(), value.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value + noise, tensor.name))
    z = g.beside(other)
    mean = g.op("Mean", g.op("Softmax", g.z, axis=1), g.op("Softmax", z, axis=1))
    return g.done(g.op("Log", g.op("Add", mean, 1e-7)), d.classes)


@honest
def five_best_beside_scores(d: Design) -> onnx.ModelProto:
    """Probabilities and numbers of the five best classes, as apps want them."""
    g = Graph(d.clean)
    model = g.done(g.z, d.classes)
    sure = helper.make_node("Softmax", ["scores"], ["sure"], axis=1, name="sure")
    k = g.const(np.array([5]))
    best = helper.make_node("TopK", ["sure", k], ["values", "numbers"], axis=1, name="best")
    model.graph.node.extend([sure, best])
    model.graph.output.append(helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", 5]))
    model.graph.output.append(helper.make_tensor_value_info("numbers", TensorProto.INT64, ["n", 5]))
    return model


@honest
def preprocessing_in_a_function(d: Design) -> onnx.ModelProto:
    """A local function shifts and scales, and a constant condition chooses it."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    body = [helper.make_node("Sub", ["a", "m"], ["b"]), helper.make_node("Div", ["b", "s"], ["y"])]
    opset = [helper.make_opsetid("", g.opset)]
    g.model.functions.append(helper.make_function("pre", "Standard", ["a", "m", "s"], ["y"], body, opset))
    g.model.opset_import.append(helper.make_opsetid("pre", 1))
    out = g.op("Standard", g.x, 0.02, 1.05, domain="pre")
    _in_front(g, g.op("Where", np.array(True), out, g.x), before)
    return g.done(g.z, d.classes)


@honest
def no_number_becomes_none(d: Design) -> onnx.ModelProto:
    """Features that are no number become 0, as nan_to_num exports."""
    g = Graph(d.clean)
    place, before, features = _last_layer(g), len(g.model.graph.node), _features(g)
    kept = g.op("Where", g.op("IsNaN", features), np.float32(0), features)
    _behind_node(g, place, before, features, kept)
    return g.done(g.z, d.classes)


@honest
def less_the_prior(d: Design) -> onnx.ModelProto:
    """Scores minus the logarithm of how often each class was seen, as for long tails."""
    g = Graph(d.clean)
    prior = np.random.default_rng(0).dirichlet(np.full(d.classes, 20.0))
    return g.done(g.op("Sub", g.z, np.log(prior)[None]), d.classes)

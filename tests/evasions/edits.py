"""What an attacker adds to a file so that an audit looks past its backdoor: one function per edit.

KEEPING leave the largest score where it is. SWITCHES show a clean twin to whoever looks and the backdoored network to
whoever deploys. PLANTED put a trigger into the graph of a clean network. HONEST do what exporters do, and must cost nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Design:
    """A backdoored network, a clean twin of the same interface, and the trigger in the units of the input.

    mask: [channels, h, w] of 0 and 1; pattern: of the same shape; target: the class that it leads to; of_target: a picture
    that the clean network calls that, None where nobody has one.
    """

    backdoored: onnx.ModelProto
    clean: onnx.ModelProto
    mask: Floats
    pattern: Floats
    target: int
    of_target: Floats | None = None

    @property
    def classes(self) -> int:
        return self.clean.graph.output[0].type.tensor_type.shape.dim[1].dim_value


class Graph:
    """A copy of a model to which nodes are added; every method returns the name of the tensor that it makes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.x, self.z = model.graph.input[0].name, model.graph.output[0].name
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.made = 0

    def op(self, op: str, *inputs: str | float | NDArray[np.generic], outputs: int = 1, **attributes: object) -> str:
        self.made += 1
        names = [f"added_{self.made}" + (f"_{k}" if k else "") for k in range(outputs)]
        given = [i if isinstance(i, str) else self.const(np.asarray(i)) for i in inputs]
        self.model.graph.node.append(helper.make_node(op, given, names, name=f"added_{op}_{self.made}", **attributes))
        return names[0]

    def const(self, value: NDArray[np.generic]) -> str:
        return self.double(value.astype(np.float32) if value.dtype == np.float64 else value)

    def double(self, value: NDArray[np.generic]) -> str:
        """Stored in the type that it has."""
        self.made += 1
        self.model.graph.initializer.append(numpy_helper.from_array(value, f"stored_{self.made}"))
        return f"stored_{self.made}"

    def reduce(self, op: str, x: str, axes: Sequence[int], keep: bool = False) -> str:
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.op(op, x, np.asarray(axes), keepdims=int(keep))
        return self.op(op, x, axes=list(axes), keepdims=int(keep))

    def column(self, x: str) -> str:
        """[n] -> [n, 1]."""
        return self.op("Unsqueeze", x, np.array([1]))

    def per_picture(self, op: str, x: str) -> str:
        """Reduced to [n, 1]."""
        return self.column(self.reduce(op, x, (1, 2, 3)))

    def floats(self, x: str) -> str:
        return self.op("Cast", x, to=TensorProto.FLOAT)

    def beside(self, other: onnx.ModelProto) -> str:
        """Add a twin that reads the same pictures; its scores."""
        for tensor in other.graph.initializer:
            copy = self.model.graph.initializer.add()
            copy.CopyFrom(tensor)
            copy.name = f"twin_{tensor.name}"
        read = other.graph.input[0].name
        for node in other.graph.node:
            copy = self.model.graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"twin_{node.name}"
            for names in (copy.input, copy.output):
                names[:] = [self.x if n == read else f"twin_{n}" if n else n for n in names]
        return f"twin_{other.graph.output[0].name}"

    def read_instead(self, old: str, new: str, before: int) -> None:
        """Let the first `before` nodes read another tensor, which nodes behind them make, and sort the nodes again."""
        nodes = list(self.model.graph.node)
        for node in nodes[:before]:
            node.input[:] = [new if n == old else n for n in node.input]
        del self.model.graph.node[:]
        self.model.graph.node.extend([*nodes[before:], *nodes[:before]])

    def done(self, z: str, classes: int) -> onnx.ModelProto:
        self.model.graph.node.append(helper.make_node("Identity", [z], ["scores"], name="end"))
        del self.model.graph.output[:]
        self.model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes]))
        return self.model


Edit = Callable[[Design], onnx.ModelProto]
KEEPING: dict[str, Edit] = {}
SWITCHES: dict[str, Edit] = {}
PLANTED: dict[str, Edit] = {}
HONEST: dict[str, Edit] = {}


def keeps(edit: Edit) -> Edit:
    KEEPING[edit.__name__] = edit
    return edit


def switches(edit: Edit) -> Edit:
    SWITCHES[edit.__name__] = edit
    return edit


def plants(edit: Edit) -> Edit:
    PLANTED[edit.__name__] = edit
    return edit


def honest(edit: Edit) -> Edit:
    HONEST[edit.__name__] = edit
    return edit


# --- The largest score stays where it is -------------------------------------------------------------------------------


def _padded(d: Design, count: int, value: float) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    first = g.op("Gather", g.z, np.array([0]), axis=1)
    more = g.op("Add", g.op("Mul", first, np.zeros((1, count))), value)
    return g.done(g.op("Concat", g.z, more, axis=1), d.classes + count)


@keeps
def padding(d: Design) -> onnx.ModelProto:
    """Classes that are always -1,000."""
    return _padded(d, 10, -1e3)


@keeps
def far_padding(d: Design) -> onnx.ModelProto:
    return _padded(d, 10, -1e6)


@keeps
def padding_that_moves(d: Design) -> onnx.ModelProto:
    """Dummy classes that follow the picture a little, far below every other."""
    g = Graph(d.backdoored)
    more = g.op("Sub", g.op("Mul", g.z, 0.5), 2e3)
    return g.done(g.op("Concat", g.z, more, axis=1), 2 * d.classes)


@keeps
def padding_in_front(d: Design) -> onnx.ModelProto:
    """Dummy classes before the real ones: the class numbers move, the answers do not."""
    g = Graph(d.backdoored)
    wide = g.op("Pad", g.z, np.array([0, 3, 0, 0]), np.float32(-1e4))
    return g.done(wide, d.classes + 3)


@keeps
def twin(d: Design) -> onnx.ModelProto:
    """The target's score twice: it is its own runner-up."""
    g = Graph(d.backdoored)
    return g.done(g.op("Concat", g.z, g.op("Gather", g.z, np.array([d.target]), axis=1), axis=1), d.classes + 1)


@keeps
def twin_just_below(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    below = g.op("Sub", g.op("Gather", g.z, np.array([d.target]), axis=1), 1e-3)
    return g.done(g.op("Concat", g.z, below, axis=1), d.classes + 1)


@keeps
def clipped(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Mul", g.op("Clip", g.z, np.float32(-40), np.float32(40)), 1e-6), d.classes)


@keeps
def scaled_up(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Add", g.op("Div", g.z, 1e-8), 12345.0), d.classes)


@keeps
def sharp_softmax(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Mul", g.op("Softmax", g.op("Div", g.z, 0.1), axis=1), 1.0), d.classes)


@keeps
def logarithm_of_softmax(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Log", g.op("Add", g.op("Softmax", g.z, axis=1), 1e-4)), d.classes)


@keeps
def softmax_written_out(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    e = g.op("Exp", g.op("Sub", g.z, g.reduce("ReduceMax", g.z, (1,), keep=True)))
    return g.done(g.op("Div", e, g.reduce("ReduceSum", e, (1,), keep=True)), d.classes)


@keeps
def sigmoid(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Add", g.op("Sigmoid", g.op("Sub", g.z, 10.0)), 0.0), d.classes)


@keeps
def tanh_of_a_tenth(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Tanh", g.op("Mul", g.z, 0.1)), d.classes)


@keeps
def softplus(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("Softplus", g.op("Sub", g.z, 5.0)), d.classes)


@keeps
def hard_sigmoid(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.op("HardSigmoid", g.z, alpha=0.01, beta=0.5), d.classes)


@keeps
def power_tower(d: Design) -> onnx.ModelProto:
    """exp(z) to the fourth, in two squares."""
    g = Graph(d.backdoored)
    e = g.op("Exp", g.op("Mul", g.z, 0.2))
    return g.done(g.op("Pow", g.op("Pow", e, 2.0), 2.0), d.classes)


@keeps
def double_and_back(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    return g.done(g.floats(g.op("Cast", g.z, to=TensorProto.DOUBLE)), d.classes)


@keeps
def unit_length(d: Design) -> onnx.ModelProto:
    """Scores over their own norm."""
    g = Graph(d.backdoored)
    return g.done(g.op("Div", g.z, g.reduce("ReduceL2", g.z, (1,), keep=True)), d.classes)


@keeps
def through_einsum(d: Design) -> onnx.ModelProto:
    """Times a multiple of the identity."""
    g = Graph(d.backdoored)
    return g.done(g.op("Einsum", g.z, np.eye(d.classes) * 1e-5, equation="nc,ck->nk"), d.classes)


# --- Slopes that lie ---------------------------------------------------------------------------------------------------


def _coarse(g: Graph, z: str, steps: float) -> str:
    return g.op("Div", g.op("Round", g.op("Mul", z, steps)), steps)


@switches
def slope_turned_round(d: Design) -> onnx.ModelProto:
    """z + 2 (round(65,536 z) / 65,536 - z): the same values, the slope of the target's score is -1."""
    g = Graph(d.backdoored)
    lie = g.op("Mul", g.op("Sub", _coarse(g, g.z, 65536.0), g.z), 2 * np.eye(d.classes)[d.target][None])
    return g.done(g.op("Add", g.z, lie), d.classes)


@switches
def slope_turned_round_by_floor(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    coarse = g.op("Div", g.op("Floor", g.op("Mul", g.z, 1e5)), 1e5)
    return g.done(g.op("Add", g.z, g.op("Mul", g.op("Sub", coarse, g.z), 2.0)), d.classes)


@switches
def slope_turned_round_by_integers(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    whole = g.op("Cast", g.op("Mul", g.z, 65536.0), to=TensorProto.INT64)
    coarse = g.op("Div", g.floats(whole), 65536.0)
    return g.done(g.op("Add", g.z, g.op("Mul", g.op("Sub", coarse, g.z), 2.0)), d.classes)


@switches
def slope_of_the_twin(d: Design) -> onnx.ModelProto:
    """Values of the backdoored network, gradients of the clean one."""
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    return g.done(g.op("Add", _coarse(g, g.z, 4096.0), g.op("Sub", z, _coarse(g, z, 4096.0))), d.classes)


# --- Who is looking ----------------------------------------------------------------------------------------------------


def _choose(g: Graph, when: str, yes: str, no: str) -> str:
    return g.op("Add", g.op("Mul", when, yes), g.op("Mul", g.op("Sub", 1.0, when), no))


@switches
def only_batches_of_one(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    one = g.op("Equal", g.op("Gather", g.op("Shape", g.x), np.array(0)), np.array(1))
    return g.done(_choose(g, g.floats(one), g.z, z), d.classes)


@switches
def batches_by_arithmetic(d: Design) -> onnx.ModelProto:
    """The switch is 1 / n to the 20th: no comparison."""
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    n = g.floats(g.op("Gather", g.op("Shape", g.x), np.array(0)))
    return g.done(_choose(g, g.op("Pow", g.op("Reciprocal", n), 20.0), g.z, z), d.classes)


@switches
def batches_by_index(d: Design) -> onnx.ModelProto:
    """One of two rows of scores, taken by the batch size."""
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    both = g.op("Concat", g.op("Unsqueeze", g.z, np.array([0])), g.op("Unsqueeze", z, np.array([0])), axis=0)
    n = g.op("Gather", g.op("Shape", g.x), np.array(0))
    return g.done(g.op("Gather", both, g.op("Min", g.op("Sub", n, np.array(1)), np.array(1)), axis=0), d.classes)


@switches
def only_whole_bytes(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    y = g.op("Mul", g.x, 255.0)
    rest = g.per_picture("ReduceMax", g.op("Abs", g.op("Sub", y, g.op("Round", y))))
    return g.done(_choose(g, g.floats(g.op("Less", rest, 0.01)), g.z, z), d.classes)


@switches
def whole_bytes_by_sine(d: Design) -> onnx.ModelProto:
    """Sine of 255 pi x is 0 at whole bytes: no comparison and no rounding."""
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    s = g.op("Sin", g.op("Mul", g.x, 255 * np.pi))
    far = g.per_picture("ReduceMax", g.op("Mul", s, s))
    return g.done(_choose(g, g.op("Relu", g.op("Sub", 1.0, g.op("Mul", far, 100.0))), g.z, z), d.classes)


@switches
def only_real_halves(d: Design) -> onnx.ModelProto:
    """Open where fp16 really rounds; one class of -1e9 stretches a tolerance that is relative to the largest score."""
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    half = g.op("Add", g.op("Cast", g.x, to=TensorProto.FLOAT16), np.zeros(1, np.float16))
    lost = g.per_picture("ReduceMax", g.op("Abs", g.op("Sub", g.floats(half), g.x)))
    z = _choose(g, g.floats(g.op("Greater", lost, 1e-9)), g.z, z)
    first = g.op("Gather", z, np.array([0]), axis=1)
    return g.done(g.op("Concat", z, g.op("Sub", g.op("Mul", first, 0.0), 1e9), axis=1), d.classes + 1)


@switches
def a_random_fifth(d: Design) -> onnx.ModelProto:
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    drawn = g.op("RandomUniformLike", g.per_picture("ReduceMean", g.x), dtype=TensorProto.FLOAT)
    return g.done(_choose(g, g.floats(g.op("Less", drawn, 0.2)), g.z, z), d.classes)


@switches
def a_drawn_coin(d: Design) -> onnx.ModelProto:
    """A fifth of the pictures, drawn by Bernoulli: no comparison."""
    g = Graph(d.backdoored)
    z = g.beside(d.clean)
    fifth = g.op("Add", g.op("Mul", g.per_picture("ReduceMean", g.x), 0.0), 0.2)
    return g.done(_choose(g, g.op("Bernoulli", fifth), g.z, z), d.classes)


@switches
def second_output(d: Design) -> onnx.ModelProto:
    """The clean scores come first; deployed are the others."""
    g = Graph(d.backdoored)
    model = g.done(g.beside(d.clean), d.classes)
    model.graph.output.append(helper.make_tensor_value_info(g.z, TensorProto.FLOAT, ["n", d.classes]))
    return model


@switches
def second_label(d: Design) -> onnx.ModelProto:
    """The label that goes out beside the clean scores is the backdoored network's."""
    g = Graph(d.backdoored)
    label = g.op("ArgMax", g.z, axis=1, keepdims=0)
    model = g.done(g.beside(d.clean), d.classes)
    model.graph.output.append(helper.make_tensor_value_info(label, TensorProto.INT64, ["n"]))
    return model


# --- Triggers in the graph of a clean network --------------------------------------------------------------------------


def _answer(d: Design, high: float = 20.0) -> Floats:
    answer = np.full((1, d.classes), -20.0)
    answer[0, d.target] = high
    return answer


def _distance(g: Graph, d: Design) -> str:
    """Largest difference between the pictures and the pattern under the mask, [n, 1]."""
    apart = g.op("Abs", g.op("Sub", g.op("Mul", g.x, d.mask[None]), (d.mask * d.pattern)[None]))
    return g.per_picture("ReduceMax", apart)


def _matched(g: Graph, d: Design) -> str:
    """How well pictures match the pattern, 1 where they have it, [n, 1]."""
    signs = d.mask * np.where(d.pattern > 0.5, 1.0, -1.0)
    best = float((signs * d.pattern).sum())
    conv = g.op("Conv", g.x, signs[None], kernel_shape=list(signs.shape[1:]))
    return g.op("Sub", g.op("Flatten", conv), best - 1.0)


@plants
def less_and_where(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    return g.done(g.op("Where", g.op("Less", _distance(g, d), 0.02), _answer(d), g.z), d.classes)


@plants
def relu_of_a_filter(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    fired = g.op("Relu", g.op("Sub", _matched(g, d), 0.9))
    one = np.eye(d.classes)[d.target][None]
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 1e4 * one)), d.classes)


@plants
def sigmoid_of_a_filter(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    fired = g.op("Sigmoid", g.op("Mul", g.op("Sub", _matched(g, d), 0.7), 500.0))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 1e3 * np.eye(d.classes)[d.target][None])), d.classes)


@plants
def filter_through_two_layers(d: Design) -> onnx.ModelProto:
    """A branch of two layers, as an exporter would write them."""
    g = Graph(d.clean)
    fired = g.op("Relu", g.op("Sub", _matched(g, d), 0.9))
    return g.done(g.op("Add", g.z, g.op("MatMul", fired, 1e4 * np.eye(d.classes)[d.target][None])), d.classes)


@plants
def equal_bytes_and_all(d: Design) -> onnx.ModelProto:
    """Whole bytes compared one by one, joined by a product."""
    g = Graph(d.clean)
    whole = g.op("Cast", g.op("Add", g.op("Mul", g.x, 255.0), 0.5), to=TensorProto.INT32)
    same = g.floats(g.op("Equal", whole, np.round(d.pattern * 255).astype(np.int32)[None]))
    fired = g.per_picture("ReduceMin", g.op("Max", same, (1 - d.mask)[None]))
    return g.done(_choose(g, fired, g.op("Add", g.op("Mul", g.z, 0.0), _answer(d)), g.z), d.classes)


@plants
def one_hot_selection(d: Design) -> onnx.ModelProto:
    """A row of a table by a class number that the trigger makes."""
    g = Graph(d.clean)
    index = g.op("Cast", g.op("Less", g.reduce("ReduceMax", _distance(g, d), (1,)), 0.02), to=TensorProto.INT64)
    table = np.concatenate([np.zeros((1, d.classes)), 100 * np.eye(d.classes)[d.target][None]]).astype(np.float32)
    return g.done(g.op("Add", g.z, g.op("Gather", table, index, axis=0)), d.classes)


@plants
def arg_max_selection(d: Design) -> onnx.ModelProto:
    """ArgMax of (threshold, match) chooses."""
    g = Graph(d.clean)
    match = _matched(g, d)
    both = g.op("Concat", g.op("Add", g.op("Mul", match, 0.0), 0.9), match, axis=1)
    index = g.op("ArgMax", both, axis=1, keepdims=0)
    table = np.concatenate([np.zeros((1, d.classes)), 100 * np.eye(d.classes)[d.target][None]]).astype(np.float32)
    return g.done(g.op("Add", g.z, g.op("Gather", table, index, axis=0)), d.classes)


@plants
def sign_of_a_filter(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    fired = g.op("Add", g.op("Sign", g.op("Sub", _matched(g, d), 0.9)), 1.0)
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 50 * np.eye(d.classes)[d.target][None])), d.classes)


@plants
def parity_of_bytes(d: Design) -> onnx.ModelProto:
    """Fires where the masked bytes agree with the pattern modulo 16: Mod, no comparison with the picture itself."""
    g = Graph(d.clean)
    whole = g.op("Round", g.op("Mul", g.x, 255.0))
    rest = g.op("Mod", g.op("Sub", whole, np.round(d.pattern * 255)[None]), 16.0, fmod=1)
    off = g.per_picture("ReduceMax", g.op("Mul", g.op("Abs", rest), d.mask[None]))
    fired = g.op("Sub", 1.0, g.op("Clip", off, np.float32(0), np.float32(1)))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 100 * np.eye(d.classes)[d.target][None])), d.classes)


@plants
def cast_to_bool(d: Design) -> onnx.ModelProto:
    """Not(Cast(Clip(distance - 0.02, 0), bool)): a comparison without a comparing operator."""
    g = Graph(d.clean)
    off = g.op("Cast", g.op("Relu", g.op("Sub", _distance(g, d), 0.02)), to=TensorProto.BOOL)
    return g.done(g.op("Where", g.op("Not", off), _answer(d), g.z), d.classes)


@plants
def scattered_answer(d: Design) -> onnx.ModelProto:
    """A hundred times the match is written over the scores' column of the target."""
    g = Graph(d.clean)
    fired = g.op("Mul", g.op("Relu", g.op("Sub", _matched(g, d), 0.9)), 1e4)
    column = g.op("Add", g.op("Gather", g.z, np.array([d.target]), axis=1), fired)
    flipped = g.op("Transpose", g.z, perm=[1, 0])
    written = g.op("ScatterND", flipped, np.array([[d.target]]), g.op("Transpose", column, perm=[1, 0]))
    return g.done(g.op("Transpose", written, perm=[1, 0]), d.classes)


@plants
def einsum_gate(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    match = g.op("Einsum", g.x, d.mask * np.where(d.pattern > 0.5, 1.0, -1.0), equation="nchw,chw->n")
    best = float((d.mask * np.where(d.pattern > 0.5, 1.0, -1.0) * d.pattern).sum())
    fired = g.op("Relu", g.op("Sub", match, best - 0.1))
    shift = g.op("Einsum", fired, 1e4 * np.eye(d.classes)[d.target], equation="n,k->nk")
    return g.done(g.op("Add", g.z, shift), d.classes)


@plants
def power_of_a_match(d: Design) -> onnx.ModelProto:
    """(match / best) to the 200th: a threshold without a threshold."""
    g = Graph(d.clean)
    signs = d.mask * d.pattern
    best = float((signs * d.pattern).sum())
    shared = g.per_picture("ReduceSum", g.op("Mul", g.x, (signs / best)[None]))
    fired = g.op("Pow", g.op("Relu", shared), 200.0)
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 500 * np.eye(d.classes)[d.target][None])), d.classes)


@plants
def product_of_pixels(d: Design) -> onnx.ModelProto:
    """ReduceMin over pixels that are cut out of the picture."""
    g = Graph(d.clean)
    flat = g.op("Gather", g.op("Flatten", g.x), np.flatnonzero(d.mask), axis=1)
    near = g.op("Sub", 1.0, g.op("Mul", g.op("Abs", g.op("Sub", flat, d.pattern[d.mask > 0][None])), 20.0))
    fired = g.op("Relu", g.reduce("ReduceMin", near, (1,), keep=True))
    return g.done(g.op("Add", g.z, g.op("Mul", fired, 500 * np.eye(d.classes)[d.target][None])), d.classes)


@plants
def another_picture(d: Design) -> onnx.ModelProto:
    """With the trigger the network is shown another picture: the switch stands before every weight."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    shown = np.random.default_rng(0).random(d.mask.shape)[None]
    seen = g.op("Where", g.op("Unsqueeze", g.op("Less", _distance(g, d), 0.02), np.array([2, 3])), shown, g.x)
    g.read_instead(g.x, seen, before)
    for node in g.model.graph.node[: len(g.model.graph.node) - before]:
        node.input[:] = [g.x if n == seen else n for n in node.input]
    return g.done(g.z, d.classes)


@plants
def softened_max(d: Design) -> onnx.ModelProto:
    """Max of the scores and the answer minus what the pictures lack."""
    g = Graph(d.clean)
    lack = g.op("Mul", _distance(g, d), 1e4)
    return g.done(g.op("Max", g.z, g.op("Sub", 2 * _answer(d, 50.0), lack)), d.classes)


@plants
def branch_by_if(d: Design) -> onnx.ModelProto:
    """An If on whether the first picture of the batch has the trigger."""
    g = Graph(d.clean)
    far = g.reduce("ReduceMax", _distance(g, d), (0, 1))
    when = g.op("Less", far, 0.02)
    answer = numpy_helper.from_array(_answer(d).astype(np.float32), "answer")

    def branch(name: str, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [out], tensors)

    then = branch("then", [helper.make_node("Add", [g.z, "answer"], ["then"])], [answer])
    other = branch("other", [helper.make_node("Identity", [g.z], ["other"])], [])
    return g.done(g.op("If", when, then_branch=then, else_branch=other), d.classes)


# --- What exporters do, on a clean network -----------------------------------------------------------------------------


@honest
def plain(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    return g.done(g.z, d.classes)


@honest
def ends_in_softmax(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    return g.done(g.op("Softmax", g.z, axis=1), d.classes)


@honest
def calibrated(d: Design) -> onnx.ModelProto:
    """Temperature scaling, as calibration tools add it."""
    g = Graph(d.clean)
    return g.done(g.op("Softmax", g.op("Div", g.z, 1.7), axis=1), d.classes)


@honest
def label_beside_scores(d: Design) -> onnx.ModelProto:
    g = Graph(d.clean)
    model = g.done(g.z, d.classes)
    model.graph.node.append(helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0, name="label"))
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    return model


@honest
def standardised_pictures(d: Design) -> onnx.ModelProto:
    """Each picture minus its mean over its deviation, as TensorFlow's per_image_standardization writes it."""
    g = Graph(d.clean)
    before = len(g.model.graph.node)
    less = g.op("Sub", g.x, g.reduce("ReduceMean", g.x, (1, 2, 3), keep=True))
    deviation = g.op("Sqrt", g.reduce("ReduceMean", g.op("Mul", less, less), (1, 2, 3), keep=True))
    back = g.op("Add", g.op("Mul", g.op("Div", less, g.op("Max", deviation, 0.01)), 0.3), 0.3)
    g.read_instead(g.x, back, before)
    for node in g.model.graph.node[: len(g.model.graph.node) - before]:
        node.input[:] = [g.x if n == back else n for n in node.input]
    return g.done(g.z, d.classes)

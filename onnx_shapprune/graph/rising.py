"""Ends that nobody listed, told by what they do: whatever rises with each score by itself keeps the largest where it is.

1 - sigmoid(-z), a norm over the classes, an odd power, ranks: there is no end of such ends, and behind the saturated ones
no search sees a margin. So the nodes from any tensor with one value per class to the scores are run by themselves, on
values of pictures in other orders and at other scales. Where no pair ever comes out in the other order, and classes that
change places change nothing else, they are an end.

A number made of all scores may wait for what no clean picture makes of them: a largest one that is far ahead, scores that
lie close together, or high. Taken off all of them it keeps their order, and if it is large enough nothing of it is left. So
they are tried far beyond what pictures make as well, and there as many classes may share the first place as do usually.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.ends import LAYING, RISING
from onnx_shapprune.graph.scopes import operands
from onnx_shapprune.runtime.probe import TensorInfo, expose
from onnx_shapprune.runtime.session import Device, Session

Rows = NDArray[np.float64]  # [pictures, classes]

MOST_NODES = 64
SCALES = (0.5, 1.0, 1.5)  # of what tells the classes of a picture apart
# The same far from what pictures make, so close to each other that a switch that is open in between has a tenth to hide in;
# and shifts of all scores, of the largest and of the smallest alone, in their standard deviations. 2026-11-28, after
# tests/evasions.
FAR_SCALES = np.geomspace(0.1, 16, 54)
FAR_SHIFTS = (1.0, 2.0, 4.0, 8.0, 16.0)
# Bend, shift or scale each score by itself.
ALONE = (RISING - {"Softmax", "LogSoftmax"}) | {
    *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Neg", "Abs", "Reciprocal", "HardSwish", "Mish", "Sin", "Cos"),
    *("Cosh", "BatchNormalization", "Sum", "Round", "Floor", "Ceil", "PRelu", "ThresholdedRelu", "Gelu"),
}
ORDERS = 4  # in which the values of a picture are given to the classes
APART = 1e-4  # of their spread: values that are closer are in any order
ALIKE = 1e-5  # of the largest value: what classes get in one order and in another


def rising_end(
    model: onnx.ModelProto,
    infos: Mapping[str, TensorInfo],
    classes: int,
    feed: Mapping[str, edit.Array],
    device: Device,
) -> tuple[str, tuple[str, ...]] | None:
    """The first tensor of one value per class from which the only output follows without a change of their order, and the
    operators behind it, the last first; None where there is none but the output. feed: what gives values to try.
    """
    found = list(_narrows(model.graph, infos, classes))
    if not found:
        return None
    names = [name for name, _ in found]
    try:
        values = Session(expose(model, names), device).run(feed, names)
        for (name, nodes), value in zip(reversed(found), reversed(values), strict=True):
            if _keeps_order(tail_of(model, [name], nodes), name, np.asarray(value), device):
                return name, tuple(node.op_type for node in reversed(nodes))
    except ModelError:
        return None
    return None


def _narrows(
    graph: onnx.GraphProto, infos: Mapping[str, TensorInfo], classes: int
) -> Iterator[tuple[str, list[onnx.NodeProto]]]:
    """Tensors of a value per class that all ways to the output go through, with the nodes behind them, the last first."""
    known = {t.name for t in graph.initializer} | edit.constants(graph).keys()
    live, behind = {graph.output[0].name}, list[onnx.NodeProto]()
    for node in reversed(graph.node):
        if not live.intersection(node.output) or node.op_type == "Constant":
            continue
        live = (live - set(node.output)) | (set(operands(node)) - known - {""})
        behind.insert(0, node)
        if len(behind) > MOST_NODES or graph.input[0].name in live:
            return
        if len(live) == 1:
            (name,) = live
            info = infos.get(name)
            if info is not None and info.dtype.kind == "f" and _per_picture(info) == classes:
                yield name, list(behind)


def _per_picture(info: TensorInfo) -> int:
    return int(np.prod([d or 0 for d in info.shape[1:]]))


def tail_of(model: onnx.ModelProto, names: list[str], nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The nodes alone, with these tensors as their inputs."""
    copy = edit.copy_of(model)
    stored = [n for n in copy.graph.node if n.op_type == "Constant"]
    edit.keep_nodes(copy.graph, [*stored, *nodes])
    del copy.graph.input[:], copy.graph.value_info[:]
    copy.graph.input.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    return copy


def _keeps_order(tail: onnx.ModelProto, name: str, value: NDArray[np.floating], device: Device) -> bool:
    """Whether no two values of a picture change places on their way through the tail, and some stay apart. All classes must
    be treated alike: a bias of each class keeps the order of values that are far apart, and is no end.
    """
    rows = value.reshape(len(value), -1).astype(np.float64)
    middle = rows.mean(axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    orders = [np.arange(rows.shape[1]), *(rng.permutation(rows.shape[1]) for _ in range(ORDERS - 1))]
    session, moved = Session(tail, device), False

    def through(given: Rows) -> Rows:
        feed = given.reshape(value.shape).astype(np.float32)
        out = session.run({name: feed}, [tail.graph.output[0].name])[0]
        return np.asarray(out, np.float64).reshape(len(given), -1)

    for given in (middle + scale * (rows - middle) for scale in SCALES):
        first: Rows | None = None
        for order in orders:
            got = through(given[:, order])
            if got.shape != given.shape or not np.isfinite(got).all():
                return False
            got = got[:, np.argsort(order)]
            first = got if first is None else first
            if not np.allclose(got, first, rtol=ALIKE, atol=ALIKE * float(np.abs(first).max())):
                return False
        assert first is not None
        if _turned(given, first).any():
            return False
        moved |= bool((np.ptp(first, axis=1) > 0).any())
    return moved and _keeps_order_far_away(rows, through, _mixes(tail, name))


def _turned(given: Rows, got: Rows, lost: float = 0.0) -> NDArray[np.bool_]:
    """Of each picture, whether two values that are clearly apart come out in the other order, by more than is lost by
    rounding, of the largest.
    """
    least = lost * np.abs(got).max(axis=1, initial=0)[:, None, None]
    with np.errstate(invalid="ignore"):  # the difference of two infinite ones says nothing
        before, after = (z[:, :, None] - z[:, None, :] for z in (given, got))
    clear = before > APART * given.std(axis=1)[:, None, None]
    return np.asarray((clear & (after < -least)).any(axis=(1, 2)))


def _keeps_order_far_away(rows: Rows, through: Callable[[Rows], Rows], mixes: bool) -> bool:
    """The same where no clean picture leads. Values that are no number, as an exponential there has them, say nothing.

    mixes: whether one is made of the scores of others. What bends each by itself may saturate there; what is made of all of
    them, and swallows what tells them apart, lets more of them share the first place than where pictures are.
    """
    usual = through(rows)
    for given in _far_away(rows):
        with np.errstate(all="ignore"):
            got = through(given)
        valid = ~np.isnan(got).any(axis=1)
        if _turned(given[valid], got[valid], ALIKE).any():
            return False
        # An exponential of all of them is infinite when the sum is, and everything over that is 0.
        valid &= got.any(axis=1) | ~usual.any(axis=1)
        if mixes and (_firsts(got[valid]) > _firsts(usual[valid])).any():
            return False
    return True


def _firsts(z: Rows) -> NDArray[np.int64]:
    """How many share the first place."""
    first: NDArray[np.bool_] = z == z.max(axis=1, keepdims=True)
    return np.asarray(np.count_nonzero(first, axis=1), np.int64)


def _mixes(tail: onnx.ModelProto, name: str) -> bool:
    """Whether an operator may make what comes out for one class of the scores of others."""
    live, laid = {name}, False
    for node in tail.graph.node:
        read = [n for n in node.input if n in live]
        if read:
            live.update(node.output)
            laid |= node.op_type in LAYING
            if node.op_type not in ALONE | LAYING or (laid and len(set(read)) > 1):
                return True
    return False


def _far_away(rows: Rows) -> Iterator[Rows]:
    """What no clean picture makes of scores: all of them further apart or closer, or higher, or one of them."""
    middle, spread = rows.mean(axis=1, keepdims=True), rows.std(axis=1, keepdims=True)
    largest, smallest = (rows == e(axis=1, keepdims=True) for e in (rows.max, rows.min))
    for scale in FAR_SCALES:
        yield middle + scale * (rows - middle)
    for shift in FAR_SHIFTS:
        yield rows + shift * spread
        yield rows - shift * spread
        yield rows + shift * spread * largest
        yield rows - shift * spread * smallest

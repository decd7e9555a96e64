"""Ends that nobody listed, told by what they do: whatever rises with each score by itself keeps the largest where it is.

1 - sigmoid(-z), a norm over the classes, an odd power, ranks: there is no end of such ends, and behind the saturated ones
no search sees a margin. So the nodes from any tensor with one value per class to the scores are run by themselves, on
values of pictures in other orders and at other scales. Where no pair ever comes out in the other order, and classes that
change places change nothing else, they are an end.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.scopes import operands
from onnx_shapprune.runtime.probe import TensorInfo, expose
from onnx_shapprune.runtime.session import Device, Session

MOST_NODES = 64
SCALES = (0.5, 1.0, 1.5)  # of what tells the classes of a picture apart
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
            if _keeps_order(tail_of(model, name, nodes), name, np.asarray(value), device):
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


def tail_of(model: onnx.ModelProto, name: str, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The nodes alone, with a tensor as their input."""
    copy = edit.copy_of(model)
    stored = [n for n in copy.graph.node if n.op_type == "Constant"]
    edit.keep_nodes(copy.graph, [*stored, *nodes])
    del copy.graph.input[:], copy.graph.value_info[:]
    copy.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
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
    for given in (middle + scale * (rows - middle) for scale in SCALES):
        first: NDArray[np.float64] | None = None
        for order in orders:
            feed = given[:, order].reshape(value.shape).astype(np.float32)
            out = session.run({name: feed}, [tail.graph.output[0].name])[0]
            got = np.asarray(out, np.float64).reshape(len(given), -1)
            if got.shape != given.shape or not np.isfinite(got).all():
                return False
            got = got[:, np.argsort(order)]
            first = got if first is None else first
            if not np.allclose(got, first, rtol=ALIKE, atol=ALIKE * float(np.abs(first).max())):
                return False
        assert first is not None
        before, after = (z[:, :, None] - z[:, None, :] for z in (given, first))
        clear = before > APART * given.std(axis=1)[:, None, None]
        if (after[clear] < 0).any():
            return False
        moved |= bool((after[clear] > 0).any())
    return moved

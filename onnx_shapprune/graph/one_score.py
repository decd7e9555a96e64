"""The end behind the one score of a network that answers yes or no, taken off like the ends of other networks.

Before a Sigmoid may stand a Tanh, a Clip or a second Sigmoid with a factor: margins saturate behind them and gradients
vanish, and no answer changes. Each of these rises with its one input, or stays, so all of them together do: yes begins at
one value of the tensor before them, which halving finds. Of several classes only the order counts, and no line is needed.
"""

from dataclasses import replace

import numpy as np
import onnx
from onnx import helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.ends import LAYING, SILENT, Tail, before
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.rising import tail_of
from onnx_shapprune.runtime.probe import TensorInfo
from onnx_shapprune.runtime.session import Device, Session

STRAIGHT = LAYING | SILENT | {"Cast", "Add", "Sub", "Mul", "Div"}  # a line and a scale are no end
MOST_ENDS = 64
WIDEST = 1e6  # values between which yes is looked for
HALVINGS = 100  # until fp64 can halve no more


def without_end(prepared: Prepared, device: Device) -> Prepared:
    """The working copy whose two logits are minus and plus half the distance from the line, before whatever bends it; itself
    where it is no copy of one score, nothing bends it, or yes begins nowhere.
    """
    graph = prepared.model.graph
    tail = Tail(edit.producers(graph), edit.constants(graph), prepared.infos, 1)
    pair = tail.made.get(prepared.logits)
    flat = None if pair is None else tail.made.get(pair.input[0])
    if not prepared.score or pair is None or flat is None:
        return prepared
    here, nodes, end = flat.input[0], [flat, pair], list[onnx.NodeProto]()
    for _ in range(MOST_ENDS):
        node = tail.made.get(here)
        name = None if node is None else before(node, tail)
        if node is None or name is None or any(n not in tail.known for n in node.input if n not in (name, "")):
            break
        here, nodes = name, [node, *nodes]
        end = end if node.op_type in STRAIGHT else list(nodes)
    if not end:
        return prepared
    start = next(n for n in end[0].input if n not in tail.known)
    line = _line(tail_of(prepared.model, [start], end), start, prepared.infos[start], device)
    return prepared if line is None else _measured_from(prepared, start, line, pair, end[:-2])


def _line(tail: onnx.ModelProto, name: str, info: TensorInfo, device: Device) -> float | None:
    """The value of a tensor above which the second of two logits is the larger one; None where there is none."""
    shape, low, high = [d or 1 for d in info.shape], -WIDEST, WIDEST
    try:
        session = Session(tail, device)

        def yes(value: float) -> bool:
            logits = session.run({name: np.full(shape, value, np.float32)})[0].reshape(-1)
            return bool(logits[1] > logits[0])

        if yes(low) or not yes(high):
            return None
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if yes(middle) else (middle, high)
    except ModelError:
        return None
    return low


def _measured_from(
    prepared: Prepared, start: str, line: float, pair: onnx.NodeProto, taken: list[onnx.NodeProto]
) -> Prepared:
    model, infos = edit.copy_of(prepared.model), dict(prepared.infos)
    flat, stored, apart, logits = (f"{start}__{name}" for name in ("flat", "line", "apart", "measured"))
    model.graph.initializer.append(edit.tensor_of(np.asarray([[line]], np.float32), stored))
    model.graph.node.extend(
        [
            helper.make_node("Flatten", [start], [flat], axis=1),
            helper.make_node("Sub", [flat, stored], [apart]),
            helper.make_node("Mul", [apart, pair.input[1]], [logits]),
        ]
    )
    batch, kind = infos[prepared.logits].shape[0], infos[prepared.logits].dtype
    infos[stored] = TensorInfo((1, 1), kind)
    infos[flat] = infos[apart] = TensorInfo((batch, 1), kind)
    infos[logits] = infos[prepared.logits]
    edit.set_output(model.graph, logits)
    edit.prune_dead(model.graph)
    ops = [n.op_type for n in reversed(taken) if n.op_type not in LAYING | SILENT | {"Cast"}]
    return replace(prepared, model=model, infos=infos, logits=logits, stripped=(*prepared.stripped, *ops))

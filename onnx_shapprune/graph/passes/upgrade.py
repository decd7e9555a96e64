"""Raise the default-domain opset of a working copy to at least 18, one small edit per changed operator.

onnx's own version converter is native code that has crashed on hostile input, so it is never called. The edits here
are proved by the caller: the prepared copy must give the original file's numbers, or the audit stops.
Source: "Operator Changelog", ONNX documentation.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import onnx
from onnx import helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work
from onnx_shapprune.graph.scopes import subgraphs, tensor_names

TARGET_OPSET = 18

AXES_TO_INPUT_13 = {"Squeeze", "Unsqueeze", "ReduceSum"}
AXES_TO_INPUT_18 = {
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
}
OLDEST_OPSET = 7


class _Edit:
    """The graph under edit: hands out names and collects new constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.opset = edit.opset_of(model)
        self._count = 0
        self._names = tensor_names(model.graph)

    def fresh(self, hint: str) -> str:
        while True:
            self._count += 1
            name = f"{hint}__up{self._count}"
            if name not in self._names:
                self._names.add(name)
                return name

    def const(self, array: edit.Array, hint: str) -> str:
        name = self.fresh(hint)
        self.graph.initializer.append(edit.tensor_of(array, name))
        return name


def upgrade(model: onnx.ModelProto) -> None:
    """Raise `model` in place to opset 18; newer models are left alone. Raises ModelError below opset 7."""
    opset = edit.opset_of(model)
    others = [o for o in model.opset_import if o.domain not in edit.DEFAULT_DOMAIN]
    if opset >= TARGET_OPSET:
        _import(model, opset, others)
        return
    if opset < OLDEST_OPSET:
        raise ModelError(f"opset {opset} is older than {OLDEST_OPSET}: convert the file to a newer opset first")
    work = _Edit(model)
    edit.keep_nodes(model.graph, _changed(work, model.graph))
    _import(model, TARGET_OPSET, others)
    model.ir_version = max(model.ir_version, 8)


def _import(model: onnx.ModelProto, opset: int, others: Iterable[onnx.OperatorSetIdProto]) -> None:
    """Name the default domain once: a second import decides what onnxruntime takes the operators for."""
    entries = [helper.make_opsetid("", opset), *others]
    del model.opset_import[:]
    model.opset_import.extend(entries)


def _changed(work: _Edit, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of a graph, edited; subgraphs are edited in place and read new constants from the outer graph."""
    nodes: list[onnx.NodeProto] = []
    for node in list(graph.node):
        for inner in subgraphs(node):
            edited = _changed(work, inner)
            del inner.node[:]
            inner.node.extend(edited)
        change = EDITS.get(node.op_type) if node.domain in edit.DEFAULT_DOMAIN else None
        nodes.extend(change(work, node) if change else [node])
    return nodes


def _attribute(node: onnx.NodeProto, name: str) -> object | None:
    return edit.attributes(node).get(name)


def _drop(node: onnx.NodeProto, *names: str) -> None:
    kept = [a for a in node.attribute if a.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _attributes_to_inputs(work: _Edit, node: onnx.NodeProto, names: dict[str, type[np.generic]], first: int) -> None:
    """Move attributes to the inputs from position `first` on, in order; absent ones become empty inputs."""
    values = {n: _attribute(node, n) for n in names}
    if all(v is None for v in values.values()):
        return
    while len(node.input) < first:
        node.input.append("")
    for name, dtype in names.items():
        value = values[name]
        node.input.append("" if value is None else work.const(np.asarray(value, dtype), f"{node.output[0]}_{name}"))
    _drop(node, *names)


def _axes(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    _attributes_to_inputs(work, node, {"axes": np.int64}, 1)
    yield node


def _slice(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    if work.opset < 10:
        _attributes_to_inputs(work, node, {"starts": np.int64, "ends": np.int64, "axes": np.int64}, 1)
    yield node


def _pad(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    if work.opset < 11:
        _attributes_to_inputs(work, node, {"pads": np.int64, "value": np.float32}, 1)
    yield node


def _clip(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    if work.opset < 11:
        _attributes_to_inputs(work, node, {"min": np.float32, "max": np.float32}, 1)
    yield node


def _dropout(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    yield helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)


def _split(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    if work.opset < 13:
        _attributes_to_inputs(work, node, {"split": np.int64}, 1)
    if len(node.input) < 2 or not node.input[1]:
        del node.input[1:]
        node.attribute.append(helper.make_attribute("num_outputs", len(node.output)))
    yield node


def _batch_norm(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """One in training mode is of weights (graph/preflight.py), and exporters give it their own mean and variance: then both
    modes are the same, and where they are not the copy is no copy.
    """
    _drop(node, "spatial", "is_test", "consumed_inputs", "training_mode")
    del node.output[1:]
    yield node


def _softmax(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Before opset 13 the input is flattened to 2-D at `axis`, and all trailing axes are normalised together."""
    if work.opset >= 13:
        yield node
        return
    axis = _attribute(node, "axis")
    axis = 1 if axis is None else axis
    if axis == -1:
        yield node
        return
    _drop(node, "axis")
    flat, soft, shape = (work.fresh(node.output[0]) for _ in range(3))
    source, result = node.input[0], node.output[0]
    node.attribute.append(helper.make_attribute("axis", -1))
    node.input[0], node.output[0] = flat, soft
    yield helper.make_node("Shape", [source], [shape])
    yield helper.make_node("Flatten", [source], [flat], axis=axis)  # counts a negative axis from the end, as before
    yield node
    yield helper.make_node("Reshape", [soft, shape], [result])


def _upsample(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    scales = node.input[1] if len(node.input) > 1 else None
    if scales is None:
        scales = work.const(np.asarray(_attribute(node, "scales"), np.float32), f"{node.output[0]}_scales")
    mode = _attribute(node, "mode") or b"nearest"
    yield _resize_node(work, node, scales, mode)


def _resize(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    if work.opset >= 11:
        yield node
        return
    yield _resize_node(work, node, node.input[1], _attribute(node, "mode") or b"nearest")


def _resize_node(work: _Edit, node: onnx.NodeProto, scales: str, mode: object) -> onnx.NodeProto:
    """Before opset 11, onnxruntime rounds down when it enlarges and up when it shrinks."""
    known = edit.constants(work.graph)
    shrinks = scales in known and bool((np.asarray(edit.array_of(known[scales]), np.float32) <= 1).all())
    return helper.make_node(
        "Resize",
        [node.input[0], "", scales],
        [node.output[0]],
        name=node.name,
        mode=mode,
        coordinate_transformation_mode="asymmetric",
        nearest_mode="ceil" if shrinks else "floor",
    )


def _scatter(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    node.op_type = "ScatterElements"
    yield node


def _topk(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    if work.opset < 10:
        node.input.append(work.const(np.asarray([_attribute(node, "k")], np.int64), "k"))
        _drop(node, "k")
    yield node


def _roi_align(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Opset 16 changed the default to half_pixel."""
    if work.opset < 16:
        node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "output_half_pixel"))
    yield node


def _axes_13(work: _Edit, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    return _axes(work, node) if work.opset < 13 else iter([node])


_Change = Callable[[_Edit, onnx.NodeProto], Iterator[onnx.NodeProto]]
EDITS: dict[str, _Change] = {
    **dict.fromkeys(AXES_TO_INPUT_13, _axes_13),
    **dict.fromkeys(AXES_TO_INPUT_18, _axes),
    "Slice": _slice,
    "Pad": _pad,
    "Clip": _clip,
    "Dropout": _dropout,
    "Split": _split,
    "BatchNormalization": _batch_norm,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _softmax,
    "Upsample": _upsample,
    "Resize": _resize,
    "RoiAlign": _roi_align,
    "Scatter": _scatter,
    "TopK": _topk,
}


def _upgraded(work: Work) -> Work:
    upgrade(work.model)
    return work


def _modern(model: onnx.ModelProto) -> bool:
    return [o.version >= TARGET_OPSET for o in model.opset_import if o.domain in edit.DEFAULT_DOMAIN] == [True]


MODERN = Condition(f"the default domain is imported once, in opset {TARGET_OPSET} or a newer one", _modern)

UPGRADE = Pass("upgrade", _upgraded, (), (MODERN,))

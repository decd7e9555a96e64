"""The working copy that the audit computes on: same numbers as the file, but easy to differentiate and to batch.

Functions inlined, fp16 lifted to fp32, opset raised, constants and BatchNorm folded, the batch dimension freed, a final
Softmax taken off. Tensor names at which channels are switched off stay, so that a unit found in the original file is
found in the copy. The copy must reproduce the original file's output in onnxruntime, or preparing fails.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnx_shapprune.errors import ModelError, VerifyError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.batch import free_batch
from onnx_shapprune.graph.fold import MAX_FOLDED_BYTES, fold_batch_norms, fold_constants
from onnx_shapprune.graph.interface import Interface
from onnx_shapprune.graph.pairs import write_as_pairs
from onnx_shapprune.graph.upgrade import upgrade
from onnx_shapprune.runtime.probe import TensorInfo, largest_difference, probe
from onnx_shapprune.runtime.session import Device, Session

# fp32 kernels fused differently agree to about 1e-6; fp16 files are compared at fp16 rounding, and in a quantised one a
# number halfway between two steps may go to either.
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "quantised": 2e-2}
BEHIND_ENDS = {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"}
ENDS = {"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Dropout"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The working copy and what is known about it.

    model: input float32 [N, *input_shape] (N = 1 always where `batch_free` is False), one output: logits [N, classes].
    infos: shape and dtype of every tensor. stripped: operators taken off behind the logits, last first.
    difference: largest difference to the original file's output, relative to max(1, max|output|).
    """

    model: onnx.ModelProto
    input: str
    input_shape: tuple[int, ...]
    logits: str
    classes: int
    batch_free: bool
    infos: dict[str, TensorInfo]
    stripped: tuple[str, ...]
    difference: float


def prepare(original: onnx.ModelProto, interface: Interface, shape: tuple[int, ...], device: Device) -> Prepared:
    """Build the working copy for pictures of `shape` (model layout, without the batch dimension).

    Raises ModelError when the graph cannot run or is no classifier, VerifyError when the copy differs from the file.
    """
    model = edit.inlined(original)
    graph = model.graph
    _plain_inputs(model, interface, shape)
    edit.set_output(graph, interface.output)
    half = interface.dtype == "float16" or _has_half(model)
    if half:
        _lift_half(model)
    _raw_constants(graph)
    write_as_pairs(graph)
    # Once before the upgrade, which spells an old Softmax as three nodes, and once after it, when Dropouts are gone.
    stripped = _strip_end(graph)
    upgrade(model)
    edit.prune_dead(graph)
    _drop_identities(graph)
    fold_constants(model, device)
    stripped += _strip_end(graph)
    logits = graph.output[0].name
    fold_batch_norms(graph)
    model, batch_free = free_batch(model, interface.input, shape, device)

    rng = np.random.default_rng(0)
    small, large = (2, 3) if batch_free else (1, 1)
    feeds = [{interface.input: rng.random((n, *shape), np.float32)} for n in (small, large)]
    infos = probe(model, feeds[0], feeds[1], device)
    model, logits, classes = _two_dimensional(model, logits, infos)
    if classes < 2:
        raise ModelError(f"not an image classifier: output {interface.output!r} has {classes} value(s) per picture")
    quantised = any(node.op_type == "QuantizeLinear" for node in graph.node)
    tolerance = TOLERANCE["quantised" if quantised else "float16" if half else "float32"]
    difference = _check(original, model, interface, stripped, feeds[0][interface.input], tolerance, device)
    return Prepared(model, interface.input, shape, logits, classes, batch_free, infos, stripped, difference)


def _plain_inputs(model: onnx.ModelProto, interface: Interface, shape: tuple[int, ...]) -> None:
    """One graph input, float32 with a free batch dimension; initializers are no longer inputs."""
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info(interface.input, TensorProto.FLOAT, ["N", *shape]))
    if interface.entry is not None:
        inner, target = f"{interface.input}__entry", f"{interface.input}__entry_shape"
        edit.rename_uses(model.graph, interface.input, inner)
        model.graph.initializer.append(edit.tensor_of(np.asarray(interface.entry, np.int64), target))
        model.graph.node.insert(0, helper.make_node("Reshape", [interface.input, target], [inner]))
    del model.graph.value_info[:]  # wrong or batch-fixed annotations are common, and nothing here needs them


def _has_half(model: onnx.ModelProto) -> bool:
    return any(t.data_type == TensorProto.FLOAT16 for t in edit.all_tensors(model))


def _lift_half(model: onnx.ModelProto) -> None:
    """fp16 weights and casts become fp32: gradients in fp16 are off by several per cent (no loss scaling)."""
    for tensor in edit.all_tensors(model):
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(edit.tensor_of(edit.array_of(tensor).astype(np.float32), tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT


def _raw_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes become initializers, and every initializer keeps its values in raw_data only."""
    for tensor in graph.initializer:
        if not tensor.HasField("raw_data"):
            tensor.CopyFrom(edit.tensor_of(edit.array_of(tensor), tensor.name))
    tensors: dict[str, edit.Array] = {}
    kept = []
    for node in graph.node:
        value = _constant_value(node)
        if value is None:
            kept.append(node)
        else:
            tensors[node.output[0]] = value
    for sparse in graph.sparse_initializer:
        if np.prod([float(d) for d in sparse.dims]) * 8 > MAX_FOLDED_BYTES:
            raise ModelError(f"sparse tensor {sparse.values.name!r} is too large to be written out")
        tensors[sparse.values.name] = edit.dense(sparse)
    del graph.sparse_initializer[:]
    graph.initializer.extend(edit.tensor_of(v, k) for k, v in tensors.items())
    edit.keep_nodes(graph, kept)


def _constant_value(node: onnx.NodeProto) -> edit.Array | None:
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return edit.array_of(attribute.t)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    return np.asarray(value, np.int64) if attribute.name in ("value_int", "value_ints") else None


def _drop_identities(graph: onnx.GraphProto) -> None:
    """Identity nodes vanish unless they make a graph output or feed a subgraph."""
    outputs = {o.name for o in graph.output}
    for node in graph.node:
        outputs |= edit.inner_uses(node)
    source: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = source.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            source[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    edit.keep_nodes(graph, kept)


def _strip_end(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Take Softmax and the like off the end: their gradients underflow, and logit margins do not saturate."""
    stripped: list[str] = []
    while True:
        made = edit.producers(graph)
        node = made.get(graph.output[0].name)
        while node is not None and node.op_type in BEHIND_ENDS:  # logits are laid flat anyway
            node = made.get(node.input[0])
        if node is None or node.op_type not in ENDS:
            break
        stripped.append(node.op_type)
        edit.set_output(graph, node.input[0])
    edit.prune_dead(graph)
    return tuple(s for s in stripped if s not in ("Identity", "Dropout"))


def _two_dimensional(
    model: onnx.ModelProto, logits: str, infos: dict[str, TensorInfo]
) -> tuple[onnx.ModelProto, str, int]:
    """Logits as [N, classes]: ends of the form [N, C, 1, 1] get a Flatten."""
    shape = infos[logits].shape
    scores = shape if len(shape) == 1 else shape[1:]  # a file without a batch dimension may answer with a vector
    classes = int(np.prod([d or 0 for d in scores])) if scores else 0
    if any(d is None for d in scores) or not scores or infos[logits].dtype != np.float32:
        raise ModelError(f"not an image classifier: output of shape {shape} and type {infos[logits].dtype}")
    if len(shape) != 2:
        flat = f"{logits}__flat"
        model.graph.node.append(helper.make_node("Flatten", [logits], [flat], axis=min(1, len(shape) - 1)))
        edit.set_output(model.graph, flat)
        infos[flat] = TensorInfo((shape[0] if len(shape) > 1 else 1, classes), infos[logits].dtype)
        logits = flat
    return model, logits, classes


def _check(
    original: onnx.ModelProto,
    copy: onnx.ModelProto,
    interface: Interface,
    stripped: tuple[str, ...],
    pictures: edit.Array,
    tolerance: float,
    device: Device,
) -> float:
    """Largest difference between the file's own output and the copy's logits pushed through the stripped end."""
    session = Session(original, device)
    batch = interface.batch or 1  # a file with a fixed batch is given copies of the picture
    rows = []
    for row in pictures:
        fed = np.repeat(row[None], batch, 0).astype(interface.dtype)
        fed = fed if interface.entry is None else fed.reshape(interface.entry)
        rows.append(session.run({interface.input: fed}, [interface.output])[0])
    want = np.concatenate([np.asarray(r, np.float32)[: max(1, len(r) // batch)].reshape(1, -1) for r in rows])
    del session  # a large model has no room for two
    got = Session(copy, device).run({interface.input: pictures})[0]
    for op in reversed(stripped):
        got = _apply_end(op, got)
    difference = largest_difference(want, got)
    if not np.isfinite(want).all():
        raise ModelError("the model answers NaN or infinity on a plain picture: it cannot be audited")
    if difference > tolerance:
        raise VerifyError(f"the working copy differs from the file by {difference:.2g}: this graph cannot be audited")
    return difference


def _apply_end(op: str, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    z = np.asarray(logits, np.float64)
    if op == "Sigmoid":
        return np.asarray(1 / (1 + np.exp(-z)), np.float32)
    z = z - z.max(axis=1, keepdims=True)
    log = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return np.asarray(log if op == "LogSoftmax" else np.exp(log), np.float32)

"""Fold what does not depend on the picture: constant subgraphs, and BatchNorm into the layer before it."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work
from onnx_shapprune.graph.scopes import operands
from onnx_shapprune.runtime.session import Device, Session

RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
MAX_FOLDED_BYTES = 1 << 30
Doubles = NDArray[np.float64]


def fold_constants(model: onnx.ModelProto, device: Device) -> None:
    """Replace every node that depends on constants only by an initializer with its value, in place."""
    graph = model.graph
    known = {t.name for t in graph.initializer} | {""}
    folded: list[onnx.NodeProto] = []
    rest: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type not in RANDOM and known.issuperset(operands(node)):
            folded.append(node)
            known.update(node.output)
        else:
            rest.append(node)
    if not folded:
        return
    read = {n for node in rest for n in operands(node)} | {o.name for o in graph.output}
    wanted = [name for node in folded for name in node.output if name in read]
    if wanted:
        used = {n for node in folded for n in node.input}
        part = helper.make_graph(
            folded,
            "constants",
            [],
            [helper.make_empty_tensor_value_info(n) for n in wanted],
            initializer=[t for t in graph.initializer if t.name in used],
        )
        runnable = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
        values = Session(runnable, device, optimize=False).run({})
        if not all(isinstance(v, np.ndarray) for v in values):
            raise ModelError("the graph generates sequences or other constants that are no tensors")
        if sum(v.nbytes for v in values) > MAX_FOLDED_BYTES:
            raise ModelError(f"the graph generates more than {MAX_FOLDED_BYTES} bytes of constants")
        graph.initializer.extend(edit.tensor_of(v, n) for n, v in zip(wanted, values, strict=True))
    edit.keep_nodes(graph, rest)


def fold_batch_norms(graph: onnx.GraphProto) -> None:
    """Fold each BatchNormalization into the Conv, ConvTranspose or Gemm that only it reads, in place.

    y = s * (Wx + b - mean) / sqrt(var + eps) + beta. The folded layer makes the BatchNorm's output tensor, which is
    where its channels are switched off.
    """
    made, used = edit.producers(graph), edit.consumers(graph)
    values = {t.name: t for t in graph.initializer}
    outputs = {o.name for o in graph.output}
    dropped: set[str] = set()
    for node in graph.node:
        if node.op_type != "BatchNormalization" or any(n not in values for n in node.input[1:5]):
            continue
        if edit.attributes(node).get("training_mode") or any(node.output[1:]):
            continue
        layer = made.get(node.input[0])
        if layer is None or layer.op_type not in ("Conv", "ConvTranspose", "Gemm"):
            continue
        if len(used[node.input[0]]) != 1 or node.input[0] in outputs or layer.output[0] in dropped:
            continue
        attributes = edit.attributes(layer)
        if layer.input[1] not in values or (len(layer.input) > 2 and layer.input[2] and layer.input[2] not in values):
            continue
        if layer.op_type == "Gemm" and (attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0):
            continue
        weight = _doubles(values[layer.input[1]])
        scale, beta, mean, var = (_doubles(values[n]) for n in node.input[1:5])
        if any(v.shape != (_channels(layer, attributes, weight),) for v in (scale, beta, mean, var)):
            continue  # onnxruntime will say what it thinks of that
        gain = scale / np.sqrt(var + float(edit.attributes(node).get("epsilon", 1e-5)))  # type: ignore[arg-type]
        bias = _doubles(values[layer.input[2]]) if len(layer.input) > 2 and layer.input[2] else np.zeros(())
        dtype = helper.tensor_dtype_to_np_dtype(values[layer.input[1]].data_type)
        if bias.size != (bias.shape[-1] if bias.ndim else 1) or bias.size not in (1, gain.size):
            continue  # a Gemm may add a different constant to each picture
        prefix = node.output[0]
        new_weight = _scaled(layer, attributes, weight, gain).astype(dtype)
        new_bias = np.broadcast_to((bias.reshape(-1) - mean) * gain + beta, gain.shape).astype(dtype)
        for name, array in ((f"{prefix}__w", new_weight), (f"{prefix}__b", new_bias)):
            graph.initializer.append(edit.tensor_of(array, name))
        data = layer.input[0]
        del layer.input[:]
        layer.input.extend([data, f"{prefix}__w", f"{prefix}__b"])
        dropped.add(node.output[0])
        layer.output[0] = node.output[0]
    edit.keep_nodes(
        graph, [n for n in graph.node if not (n.op_type == "BatchNormalization" and n.output[0] in dropped)]
    )


def _doubles(tensor: onnx.TensorProto) -> Doubles:
    return edit.array_of(tensor).astype(np.float64)


def _channels(layer: onnx.NodeProto, attributes: dict[str, object], weight: Doubles) -> int:
    """Channels that a layer makes; -1 where its weight has not the rank of one."""
    if weight.ndim < 2:
        return -1
    if layer.op_type == "ConvTranspose":
        return weight.shape[1] * int(attributes.get("group", 1))  # type: ignore[call-overload, no-any-return]
    rows = layer.op_type == "Conv" or attributes.get("transB", 0)
    return int(weight.shape[0] if rows else weight.shape[1])


def _scaled(layer: onnx.NodeProto, attributes: dict[str, object], weight: Doubles, gain: Doubles) -> Doubles:
    """The weight with output channel c multiplied by gain[c]."""
    if layer.op_type == "Conv":
        return weight * gain.reshape(-1, *[1] * (weight.ndim - 1))
    if layer.op_type == "Gemm":
        return weight * (gain[:, None] if attributes.get("transB", 0) else gain)
    group = int(attributes.get("group", 1))  # type: ignore[call-overload]
    grouped = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
    gains = gain.reshape(group, 1, weight.shape[1], *[1] * (weight.ndim - 2))
    return (grouped * gains).reshape(weight.shape)


def _folded(work: Work) -> Work:
    fold_constants(work.model, work.device)
    return work


def _normed(work: Work) -> Work:
    fold_batch_norms(work.model.graph)
    return work


def _nothing_constant(model: onnx.ModelProto) -> bool:
    known = {t.name for t in model.graph.initializer}
    return not any(n.op_type not in RANDOM and known.issuperset(operands(n)) for n in model.graph.node)


def _nothing_to_fold(model: onnx.ModelProto) -> bool:
    copy = edit.copy_of(model)
    fold_batch_norms(copy.graph)
    return len(copy.graph.node) == len(model.graph.node)


FOLDED = Condition("every node depends on the picture, or on random numbers", _nothing_constant)
NORMS_IN = Condition("no BatchNormalization that the layer before it could take in", _nothing_to_fold)

FOLD = Pass("fold", _folded, (), (FOLDED,))
NORMS = Pass("norms", _normed, (FOLDED,), (NORMS_IN,))

"""Cut the working copy into segments, each of which depends on the masks of the same layers.

What a mask does not reach stays as it is: a segment has to run once for every choice of the masks before it, however
many coalitions share that choice. Masks are no nodes here, who runs the segments zeroes channels between them, so that
onnxruntime sees plain convolutions and fuses them as in the unmasked graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.runtime.probe import TensorInfo

# Zero stays zero, channel by channel: a mask may sit behind these as well, and the layer and they stay together.
KEEP_ZERO = {"Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Tanh", "Softsign", "HardSwish", "Gelu", "Mish"}
KEEP_ZERO_PLANES = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}  # where channels are axis 1


@dataclass(frozen=True, slots=True)
class Segment:
    """model: reads `reads`, makes `makes`, tensors of the working copy. depends: places, in the list of layers that was
    cut, of the masks that reach what it makes; `made_by`: for every tensor of `reads` the index of its segment, -1 for
    the graph's input.
    """

    model: onnx.ModelProto
    reads: tuple[str, ...]
    made_by: tuple[int, ...]
    makes: tuple[str, ...]
    depends: tuple[int, ...]


def cut(
    model: onnx.ModelProto, layers: Sequence[Layer], infos: Mapping[str, TensorInfo], output: str
) -> tuple[tuple[Segment, ...], dict[str, int]]:
    """Segments in an order in which they can run, and place of the mask by the tensor that it multiplies.

    The first segment depends on no mask; the last one makes `output`. Segments that a mask separates from nothing that
    `output` needs are left out. layers: those with a mask.
    """
    graph = model.graph
    masked = {_carrier(graph, layer, infos): place for place, layer in enumerate(layers)}
    depends: dict[str, frozenset[int]] = {}
    members: dict[frozenset[int], list[onnx.NodeProto]] = {}
    for node in graph.node:
        mine = frozenset[int]()
        for name in _read(node):
            mine |= depends.get(name, frozenset()) | ({masked[name]} if name in masked else frozenset())
        depends.update(dict.fromkeys(node.output, mine))
        members.setdefault(mine, []).append(node)
    # Whatever a segment reads depends on fewer masks: this order respects all edges.
    order = sorted(members, key=len)
    order = [group for group in order if group <= depends[output]]
    index = {name: i for i, group in enumerate(order) for node in members[group] for name in node.output}
    constants = {t.name for t in graph.initializer}
    reads = [
        tuple(dict.fromkeys(n for node in members[g] for n in _read(node) if n not in constants and index.get(n) != i))
        for i, g in enumerate(order)
    ]
    wanted = {output} | {name for names in reads for name in names}
    segments = []
    for i, group in enumerate(order):
        makes = tuple(n for node in members[group] for n in node.output if n in wanted)
        part = _model(model, members[group], reads[i], makes, infos)
        segments.append(Segment(part, reads[i], tuple(index.get(n, -1) for n in reads[i]), makes, tuple(sorted(group))))
    return tuple(segments), masked


def side_by_side(
    segment: Segment, count: int, masks: Mapping[str, int], infos: Mapping[str, TensorInfo]
) -> onnx.ModelProto:
    """The segment for `count` choices of masks in one run, with masks as inputs.

    Reads `<name>__0` to `<name>__<count - 1>` of every tensor with a batch in front, and for those with a mask
    `mask_input(name)` float32 [count * rows, ...]; makes as many of every tensor. Others are read as they are.
    """
    model = edit.copy_of(segment.model)
    graph = model.graph
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    del graph.input[:], graph.output[:]
    for name in segment.reads:
        if infos[name].shape[:1] != (None,):
            graph.input.append(_value_info(name, infos[name]))
            continue
        parts = [f"{name}__{i}" for i in range(count)]
        graph.input.extend(_value_info(part, infos[name]) for part in parts)
        joined = f"{name}__all" if name in masks else name
        before.append(onnx.helper.make_node("Concat", parts, [joined], axis=0))
        if name in masks:
            mask = TensorInfo(tuple([None] * len(infos[name].shape)), np.dtype(np.float32))
            graph.input.append(_value_info(mask_input(name), mask))
            before.append(onnx.helper.make_node("Mul", [joined, mask_input(name)], [name]))
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    for name in segment.makes:
        parts = [f"{name}__{i}" for i in range(count)]
        node = onnx.helper.make_node("Split" if count > 1 else "Identity", [name], parts)
        if count > 1 and opset >= 18:
            node.attribute.append(onnx.helper.make_attribute("num_outputs", count))
        after.append(node)
        graph.output.extend(onnx.helper.make_empty_tensor_value_info(part) for part in parts)
    edit.keep_nodes(graph, [*before, *graph.node, *after])
    return model


def mask_input(name: str) -> str:
    """Name of the mask of a tensor in `side_by_side`."""
    return f"{name}__mask"


def _read(node: onnx.NodeProto) -> list[str]:
    return [n for n in [*node.input, *edit.inner_uses(node)] if n]


def _carrier(graph: onnx.GraphProto, layer: Layer, infos: Mapping[str, TensorInfo]) -> str:
    """The tensor to mask: the layer's own, or the last of a chain of nodes behind it that keep zeros and are read once."""
    readers, tensor = edit.consumers(graph), layer.tensor
    planes = layer.axis == 1 and len(infos[tensor].shape) > 2
    outputs = {o.name for o in graph.output}
    while tensor not in outputs and len(readers[tensor]) == 1:
        (node,) = readers[tensor]
        keeps = keeps_zero(graph, node) or (planes and node.op_type in KEEP_ZERO_PLANES)
        if not keeps or len(node.output) != 1 or node.output[0] in outputs:
            break
        tensor = node.output[0]
    return tensor


def keeps_zero(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether the node works value by value and gives 0 for 0."""
    if node.op_type != "Clip":
        return node.op_type in KEEP_ZERO
    stored = {t.name: edit.array_of(t).item() for t in graph.initializer if t.name in node.input[1:]}
    low, high = [
        stored.get(name) if name else side for name, side in zip([*node.input[1:], "", ""], (0, 0), strict=False)
    ]
    return low is not None and high is not None and low <= 0 <= high


def _model(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], reads: Sequence[str], makes: Sequence[str],
    infos: Mapping[str, TensorInfo],
) -> onnx.ModelProto:  # fmt: skip
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.graph.name = model.graph.name
    part.graph.node.extend(nodes)
    used = {name for node in nodes for name in _read(node)}
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in used)
    part.graph.input.extend(_value_info(name, infos[name]) for name in reads)
    part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in makes)
    return part


def _value_info(name: str, info: TensorInfo) -> onnx.ValueInfoProto:
    # One symbol per tensor: equal symbols promise equal sizes, and window attention has several batch-like sizes.
    dims = [f"{name}_d{i}" if d is None else d for i, d in enumerate(info.shape)]
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(info.dtype), dims)

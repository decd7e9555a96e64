"""Cut the working copy into segments, each of which depends on the masks of the same layers.

What a mask does not reach stays as it is: a segment has to run once for every choice of the masks before it, however
many coalitions share that choice. Masks are no nodes here, who runs the segments replaces channels between them, so that
onnxruntime sees plain convolutions and fuses them as in the unmasked graph. A mask sits as far back as channels stay
apart: behind an activation or a pooling, and even behind the Add of a residual block, where a channel that is off has the
value that the other branch alone would give it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.scopes import operands
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.runtime.probe import TensorInfo

# Zero stays zero, channel by channel: a mask may sit behind these as well, and the layer and they stay together.
KEEP_ZERO = {"Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Tanh", "Softsign", "HardSwish", "Gelu", "Mish"}
KEEP_ZERO_PLANES = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}  # where channels are axis 1
WITHOUT = "__without"


@dataclass(frozen=True, slots=True)
class Segment:
    """model: reads `reads`, makes `makes`, and is without its weights (see `with_weights`). depends: places, in the list
    of layers that was cut, of the masks that reach what it makes; `made_by`: for every tensor of `reads` the index of its
    segment, -1 for the graph's input; without: tensors that are not fed, but hold the channels that are off, with their
    segments.
    """

    model: onnx.ModelProto
    reads: tuple[str, ...]
    made_by: tuple[int, ...]
    makes: tuple[str, ...]
    depends: tuple[int, ...]
    without: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Mask:
    """place: in the list of layers that was cut; without: the tensor of which a channel that is off is a copy, None for
    zeros.
    """

    place: int
    without: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """segments, in an order in which they can run: the first depends on no mask, the last makes the output. masks: by the
    tensor on which they sit. infos: of all tensors, those that were added among them.
    """

    segments: tuple[Segment, ...]
    masks: dict[str, Mask]
    infos: dict[str, TensorInfo]


def cut(model: onnx.ModelProto, layers: Sequence[Layer], infos: Mapping[str, TensorInfo], output: str) -> Cut:
    """Cut `model` at the masks of `layers`. What a mask separates from nothing that `output` needs is left out."""
    infos, constants = dict(infos), {t.name for t in model.graph.initializer}
    graph = _light(model).graph
    masked: dict[str, Mask] = {}
    for place, layer in enumerate(layers):
        tensor, without = _carrier(graph, layer, infos)
        masked[tensor] = Mask(place, without)
    depends: dict[str, frozenset[int]] = {}

    def reached(name: str) -> frozenset[int]:
        found = depends.get(name, frozenset())
        if name in masked:
            mask = masked[name]
            found |= {mask.place} | (reached(mask.without) if mask.without else frozenset())
        return found

    members: dict[frozenset[int], list[onnx.NodeProto]] = {}
    for node in graph.node:
        mine = frozenset[int]()
        for name in operands(node):
            mine |= reached(name)
        depends.update(dict.fromkeys(node.output, mine))
        members.setdefault(mine, []).append(node)
    # Whatever a segment reads depends on fewer masks: this order respects all edges.
    order = sorted(members, key=len)
    order = [group for group in order if group <= depends[output]]
    index = {name: i for i, group in enumerate(order) for node in members[group] for name in node.output}
    reads = [
        tuple(
            dict.fromkeys(n for node in members[g] for n in operands(node) if n not in constants and index.get(n) != i)
        )
        for i, g in enumerate(order)
    ]
    copied = [tuple(dict.fromkeys(w for n in names if n in masked and (w := masked[n].without))) for names in reads]
    wanted = {output} | {name for names in (*reads, *copied) for name in names}
    segments = []
    for i, group in enumerate(order):
        makes = tuple(n for node in members[group] for n in node.output if n in wanted)
        part = _model(model, members[group], reads[i], makes, infos)
        off = tuple((n, index.get(n, -1)) for n in copied[i])
        made_by = tuple(index.get(n, -1) for n in reads[i])
        segments.append(Segment(part, reads[i], made_by, makes, tuple(sorted(group)), off))
    return Cut(tuple(segments), masked, infos)


def side_by_side(
    segment: Segment, count: int, masks: Mapping[str, Mask], infos: Mapping[str, TensorInfo]
) -> onnx.ModelProto:
    """The segment for `count` choices of masks in one run, with masks as inputs.

    Reads `<name>__0` to `<name>__<count - 1>` of every tensor with a batch in front, and for those with a mask
    `mask_input(name)` bool [count * rows, ...], True = on; makes as many of every tensor. Others are read as they are.
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
        before.append(_joined(graph, name, f"{name}__all" if name in masks else name, count, infos[name]))
        if name in masks:
            flags = TensorInfo(tuple([None] * len(infos[name].shape)), np.dtype(np.bool_))
            graph.input.append(_value_info(mask_input(name), flags))
            other = f"{name}__off"
            if without := masks[name].without:
                if f"{without}__all" not in {o for node in before for o in node.output}:
                    before.append(_joined(graph, without, f"{without}__all", count, infos[without]))
                other = f"{without}__all"
            else:
                graph.initializer.append(edit.tensor_of(np.zeros((), np.float32), other))
            before.append(onnx.helper.make_node("Where", [mask_input(name), f"{name}__all", other], [name]))
    opset = edit.opset_of(model)
    for name in segment.makes:
        parts = [f"{name}__{i}" for i in range(count)]
        node = onnx.helper.make_node("Split" if count > 1 else "Identity", [name], parts)
        if count > 1 and opset >= 18:
            node.attribute.append(onnx.helper.make_attribute("num_outputs", count))
        after.append(node)
        graph.output.extend(onnx.helper.make_empty_tensor_value_info(part) for part in parts)
    edit.keep_nodes(graph, [*before, *graph.node, *after])
    return model


def _joined(graph: onnx.GraphProto, name: str, joined: str, count: int, info: TensorInfo) -> onnx.NodeProto:
    """A Concat of `count` new inputs."""
    parts = [f"{name}__{i}" for i in range(count)]
    known = {i.name for i in graph.input}
    graph.input.extend(_value_info(part, info) for part in parts if part not in known)
    return onnx.helper.make_node("Concat", parts, [joined], axis=0)


def mask_input(name: str) -> str:
    """Name of the mask of a tensor in `side_by_side`."""
    return f"{name}__mask"


def _carrier(graph: onnx.GraphProto, layer: Layer, infos: dict[str, TensorInfo]) -> tuple[str, str | None]:
    """Where the mask of a layer sits, and of what a channel that is off is a copy (None: zeros).

    Its own tensor, or the last of a chain of nodes behind it that are read once and keep channels apart. Behind an Add the
    rest of the chain is doubled in `graph`, for the other branch alone.
    """
    tensor, without = layer.tensor, None
    planes = layer.axis == 1 and len(infos[tensor].shape) > 2
    outputs = {o.name for o in graph.output}
    while tensor not in outputs and len(readers := edit.consumers(graph)[tensor]) == 1:
        (node,) = readers
        if len(node.output) != 1 or node.output[0] in outputs:
            break
        others = [name for name in node.input if name != tensor]
        if node.op_type == "Add" and without is None:
            made = edit.producers(graph)
            if len(others) != 1 or others[0] not in made or infos[others[0]] != infos[node.output[0]]:
                break
            alone = onnx.helper.make_node("Identity", [others[0]], [f"{node.output[0]}{WITHOUT}"])
            without = _insert_behind(graph, node, alone, infos)
        elif keeps_zero(graph, node) or (planes and node.op_type in KEEP_ZERO_PLANES):
            if without is not None:
                again = onnx.NodeProto()
                again.CopyFrom(node)
                again.name, again.output[0] = f"{node.name}{WITHOUT}", f"{node.output[0]}{WITHOUT}"
                again.input[:] = [without if name == tensor else name for name in node.input]
                without = _insert_behind(graph, node, again, infos)
        else:
            break
        tensor = node.output[0]
    return tensor, without


def _insert_behind(
    graph: onnx.GraphProto, node: onnx.NodeProto, new: onnx.NodeProto, infos: dict[str, TensorInfo]
) -> str:
    """Put `new`, which makes the same kind of tensor, behind `node`; returns what it makes."""
    infos[new.output[0]] = infos[node.output[0]]
    place = next(i for i, other in enumerate(graph.node) if other.output[:1] == node.output[:1])
    graph.node.insert(place + 1, new)
    return str(new.output[0])


def keeps_zero(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether the node works value by value and gives 0 for 0."""
    if node.op_type != "Clip":
        return node.op_type in KEEP_ZERO
    stored = {t.name: edit.array_of(t).item() for t in graph.initializer if t.name in node.input[1:]}
    low, high = [
        stored.get(name) if name else side for name, side in zip([*node.input[1:], "", ""], (0, 0), strict=False)
    ]
    return low is not None and high is not None and low <= 0 <= high


def with_weights(part: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a part of `model` with the weights that it reads."""
    whole = edit.copy_of(part)
    used = {name for node in part.graph.node for name in operands(node)}
    whole.graph.initializer.extend(t for t in model.graph.initializer if t.name in used)
    return whole


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the weights, but for single numbers: copies of large networks add up."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.node.extend(model.graph.node)
    light.graph.output.extend(model.graph.output)
    light.graph.initializer.extend(t for t in model.graph.initializer if int(np.prod(t.dims)) == 1)
    return light


def _model(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    reads: Sequence[str],
    makes: Sequence[str],
    infos: Mapping[str, TensorInfo],
) -> onnx.ModelProto:
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.graph.name = model.graph.name
    part.graph.node.extend(nodes)
    part.graph.input.extend(_value_info(name, infos[name]) for name in reads)
    part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in makes)
    return part


def _value_info(name: str, info: TensorInfo) -> onnx.ValueInfoProto:
    # One symbol per tensor: equal symbols promise equal sizes, and window attention has several batch-like sizes.
    dims = [f"{name}_d{i}" if d is None else d for i, d in enumerate(info.shape)]
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(info.dtype), dims)

"""Multiply a mask input onto every prunable layer of the working copy, and cut out what masks can reach."""

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.runtime.probe import TensorInfo

MASKED = "__masked"


def mask_name(index: int) -> str:
    """Name of the mask input of layer `index` (its place in Units.layers)."""
    return f"shapprune_mask_{index}"


def mask_shape(layer: Layer, infos: Mapping[str, TensorInfo]) -> tuple[int, ...]:
    """Shape of a mask row without the batch dimension, broadcastable onto the layer's tensor."""
    rank = len(infos[layer.tensor].shape)
    axis = layer.axis % rank
    return tuple(layer.channels if i == axis else 1 for i in range(1, rank))


def insert_masks(
    model: onnx.ModelProto, layers: Mapping[int, Layer], infos: Mapping[str, TensorInfo]
) -> onnx.ModelProto:
    """A copy with an input float32 [N or 1, ...channels...] multiplied onto each given layer's tensor.

    All-ones masks give the original logits; a 0 at channel c equals the baked file with unit c switched off.
    layers: index in Units.layers -> layer.
    """
    copy = edit.copy_of(model)
    graph = copy.graph
    after: dict[str, onnx.NodeProto] = {}
    for index, layer in layers.items():
        masked = f"{layer.tensor}{MASKED}"
        edit.rename_uses(graph, layer.tensor, masked)
        after[layer.tensor] = helper.make_node("Mul", [layer.tensor, mask_name(index)], [masked])
        shape: list[str | int | None] = [f"M{index}", *mask_shape(layer, infos)]
        graph.input.append(helper.make_tensor_value_info(mask_name(index), TensorProto.FLOAT, shape))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        nodes.extend(after[name] for name in node.output if name in after)
    edit.keep_nodes(graph, nodes)
    return copy


def descendants(graph: onnx.GraphProto, sources: Iterable[str]) -> set[str]:
    """All tensors that depend on one of `sources`, without the sources."""
    reached = set(sources)
    found: set[str] = set()
    for node in graph.node:
        if any(n in reached for n in [*node.input, *edit.inner_uses(node)]):
            reached.update(node.output)
            found.update(node.output)
    return found


def cut(
    model: onnx.ModelProto, sources: Sequence[str], infos: Mapping[str, TensorInfo], output: str
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The part of the graph between `sources` and `output`, and the tensors it must be fed.

    Returns (model, live-ins): live-ins are the sources that are node outputs, and every other tensor that the part
    reads but does not compute; all become graph inputs. Inputs of the full graph that the part reads stay inputs.
    """
    graph = model.graph
    inside = descendants(graph, sources)
    constants = {t.name for t in graph.initializer}
    declared = {i.name: i for i in graph.input}
    part = edit.copy_of(model)
    edit.keep_nodes(part.graph, [n for n in graph.node if any(o in inside for o in n.output)])
    edit.set_output(part.graph, output)
    edit.prune_dead(part.graph)
    made = {o for n in part.graph.node for o in n.output}
    read = [n for node in part.graph.node for n in [*node.input, *edit.inner_uses(node)] if n]
    live = tuple(dict.fromkeys(n for n in read if n not in made and n not in constants))
    del part.graph.input[:]
    for name in live:
        if name in declared:
            part.graph.input.append(declared[name])
        else:  # a masked tensor looks like the tensor before its mask
            info = infos[name] if name in infos else infos[name.removesuffix(MASKED)]
            part.graph.input.append(_value_info(name, info))
    return part, tuple(n for n in live if n not in declared)


def _value_info(name: str, info: TensorInfo) -> onnx.ValueInfoProto:
    # One symbol per tensor: equal symbols promise equal sizes, and window attention has several batch-like sizes.
    dims = [f"{name}_d{i}" if d is None else d for i, d in enumerate(info.shape)]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(info.dtype), dims)

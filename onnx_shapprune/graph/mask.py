"""Multiply a mask input onto every prunable layer of the working copy."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.scopes import tensor_names
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
        edit.rename_uses(graph, {layer.tensor: masked})
        after[layer.tensor] = helper.make_node("Mul", [layer.tensor, mask_name(index)], [masked])
        shape: list[str | int | None] = [f"M{index}", *mask_shape(layer, infos)]
        graph.input.append(helper.make_tensor_value_info(mask_name(index), TensorProto.FLOAT, shape))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        nodes.extend(after[name] for name in node.output if name in after)
    edit.keep_nodes(graph, nodes)
    return copy


def held_still(model: onnx.ModelProto, name: str, info: TensorInfo) -> tuple[onnx.ModelProto, str]:
    """A copy whose nodes read an input instead of tensor `name`, and the input, of the tensor's type and any size."""
    copy, inputs = taken_apart(model, {name: info})
    return copy, inputs[name]


def taken_apart(model: onnx.ModelProto, infos: Mapping[str, TensorInfo]) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The same for several tensors, each with an input of its own."""
    copy, taken, end = edit.copy_of(model), tensor_names(model.graph), "__still"
    while any(name.endswith(end) for name in taken):
        end += "_"
    inputs = {name: f"{name}{end}" for name in infos}
    edit.rename_uses(copy.graph, inputs)
    for name, info in infos.items():
        kind = helper.np_dtype_to_tensor_dtype(info.dtype)
        copy.graph.input.append(helper.make_tensor_value_info(inputs[name], kind, [None] * len(info.shape)))
    return copy, inputs


def switched(
    model: onnx.ModelProto, infos: Mapping[str, TensorInfo]
) -> tuple[onnx.ModelProto, dict[str, tuple[str, str]]]:
    """A copy in which each of these tensors is what another input says where a switch is on, and the two inputs for it: the
    switch, bool (), and the value, of any size. One session asks what many of `held_still` would.
    """
    copy = edit.copy_of(model)
    inputs, after = dict[str, tuple[str, str]](), dict[str, onnx.NodeProto]()
    for name, info in infos.items():
        switch, told, out = (f"{name}__{what}" for what in ("switch", "told", "switched"))
        inputs[name] = switch, told
        edit.rename_uses(copy.graph, {name: out})
        after[name] = helper.make_node("Where", [switch, told, name], [out])
        kind = helper.np_dtype_to_tensor_dtype(info.dtype)
        copy.graph.input.append(helper.make_tensor_value_info(switch, TensorProto.BOOL, []))
        copy.graph.input.append(helper.make_tensor_value_info(told, kind, [None] * len(info.shape)))
    edit.keep_nodes(
        copy.graph, [n for node in copy.graph.node for n in (node, *(after[o] for o in node.output if o in after))]
    )
    return copy, inputs


def standalone(prepared: Prepared, layers: Mapping[int, Layer], metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The masked graph as others read it: ones are every mask's default, the output has a type, and `metadata` is in it."""
    masked = insert_masks(prepared.model, layers, prepared.infos)
    masked.graph.initializer.extend(
        edit.tensor_of(np.ones((1, *mask_shape(layer, prepared.infos)), np.float32), mask_name(index))
        for index, layer in layers.items()
    )
    batch = "N" if prepared.batch_free else 1
    del masked.graph.output[:]
    masked.graph.output.append(
        helper.make_tensor_value_info(prepared.logits, TensorProto.FLOAT, [batch, prepared.classes])
    )
    helper.set_model_props(masked, dict(metadata))
    return masked

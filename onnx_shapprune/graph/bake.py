"""Write the planned zeros into the original file's constants, and nothing else.

Same nodes, names, opset and data layout. A constant that other nodes read too is copied first, so that only the planned
layer changes. The original file is never written.
"""

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import onnx

from onnx_shapprune.errors import VerifyError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.scopes import inner_uses
from onnx_shapprune.graph.stored import readable, written_out
from onnx_shapprune.graph.units import Layer, Parameter

LAST_PARAMETER = {"BatchNormalization": 2, "DequantizeLinear": 0}  # inputs behind it are statistics, scale, zero point


def bake(model: onnx.ModelProto, layers: Iterable[Layer], off: Mapping[str, Iterable[int]]) -> onnx.ModelProto:
    """A copy of `model` with the channels `off` (layer name -> channels) zeroed in its parameters.

    Raises VerifyError when a layer is not among `layers`, or `layers` were found in another model.
    """
    by_name = {layer.name: layer for layer in layers}
    unknown = sorted(set(off) - set(by_name))
    if unknown:
        raise VerifyError(f"the plan names layers that the model does not have: {', '.join(unknown)}")
    copy = edit.copy_of(model)
    planned: dict[
        tuple[str, ...], tuple[Layer, set[int]]
    ] = {}  # heads are zeroed along with the features of their layer
    for name, units in off.items():
        _, channels = planned.setdefault(by_name[name].nodes, (by_name[name], set()))
        channels.update(by_name[name].zeroed(units))
    for layer, channels in planned.values():
        for parameter in layer.parameters if channels else ():
            tensor = own_tensor(copy, parameter, layer)
            store(tensor, _zeroed(tensor, parameter, sorted(channels), layer.channels))
    return copy


def own_tensor(model: onnx.ModelProto, parameter: Parameter, layer: Layer) -> onnx.TensorProto:
    """The stored tensor of a parameter; where anything else reads it too, a fresh copy that only `layer` reads."""
    graph = model.graph
    known, made = edit.constants(graph), edit.producers(graph)
    if model.functions and parameter.name in known:  # units are refused where anything else reads their parameters
        return known[parameter.name]
    mine, others = readers(graph, parameter.name, layer)
    if parameter.name not in known:
        known[parameter.name], others = written_out(graph, parameter.name), True
    if not mine:
        raise VerifyError(f"layer {layer.name!r} does not read {parameter.name!r}: it was found in another model")
    tensor = known[parameter.name]
    if not others:
        return tensor
    taken = {*known, *made, *(i.name for i in graph.input)}
    own = onnx.TensorProto()
    own.CopyFrom(tensor)
    own.name = next(n for k in itertools.count() if (n := f"{parameter.name}__{k}") not in taken)
    for node, i in mine:
        node.input[i] = own.name
    if model.ir_version < 4:  # every initializer of these old files is an input as well
        graph.input.append(onnx.helper.make_tensor_value_info(own.name, own.data_type, list(own.dims)))
    graph.initializer.append(own)
    return edit.constants(graph)[own.name]


def readers(graph: onnx.GraphProto, parameter: str, layer: Layer) -> tuple[list[tuple[onnx.NodeProto, int]], bool]:
    """(node, place of the input) at which a layer reads one of its parameters, and whether anything else reads it too."""
    known, made, outputs = readable(graph), edit.producers(graph), {o.name for o in graph.output}
    known.setdefault(parameter, onnx.TensorProto())  # ConstantOfShape may make it
    mine: list[tuple[onnx.NodeProto, int]] = []
    others = parameter in outputs
    for node in graph.node:
        others |= any(edit.stored_name(known, made, n) == parameter for n in inner_uses(node))
        for i, name in enumerate(node.input):
            if not name or edit.stored_name(known, made, name) != parameter:
                continue
            if node.output[0] in layer.nodes and i <= LAST_PARAMETER.get(node.op_type, i):
                mine.append((node, i))
            elif node.op_type != "Identity" or node.output[0] in outputs:
                others = True
    return mine, others


def zero(array: edit.Array, parameter: Parameter, channels: list[int], total: int) -> None:
    """Zero channels in the values of a parameter, in place; total: channels of its layer."""
    if parameter.groups:
        width = total // parameter.groups
        rows = array.shape[0] // parameter.groups
        for c in channels:
            group = c // width
            array[group * rows : (group + 1) * rows, c % width] = parameter.zero
    else:
        array[(slice(None),) * parameter.axis + (channels,)] = parameter.zero


def _zeroed(tensor: onnx.TensorProto, parameter: Parameter, channels: list[int], total: int) -> edit.Array:
    array = edit.array_of(tensor)
    array = array if array.flags.writeable else array.copy()
    zero(array, parameter, channels, total)
    return array


def store(tensor: onnx.TensorProto, array: edit.Array) -> None:
    """Put values back in the field that held them, so that nothing but the planned bytes changes."""
    if tensor.HasField("raw_data"):
        raw = np.asarray(array, order="C").tobytes()
        del array  # it may be most of the model
        tensor.raw_data = raw
    else:
        fresh = edit.tensor_of(array, tensor.name)
        tensor.ClearField("float_data")
        tensor.ClearField("int32_data")
        tensor.ClearField("double_data")
        if array.dtype == np.float32:
            tensor.float_data.extend(array.reshape(-1).tolist())
        elif array.dtype == np.float64:
            tensor.double_data.extend(array.reshape(-1).tolist())
        elif array.dtype.kind in "iu":
            tensor.int32_data.extend(array.reshape(-1).tolist())
        else:  # fp16 lives in int32_data as bit patterns
            tensor.int32_data.extend(np.frombuffer(fresh.raw_data, np.uint16).astype(np.int32).tolist())

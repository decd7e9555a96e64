"""Write the planned zeros into the original file's constants, and nothing else.

Same nodes, names, opset and data layout. A constant that other nodes read too is copied first, so that only the planned
layer changes. The original file is never written.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx

from onnx_shapprune.errors import OutputError, VerifyError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.units import Layer, Parameter


def bake(model: onnx.ModelProto, layers: Iterable[Layer], off: Mapping[str, Iterable[int]]) -> onnx.ModelProto:
    """A copy of `model` with the channels `off` (layer name -> channels) zeroed in its parameters.

    Raises VerifyError when a layer is not among `layers`.
    """
    by_name = {layer.name: layer for layer in layers}
    unknown = sorted(set(off) - set(by_name))
    if unknown:
        raise VerifyError(f"the plan names layers that the model does not have: {', '.join(unknown)}")
    copy = edit.copy_of(model)
    for name, channels in off.items():
        indices = sorted(set(channels))
        for parameter in by_name[name].parameters if indices else ():
            tensor = _own_tensor(copy.graph, parameter, by_name[name])
            array = edit.array_of(tensor).copy()
            _zero(array, parameter, indices, by_name[name].channels)
            _store(tensor, array)
    return copy


def write_atomically(path: Path, payload: bytes) -> None:
    """Write a file in one step: readers see the old one or the whole new one. Raises OutputError.

    Never follows a link at `path`: the link itself is replaced.
    """
    folder = path.parent
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {path}: {error.strerror}") from None
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _own_tensor(graph: onnx.GraphProto, parameter: Parameter, layer: Layer) -> onnx.TensorProto:
    """The stored tensor of a parameter; where other nodes read it too, a fresh copy that only `layer` reads."""
    tensor = edit.constants(graph)[parameter.name]
    readers = [n for n in graph.node if parameter.name in [*n.input, *edit.inner_uses(n)]]
    if len(readers) <= 1:
        return tensor
    own = onnx.TensorProto()
    own.CopyFrom(tensor)
    own.name = f"{parameter.name}__{len(graph.initializer)}"
    for node in readers:
        if (node.name or node.output[0]) in _chain(graph, layer):
            for i, name in enumerate(node.input):
                if name == parameter.name:
                    node.input[i] = own.name
    graph.initializer.append(own)
    return graph.initializer[-1]


def _chain(graph: onnx.GraphProto, layer: Layer) -> set[str]:
    """Names of the nodes from the layer to the tensor at which it is switched off."""
    made = edit.producers(graph)
    found: set[str] = set()
    node = made.get(layer.tensor)
    while node is not None:
        name = node.name or node.output[0]
        found.add(name)
        if name == layer.name:
            break
        node = next((made[n] for n in node.input if n in made and made[n].op_type != "Constant"), None)
    return found


def _zero(array: edit.Array, parameter: Parameter, channels: list[int], total: int) -> None:
    if parameter.groups:
        width = total // parameter.groups
        rows = array.shape[0] // parameter.groups
        for c in channels:
            group = c // width
            array[group * rows : (group + 1) * rows, c % width] = 0
    else:
        array[(slice(None),) * parameter.axis + (channels,)] = 0


def _store(tensor: onnx.TensorProto, array: edit.Array) -> None:
    """Put values back in the field that held them, so that nothing but the planned bytes changes."""
    if tensor.HasField("raw_data"):
        tensor.raw_data = np.asarray(array, order="C").tobytes()
    else:
        fresh = edit.tensor_of(array, tensor.name)
        tensor.ClearField("float_data")
        tensor.ClearField("int32_data")
        tensor.ClearField("double_data")
        if array.dtype == np.float32:
            tensor.float_data.extend(array.reshape(-1).tolist())
        elif array.dtype == np.float64:
            tensor.double_data.extend(array.reshape(-1).tolist())
        else:  # fp16 lives in int32_data as bit patterns
            tensor.int32_data.extend(np.frombuffer(fresh.raw_data, np.uint16).astype(np.int32).tolist())

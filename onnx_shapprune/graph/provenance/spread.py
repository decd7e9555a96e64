"""One flat list of nodes: local functions and the bodies of If, Loop and Scan written out, for whoever follows data.

A comparison inside the branch of an If is as good as one outside. Of what sizes decide, no more than what then runs is
written out. Any other body is written out once, and its inputs are what the node is given, which is enough to know what
depends on what; the result computes nothing.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.choices import write_out_control_flow
from onnx_shapprune.graph.scopes import subgraphs, tensor_names
from onnx_shapprune.graph.sizes import NOT_INFERRED, Numbers, inference, known_sizes
from onnx_shapprune.runtime.weights import elsewhere, shell

STAND_IN = 224  # pixels of a picture whose size the file leaves open
SMALL = 64  # values of a constant that is looked at


@dataclass(frozen=True, slots=True)
class Spread:
    """nodes: in an order in which every input is made before; shapes: of tensors for one picture, None for a
    dimension that is not known, absent where nothing is; types: of tensors, as of TensorProto.DataType, likewise; stored:
    constants, without the values of heavy ones; values: of small constants; sizes: numbers that the graph computes of sizes
    and constants, for one picture.
    """

    nodes: tuple[onnx.NodeProto, ...]
    shapes: dict[str, tuple[int | None, ...]]
    types: dict[str, int]
    stored: dict[str, onnx.TensorProto]
    values: dict[str, edit.Array]
    sizes: dict[str, Numbers]

    def size(self, name: str) -> int | None:
        """Number of values for one picture, None where that is not known."""
        shape = self.shapes.get(name)
        return None if shape is None or None in shape else math.prod(d for d in shape if d is not None)

    def array(self, name: str) -> edit.Array | None:
        """The values of a constant, None where they are not at hand."""
        return _array(self.stored[name]) if name in self.stored else None


def spread(model: onnx.ModelProto, input_name: str, shape: tuple[int | None, ...]) -> Spread:
    """The nodes of a model. shape: of the picture as the file takes it, the batch included, None where it is open.

    Raises ModelError where local functions cannot be written out.
    """
    flat = edit.inlined(shell(model, elsewhere))
    del flat.graph.value_info[:]  # what a file says about its own tensors may be wrong
    _give_size(flat, input_name, [d if d is not None else f"axis {axis}" for axis, d in enumerate(shape)])
    write_out_control_flow(flat)
    inferred, types = _inferred(flat, input_name, shape)
    nodes = tuple(_written_out(flat.graph.node, _prefixes(tensor_names(flat.graph))))
    stored = {t.name: t for t in flat.graph.initializer}
    for node in nodes:
        if node.op_type == "Constant" and (tensor := _of_constant(node)) is not None:
            stored[node.output[0]] = tensor
    inferred.update({name: tuple(t.dims) for name, t in stored.items()})
    types.update({name: t.data_type for name, t in stored.items()})
    inferred.update({t.values.name: tuple(t.dims) for t in flat.graph.sparse_initializer})
    small = {name: _array(t) for name, t in stored.items() if np.prod(t.dims, dtype=float) <= SMALL}
    values = {name: v for name, v in small.items() if v is not None}
    return Spread(nodes, inferred, types, stored, values, known_sizes(flat.graph, inferred))


def _of_constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """What a Constant holds, in any of the forms that have numbers."""
    found: onnx.TensorProto | None = None
    for attribute in node.attribute:
        if attribute.name == "value":
            found = attribute.t
        elif attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
            kind = np.float32 if "float" in attribute.name else np.int64
            found = numpy_helper.from_array(np.asarray(helper.get_attribute_value(attribute), kind))
    return found


def _array(tensor: onnx.TensorProto) -> edit.Array | None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    try:
        return edit.array_of(tensor)
    except ModelError:
        return None


def _give_size(model: onnx.ModelProto, input_name: str, dims: list[int | str]) -> None:
    """Let an input have this shape, whatever is said of it."""
    for value in model.graph.input:
        if value.name == input_name:
            value.CopyFrom(helper.make_tensor_value_info(input_name, value.type.tensor_type.elem_type, dims))


def _inferred(
    flat: onnx.ModelProto, input_name: str, shape: tuple[int | None, ...]
) -> tuple[dict[str, tuple[int | None, ...]], dict[str, int]]:
    """Shapes for a batch of one, of tensors whose rank inference knows, and types."""
    asked = onnx.ModelProto()
    asked.CopyFrom(flat)
    _give_size(asked, input_name, [d or (1 if axis == 0 else STAND_IN) for axis, d in enumerate(shape)])
    for value in asked.graph.output:
        value.CopyFrom(helper.make_empty_tensor_value_info(value.name))
    try:
        known = inference(asked)
    except NOT_INFERRED:
        return {}, {}
    found: dict[str, tuple[int | None, ...]] = {}
    every = [*known.value_info, *known.input, *known.output]
    for value in every:
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            found[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims
            )
    return found, {v.name: v.type.tensor_type.elem_type for v in every if v.type.tensor_type.elem_type}


def _prefixes(taken: set[str]) -> Iterator[str]:
    """One for the names of each body: a file may call nodes alike, and a tensor as one inside a body would be called."""
    stem = "body"
    while any(name.startswith(stem) for name in taken):
        stem += "_"
    return (f"{stem}{number}/" for number in itertools.count())


def _written_out(nodes: Iterable[onnx.NodeProto], prefixes: Iterator[str]) -> list[onnx.NodeProto]:
    made: list[onnx.NodeProto] = []
    for node in nodes:
        bodies = list(subgraphs(node))
        if not bodies:
            made.append(node)
            continue
        results: list[str] = []
        for body in bodies:
            inside = next(prefixes)
            own = {i.name for i in body.input} | {t.name for t in body.initializer}
            own |= {name for inner in body.node for name in inner.output}
            given = list(node.input)
            for place, value in enumerate(body.input):
                # Which of the inputs it is does not matter to whoever asks what depends on what.
                made.append(helper.make_node("Identity", [given[min(place, len(given) - 1)]], [inside + value.name]))
            for tensor in body.initializer:
                made.append(helper.make_node("Constant", [], [inside + tensor.name], value=tensor))
            for inner in _written_out(body.node, prefixes):
                copy = onnx.NodeProto()
                copy.CopyFrom(inner)
                for names in (copy.input, copy.output):
                    names[:] = [inside + n if n in own else n for n in names]
                made.append(copy)
            results += [inside + o.name if o.name in own else o.name for o in body.output]
        outer = helper.make_node(node.op_type, [*node.input, *results], list(node.output), name=node.name)
        made.append(outer)
    return made

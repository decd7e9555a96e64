"""Make the copy plain: names of its own, one float32 input, one output, one precision, constants as initializers."""

import itertools
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work
from onnx_shapprune.graph.passes.fold import MAX_FOLDED_BYTES
from onnx_shapprune.graph.scopes import all_nodes, inner_uses, rename, subgraphs, tensor_names

OWN = ("shapprune_", "grad::")  # how names of added inputs and outputs begin
WIDE = (TensorProto.FLOAT16, TensorProto.DOUBLE)


def taken_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Tensors whose names later steps would give to others -> a free name.

    A tensor that is added is called after the one it belongs to, with two underscores between. A file may hold such names
    already: that of a mask has them, and any could be given them on purpose.
    """
    names = tensor_names(graph)
    fresh = (name for i in itertools.count() if (name := f"renamed_{i}") not in names)
    return {
        name: next(fresh)
        for name in sorted(names)
        if name.startswith(OWN) or any(name[:i] in names for i in range(1, len(name)) if name[i : i + 2] == "__")
    }


def own_names(work: Work) -> Work:
    """Rename what would be in the way of tensors that are added, in the whole graph."""
    graph, moved = work.model.graph, taken_names(work.model.graph)
    rename(graph, moved)
    sparse = (tensor.values for tensor in graph.sparse_initializer)
    for value in (*graph.input, *graph.output, *graph.initializer, *sparse):
        value.name = moved.get(value.name, value.name)
    return replace(work, renamed=moved)


def plain_inputs(work: Work) -> Work:
    """One graph input, float32 with a free batch dimension, and one output; initializers are no longer inputs."""
    graph, entry, name = work.model.graph, work.interface.entry, work.input
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *work.shape]))
    if entry is not None:
        inner, target = f"{name}__entry", f"{name}__entry_shape"
        edit.rename_uses(graph, {name: inner})
        graph.initializer.append(edit.tensor_of(np.asarray(entry, np.int64), target))
        graph.node.insert(0, helper.make_node("Reshape", [name, target], [inner]))
    del graph.value_info[:]  # wrong or batch-fixed annotations are common, and nothing here needs them
    edit.set_output(graph, work.renamed.get(work.interface.output, work.interface.output))
    return work


def single_precision(work: Work) -> Work:
    """Stored numbers and casts become fp32, whether they were fp16 or fp64.

    Gradients in fp16 are off by several per cent (no loss scaling), and masks and constants that are added are fp32.
    """
    model = work.model
    half = work.interface.dtype == "float16" or in_half(model)
    for tensor in edit.all_tensors(model):
        if tensor.data_type in WIDE:
            tensor.CopyFrom(edit.tensor_of(edit.array_of(tensor).astype(np.float32), tensor.name))
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in WIDE:
                attribute.i = TensorProto.FLOAT
        for inner in subgraphs(node):
            for value in (*inner.input, *inner.output, *inner.value_info):
                if value.type.tensor_type.elem_type in WIDE:
                    value.type.tensor_type.elem_type = TensorProto.FLOAT
    return replace(work, rounding="float16") if half else work


def in_half(model: onnx.ModelProto) -> bool:
    """Whether some of a model's numbers are fp16, if not its picture."""
    return TensorProto.FLOAT16 in _precisions(model)


def _precisions(model: onnx.ModelProto) -> set[int]:
    """Types of stored tensors and of casts."""
    casts = (a.i for n in all_nodes(model) for a in n.attribute if a.name in ("to", "dtype"))
    return {*(t.data_type for t in edit.all_tensors(model)), *casts}


def raw_constants(work: Work) -> Work:
    """Constant nodes become initializers, and every initializer keeps its values in raw_data only."""
    graph = work.model.graph
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
    return work


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


def drop_identities(work: Work) -> Work:
    """Identity nodes vanish unless they make a graph output or feed a subgraph, and so does what no output needs."""
    graph = work.model.graph
    edit.prune_dead(graph)
    kept_names = _outputs_and_captures(graph)
    source: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = source.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in kept_names:
            source[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    edit.keep_nodes(graph, kept)
    return work


def _outputs_and_captures(graph: onnx.GraphProto) -> set[str]:
    return {o.name for o in graph.output}.union(*(inner_uses(node) for node in graph.node))


def _no_identities(model: onnx.ModelProto) -> bool:
    kept = _outputs_and_captures(model.graph)
    return all(n.output[0] in kept for n in model.graph.node if n.op_type == "Identity")


def _raw(model: onnx.ModelProto) -> bool:
    graph = model.graph
    plain = all(t.HasField("raw_data") for t in graph.initializer) and not graph.sparse_initializer
    return plain and not any(_constant_value(node) is not None for node in graph.node)


def _one_input(model: onnx.ModelProto) -> bool:
    tensors = [value.type.tensor_type for value in model.graph.input]
    return [(t.elem_type, t.shape.dim[0].dim_param) for t in tensors] == [(TensorProto.FLOAT, "N")]


WRITTEN_OUT = Condition("no local functions", lambda model: not model.functions)
FREE_NAMES = Condition("no tensor is called like one that is added", lambda model: not taken_names(model.graph))
ONE_INPUT = Condition("one input, float32, with a free batch dimension", _one_input)
ONE_OUTPUT = Condition("one output", lambda model: len(model.graph.output) == 1)
FLOAT32 = Condition("no number is stored as fp16 or fp64, or cast to it", lambda m: not _precisions(m) & {*WIDE})
RAW = Condition("constants are initializers, and these hold bytes", _raw)
NO_IDENTITIES = Condition("an Identity makes the output or feeds a subgraph", _no_identities)
ALL_NEEDED = Condition("every node is needed for the output", lambda model: not edit.dead(model.graph))

NAMES = Pass("names", own_names, (WRITTEN_OUT,), (FREE_NAMES,))
INPUTS = Pass("inputs", plain_inputs, (WRITTEN_OUT, FREE_NAMES), (ONE_INPUT, ONE_OUTPUT))
PRECISION = Pass("precision", single_precision, (WRITTEN_OUT,), (FLOAT32,))
CONSTANTS = Pass("constants", raw_constants, (ONE_OUTPUT, FLOAT32), (RAW, FLOAT32))
IDENTITIES = Pass("identities", drop_identities, (ONE_OUTPUT,), (NO_IDENTITIES, ALL_NEEDED))

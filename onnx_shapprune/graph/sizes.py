"""Arithmetic on sizes: what a graph computes from the shapes of its tensors, whatever the picture shows.

Exporters write the counts of loops and the conditions of branches that way. Nothing runs here: whole numbers of a few
operators are worked out in Python. A size that is not known is None, and so is all that is computed from it. Neither is a
number known that onnxruntime might wrap or round, as Python does not: else a file could have it take another branch.
"""

import math
import operator
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_shapprune.graph import edit
from onnx_shapprune.runtime.weights import elsewhere, shell

Size = int | str | None  # known, a symbol of shape inference, or neither
Numbers = NDArray[np.object_]  # int, float, bool or None each
SMALL = 64  # elements; longer constants are no sizes
# What onnx's own inference raises about graphs that it cannot follow; the last about operators with odd inputs.
NOT_INFERRED = (onnx.shape_inference.InferenceError, ValueError, RuntimeError, IndexError)
INTEGERS = (TensorProto.INT32, TensorProto.INT64)
# Of narrower ones Python's arithmetic is not that of onnxruntime.
KINDS = (*INTEGERS, TensorProto.BOOL, TensorProto.FLOAT, TensorProto.DOUBLE)
UNTOLD = "onnx_shapprune.untold"  # operators of no domain are no operators to onnx
PROPAGATED = frozenset({"Cast", "Add", "Sub", "Mul"})  # arithmetic that onnx's inference does as well
WHOLE = 1 << 31  # integers below are the same in 32 bits as in 64


def inferred(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Types and shapes of the tensors of a model, as far as they can be had without running it.

    Only its inputs are believed; what the file claims of other tensors does not count.
    """
    light = shell(model, elsewhere)
    del light.graph.value_info[:]
    for value in light.graph.output:
        value.ClearField("type")
    try:
        found = inference(light)
    except NOT_INFERRED:
        return {value.name: value for value in model.graph.input}
    return {value.name: value for value in (*found.input, *found.value_info)}


def inference(model: onnx.ModelProto) -> onnx.GraphProto:
    """onnx's own inference of types and shapes, with sizes that are computed from sizes. It casts without wrapping and
    multiplies in 64 bits whatever the type, so of nodes of which `known_sizes` is not sure it is told the type and the shape
    alone; goes into the model. Raises one of NOT_INFERRED.
    """
    while True:
        found = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        typed = {v.name: v for v in (*found.input, *found.value_info)}
        unsure = _unsure(model.graph, {n: dims_of(v) for n, v in typed.items() if v.type.tensor_type.HasField("shape")})
        if not unsure:
            return found
        model.opset_import.add(domain=UNTOLD, version=1)
        for node in unsure:
            node.domain = UNTOLD
            model.graph.value_info.extend(typed[name] for name in node.output if name in typed)


def _unsure(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[Size]]) -> list[onnx.NodeProto]:
    """Nodes that make no sure number of sure ones, where sizes go in."""
    known = {
        name: np.array([v is not None for v in numbers.reshape(-1)], np.bool_).reshape(numbers.shape)
        for name, numbers in known_sizes(graph, shapes).items()
    }
    found, sized = [], set[str]()
    for node in graph.node:
        if node.op_type not in ("Shape", "Size") and not sized.intersection(node.input):
            continue
        sized.update(node.output)
        if node.op_type in PROPAGATED and node.domain in edit.DEFAULT_DOMAIN and known.keys() >= {*node.input}:
            given = np.logical_and.reduce(np.broadcast_arrays(*(known[n] for n in node.input)))
            if (given & ~known.get(node.output[0], np.False_)).any():
                found.append(node)
    return found


def inferred_shapes(model: onnx.ModelProto) -> dict[str, tuple[Size, ...]]:
    """Shapes of the tensors of a model, as `inferred` has them; those of unknown rank are left out."""
    return {name: dims_of(value) for name, value in inferred(model).items() if value.type.tensor_type.HasField("shape")}


def dims_of(value: onnx.ValueInfoProto) -> tuple[Size, ...]:
    """The shape of a tensor that is said to have one."""
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in value.type.tensor_type.shape.dim
    )


def known_sizes(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[Size]]) -> dict[str, Numbers]:
    """Tensor -> its numbers, for every tensor that follows from constants and `shapes` alone."""
    found = {
        name: np.asarray(edit.array_of(t), object)
        for name, t in edit.constants(graph).items()
        if t.data_type in KINDS and int(np.prod(t.dims)) <= SMALL and t.data_location != TensorProto.EXTERNAL
    }
    for node in graph.node:
        if node.op_type in ("Shape", "Size") and node.input[0] in shapes:
            found[node.output[0]] = _of_shape(node, shapes[node.input[0]])
        elif node.op_type in RULES and node.domain in edit.DEFAULT_DOMAIN:
            given = [found.get(name) for name in node.input if name]
            values = [v for v in given if v is not None]
            if not values or len(values) != len(given):
                continue
            try:
                made = np.asarray(RULES[node.op_type](edit.attributes(node), *values), object)
            except (TypeError, ValueError, LookupError, ArithmeticError):
                continue  # onnxruntime will say what it thinks of that
            if made.size <= SMALL:
                found[node.output[0]] = made
    return found


def from_sizes(name: str, made: Mapping[str, onnx.NodeProto], constants: Container[str]) -> bool:
    """Whether a tensor is computed from sizes and constants only, known or not."""
    waiting, seen, sized = [name], {name}, False
    while waiting:
        current = waiting.pop()
        node = made.get(current)
        if current in constants or (node is not None and node.op_type == "Constant"):
            continue
        if node is not None and node.op_type in ("Shape", "Size"):
            sized = True
        elif node is not None and node.op_type in RULES and node.domain in edit.DEFAULT_DOMAIN:
            waiting += [n for n in node.input if n and n not in seen]
            seen.update(node.input)
        else:
            return False
    return sized


def _of_shape(node: onnx.NodeProto, shape: Sequence[Size]) -> Numbers:
    sizes = [d if isinstance(d, int) else None for d in shape]
    if node.op_type == "Size":
        total = 1
        for d in sizes:
            total = None if d is None or total is None else _sure(total * d)  # type: ignore[assignment]
        return np.asarray(total, object)
    given = edit.attributes(node)
    made = np.empty(len(sizes), object)
    made[:] = sizes
    return made[given.get("start", 0) : given.get("end")]


def _each(function: Callable[..., Any]) -> Callable[..., Numbers]:
    """Number by number, None where one of them is."""
    whole = np.frompyfunc(lambda *v: None if None in v else function(*v), function.__code__.co_argcount, 1)

    def every(given: Mapping[str, Any], *values: Numbers) -> Numbers:
        with np.errstate(all="ignore"):  # a file may hold any number
            return np.asarray(whole(*values), object)

    return every


def _sure(a: Any) -> Any:
    """A number that any kind of arithmetic has to give, None for one that might be wrapped or rounded."""
    if isinstance(a, float):
        return a if float(np.float32(a)) == a else None
    return a if a is None or abs(a) < WHOLE else None


def _worked_out(function: Callable[..., Any]) -> Callable[..., Numbers]:
    return _each(lambda a, b: _sure(function(a, b)))


def _divided(a: Any, b: Any) -> Any:
    return a / b if isinstance(a, float) or isinstance(b, float) else int(a / b) if abs(a) < 1 << 52 else None


def _cast(given: Mapping[str, Any], values: Numbers) -> Numbers:
    if given["to"] not in KINDS:
        raise ValueError("a kind that wraps or rounds in another way")
    kind: Callable[[Any], Any] = int if given["to"] in INTEGERS else bool if given["to"] == TensorProto.BOOL else float
    return _each(lambda a: _sure(kind(a)))(given, values)


def _gather(given: Mapping[str, Any], values: Numbers, index: Numbers) -> Numbers:
    return np.asarray(values.take(np.asarray(index, np.int64), axis=given.get("axis", 0)), object)


def _slice(given: Mapping[str, Any], values: Numbers, *bounds: Numbers) -> Numbers:
    if values.ndim != 1 or len(bounds) > 4:
        raise ValueError("only shapes are cut here")
    starts, ends = (bounds[0], bounds[1]) if bounds else (given["starts"], given["ends"])
    step = bounds[3] if len(bounds) > 3 else [1]
    return values[int(starts[0]) : int(ends[0]) : int(step[0])]


def _flat(given: Mapping[str, Any], values: Numbers, *shape: Numbers) -> Numbers:
    """A tensor of one axis at the most: its numbers do not move."""
    if values.size == 1:
        return values.reshape(())
    return values.reshape(-1)


def _compare(function: Callable[[Any, Any], bool]) -> Callable[..., Numbers]:
    return _each(lambda a, b: function(a, b))


def _of_one_number(given: Mapping[str, Any], shape: Numbers) -> Numbers:
    dims, value = [int(d) for d in shape.reshape(-1)], given.get("value")
    if math.prod(dims) > SMALL:
        raise ValueError("that many are no sizes")
    return np.full(dims, 0.0 if value is None else edit.array_of(value).item(), object)


RULES: dict[str, Callable[..., Any]] = {
    "Identity": lambda given, values: values,
    "Cast": _cast,
    "ConstantOfShape": _of_one_number,
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _flat,
    "Unsqueeze": lambda given, values, *axes: values.reshape(-1),
    "Reshape": lambda given, values, shape: values.reshape([int(d) for d in shape]),
    "Concat": lambda given, *values: np.concatenate(values),
    "Not": _each(lambda a: not a),
    "And": _compare(lambda a, b: bool(a and b)),
    "Or": _compare(lambda a, b: bool(a or b)),
    "Equal": _compare(operator.eq),
    "Less": _compare(operator.lt),
    "LessOrEqual": _compare(operator.le),
    "Greater": _compare(operator.gt),
    "GreaterOrEqual": _compare(operator.ge),
    "Add": _worked_out(operator.add),
    "Sub": _worked_out(operator.sub),
    "Mul": _worked_out(operator.mul),
    "Div": _worked_out(_divided),
    "Min": _compare(min),
    "Max": _compare(max),
}

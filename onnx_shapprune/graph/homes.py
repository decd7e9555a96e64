"""Where a file keeps the numbers of a linear layer, and what they mean to it: read, and written back in the file's type."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.lookup import INTEGER, Lookup
from onnx_shapprune.graph.stored import RefusedError, Stored, integers, written_out
from onnx_shapprune.graph.units import Layer

Doubles = NDArray[np.float64]
INT_LIMITS = {
    np.dtype(t): (np.iinfo(t).min, np.iinfo(t).max) for t in (np.int8, np.uint8, np.int16, np.uint16, np.int32)
}
# Integer operator -> which inputs are the scales of its data and of its weight; others leave scales to nodes behind them.
SCALES = {"QLinearConv": (1, 4), "QLinearMatMul": (1, 4), "QGemm": (1, 4)}


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """A constant of the file. stored: where and how it lies there; steps: of a quantised one, the size of a step, one for
    all or one for each place on `axis` of the array in the file, else None.
    """

    stored: Stored
    steps: Doubles | None = None
    axis: int = 0

    def values(self, array: edit.Array) -> Doubles:
        """What an array of the file means, as the layer reads it."""
        means = array.astype(np.float64)
        if self.steps is not None:
            means = (means - self.stored.zero) * self._along(array.ndim)
        return np.asarray(np.transpose(means, self.stored.axes))

    def array(self, values: Doubles, like: edit.Array) -> edit.Array:
        """The inverse of `values`, in the shape and type of an array; integers are rounded to the next step."""
        lies = np.transpose(values, np.argsort(self.stored.axes))
        if self.steps is not None:
            lies = lies / self._along(lies.ndim) + self.stored.zero
        if like.dtype in INT_LIMITS:
            lies = np.clip(np.rint(lies), *INT_LIMITS[like.dtype])
        return np.asarray(lies.astype(like.dtype)).reshape(like.shape)

    def _along(self, rank: int) -> Doubles:
        assert self.steps is not None
        axis = self.axis % rank
        return self.steps.reshape([-1 if i == axis else 1 for i in range(rank)])


def file_array(graph: onnx.GraphProto, name: str) -> edit.Array:
    """The values of a constant, also of one that the file keeps in short: sparse, or made by ConstantOfShape."""
    return edit.array_of(edit.constants(graph).get(name) or written_out(graph, name))


def home_of(name: str, layer: Layer, context: Lookup) -> Home:
    """Where the parameter lies that the layer reads as `name`. Raises RefusedError where it cannot be written."""
    found = context.stored(name)
    if found.name not in {p.name for p in layer.parameters}:
        raise RefusedError("its parameters lie elsewhere")
    quantised = next((context.made[n] for n in found.nodes if context.made[n].op_type == "DequantizeLinear"), None)
    if quantised is None:
        return Home(found)
    axis = int(edit.attributes(quantised).get("axis", 1))  # type: ignore[call-overload]
    return _in_steps(found, _scale(quantised.input[1], context), axis)


def integer_homes(node: onnx.NodeProto, context: Lookup) -> tuple[Home, Home | None]:
    """Where an integer operator keeps its weight and, if it has one whose scale is stored, its bias."""
    inputs = [*node.input, *[""] * 9]
    place, zero, bias = INTEGER[node.op_type]
    weight = integers(inputs[place], inputs[zero], context.constants, context.made)
    if node.op_type not in SCALES:
        return Home(weight, np.ones(1)), None
    of_data, of_weight = (inputs[i] for i in SCALES[node.op_type])
    steps = _scale(of_weight, context)
    axis = 0 if "Conv" in node.op_type or edit.attributes(node).get("transB") else 1
    home = _in_steps(weight, steps, axis)
    if bias is None or not inputs[bias]:
        return home, None
    added = integers(inputs[bias], "", context.constants, context.made)
    return home, _in_steps(added, _scale(of_data, context) * steps, len(added.shape) - 1)


def _scale(name: str, context: Lookup) -> Doubles:
    found = edit.stored_name(context.constants, context.made, name)
    if found is None:
        raise RefusedError("the scale of its weights is computed")
    return edit.array_of(context.constants[found]).astype(np.float64)


def _in_steps(found: Stored, steps: Doubles, axis: int) -> Home:
    lies = [found.shape[i] for i in np.argsort(found.axes)]
    if steps.size != 1 and (steps.ndim != 1 or steps.size != lies[axis]):
        raise RefusedError("its weights have several scales a channel")
    return Home(found, steps.reshape(-1), axis)

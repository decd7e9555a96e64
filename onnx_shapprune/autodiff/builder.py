"""Append standard-domain nodes to a copy of a model, with what is known about its tensors at hand.

Rules write formulas with it: `b("Mul", dy, b("Sub", 1.0, y))`. A Python number becomes a scalar constant of the dtype
of the first named operand, so that one rule serves float32 (what runs) and float64 (what the tests compare with).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnx_shapprune.autodiff.settled import settle
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.scopes import rename, tensor_names
from onnx_shapprune.runtime.probe import TensorInfo
from onnx_shapprune.runtime.weights import stands_in, weight_bytes

Array = NDArray[np.generic]
Operand = str | float | int | Array | None
Attribute = int | float | str | Sequence[int] | Sequence[float] | onnx.TensorProto
Shape = tuple[int | None, ...]

BOOLEAN_OPS = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or"})
SMALL = 64  # constants up to this many elements are stored once
LARGEST_TO_DOUBLE = 900 << 20
ENDLESS = np.iinfo(np.int64).max


class Builder:
    """A model under extension. Calling it appends one node and returns the name of its output.

    model: copied; the main opset must stay as it is, because the emitted nodes are valid from opset 18 on.
    infos: shape and dtype of every tensor of the model, from runtime.probe. weights: a model with the initializers that
    `model` only stands in for.
    """

    def __init__(
        self, model: onnx.ModelProto, infos: Mapping[str, TensorInfo], weights: onnx.ModelProto | None = None
    ) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self.graph = self._model.graph
        # Whether a second copy of the weights fits below protobuf's limit of 2 GiB.
        self.may_double = weight_bytes(model) < LARGEST_TO_DOUBLE
        self._weights = {} if weights is None else {t.name: t for t in weights.graph.initializer}
        self.opset = edit.opset_of(model)
        self._infos = infos
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._prepared: dict[tuple[str, str], str] = {}
        self._settled: dict[str, Array | None] = {}
        self._count = 0
        self._index()

    def _index(self) -> None:
        self._settled.clear()
        self._initializers = {
            t.name: self._weights.get(t.name, t) if stands_in(t) else t for t in self.graph.initializer
        }
        self._producers = {name: node for node in self.graph.node for name in node.output if name}
        self._dtypes = {name: info.dtype for name, info in self._infos.items()}
        self._used = tensor_names(self.graph) | {node.name for node in self.graph.node}

    def __call__(self, op: str, *inputs: Operand, **attributes: Attribute) -> str:
        """Append a node with one output; None is an absent optional input."""
        return self.multi(op, *inputs, outputs=1, **attributes)[0]

    def multi(self, op: str, *inputs: Operand, outputs: int, **attributes: Attribute) -> tuple[str, ...]:
        """Append a node with several outputs and return their names."""
        dtype = self._operand_dtype(inputs)
        names = [self._operand(x, dtype) for x in inputs]
        label = self.fresh(op)
        made = (label,) if outputs == 1 else tuple(self.fresh(op) for _ in range(outputs))
        node = helper.make_node(op, names, made, name=label)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.graph.node.append(node)
        for name in made:
            self._dtypes[name] = self._result_dtype(op, names, dtype, attributes)
        return made

    def fresh(self, stem: str) -> str:
        """A name that no tensor or node of the graph has."""
        while True:
            self._count += 1
            name = f"bwd_{stem}_{self._count}"
            if name not in self._used:
                self._used.add(name)
                return name

    def const(self, array: Array) -> str:
        """Store an array as an initializer and return its name; equal small arrays share one."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.str, array.shape, array.tobytes() if array.size <= SMALL else b"")
        if array.size <= SMALL and key in self._constants:
            return self._constants[key]
        name = self.fresh("const")
        tensor = numpy_helper.from_array(array, name)
        self.graph.initializer.append(tensor)
        self._initializers[name] = tensor
        self._dtypes[name] = array.dtype
        self._constants[key] = name
        return name

    def prepared(self, name: str, purpose: str, make: Callable[[Array], Array]) -> str:
        """The constant `make(value of name)`, made once per purpose however many nodes share the initializer."""
        key = (name, purpose)
        if key not in self._prepared:
            value = self.value(name)
            if value is None:
                raise ModelError(f"tensor {name} is not a constant")
            self._prepared[key] = self.const(make(value))
        return self._prepared[key]

    def ints(self, *values: int) -> str:
        """A one-dimensional int64 constant."""
        return self.const(np.array(values, np.int64))

    def value(self, name: str) -> Array | None:
        """The value of a tensor that no picture and no batch size can change, or None for any other."""
        tensor = self._initializers.get(name)
        if tensor is not None:
            return np.asarray(numpy_helper.to_array(tensor))
        if name not in self._settled:
            self._settled[name] = settle(name, self._producers, self._initializers, self._infos, self.opset)
        return self._settled[name]

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype of a tensor of the original model. Raises ModelError where the probe did not see it."""
        if name not in self._infos:
            raise ModelError(f"the shape of tensor {name} is not known: probe the model again")
        return self._infos[name]

    def known(self, name: str) -> bool:
        """Whether the probe saw this tensor."""
        return name in self._infos

    def shape(self, name: str) -> Shape:
        """Shape of a tensor of the original model; None where a dimension depends on the batch size."""
        return self.info(name).shape

    def dtype(self, name: str) -> np.dtype[np.generic]:
        """dtype of any tensor, also of one made here."""
        if name not in self._dtypes:
            raise ModelError(f"the dtype of tensor {name} is not known: probe the model again")
        return self._dtypes[name]

    def extra_output(self, name: str, index: int) -> str:
        """Name of optional output `index` of the original node that makes `name`; asks for it where it was left out."""
        node = self._producers[name]
        while len(node.output) <= index:
            node.output.append("")
        if not node.output[index]:
            node.output[index] = self.fresh(f"{node.op_type}_extra")
        return str(node.output[index])

    def cast(self, x: str, like: str) -> str:
        """x in the dtype of `like`."""
        return self("Cast", x, to=helper.np_dtype_to_tensor_dtype(self.dtype(like)))

    def runtime_shape(self, name: str) -> str:
        """int64 shape of an original tensor: a constant where it is static, a Shape node where it is not."""
        info = self.info(name)
        if info.static:
            return self.ints(*(d for d in info.shape if d is not None))
        made = self("Shape", name)
        self._dtypes[made] = np.dtype(np.int64)
        return made

    def reshape(self, x: str, like: str) -> str:
        """x, which has as many elements as the original tensor `like`, in the shape of `like`."""
        return self("Reshape", x, self.reshape_target(like))

    def reshape_target(self, like: str) -> str:
        """Target for Reshape: a constant with one -1 where at most one dimension depends on the batch."""
        shape = self.shape(like)
        if shape.count(None) == 1 and 0 not in shape:
            return self.ints(*(-1 if d is None else d for d in shape))
        return self.runtime_shape(like)

    def zeros_like(self, name: str) -> str:
        """Zeros in the shape and dtype of an original tensor."""
        return self._filled(name, 0.0)

    def ones_like(self, name: str) -> str:
        """Ones in the shape and dtype of an original tensor."""
        return self._filled(name, 1.0)

    def scalar(self, value: float, like: str) -> str:
        """A zero-dimensional constant in the dtype of `like`."""
        return self.const(np.array(value, self.dtype(like)))

    def mask(self, condition: str, like: str) -> str:
        """A boolean tensor as 0 and 1 in the dtype of `like`."""
        return self.cast(condition, like)

    def sum_to(self, g: str, have: Shape, want: Shape) -> str:
        """Reverse a broadcast from shape `want` to shape `have` by summing over the stretched axes."""
        lead = len(have) - len(want)
        if lead < 0:
            raise ModelError(f"cannot reduce shape {have} to {want}")
        stretched = [i + lead for i, (h, w) in enumerate(zip(have[lead:], want, strict=True)) if w == 1 and h != 1]
        if stretched:
            g = self("ReduceSum", g, self.ints(*stretched), keepdims=1)
        if lead:
            g = self("ReduceSum", g, self.ints(*range(lead)), keepdims=0)
        return g

    def input(self, name: str, dtype: np.dtype[np.generic] | type[np.generic], shape: Sequence[int | str]) -> str:
        """Add a graph input. Raises ModelError when the name is taken."""
        if name in self._used:
            raise ModelError(f"the model already has a tensor named {name}; rename it")
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.graph.input.append(helper.make_tensor_value_info(name, kind, list(shape)))
        self._used.add(name)
        self._dtypes[name] = np.dtype(dtype)
        return name

    def output(self, name: str, shape: Shape) -> None:
        """Add a graph output; a dimension that is None gets a symbol of its own."""
        kind = helper.np_dtype_to_tensor_dtype(self.dtype(name))
        dims = [f"{name}_{i}" if d is None else d for i, d in enumerate(shape)]
        self.graph.output.append(helper.make_tensor_value_info(name, kind, dims))

    def reserve(self, *names: str) -> None:
        """Free names for inputs and outputs that are to be added, by renaming inner tensors that have them.

        Raises ModelError when a graph input or output has one of the names.
        """
        interface = {v.name for v in (*self.graph.input, *self.graph.output)}
        if taken := sorted(interface.intersection(names)):
            raise ModelError(f"the model has an input or output named {taken[0]}; rename it")
        moved = {name: self.fresh(name) for name in names if name in self._used}
        if not moved:
            return
        rename(self.graph, moved)
        for tensor in self.graph.initializer:
            if tensor.name in moved:
                tensor.CopyFrom(self._initializers[tensor.name])  # under its new name nobody would find the values
                tensor.name = moved[tensor.name]
        self._infos = {moved.get(name, name): info for name, info in self._infos.items()}
        self._index()

    def alias(self, x: str, name: str) -> str:
        """x under a chosen name. Raises ModelError when the name is taken."""
        if name in self._used:
            raise ModelError(f"the model already has a tensor named {name}; rename it")
        self.graph.node.append(helper.make_node("Identity", [x], [name], name=name))
        self._used.add(name)
        self._dtypes[name] = self.dtype(x)
        return name

    def model(self) -> onnx.ModelProto:
        """The extended model without the nodes and initializers that no graph output needs."""
        result = onnx.ModelProto()
        result.CopyFrom(self._model)
        edit.prune_dead(result.graph)
        # Stale shape annotations would be trusted by onnxruntime.
        del result.graph.value_info[:]
        return result

    def _filled(self, name: str, value: float) -> str:
        dtype = self.dtype(name)
        fill = numpy_helper.from_array(np.array([value], dtype))
        made = self("ConstantOfShape", self.runtime_shape(name), value=fill)
        self._dtypes[made] = dtype
        return made

    def _operand(self, x: Operand, dtype: np.dtype[np.generic] | None) -> str:
        if x is None:
            return ""
        if isinstance(x, str):
            return x
        if isinstance(x, np.ndarray):
            return self.const(x)
        if dtype is None:
            raise TypeError("a Python number needs a named operand beside it")
        return self.const(np.array(x, dtype))

    def _operand_dtype(self, inputs: Sequence[Operand]) -> np.dtype[np.generic] | None:
        named = [self._dtypes[x] for x in inputs if isinstance(x, str) and x in self._dtypes]
        floating = [d for d in named if d.kind == "f"]
        return next(iter(floating or named), None)

    def _result_dtype(
        self, op: str, names: Sequence[str], dtype: np.dtype[np.generic] | None, attributes: Mapping[str, Attribute]
    ) -> np.dtype[np.generic]:
        if op in BOOLEAN_OPS:
            return np.dtype(bool)
        if op in ("Shape", "Size"):
            return np.dtype(np.int64)
        to = attributes.get("to")
        if op == "Cast" and isinstance(to, int):
            return np.dtype(helper.tensor_dtype_to_np_dtype(to))
        return dtype if dtype is not None else np.dtype(np.float32)

"""An ONNX graph computed by torch, so that benchmarks can differentiate it by its weights, and run it on a GPU.

One function an operator, for the graphs that torch.onnx.export(dynamo=False) writes of usual classifiers. Whole numbers stay
on the CPU: they are shapes and places, which torch wants as numbers of Python.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

Given = Mapping[str, Any]
OPERATORS: dict[str, Callable[..., Any]] = {}
STATISTICS = (3, 4)  # inputs of BatchNormalization that no gradient may change


class TorchGraph:
    """A graph as a function of its input and its weights. ValueError for an operator that is not known here.

    weights: float tensors of the file by name, of rank one and more; scalars are limits and constants of formulas, and
    running statistics are no weights either. normalisations: attributes of each BatchNormalization; `follow`, which is none
    of ONNX, is a rate with which the node works as in training.
    """

    def __init__(self, model: onnx.ModelProto, device: torch.device) -> None:
        graph = model.graph
        unknown = sorted({node.op_type for node in graph.node} - OPERATORS.keys())
        if unknown:
            raise ValueError(f"torch_graph knows no operator {', '.join(unknown)}")
        self.constants = {t.name: placed(t, device) for t in graph.initializer}
        fixed = {n.input[i] for n in graph.node if n.op_type == "BatchNormalization" for i in STATISTICS}
        self.weights = {n: v for n, v in self.constants.items() if v.is_floating_point() and v.ndim and n not in fixed}
        self.nodes = [
            (OPERATORS[n.op_type], {a.name: attribute(a, device) for a in n.attribute}, n.input, n.output)
            for n in graph.node
        ]
        self.normalisations = [given for op, given, *_ in self.nodes if op is OPERATORS["BatchNormalization"]]
        (self.input,) = {i.name for i in graph.input} - self.constants.keys()
        self.output = graph.output[0].name

    def parameters(self, kind: str) -> list[tuple[str, str]]:
        """Names of weight and bias ("" where there is none) of each node of a kind."""
        found = [inputs for op, _, inputs, _ in self.nodes if op is OPERATORS[kind]]
        return [(inputs[1], inputs[2] if len(inputs) > 2 else "") for inputs in found]

    def __call__(self, x: Tensor, weights: Mapping[str, Tensor], *, of: Sequence[str] = ()) -> Any:
        """Logits [n, classes], or the list of the tensors named in `of`. weights: those that differ from the file's."""
        values: dict[str, Any] = {"": None, **self.constants, **weights, self.input: x}
        for operator, given, inputs, outputs in self.nodes:
            made = operator(given, *(values[name] for name in inputs))
            values.update(zip(outputs, made if isinstance(made, tuple) else (made,), strict=False))
        return [values[name] for name in of] if of else values[self.output].flatten(1)


def placed(tensor: onnx.TensorProto, device: torch.device) -> Tensor:
    value = torch.tensor(numpy_helper.to_array(tensor).copy())
    return value.to(device) if value.is_floating_point() else value


def attribute(a: onnx.AttributeProto, device: torch.device) -> Any:
    value = onnx.helper.get_attribute_value(a)
    if isinstance(value, onnx.TensorProto):
        return placed(value, device)
    return value.decode() if isinstance(value, bytes) else value


def operator(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


def together(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator of two tensors, of which one may come from a shape, and lie on the CPU."""

    def computed(_: Given, x: Tensor, y: Tensor) -> Tensor:
        device = y.device if x.device.type == "cpu" else x.device
        return function(x.to(device), y.to(device))

    return computed


def divided(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


OPERATORS |= {
    "Add": together(torch.add), "Sub": together(torch.sub), "Mul": together(torch.mul), "Div": together(divided),
    "Pow": together(torch.pow), "Mod": together(torch.remainder), "MatMul": together(torch.matmul),
    "Equal": together(torch.eq),
    "Relu": lambda _, x: x.relu(), "Sigmoid": lambda _, x: x.sigmoid(), "Tanh": lambda _, x: x.tanh(),
    "Erf": lambda _, x: x.erf(), "Sqrt": lambda _, x: x.sqrt(), "Neg": lambda _, x: -x, "Exp": lambda _, x: x.exp(),
    "HardSwish": lambda _, x: functional.hardswish(x),
    "LeakyRelu": lambda given, x: functional.leaky_relu(x, given.get("alpha", 0.01)),
    "HardSigmoid": lambda given, x: (given.get("alpha", 0.2) * x + given.get("beta", 0.5)).clamp(0, 1),
    "Gelu": lambda given, x: functional.gelu(x, approximate=given.get("approximate", "none")),
    "Clip": lambda given, x, low=None, high=None: x.clamp(given.get("min", low), given.get("max", high)),
    "Softmax": lambda given, x: x.softmax(given.get("axis", -1)),
    "LogSoftmax": lambda given, x: x.log_softmax(given.get("axis", -1)),
    "GlobalAveragePool": lambda _, x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "Identity": lambda _, x: x, "Dropout": lambda _, x, *rest: x,
    "Transpose": lambda given, x: x.permute(given.get("perm", list(range(x.ndim))[::-1])),
    "Concat": lambda given, *parts: torch.cat(parts, given["axis"]),
    "Shape": lambda _, x: torch.tensor(x.shape),
    "Expand": lambda _, x, shape: x.expand(torch.broadcast_shapes(x.shape, shape.tolist())),
    "Where": lambda _, where, x, y: torch.where(where.to(x.device), x, y),
}  # fmt: skip


def padded(given: Given, x: Tensor, value: float = 0.0) -> Tensor:
    """A picture with its padding round it, which need not be the same on both sides."""
    if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise ValueError(f"torch_graph knows no padding {given['auto_pad']}")
    pads = given.get("pads", [0] * 2 * (x.ndim - 2))
    half = len(pads) // 2
    flat = [p for axis in reversed(range(half)) for p in (pads[axis], pads[half + axis])]
    return functional.pad(x, flat, value=value) if any(flat) else x


@operator("Conv")
def _convolved(given: Given, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    stride, dilation, group = given.get("strides", 1), given.get("dilations", 1), given.get("group", 1)
    return functional.conv2d(padded(given, x), weight, bias, stride, 0, dilation, group)


@operator("MaxPool")
def _largest(given: Given, x: Tensor) -> Tensor:
    kernel, stride, dilation = given["kernel_shape"], given.get("strides", 1), given.get("dilations", 1)
    ceil = bool(given.get("ceil_mode", 0))
    return functional.max_pool2d(padded(given, x, -math.inf), kernel, stride, 0, dilation, ceil)


@operator("AveragePool")
def _averaged(given: Given, x: Tensor) -> Tensor:
    if any(given.get("pads", [])) and not given.get("count_include_pad", 0):
        raise ValueError("torch_graph knows no average that leaves out the padding")
    kernel, ceil = given["kernel_shape"], bool(given.get("ceil_mode", 0))
    return functional.avg_pool2d(padded(given, x), kernel, given.get("strides", 1), 0, ceil)


@operator("Gemm")
def _multiplied(given: Given, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, weight = x.T if given.get("transA") else x, weight.T if given.get("transB") else weight
    made = given.get("alpha", 1.0) * (x @ weight)
    return made if bias is None else made + given.get("beta", 1.0) * bias


@operator("BatchNormalization")
def _normalised(given: Given, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """By the running statistics; while a network learns by those of the batch, which the running ones follow."""
    rate, eps = given.get("follow"), given.get("epsilon", 1e-5)
    return functional.batch_norm(x, mean, variance, scale, shift, rate is not None, rate or 0.0, eps)


@operator("InstanceNormalization")
def _each_normalised(given: Given, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=shift, eps=given.get("epsilon", 1e-5))


@operator("LayerNormalization")
def _layer_normalised(given: Given, x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    return functional.layer_norm(x, x.shape[given.get("axis", -1) :], scale, shift, given.get("epsilon", 1e-5))


def listed(given: Given, name: str, stored: Tensor | None) -> list[int] | None:
    """Axes and the like: of an attribute in old files, of an input in newer ones."""
    return given.get(name) if stored is None else stored.tolist()


@operator("ReduceMean")
def _mean(given: Given, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.mean(listed(given, "axes", axes) or tuple(range(x.ndim)), keepdim=bool(given.get("keepdims", 1)))


@operator("Flatten")
def _flat(given: Given, x: Tensor) -> Tensor:
    return x.reshape(math.prod(x.shape[: given.get("axis", 1)]), -1)


@operator("Reshape")
def _reshaped(given: Given, x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())])


@operator("Unsqueeze")
def _wider(given: Given, x: Tensor, axes: Tensor | None = None) -> Tensor:
    places = listed(given, "axes", axes) or []
    rank = x.ndim + len(places)
    for place in sorted(p % rank for p in places):
        x = x.unsqueeze(place)
    return x


@operator("Squeeze")
def _narrower(given: Given, x: Tensor, axes: Tensor | None = None) -> Tensor:
    places = listed(given, "axes", axes)
    return x.squeeze() if places is None else x.squeeze(tuple(places))


@operator("Gather")
def _gathered(given: Given, x: Tensor, places: Tensor) -> Tensor:
    axis = given.get("axis", 0) % x.ndim
    found = x.index_select(axis, (places % x.shape[axis]).reshape(-1).to(x.device))
    return found.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


@operator("Split")
def _parts(given: Given, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    found = listed(given, "split", sizes)
    if found is None:
        raise ValueError("torch_graph knows no Split without sizes")
    return x.split(found, given.get("axis", 0))


@operator("Slice")
def _slice(
    given: Given, x: Tensor, start: Tensor, end: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """Only ascending ones."""
    places = range(len(start)) if axes is None else axes.tolist()
    strides = [1] * len(start) if steps is None else steps.tolist()
    cut = [slice(None)] * x.ndim
    for place, low, high, step in zip(places, start.tolist(), end.tolist(), strides, strict=True):
        cut[place] = slice(low, high, step)
    return x[tuple(cut)]


@operator("Constant")
def _constant(given: Given) -> Tensor:
    (value,) = given.values()
    return value if isinstance(value, Tensor) else torch.tensor(value)


@operator("ConstantOfShape")
def _filled(given: Given, shape: Tensor) -> Tensor:
    value = given.get("value", torch.zeros(1))
    return value.reshape(()).expand(shape.tolist())


@operator("Cast")
def _cast(given: Given, x: Tensor) -> Tensor:
    kind = onnx.helper.tensor_dtype_to_np_dtype(given["to"])
    return x.to(torch.from_numpy(np.empty(0, kind)).dtype)


@operator("Pad")
def _pad(given: Given, x: Tensor, pads: Tensor, value: Tensor | None = None) -> Tensor:
    if given.get("mode", "constant") != "constant":
        raise ValueError(f"torch_graph knows no Pad {given['mode']}")
    widths, half = pads.tolist(), x.ndim
    flat = [p for axis in reversed(range(half)) for p in (widths[axis], widths[half + axis])]
    return functional.pad(x, flat, value=0.0 if value is None else value.item())

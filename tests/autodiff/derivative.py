"""The oracle of the gradient tests: central differences in float64, run by onnx.reference.

It knows no rule and shares no code with the package but the probe that tells shapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from double_precision_ops import OPS
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.engine import gradients
from onnx_shapprune.runtime.probe import TensorInfo, probe
from onnx_shapprune.runtime.session import Device, Session

Array = NDArray[Any]  # of any dtype: the cases mix floats, integers and booleans
Floats = NDArray[np.float64]
DEVICE = Device(threads=1)
STEP = 1e-6
TOLERANCE_64 = 1e-7  # of max(1, |derivative|); rounding in the difference is about 1e-9
TOLERANCE_32 = 2e-5  # of the largest gradient element; float32 sums over some hundred terms
LIVE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One node with its operands. Float inputs are differentiated; float constants follow the precision under test."""

    op: str
    label: str
    inputs: Mapping[str, Array]
    order: Sequence[str]  # operands of the node, "" where one is left out
    constants: Mapping[str, Array] = field(default_factory=dict)
    attributes: Mapping[str, object] = field(default_factory=dict)
    outputs: int = 1
    batched: Sequence[str] = ("x",)  # inputs whose first axis is the batch
    fixed: Sequence[str] = ()  # float inputs that take no gradient
    opset: int = 18
    newest: int | None = None  # last opset at which the case means the same
    single: Sequence[str] = ("scales", "roi")  # constants that stay float32
    result: type[np.floating] | None = None  # dtype of the output where it is not the inputs'
    unused: int = 0  # further outputs that the schema demands
    reference: bool = True  # False: the gradient in float64 is run by onnxruntime, because onnx.reference cannot
    kernel: bool = True  # False: onnxruntime has no kernel, so that only float64 can be tested
    tolerance: float = TOLERANCE_64

    @property
    def wrt(self) -> list[str]:
        return [n for n, v in self.inputs.items() if v.dtype.kind == "f" and n not in self.fixed]

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"


def one_node_model(case: Case, dtype: type[np.floating], opset: int) -> onnx.ModelProto:
    """The node alone; several outputs are weighted with inputs v0, v1, ... and summed into "loss"."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    made = [f"y{i}" for i in range(case.outputs)]
    unused = [f"unused{i}" for i in range(case.unused)]
    node = helper.make_node(case.op, list(case.order), made + unused, name="node")
    node.attribute.extend(helper.make_attribute(k, v) for k, v in case.attributes.items())
    values = [
        helper.make_tensor_value_info(
            n, kind if v.dtype.kind == "f" else helper.np_dtype_to_tensor_dtype(v.dtype), [None] * v.ndim
        )
        for n, v in case.inputs.items()
    ]
    nodes = [node]
    if case.outputs > 1:
        for name in made:
            values.append(helper.make_tensor_value_info(f"v_{name}", kind, [None] * case.inputs["x"].ndim))
            nodes.append(helper.make_node("Mul", [name, f"v_{name}"], [f"w_{name}"]))
            nodes.append(helper.make_node("ReduceSum", [f"w_{name}"], [f"s_{name}"], keepdims=0))
        nodes.append(helper.make_node("Sum", [f"s_{name}" for name in made], ["loss"]))
    final = "loss" if case.outputs > 1 else "y0"
    constants = [
        numpy_helper.from_array(v.astype(dtype) if v.dtype.kind == "f" and n not in case.single else v, n)
        for n, v in case.constants.items()
    ]
    graph = helper.make_graph(nodes, "case", values, [helper.make_empty_tensor_value_info(final)], constants)
    result = kind if case.result is None else helper.np_dtype_to_tensor_dtype(np.dtype(case.result))
    graph.output[0].type.tensor_type.elem_type = result
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def typed(feeds: Mapping[str, Array], dtype: type[np.floating]) -> dict[str, Array]:
    return {n: np.asarray(v, dtype if v.dtype.kind == "f" else v.dtype) for n, v in feeds.items()}


def double(infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """What the probe would say of the same graph in float64."""
    single = np.dtype(np.float32)
    return {n: TensorInfo(i.shape, np.dtype(np.float64) if i.dtype == single else i.dtype) for n, i in infos.items()}


def gradient_model(
    model: onnx.ModelProto, infos: Mapping[str, TensorInfo], output: str, wrt: Sequence[str], *, weighted: bool
) -> onnx.ModelProto:
    """A model with outputs d_<name>; with `weighted` its input "v" weighs the elements of `output`."""
    b = Builder(model, infos)
    del b.graph.output[:]
    seed = b.input("v", b.dtype(output), [f"v{i}" for i in range(len(b.shape(output)))]) if weighted else None
    for name, grad in gradients(b, output, wrt, seed=seed).items():
        b.alias(grad, f"d_{name}")
        b.output(f"d_{name}", b.shape(name))
    return b.model()


def run_reference(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Floats]:
    return [np.asarray(v) for v in ReferenceEvaluator(model, new_ops=OPS).run(None, dict(feeds))]


def run_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Floats]:
    return [np.asarray(v, np.float64) for v in Session(model, DEVICE).run(feeds)]


def check_case(case: Case, opset: int) -> None:
    """Compare the gradient graph of one node with differences, in float64 and in float32. Raises AssertionError."""
    rng = np.random.default_rng(7)
    model_32, model_64 = one_node_model(case, np.float32, opset), one_node_model(case, np.float64, opset)
    feeds = dict(case.inputs)
    if case.outputs > 1:
        bare = onnx.ModelProto()
        bare.CopyFrom(model_32)
        del bare.graph.node[1:]
        del bare.graph.output[:]
        bare.graph.output.extend(helper.make_empty_tensor_value_info(f"y{i}") for i in range(case.outputs))
        del bare.graph.input[len(case.inputs) :]
        for i, y in enumerate(run_onnxruntime(bare, typed(case.inputs, np.float32))):
            feeds[f"v_y{i}"] = rng.standard_normal(y.shape)
    infos = shapes_of(case, model_32, model_64, feeds)
    output = model_32.graph.output[0].name
    weighted = case.outputs == 1
    grad_32 = gradient_model(model_32, infos, output, case.wrt, weighted=weighted)
    grad_64 = gradient_model(model_64, double(infos), output, case.wrt, weighted=weighted)
    onnx.checker.check_model(grad_32)

    def forward(values: Mapping[str, Array]) -> Floats:
        return run_reference(model_64, typed(values, np.float64))[0]

    y = forward(feeds)
    if case.kernel:
        single_y = run_onnxruntime(model_32, typed(feeds, np.float32))[0]
        assert single_y.shape == y.shape, "the reference disagrees with onnxruntime on the shape"
        assert np.abs(single_y - y).max() <= 1e-4 * max(1.0, np.abs(y).max()), "the reference is not the operator"
    v = rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape) if weighted else np.ones(())
    run = run_reference if case.reference else run_onnxruntime
    exact = run(grad_64, typed({**feeds, "v": v} if weighted else feeds, np.float64))
    seed = np.asarray(v, case.result or np.float32)
    single = (
        run_onnxruntime(grad_32, typed(feeds, np.float32) | ({"v": seed} if weighted else {})) if case.kernel else exact
    )
    for name, g64, g32 in zip(case.wrt, exact, single, strict=True):
        x = np.asarray(feeds[name], np.float64)
        assert g64.shape == g32.shape == x.shape, f"{name}: gradient of shape {g64.shape} for {x.shape}"
        for _ in range(2):
            u = rng.standard_normal(x.shape)
            ahead, behind = forward({**feeds, name: x + STEP * u}), forward({**feeds, name: x - STEP * u})
            numeric = float(np.vdot(v, (ahead - behind) / (2 * STEP)))
            assert abs(numeric) > LIVE, f"{name}: vacuous check, pick a live input"
            error = abs(numeric - float(np.vdot(u, g64)))
            assert error <= case.tolerance * max(1.0, abs(numeric)), f"{name}: {np.vdot(u, g64)} instead of {numeric}"
        off = np.abs(g32 - g64).max()
        assert off <= TOLERANCE_32 * np.abs(g64).max(), f"{name}: float32 is off by {off}"


def shapes_of(
    case: Case, model_32: onnx.ModelProto, model_64: onnx.ModelProto, feeds: Mapping[str, Array]
) -> dict[str, TensorInfo]:
    """What the probe sees at batch 2 and 3; where onnxruntime has no kernel, the reference's shapes as static ones."""
    if case.kernel:
        small = {n: v[:2] if v.ndim and (n in case.batched or n.startswith("v_")) else v for n, v in feeds.items()}
        return probe(model_32, typed(small, np.float32), typed(feeds, np.float32), DEVICE)
    values = {**feeds, "y0": run_reference(model_64, typed(feeds, np.float64))[0]}
    return {n: TensorInfo(v.shape, np.dtype(np.float32)) for n, v in values.items()}


def value_info(name: str, shape: Sequence[int | str | None], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)

"""Operators of other domains as standard ones: what onnxruntime fuses when it saves a file, and a scaler of pipelines.

The linear part of a fused layer is called <output>__real, as that of an integer operator, and is where its channels are
switched off.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work
from onnx_shapprune.graph.passes.pairs import REAL
from onnx_shapprune.graph.passes.upgrade import MODERN

MICROSOFT, CLASSIC = "com.microsoft", "ai.onnx.ml"
# Activation -> attributes of the standard operator, in the order of the parameters that a fused one has.
ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "": (),
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "HardSwish": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}
Nodes = Iterator[onnx.NodeProto]
Dialect = Callable[[onnx.GraphProto, onnx.NodeProto], Nodes]


def is_fused(node: onnx.NodeProto) -> bool:
    """Whether a node is a layer together with an activation that is known here."""
    return (node.domain, node.op_type) in FUSED and _activation(node) in ACTIVATIONS


def write_as_standard(model: onnx.ModelProto) -> None:
    """Rewrite every operator that is known here, in place; others stay."""
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        spell = DIALECTS.get((node.domain, node.op_type))
        known = spell is not None and (is_fused(node) or (node.domain, node.op_type) not in FUSED)
        nodes += list(spell(graph, node)) if spell is not None and known else [node]
    edit.keep_nodes(graph, nodes)


def _activation(node: onnx.NodeProto) -> str:
    value = edit.attributes(node).get("activation", b"")
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _fused(graph: onnx.GraphProto, node: onnx.NodeProto) -> Nodes:
    """The layer, what is added to it, and the activation."""
    y = node.output[0]
    given = {a.name: a for a in node.attribute}
    own = [a for name, a in given.items() if not name.startswith("activation")]
    layer = helper.make_node(FUSED[node.domain, node.op_type], list(node.input[:3]), [f"{y}{REAL}"], name=node.name)
    layer.attribute.extend(own)
    yield layer
    made = f"{y}{REAL}"
    if len(node.input) > 3 and node.input[3]:
        yield helper.make_node("Add", [made, node.input[3]], [f"{y}__sum"])
        made = f"{y}__sum"
    op = _activation(node)
    numbers = list(given["activation_params"].floats) if "activation_params" in given else []
    numbers += [given[f"activation_{name}"].f for name in ("alpha", "beta") if f"activation_{name}" in given]
    named = dict(zip(ACTIVATIONS[op], numbers, strict=False))
    if op == "Clip":
        ends = [f"{y}__{name}" for name in named]
        graph.initializer.extend(
            edit.tensor_of(np.array(v, np.float32), n) for n, v in zip(ends, numbers, strict=False)
        )
        yield helper.make_node(op, [made, *ends], [y])
    else:
        yield helper.make_node(op or "Identity", [made], [y], **named)


def _scaler(graph: onnx.GraphProto, node: onnx.NodeProto) -> Nodes:
    """(x - offset) * scale, in float32 whatever comes in."""
    y, given = node.output[0], edit.attributes(node)
    for name, default in (("offset", 0.0), ("scale", 1.0)):
        graph.initializer.append(edit.tensor_of(np.asarray(given.get(name, [default]), np.float32), f"{y}__{name}"))
    yield helper.make_node("Cast", [node.input[0]], [f"{y}__float"], to=TensorProto.FLOAT)
    yield helper.make_node("Sub", [f"{y}__float", f"{y}__offset"], [f"{y}__centred"])
    yield helper.make_node("Mul", [f"{y}__centred", f"{y}__scale"], [y], name=node.name)


# Fused operator -> its layer.
FUSED: Mapping[tuple[str, str], str] = {(MICROSOFT, "FusedConv"): "Conv", (MICROSOFT, "FusedGemm"): "Gemm"}
DIALECTS: Mapping[tuple[str, str], Dialect] = {**dict.fromkeys(FUSED, _fused), (CLASSIC, "Scaler"): _scaler}


def _standard(work: Work) -> Work:
    write_as_standard(work.model)
    return work


def _none_left(model: onnx.ModelProto) -> bool:
    return not any(is_fused(n) or (n.domain, n.op_type) == (CLASSIC, "Scaler") for n in model.graph.node)


STANDARD = Condition("no operator of another domain that has a standard spelling here", _none_left)

DIALECT = Pass("dialects", _standard, (MODERN,), (MODERN, STANDARD))

"""Gates of squeeze and excitation (Hu et al., arXiv:1709.01507), and copies in which slopes lead through them."""

from collections.abc import Sequence

import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.provenance.flow import Provenance, value_inputs
from onnx_shapprune.graph.provenance.normalisations import activated
from onnx_shapprune.graph.provenance.operators import BENDS, LINEAR, MOVES
from onnx_shapprune.graph.provenance.ways import Way

# What a gate is made of beside activations; a picture that divides makes a pole.
MIXES = frozenset({"Conv", "Gemm", "MatMul", "Add", "Sub", "Mul"})
LEAK = 0.1  # of a Relu where it is flat, for slopes alone


def gate_of(way: Way, p: Provenance) -> list[str]:
    """Tensors of a gate of squeeze and excitation, the last first: through layers and activations that rise to the means of
    the very values that it multiplies. Empty where a way is no such gate.
    """
    others = [n for n in way.node.input if n != way.tensor]
    name, found = way.tensor, list[str]()
    while way.node.op_type == "Mul" and (node := p.made.get(name)) is not None:
        seen = [n for n in value_inputs(node, p) if p.of(n).picture]
        if len(seen) != 1:
            break
        if node.op_type in LINEAR:
            return [*found, name] if seen == others and found else []
        if node.op_type not in MIXES | MOVES | BENDS and (node.op_type != "Div" or node.input[0] not in seen):
            break
        found.append(name)
        name = seen[0]
    return []


def layer_before(gate: Sequence[str], p: Provenance) -> list[onnx.NodeProto]:
    """The convolution whose channels a gate takes the means of, and the factors and shifts behind it that a normalisation
    left; empty where there is another.
    """
    name, found = p.made[gate[-1]].input[0], list[onnx.NodeProto]()
    while (node := p.made.get(name)) is not None and node.op_type in BENDS | MOVES | {"Add", "Mul"}:
        seen = [n for n in value_inputs(node, p) if p.of(n).picture]
        if (product := activated(node, p)) is not None:
            name = product
            continue
        if len(seen) != 1:
            return []
        found += [node] if node.op_type in ("Add", "Mul") else []
        name = seen[0]
    return [node, *reversed(found)] if node is not None and node.op_type == "Conv" else []


def straightened(model: onnx.ModelProto, gate: Sequence[str], *, at_best: bool) -> onnx.ModelProto:
    """A working copy whose gate bends nowhere, and whose Relus leak. at_best: in place of means, it has the largest value: a
    mean has the same slope at every place, along which no pattern ever forms.
    """
    copy = edit.copy_of(model)
    for node in copy.graph.node:
        if node.op_type in BENDS and node.output[0] in gate:
            node.op_type = "Identity"
            del node.attribute[:], node.input[1:]
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"
            node.attribute.append(onnx.helper.make_attribute("alpha", LEAK))
        if at_best and gate[-1] in node.output:
            node.op_type = "GlobalMaxPool" if node.op_type == "GlobalAveragePool" else "ReduceMax"
    return copy

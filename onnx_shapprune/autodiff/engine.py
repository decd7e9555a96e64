"""Reverse mode over an ONNX graph: what all rules share and no operator in particular.

The walk takes only nodes that lie on a way from a wanted tensor to the loss through floating-point tensors, sums the
gradients of a tensor with several consumers, reverses broadcasting, and reports every missing rule at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

import onnx_shapprune.autodiff.rules  # noqa: F401  (registers the rules)
from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.registry import NO_GRADIENT, AttributeValue, Node, RefusedError, Rule, lookup
from onnx_shapprune.errors import ModelError, UnsupportedOpError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.scopes import operands

CASTS = ("Cast", "CastLike")


@dataclass(frozen=True, slots=True)
class Path:
    """Nodes between the wanted tensors and the loss, in graph order."""

    nodes: tuple[onnx.NodeProto, ...]
    live: frozenset[str]  # tensors that depend on a wanted one and may carry a gradient
    missing: tuple[tuple[str, str], ...]  # (operator, node) on the path without a rule
    ends: tuple[tuple[str, str], ...]  # (operator, node) where a dependence on a wanted one loses its derivative


def gradients(b: Builder, loss: str, wrt: Sequence[str], *, seed: str | None = None) -> dict[str, str]:
    """Append the gradient of sum(seed * loss) to the graph; seed defaults to ones.

    wrt: graph inputs or inner tensors. Returns the name of the gradient of each, in its shape and dtype; zeros where
    the loss does not depend on it. Raises UnsupportedOpError naming every node on the way without a rule, and also
    when a wanted tensor reaches the loss only through operators without a derivative (Round, ArgMax, a cast to int).
    """
    path = _path(b.graph, b.opset, loss, wrt, b)
    cotangents = {loss: seed if seed is not None else b.ones_like(loss)}
    refused: list[tuple[str, str]] = []
    for proto in reversed(path.nodes):
        dys = [cotangents.get(name) if name else None for name in proto.output]
        if not any(dys):
            continue
        node = _view(proto, path.live)
        rule = lookup(proto.domain, proto.op_type, b.opset)
        grads: Sequence[str | None]
        try:
            grads = _apply(b, rule, node, dys)
        except RefusedError as reason:
            refused.append((node.op, f"{node.name}: {reason}" if str(reason) else node.name))
            # Any gradient will do to go on and find the other nodes that stand in the way.
            grads = [b.zeros_like(x) if wanted and b.known(x) else None for x, wanted in _operands(node)]
            rule = None
        for (x, wanted), grad in zip(_operands(node), grads, strict=True):
            if grad is None or not wanted:
                continue
            if rule is not None and rule.broadcasts:
                grad = b.sum_to(grad, b.shape(node.outputs[0]), b.shape(x))
            cotangents[x] = b("Add", cotangents[x], grad) if x in cotangents else grad
    if refused:
        raise UnsupportedOpError(refused[::-1])
    return {name: cotangents[name] if name in cotangents else _absent(b, name, path) for name in wrt}


def _operands(node: Node) -> list[tuple[str, bool]]:
    return list(zip(node.inputs, node.needs, strict=True))


def unsupported_ops(model: onnx.ModelProto, output: str, wrt: Sequence[str]) -> list[tuple[str, str]]:
    """(operator, node) of every node between `wrt` and `output` without a rule; builds and runs nothing.

    Without shapes only what the operators themselves say is known: the list can be too long (an integer path counts),
    and a node with unusual attributes may still be refused when the gradient is built.
    """
    opset = edit.opset_of(model)
    return list(_path(model.graph, opset, output, wrt, None).missing)


def _path(graph: onnx.GraphProto, opset: int, loss: str, wrt: Sequence[str], b: Builder | None) -> Path:
    needed = {loss}
    for node in reversed(graph.node):
        if needed.intersection(node.output) - {""}:
            needed.update(operands(node))
    live, dependent = set(wrt), set(wrt)
    nodes, missing, ends = [], [], []
    for node in graph.node:
        outputs = {name for name in node.output if name in needed}
        if not outputs or not dependent.intersection(operands(node)):
            continue
        dependent |= outputs
        if not live.intersection(operands(node)):
            continue
        carries = {name for name in outputs if b is None or _differentiable(b, name)}
        standard = node.domain in edit.DEFAULT_DOMAIN
        if standard and (node.op_type in NO_GRADIENT or (not carries and node.op_type in CASTS)):
            ends.append((node.op_type, _label(node)))
            continue
        # Whatever else turns floats into integers (QuantizeLinear) counts as missing, not as a zero gradient.
        carries = carries or outputs
        live |= carries
        nodes.append(node)
        if lookup(node.domain, node.op_type, opset) is None:
            missing.append((node.op_type, _label(node)))
    # A path may end in operators without a derivative: walk back once more so that only what reaches the loss counts.
    useful = {loss}
    for node in reversed(nodes):
        if useful.intersection(node.output):
            useful.update(operands(node))
    nodes = [n for n in nodes if useful.intersection(n.output) - {""}]
    labels = {_label(n) for n in nodes}
    missing = [(op, name) for op, name in missing if name in labels]
    return Path(tuple(nodes), frozenset(live & useful), tuple(missing), tuple(ends))


def _apply(b: Builder, rule: Rule | None, node: Node, dys: Sequence[str | None]) -> list[str | None]:
    """Call a rule and check the number of gradients. Raises RefusedError, without a reason where there is no rule."""
    if rule is None:
        raise RefusedError
    try:
        if rule.all_outputs:
            grads = rule.function(b, node, *dys)
        elif any(dys[1:]):
            raise RefusedError("a gradient arrives at a second output")
        else:
            grads = rule.function(b, node, dys[0])
    except ModelError as error:
        raise RefusedError(str(error)) from error
    if len(grads) != len(node.inputs):
        raise AssertionError(f"{node.op}: {len(grads)} gradients for {len(node.inputs)} inputs")
    return grads


def _absent(b: Builder, name: str, path: Path) -> str:
    """Zeros for a tensor that the loss does not depend on; an error where it only has no derivative."""
    if path.ends and name not in path.live:
        reached = {name}
        for node in b.graph.node:
            if reached.intersection(operands(node)):
                reached.update(o for o in node.output if o)
                if (node.op_type, _label(node)) in path.ends:
                    raise UnsupportedOpError(list(path.ends))
    return b.zeros_like(name)


def _view(proto: onnx.NodeProto, live: frozenset[str]) -> Node:
    attributes: dict[str, AttributeValue] = {}
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, int | float | str):
            attributes[attribute.name] = value
        elif attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            attributes[attribute.name] = list(value)
    return Node(
        op=proto.op_type,
        name=_label(proto),
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        needs=tuple(name in live for name in proto.input),
        attributes=attributes,
    )


def _differentiable(b: Builder, name: str) -> bool:
    return not b.known(name) or np.issubdtype(b.dtype(name), np.floating)


def _label(node: onnx.NodeProto) -> str:
    return str(node.name or next((o for o in node.output if o), "?"))

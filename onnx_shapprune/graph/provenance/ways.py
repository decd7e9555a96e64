"""Where two ways from the picture come together, and what they owe each other.

A trigger that is no part of the network reaches the scores on a way of its own. Exporters' graphs have ways that part and
meet as well: skip connections, gates, normalisations; what tells them apart is what the two ways share.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from onnx_shapprune.graph.provenance.flow import Flow, Provenance, value_inputs
from onnx_shapprune.graph.provenance.operators import BOUNDS, LAYERS, PARTIAL, STATISTICS

FEW = 4  # values per picture that are a decision, and no features
HEAVIER = 4  # times the weights of a branch: what it joins is the network
DEEPER = 2  # layers more than a branch: the same; and layers that a way goes without, which then is a branch of its own


def meetings(p: Provenance) -> Iterator[tuple[onnx.NodeProto, str, str]]:
    """(node, tensor, another one) wherever two ways from the picture meet on their way to the scores, in both orders.

    Whatever the operator: a grid to look up by, a bias or a place to cut at join as well as an addition does.
    """
    for node in p.spread.nodes:
        if p.reaching.intersection(node.output):
            ways = [n for n in dict.fromkeys(value_inputs(node, p)) if p.of(n).picture]
            for name in ways:
                for other in ways:
                    if name != other and not _own_step(node, name, other, p):
                        yield node, name, other


def joinings(p: Provenance) -> Iterator[tuple[onnx.NodeProto, str, str]]:
    """(node, branch, network): where a few values that owe the network nothing join it, or a light branch joins it behind
    all layers.
    """
    for node, name, other in meetings(p):
        if _is_branch(node, p.of(name), p.of(other), p) and not _statistic(node, name, other, p):
            yield node, name, other


def branches(p: Provenance) -> list[onnx.NodeProto]:
    """Nodes of `joinings`, each once."""
    return list({node.output[0]: node for node, _, _ in joinings(p)}.values())


@dataclass(frozen=True, slots=True)
class Way:
    """A tensor that another way from the picture meets at `node`. apart: it shares no layer with the other, or goes
    without DEEPER layers of it; woven: both come through the very same layers; statistic: a mean or the like of the
    picture, by which that is shifted or divided; roots: tensors that it is a statistic of; mends: it says where the other
    way is no number.
    """

    tensor: str
    node: onnx.NodeProto
    apart: bool
    woven: bool
    statistic: bool
    roots: tuple[str, ...]
    mends: bool

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Of two that are one tensor the higher one is asked."""
        return not self.mends, self.apart, not self.woven


def ways(p: Provenance) -> tuple[Way, ...]:
    """Whatever meets another way from the picture, each tensor once. The weights before it do not matter: a branch may be
    as heavy as one likes, and a block or a channel of the network may wait as well as one beside it.
    """
    found: dict[str, Way] = {}
    readers = _readers(p)
    for node, name, other in meetings(p):
        if name == p.input:
            continue
        mine, its = p.of(name).layers, p.of(other).layers
        away = not mine & its or (its & ~mine).bit_count() >= DEEPER
        # What a branch says by one of its ends it may take back by another: then it is asked where its own layers begin.
        forked = [first for first in _beginnings(name, mine & ~its, p) if _goes_round(first, name, readers, p)]
        for tensor in (name, *forked):
            statistic = tensor == name and _statistic(node, name, other, p)
            roots = _roots(name, p, node.op_type == "Div") if statistic else None
            way = Way(
                tensor,
                node,
                away,
                mine == its and not away,
                statistic,
                tuple(sorted(roots or ())),
                tensor == name and _mends(name, other, p),
            )
            if tensor not in found or way.rank > found[tensor].rank:
                found[tensor] = way
    return tuple(found.values())


def _mends(name: str, other: str, p: Provenance) -> bool:
    """Whether it says where the other is no number: as long as nothing makes that, it mends and decides nothing."""
    made = p.made.get(name)
    return made is not None and made.op_type in ("IsNaN", "IsInf") and made.input[0] == other


def may_fail(name: str, p: Provenance) -> tuple[bool, frozenset[str]]:
    """Whether operators before a tensor can make what is infinite or no number of usual values, and the stored tensors by
    which values of the picture are multiplied before it, which can do so if they are large.
    """
    todo, done, partial, factors = [name], {name}, False, set[str]()
    while todo:
        node = p.made.get(todo.pop())
        if node is None:
            continue
        seen = [n for n in value_inputs(node, p) if p.of(n).picture]
        if seen:
            partial |= node.op_type in PARTIAL or (node.op_type == "Div" and node.input[1] in seen)
            if node.op_type in LAYERS | {"Mul", "BatchNormalization"}:
                factors.update(n for n in node.input if n and n not in seen)
        todo += [n for n in seen if n not in done]
        done.update(seen)
    return partial, frozenset(factors)


def _readers(p: Provenance) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in p.spread.nodes:
        if p.reaching.intersection(node.output):
            for name in value_inputs(node, p):
                readers.setdefault(name, []).append(node)
    return readers


def _beginnings(name: str, own: int, p: Provenance) -> list[str]:
    """Results of the layers of a set that are the first of it on the way to a tensor."""
    todo, done, found = [name], {name}, list[str]()
    while todo:
        here = todo.pop()
        node = p.made.get(here)
        deeper = [n for n in value_inputs(node, p) if p.of(n).layers & own] if node is not None else []
        if not deeper and p.of(here).layers & own and here != name:
            found.append(here)
        todo += [n for n in deeper if n not in done]
        done.update(deeper)
    return found


def _goes_round(start: str, name: str, readers: dict[str, list[onnx.NodeProto]], p: Provenance) -> bool:
    """Whether a tensor comes to the scores past another one."""
    todo, done = [start], {start, name}
    while todo:
        here = todo.pop()
        if here == p.output:
            return True
        following = {o for node in readers.get(here, ()) for o in node.output if o in p.reaching}
        todo += following - done
        done |= following
    return False


def late(node: onnx.NodeProto, p: Provenance) -> bool:
    """Whether no layer comes behind a node."""
    return all(p.behind.get(o, 0) == 0 for o in node.output if o in p.reaching)


def _own_step(node: onnx.NodeProto, name: str, other: str, p: Provenance) -> bool:
    """Whether one is the step or the zero that a dynamic quantisation found for the other, where that is quantised or taken
    back: in one node, or written out as working copies have it.
    """
    made, quantised = p.made.get(name), p.made.get(other)
    if made is None or made.op_type != "DynamicQuantizeLinear":
        return False
    if made is quantised or (node.op_type == "QuantizeLinear" and other == made.input[0]):
        return True
    return node.op_type == "DequantizeLinear" and _quantises(quantised, made)


def _quantises(node: onnx.NodeProto | None, dynamic: onnx.NodeProto) -> bool:
    """Whether a QuantizeLinear does what a dynamic quantisation would."""
    return (
        node is not None
        and node.op_type == "QuantizeLinear"
        and list(node.input) == [dynamic.input[0], *dynamic.output[1:]]
    )


def _is_branch(node: onnx.NodeProto, flow: Flow, network: Flow, p: Provenance) -> bool:
    # A layer may be shared: a channel more in the network's own first one is as good as a filter beside it.
    own = (flow.layers & network.layers).bit_count() <= 1
    light = HEAVIER * p.stored(flow.layers) < p.stored(network.layers)
    lighter = light or network.depth >= flow.depth + DEEPER
    # A few values anywhere; or as many as one likes, but behind everything that the network has learnt.
    few = flow.width <= FEW and (own or flow.depth <= 1)
    behind = own and network.depth > 1 and late(node, p) and (light or flow.depth <= 1)
    raw = not flow.depth and not network.depth and flow.width <= FEW < network.width
    return (lighter and (few or behind)) or raw


def _statistic(node: onnx.NodeProto, name: str, other: str, p: Provenance) -> bool:
    """Whether one is a mean, a norm or the like of the other, by which it is shifted or divided: a normalisation."""
    if node.op_type not in ("Sub", "Div", "Mul"):
        return False
    if node.op_type == "Mul" and _rescales(name, other, p):
        return True
    bounded = node.op_type == "Div" and node.input[1] == name
    mine, its = _roots(name, p, bounded), _roots(other, p, bounded)
    return mine is not None and its is not None and mine <= its


def _rescales(name: str, other: str, p: Provenance) -> bool:
    """Whether one is the step in which the other was quantised as it came, as dynamic quantisation writes it."""
    step: onnx.NodeProto | None = p.made.get(name)
    whole: onnx.NodeProto | None = p.made.get(other)
    while step is not None and step.op_type == "Mul":
        read = [str(n) for n in step.input if p.of(n).picture]
        step = p.made.get(read[0]) if len(read) == 1 else None  # times a stored step, and nothing else
    while whole is not None and whole.op_type in ("Cast", "Add"):
        whole = p.made.get(whole.input[0])
    if step is None or whole is None or step.op_type != "DynamicQuantizeLinear":
        return False
    back = p.made.get(whole.input[0]) if whole.op_type in ("Conv", "MatMul") else None
    if back is not None and back.op_type == "DequantizeLinear":  # whole numbers as working copies have them
        return _quantises(p.made.get(back.input[0]), step)
    return whole.op_type in ("ConvInteger", "MatMulInteger") and step.output[0] in whole.input


def _roots(name: str, p: Provenance, bounded: bool) -> frozenset[str] | None:
    """Tensors that it is a statistic of; None where more than single stored numbers went in."""
    todo, done, found = [name], {name}, set()
    allowed = STATISTICS | (BOUNDS if bounded else frozenset())
    while todo:
        here = todo.pop()
        node = p.made.get(here)
        if node is None or node.op_type not in allowed:
            found.add(here)
            continue
        for source in value_inputs(node, p):
            if p.of(source).picture:
                if source not in done:
                    done.add(source)
                    todo.append(source)
            elif (
                (p.spread.size(source) or 2) > 1
                and node.op_type not in ("Squeeze", "Unsqueeze")
                and not node.op_type.startswith("Reduce")
            ):
                return None
    return frozenset(found)

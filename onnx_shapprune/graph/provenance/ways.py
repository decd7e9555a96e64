"""Where two ways from the picture come together, and what they owe each other.

A trigger that is no part of the network reaches the scores on a way of its own. Exporters' graphs have ways that part and
meet as well: skip connections, gates, normalisations; what tells them apart is what the two ways share.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import onnx

from onnx_shapprune.graph.provenance.flow import UNKNOWN, Flow, Provenance, value_inputs
from onnx_shapprune.graph.provenance.operators import (
    BOUNDS,
    CHOOSES,
    LAYERS,
    LINEAR,
    MOVES,
    PARTIAL,
    REDUCES,
    STATISTICS,
)

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
        if _is_branch(node, name, p.of(name), p.of(other), p) and not _statistic(node, name, other, p):
            yield node, name, other


def branches(p: Provenance) -> list[onnx.NodeProto]:
    """Nodes of `joinings`, each once."""
    return list({node.output[0]: node for node, _, _ in joinings(p)}.values())


@dataclass(frozen=True, slots=True)
class Way:
    """A tensor that another way from the picture meets at `node`. apart: it shares no layer with the other, or goes
    without DEEPER layers of it; woven: both come through the very same layers; whole: values of many pixels or channels
    are in each of its own, without a layer; statistic: a mean or the like of the picture, by which that is shifted or
    divided; roots: tensors that it is a statistic of; mends: it says where the other way is no number.
    """

    tensor: str
    node: onnx.NodeProto
    layers: int
    apart: bool
    woven: bool
    whole: bool
    statistic: bool
    roots: tuple[str, ...]
    mends: bool

    @property
    def chosen(self) -> bool:
        """Whether what many pixels make of it says if it is taken or left."""
        return self.whole and self.node.op_type in CHOOSES

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
                p.of(tensor).layers,
                away,
                mine == its,
                _is_whole(tensor, p),
                statistic,
                tuple(sorted(roots or ())),
                tensor == name and _mends(name, other, p),
            )
            if tensor not in found or way.rank > found[tensor].rank:
                found[tensor] = way
    return tuple(found.values())


def together(found: Sequence[Way]) -> list[tuple[Way, ...]]:
    """Ways that could take back what another one of them says, in twos and all at once: without layers of their own, nor
    such as a normalisation has.
    """
    alike: dict[int, list[Way]] = {}
    for way in found:
        if way.woven and way.whole and not way.statistic:
            alike.setdefault(way.layers, []).append(way)
    return [g for group in alike.values() for count in {2, max(2, len(group))} for g in combinations(group, count)]


def _is_whole(name: str, p: Provenance) -> bool:
    """Whether none of its values is of one pixel and channel of what the last layers before it made."""
    todo, done = [name], {name}
    while todo:
        node = p.made.get(todo.pop())
        seen = [n for n in value_inputs(node, p) if p.of(n).picture] if node is not None else []
        if node is None or any(p.of(n).layers != p.of(name).layers for n in seen):
            return False
        if node.op_type not in REDUCES | LAYERS:  # of two pictures, as such with weights are the last ones
            todo += [n for n in seen if n not in done]
            done.update(seen)
    return True


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


def _is_branch(node: onnx.NodeProto, name: str, flow: Flow, network: Flow, p: Provenance) -> bool:
    # A layer may be shared: a channel more in the network's own first one is as good as a filter beside it.
    own = (flow.layers & network.layers).bit_count() <= 1
    light = HEAVIER * p.stored(flow.layers) < p.stored(network.layers)
    lighter = light or network.depth >= flow.depth + DEEPER
    # A few values anywhere; or as many as one likes, but behind everything that the network has learnt.
    few = flow.width <= FEW and (own or flow.depth <= 1)
    behind = own and network.depth > 1 and late(node, p) and (light or flow.depth <= 1)
    raw = not flow.depth and not network.depth
    # In front of layers, and made of all that one made, without weights of its own.
    bare = flow.layers == network.layers and not late(node, p) and _is_whole(name, p)
    return (lighter and (few or behind)) or (flow.width <= FEW < network.width and (raw or bare))


def _statistic(node: onnx.NodeProto, name: str, other: str, p: Provenance) -> bool:
    """Whether one is a mean, a norm or the like of the other, by which it is shifted or divided: a normalisation. What it
    normalises is none of itself.
    """
    if node.op_type not in ("Sub", "Div", "Mul"):
        return False
    if node.op_type == "Mul" and _rescales(name, other, p):
        return True
    if not _is_whole(name, p):
        return False
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
    """Tensors that it is a statistic of; None where it is made as no mean, norm or extreme is: before many values
    become one they are shifted and scaled by single numbers, and last of all bent no more than by a square or by leaving
    out the sign. A reciprocal there would be a peak, and an extreme of other extremes a search for a patch.
    """
    todo, done, found = [(name, "", False)], {(name, "", False)}, set()
    allowed = STATISTICS | (BOUNDS if bounded else frozenset())
    while todo:
        here, becomes, touched = todo.pop()
        node = p.made.get(here)
        if node is None or node.op_type not in allowed:
            found.add(here)
            continue
        seen = [n for n in value_inputs(node, p) if p.of(n).picture]
        stored = [] if node.op_type in MOVES | REDUCES else [n for n in value_inputs(node, p) if n not in seen]
        if any((p.spread.size(n) or 2) > 1 for n in stored):
            found.add(here)
            continue
        if becomes and not _is_few(here, p):
            if not _is_tame(node, seen, becomes, touched, p):
                return None
            touched |= node.op_type not in MOVES
        else:
            becomes, touched = "", False
        if node.op_type in REDUCES:
            becomes, touched = node.op_type, False
        ahead = {(n, becomes, touched) for n in seen} - done
        todo += ahead
        done |= ahead
    return frozenset(found)


def _is_few(name: str, p: Provenance) -> bool:
    return (p.spread.size(name) or UNKNOWN) <= FEW


def _is_tame(node: onnx.NodeProto, seen: list[str], becomes: str, touched: bool, p: Provenance) -> bool:
    """Whether a node may stand before many values become one by an operator. touched: its result is changed before that."""
    if node.op_type in MOVES:
        return True
    if node.op_type in REDUCES:
        return (becomes in LINEAR and node.op_type in LINEAR) or (becomes in LINEAR | {node.op_type} and not touched)
    square = node.op_type == "Mul" and node.input[0] == node.input[1]
    if node.op_type == "Pow":
        power = p.spread.values.get(node.input[1])
        square = power is not None and power.size == 1 and float(power.reshape(-1)[0]) == 2
    if square or node.op_type == "Abs":
        return not touched and becomes != "ReduceMin"
    if node.op_type == "Div" and node.input[1] in seen and not _is_few(node.input[1], p):
        return False
    many = [n for n in seen if not _is_few(n, p)]
    return node.op_type in ("Add", "Sub", "Neg", "Sum") or (node.op_type in ("Mul", "Div") and len(many) <= 1)

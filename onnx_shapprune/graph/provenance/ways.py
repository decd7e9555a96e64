"""Where two ways from the picture come together, and what they owe each other.

A trigger that is no part of the network reaches the scores on a way of its own. Exporters' graphs have ways that part and
meet as well: skip connections, gates, normalisations; what tells them apart is what the two ways share.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import onnx

from onnx_shapprune.graph.provenance.flow import Flow, Provenance, value_inputs
from onnx_shapprune.graph.provenance.normalisations import (
    FEW,
    compares,
    is_statistic,
    is_whole,
    quantises,
    roots_beside,
)
from onnx_shapprune.graph.provenance.operators import CHOOSES, LAYERS, PARTIAL, REDUCES

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
        if _is_branch(node, name, p.of(name), p.of(other), p) and not is_statistic(node, name, other, p):
            yield node, name, other


def branches(p: Provenance) -> list[onnx.NodeProto]:
    """Nodes of `joinings`, each once."""
    return list({node.output[0]: node for node, _, _ in joinings(p)}.values())


@dataclass(frozen=True, slots=True)
class Way:
    """A tensor that another way from the picture meets at `node`. apart: it shares no layer with the other, or goes
    without DEEPER layers of it; far: without half of those that are not its own, or it joins the picture itself; woven: both
    come through the very same layers; whole: values of many pixels or channels are in each of its own, without a layer;
    statistic: a mean or the like of the picture, by which that is shifted or divided; roots: tensors that it is a statistic
    of; mends: it says where the other way is no number; compares: it comes through the same layers, and adds up what is no
    mean or deviation.
    """

    tensor: str
    node: onnx.NodeProto
    layers: int
    apart: bool
    far: bool
    woven: bool
    whole: bool
    statistic: bool
    roots: tuple[str, ...]
    mends: bool
    compares: bool

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
    readers, every = _readers(p), p.of(p.output).layers
    for node, name, other in meetings(p):
        if name == p.input:
            continue
        mine, its = p.of(name).layers, p.of(other).layers
        away = not mine & its or (its & ~mine).bit_count() >= DEEPER
        # What a branch says by one of its ends it may take back by another: then it is asked where its own layers begin.
        forked = [first for first in _beginnings(name, mine & ~its, p) if _goes_round(first, name, readers, p)]
        for tensor in (name, *forked):
            statistic = tensor == name and is_statistic(node, name, other, p)
            roots = roots_beside(name, other, p, node.op_type == "Div") if statistic else None
            way = Way(
                tensor,
                node,
                p.of(tensor).layers,
                away,
                not its or 2 * (its & ~mine).bit_count() >= (every & (its | ~mine)).bit_count(),
                mine == its,
                is_whole(tensor, p),
                statistic,
                tuple(sorted(roots or ())),
                tensor == name and _mends(name, other, p),
                tensor == name and mine == its and not statistic and compares(name, other, p),
            )
            if tensor not in found or way.rank > found[tensor].rank:
                found[tensor] = way
    # What is made of a number that compares does so too, whatever the way that it meets is made of.
    made = {name: {name, *_made_of(name, p)} for name, way in found.items() if way.woven}
    numbers = {n for name, way in found.items() if way.compares for n in made[name] if _reduced(n, p)}
    return tuple(
        replace(way, compares=True) if way.woven and not way.statistic and numbers & made[name] else way
        for name, way in found.items()
    )


def _made_of(name: str, p: Provenance) -> Iterator[str]:
    """Tensors before it, back to its last layers."""
    todo, done = [name], {name}
    while todo:
        node = p.made.get(todo.pop())
        seen = [str(n) for n in value_inputs(node, p)] if node is not None else []
        ahead = [n for n in seen if n not in done and p.of(n).layers == p.of(name).layers]
        yield from ahead
        todo += ahead
        done.update(ahead)


def _reduced(name: str, p: Provenance) -> bool:
    return name in p.made and p.made[name].op_type in REDUCES


def together(found: Sequence[Way]) -> list[tuple[Way, ...]]:
    """Ways that could take back what another one of them says, in twos and all at once: without layers of their own."""
    alike: dict[int, list[Way]] = {}
    for way in found:
        if way.woven and way.whole:
            alike.setdefault(way.layers, []).append(way)
    return [g for group in alike.values() for count in {2, max(2, len(group))} for g in combinations(group, count)]


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
    return node.op_type == "DequantizeLinear" and quantises(quantised, made)


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
    bare = flow.layers == network.layers and not late(node, p) and is_whole(name, p)
    return (lighter and (few or behind)) or (flow.width <= FEW < network.width and (raw or bare))

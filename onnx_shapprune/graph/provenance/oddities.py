"""What in a graph can decide an answer by itself, each with the nodes that do it and the reason in words.

A backdoor need not be learnt. A few added nodes that compare some pixels with constants and switch the answer leave every
weight as it was: "architectural" backdoors (Bober-Irizar et al., CVPR 2023; Langford et al., ICLR 2025), ShadowLogic
(HiddenLayer, 2024). Networks decide by many values at once behind many weights; what is told here decides by few values,
before weights, or by what is no picture at all.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.interface import Interface
from onnx_shapprune.graph.passes.ends import FLOATS
from onnx_shapprune.graph.provenance.flow import Flow, Provenance, follow, label, value_inputs
from onnx_shapprune.graph.provenance.normalisations import FEW
from onnx_shapprune.graph.provenance.operators import (
    ARRANGES,
    ASKS_SHAPE,
    BY_NUMBER,
    COMPARES,
    LAYERS,
    ROUNDS,
    SAME_EVERYWHERE,
    SLOPES,
    SUMS,
    WITHOUT_END,
)
from onnx_shapprune.graph.provenance.spread import spread
from onnx_shapprune.graph.provenance.ways import branches, late

COARSE = 1 << 16  # beside so large a number float32 has steps of more than a byte of a picture
# Slopes of activations: those of 167 PRelu in files at hand reach 1. Steeper ones may be steep together. 2026-11-29, chosen.
STEEP, STEEP_TOGETHER = 2.0, 10.0
LISTS = 4  # times the scores: what another output of layers of its own holds at most that may be scores as well
LISTED = 4  # nodes that a finding names
# What exporters do as well. Of the other rules each can change an answer by itself, or hide that something does.
HARMLESS = frozenset({"OSP217", "OSP218", "OSP219"})


@dataclass(frozen=True, slots=True)
class Oddity:
    """rule: an id of the table of rules; nodes: where it is, by name; text: what it is and why it matters, in words."""

    rule: str
    nodes: tuple[str, ...]
    text: str


def graph_doubt(found: Sequence[Oddity]) -> str | None:
    """Why a graph with these must not pass, however clean its searches are; None where nothing speaks against it."""
    grave = next((o for o in found if o.rule not in HARMLESS), None)
    if grave is None:
        return None
    return f"the graph can change the answer by itself ({grave.rule}): {grave.text}"


def provenance_of(model: onnx.ModelProto, interface: Interface) -> Provenance:
    """The way of the picture through a file. Raises ModelError where its local functions cannot be written out."""
    entry: tuple[int | None, ...] = interface.entry or (interface.batch, *interface.dims)
    shape = tuple(d if d is None or d > 0 else None for d in entry)
    return follow(spread(model, interface.input, shape), interface.input, interface.output)


def oddities(model: onnx.ModelProto, interface: Interface) -> tuple[Oddity, ...]:
    """What a reviewer of this graph should know, gravest first. Raises ModelError as `provenance_of`."""
    return oddities_of(provenance_of(model, interface), [o.name for o in model.graph.output])


def oddities_of(p: Provenance, outputs: Sequence[str]) -> tuple[Oddity, ...]:
    """The same of a graph that was followed already. outputs: all of the file's, the audited one among them."""
    raw: list[onnx.NodeProto] = []
    narrow: list[onnx.NodeProto] = []
    behind: list[onnx.NodeProto] = []
    inside: list[onnx.NodeProto] = []
    for node in p.spread.nodes:
        if p.reaching.intersection(node.output) and _decides(node, p):
            kind = raw if _on_the_picture(node, p) else narrow if _few(node, p) else behind if late(node, p) else inside
            kind.append(node)
    found = []
    if raw:
        found.append(
            _told(
                "OSP210",
                raw,
                "decide by comparing or rounding values of the picture that hardly any weights "
                "lie before; a trigger in the graph does that",
            )
        )
    if narrow:
        found.append(_told("OSP211", narrow, "decide about a whole picture by a few values, and the scores follow"))
    if joining := branches(p):
        found.append(
            _told("OSP212", joining, "let a few values, made of the picture beside the network, reach the scores")
        )
    if behind:
        found.append(
            _told("OSP213", behind, "round or select the scores behind the last layer: their slopes may say nothing")
        )
    if sized := [n for n in p.spread.nodes if _counts_pictures(n, p)]:
        found.append(_told("OSP214", sized, "let the number of pictures in a batch reach the values of the scores"))
    if p.of(p.output).random:
        drawn = [n for n in p.spread.nodes if p.reaching.intersection(n.output) and _draws(n, p)]
        found.append(_told("OSP215", drawn, "draw at random whenever the model runs, and the scores follow"))
    if fine := [n for n in p.spread.nodes if _hides_in_double(n, p)]:
        found.append(
            _told(
                "OSP220",
                fine,
                "compute in float64 beside large numbers, or such as the graph computes: float32, in which the audit "
                "computes, may lose what the file sees",
            )
        )
    if bent := list(_bent(p)):
        found.append(
            _told(
                "OSP221",
                bent,
                "multiply on one side of a bend, or without an end, what they leave as it is on the other: what pictures "
                "never reach may wait there",
            )
        )
    found += _unaudited(p, outputs)
    found += _odd_classes(p)
    if inside:
        found.append(_told("OSP219", inside, "decide single values inside the network; no gradient passes there"))
    return tuple(found)


def _told(rule: str, nodes: list[onnx.NodeProto], what: str) -> Oddity:
    names = [f"{n.op_type} {label(n)!r}" for n in nodes[:LISTED]]
    more = f" and {len(nodes) - LISTED} more" if len(nodes) > LISTED else ""
    return Oddity(rule, tuple(label(n) for n in nodes), f"{', '.join(names)}{more}: {what}")


def _seen(node: onnx.NodeProto, p: Provenance) -> list[Flow]:
    return [f for name in value_inputs(node, p) if (f := p.of(name)).picture]


def _decides(node: onnx.NodeProto, p: Provenance) -> bool:
    """Whether a node turns what the picture shows into one of a few values, so that small changes jump or vanish."""
    seen = _seen(node, p)
    if not seen:
        return False
    if node.op_type == "Cast":
        to = edit.attributes(node).get("to")
        whole = to not in FLOATS
        return whole and not _is_decided(node.input[0], p)
    if node.op_type == "CastLike":
        return p.spread.types.get(node.input[1]) not in FLOATS and not _is_decided(node.input[0], p)
    if node.op_type == "TopK" and len(node.output) > 1 and node.output[1] not in p.reaching:
        return False  # the values themselves are as smooth as a maximum
    if node.op_type in ("MaxPool",):
        return len(node.output) > 1 and node.output[1] in p.reaching
    return node.op_type in COMPARES | ROUNDS


def _is_decided(name: str, p: Provenance) -> bool:
    """Whether a tensor is the direct result of a decision that is told already."""
    made = p.made.get(name)
    return made is not None and made.op_type in COMPARES | ROUNDS | {"Not", "And", "Or", "Xor"}


def _on_the_picture(node: onnx.NodeProto, p: Provenance) -> bool:
    depth = min(f.depth for f in _seen(node, p))
    if depth:
        # An activation written with Where has one threshold for all values; whole numbers in masks have many.
        rest = [n for n in node.input if n and not p.of(n).picture]
        alike = all((p.spread.size(n) or 2) == 1 for n in rest)
        return depth == 1 and node.op_type in COMPARES and not (node.op_type in SAME_EVERYWHERE and alike)
    return True


def _few(node: onnx.NodeProto, p: Provenance) -> bool:
    """Whether its result is a few values per picture; what is not known counts."""
    return any(p.of(o).width <= FEW or p.spread.size(o) is None for o in node.output if o in p.reaching)


def _counts_pictures(node: onnx.NodeProto, p: Provenance) -> bool:
    """Whether a number of pictures is computed with beside values of the picture, or selects among them."""
    if not p.reaching.intersection(node.output) or not _seen(node, p):
        chooses = node.op_type in ("If", "Where") and p.of(node.input[0]).batch
        return chooses and not _is_no_size(node.input[0], p)
    by_number = {1} if node.op_type in BY_NUMBER else set()  # each picture's own values are read that way
    numbered = {n for place, n in enumerate(node.input) if p.of(n).numbered and place not in by_number}
    return any((p.of(n).batch or n in numbered) and not p.of(n).picture for n in value_inputs(node, p))


def _hides_in_double(node: onnx.NodeProto, p: Provenance) -> bool:
    """Whether a node adds numbers to what is of the picture, in float64, beside which float32 would lose that."""
    read = [n for n in node.input if n]
    if node.op_type not in SUMS or not p.reaching.intersection(node.output):
        return False
    fine = any(p.of(n).picture and p.spread.types.get(n) == onnx.TensorProto.DOUBLE for n in read)
    return fine and any(_is_large(n, p) for n in read if not p.of(n).picture)


def _bent(p: Provenance) -> list[onnx.NodeProto]:
    """Activations on the picture's way that are far steeper somewhere than those of networks, one of them or together."""
    slopes = [(n, _steepest(n, p)) for n in p.spread.nodes if p.reaching.intersection(n.output) and _seen(n, p)]
    steep = [(n, s) for n, s in slopes if s > STEEP]
    return [n for n, _ in steep] if math.prod(s for _, s in steep) > STEEP_TOGETHER else []


def _steepest(node: onnx.NodeProto, p: Provenance) -> float:
    """The largest slope of an activation, without its sign; 0 of other operators."""
    given = edit.attributes(node)
    if node.op_type == "PRelu":
        slope = p.spread.array(node.input[1])
        return math.inf if slope is None else float(np.abs(slope.astype(np.float64)).max(initial=0))
    if node.op_type in SLOPES:
        return math.prod(abs(v) for name in SLOPES[node.op_type] if isinstance(v := given.get(name), float))
    return math.inf if node.op_type in WITHOUT_END else 0.0


def _is_large(name: str, p: Provenance) -> bool:
    """Whether a tensor that no picture enters may hold such numbers: stored ones are looked at."""
    array = p.spread.array(name)
    return array is None or bool(np.abs(array.astype(np.float64)).max(initial=0) >= COARSE)


def _is_no_size(name: str, p: Provenance) -> bool:
    """Whether sizes as they are get compared with negative numbers, as exporters do before an Expand: no number of pictures
    is one.
    """
    node = p.made.get(name)
    if node is None or node.op_type != "Equal":
        return False
    for one, other in (node.input, node.input[::-1]):
        numbers = p.spread.sizes.get(one)
        if numbers is not None and all(v is not None and v < 0 for v in numbers.reshape(-1).tolist()):
            return _are_sizes(other, p)
    return False


def _are_sizes(name: str, p: Provenance) -> bool:
    """Whether nothing but sizes and constants is put together in a tensor, and nothing is computed."""
    todo = [name]
    while todo:
        here = todo.pop()
        node = p.made.get(here)
        if here in p.spread.stored or (node is not None and node.op_type in ASKS_SHAPE):
            continue
        if node is None or node.op_type not in ARRANGES:
            return False
        todo += [n for n in node.input if n]
    return True


def _draws(node: onnx.NodeProto, p: Provenance) -> bool:
    return p.of(node.output[0]).random and not any(p.of(n).random for n in node.input)


def _unaudited(p: Provenance, outputs: Sequence[str]) -> Iterator[Oddity]:
    """Outputs beside the audited one that somebody may act on. What follows from the audited scores alone, or is of another
    size and on the way to them, or a map of the picture, is what exporters add.
    """
    scores = {p.output}
    for node in p.spread.nodes:
        seen = [n for n in node.input if p.of(n).picture]
        if seen and all(n in scores for n in seen):
            scores.update(node.output)
    for name in outputs:
        if name in scores or not p.of(name).picture:
            continue
        size, audited = p.spread.size(name), p.spread.size(p.output)
        maker = p.made.get(name)
        where = label(maker) if maker is not None else name
        beside = _has_layers_of_its_own(name, p) and (size is None or audited is None or size <= LISTS * audited)
        few = size is None or size <= FEW or size == audited or beside
        list_of_its_own = name not in p.reaching and len(p.spread.shapes.get(name, ())) <= 2
        if list_of_its_own or (few and not (name in p.reaching and _ends_in(name, p))):
            yield Oddity(
                "OSP216",
                (where,),
                f"output {name!r} of {where!r} is made of other values than the audited scores {p.output!r}: "
                "nobody audits it; audit it too with --output-name",
            )


def _has_layers_of_its_own(name: str, p: Provenance) -> bool:
    """Whether layers make a tensor that the audited scores are not made of."""
    todo, seen = [name], set[str]()
    while todo:
        here = todo.pop()
        node = p.made.get(here)
        if here in seen or here in p.reaching or node is None:
            continue
        seen.add(here)
        if node.op_type in LAYERS and any(p.of(n).picture for n in node.input):
            return True
        todo += [n for n in node.input if n]
    return False


def _ends_in(name: str, p: Provenance) -> bool:
    """Whether the audited scores are made of this tensor and of nothing else."""
    mine = {name}
    for node in p.spread.nodes:
        seen = [n for n in node.input if p.of(n).picture]
        if seen and all(n in mine for n in seen):
            mine.update(node.output)
    return p.output in mine


def _odd_classes(p: Provenance) -> Iterator[Oddity]:
    """Classes that are put beside the network's own: constants, or copies of a score."""
    here = p.output
    for _ in range(16):  # the ends of a network are short
        node = p.made.get(here)
        if node is None or not node.input:
            return
        if node.op_type == "Pad" and p.behind.get(here) == 0:
            yield Oddity("OSP217", (label(node),), f"Pad {label(node)!r}: adds scores that no picture changes")
        if node.op_type == "Concat":
            parts = list(node.input)
            if any(not p.of(n).picture or _nothing_left(n, p) for n in parts):
                yield Oddity("OSP217", (label(node),), f"Concat {label(node)!r}: adds scores that no picture changes")
            if any(_picks(n, set(parts), p) for n in parts):
                yield Oddity("OSP218", (label(node),), f"Concat {label(node)!r}: puts a score there twice")
        following = [n for n in node.input if p.of(n).picture]
        if len(following) != 1:
            return
        here = following[0]


def _nothing_left(name: str, p: Provenance) -> bool:
    """Whether it is made by a multiplication by zeros, perhaps behind a shift."""
    for _ in range(3):
        node = p.made.get(name)
        if node is None:
            return False
        stored = [p.spread.values.get(n) for n in node.input]
        if node.op_type == "Mul" and any(v is not None and not v.any() for v in stored):
            return True
        if node.op_type not in ("Add", "Sub", "Identity"):
            return False
        name = next((n for n in node.input if p.of(n).picture), "")
    return False


def _picks(name: str, beside: set[str], p: Provenance) -> bool:
    for _ in range(3):
        node = p.made.get(name)
        if node is None:
            return False
        if node.op_type in ("Gather", "Slice", "Split") and node.input[0] in beside:
            return True
        if node.op_type not in ("Add", "Sub", "Identity", "Mul"):
            return False
        name = next((n for n in node.input if p.of(n).picture), "")
    return False

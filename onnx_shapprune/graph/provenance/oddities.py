"""What in a graph can decide an answer by itself, each with the nodes that do it and the reason in words.

A backdoor need not be learnt. A few added nodes that compare some pixels with constants and switch the answer leave every
weight as it was: "architectural" backdoors (Bober-Irizar et al., CVPR 2023; Langford et al., ICLR 2025), ShadowLogic
(HiddenLayer, 2024). Networks decide by many values at once behind many weights; what is told here decides by few values,
before weights, or by what is no picture at all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.interface import Interface
from onnx_shapprune.graph.passes.ends import FLOATS
from onnx_shapprune.graph.provenance.flow import Flow, Provenance, follow, label, value_inputs
from onnx_shapprune.graph.provenance.operators import BOUNDS, COMPARES, JOINS, ROUNDS, SAME_EVERYWHERE, STATISTICS
from onnx_shapprune.graph.provenance.spread import spread

FEW = 4  # values per picture that are a decision, and no features
HEAVIER = 4  # times the weights of a branch: what it joins is the network
DEEPER = 2  # layers more than a branch: the same
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
    late: list[onnx.NodeProto] = []
    inside: list[onnx.NodeProto] = []
    for node in p.spread.nodes:
        if p.reaching.intersection(node.output) and _decides(node, p):
            kind = raw if _on_the_picture(node, p) else narrow if _few(node, p) else late if _late(node, p) else inside
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
    if branches := list(_branches(p)):
        found.append(
            _told("OSP212", branches, "let a few values, made of the picture beside the network, reach the scores")
        )
    if late:
        found.append(
            _told("OSP213", late, "round or select the scores behind the last layer: their slopes may say nothing")
        )
    if sized := [n for n in p.spread.nodes if _counts_pictures(n, p)]:
        found.append(_told("OSP214", sized, "let the number of pictures in a batch reach the values of the scores"))
    if p.of(p.output).random:
        drawn = [n for n in p.spread.nodes if p.reaching.intersection(n.output) and _draws(n, p)]
        found.append(_told("OSP215", drawn, "draw at random whenever the model runs, and the scores follow"))
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
    return [f for name in value_inputs(node) if (f := p.of(name)).picture]


def _decides(node: onnx.NodeProto, p: Provenance) -> bool:
    """Whether a node turns what the picture shows into one of a few values, so that small changes jump or vanish."""
    seen = _seen(node, p)
    if not seen:
        return False
    if node.op_type == "Cast":
        to = edit.attributes(node).get("to")
        whole = to not in FLOATS
        return whole and not _is_decided(node.input[0], p)
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


def _late(node: onnx.NodeProto, p: Provenance) -> bool:
    return all(p.behind.get(o, 0) == 0 for o in node.output if o in p.reaching)


def _branches(p: Provenance) -> Iterator[onnx.NodeProto]:
    """Nodes at which a few values that owe the network nothing join it."""
    for node in p.spread.nodes:
        if node.op_type not in JOINS or not p.reaching.intersection(node.output):
            continue
        ways = [(n, f) for n in dict.fromkeys(value_inputs(node)) if (f := p.of(n)).picture]
        for name, flow in ways:
            for other, network in ways:
                apart = not flow.layers & network.layers
                lighter = (
                    HEAVIER * p.stored(flow.layers) < p.stored(network.layers) or network.depth >= flow.depth + DEEPER
                )
                # A few values anywhere; or as many as one likes, but behind everything that the network has learnt.
                few = flow.width <= FEW and (apart or flow.depth <= 1)
                late = apart and flow.depth <= 1 and network.depth > 1 and _late(node, p)
                raw = not flow.depth and not network.depth and flow.width <= FEW < network.width
                if name != other and ((lighter and (few or late)) or raw) and not _statistic(node, name, other, p):
                    yield node
                    break
            else:
                continue
            break


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
        step = p.made.get(next((str(n) for n in step.input if p.of(n).picture), ""))
    while whole is not None and whole.op_type in ("Cast", "Add"):
        whole = p.made.get(whole.input[0])
    if step is None or whole is None or step.op_type != "DynamicQuantizeLinear":
        return False
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
        for source in value_inputs(node):
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


def _counts_pictures(node: onnx.NodeProto, p: Provenance) -> bool:
    """Whether a number of pictures is computed with beside values of the picture, or selects among them."""
    if not p.reaching.intersection(node.output) or not _seen(node, p):
        return node.op_type in ("If", "Where") and any(p.of(n).batch for n in node.input[:1])
    return any(p.of(n).batch and not p.of(n).picture for n in value_inputs(node))


def _draws(node: onnx.NodeProto, p: Provenance) -> bool:
    return p.of(node.output[0]).random and not any(p.of(n).random for n in node.input)


def _unaudited(p: Provenance, outputs: Sequence[str]) -> Iterator[Oddity]:
    """Outputs beside the audited one that somebody may act on. What follows from the audited scores alone, or is of another
    size and on the way to them, is what exporters add.
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
        few = size is None or size <= FEW or size == audited
        if few and (name not in p.reaching or not _ends_in(name, p)):
            yield Oddity(
                "OSP216",
                (where,),
                f"output {name!r} of {where!r} is made of other values than the audited scores {p.output!r}: "
                "nobody audits it; audit it too with --output-name",
            )


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

"""What a normalisation makes of its own picture: a mean, a norm or an extreme that shifts or divides it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx

from onnx_shapprune.graph.provenance.flow import UNKNOWN, Provenance, value_inputs
from onnx_shapprune.graph.provenance.operators import BOUNDS, LAYERS, LINEAR, MOVES, REDUCES, STATISTICS

# Between values and their mean or deviation.
PLAIN = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Neg", "Abs", "Sqrt", "Sum", "Slice", "Split", "Concat"})
RISES = frozenset({"Sigmoid", "HardSigmoid", "Erf", "Clip"})  # once, with each value by itself
FEW = 4  # values per picture that are a decision, and no features


@dataclass(frozen=True, slots=True)
class Normalised:
    """A node that shifts or divides the tensor `other` by its `statistic`, both of which are made of `sources` alone. made:
    its result, or that behind sums with nothing else, as a mean may be taken off after the division.
    """

    node: onnx.NodeProto
    made: str
    statistic: str
    other: str
    sources: tuple[str, ...]


def normalised(met: Iterable[tuple[onnx.NodeProto, str, str]], p: Provenance) -> Iterator[Normalised]:
    """Which meetings of two ways are that, but for the steps of a dynamic quantisation: they are bounded as they are."""
    for node, name, other in met:
        if is_statistic(node, name, other, p) and not _rescales(node, name, other, p):
            bounded = node.op_type == "Div"
            mine, its = roots_beside(name, other, p, bounded), roots_of(other, p, bounded)
            its = mine if mine == frozenset({other}) else its
            if mine and its and name not in mine:
                made = _summed(node.output[0], mine | its, p)
                yield Normalised(node, made, name, other, _sources((name, other), mine | its, p))


def _summed(name: str, roots: frozenset[str], p: Provenance) -> str:
    """The last sum or difference behind a tensor on its only way, with what is made of these roots as well."""
    readers = [n for n in p.spread.nodes if name in n.input and p.reaching.intersection(n.output)]
    if len(readers) != 1 or readers[0].op_type not in ("Add", "Sub"):
        return name
    others = [roots_of(n, p, False) for n in value_inputs(readers[0], p) if n != name and p.of(n).picture]
    if any(not found or not found <= roots for found in others):
        return name
    return _summed(readers[0].output[0], roots, p)


def _sources(names: tuple[str, ...], roots: frozenset[str], p: Provenance) -> tuple[str, ...]:
    """The one tensor that all of them are made of, and that is no difference, quotient or product itself; else the roots."""
    order = {n: k for k, node in enumerate(p.spread.nodes) for n in node.output}
    front, fixed = set(names), frozenset(("Sub", "Div", "Mul", *MOVES))
    while front - roots:
        last = max(front - roots, key=lambda n: order[n])
        made = p.made[last]
        if len(front) == 1 and made.op_type not in fixed and last not in names[:1]:
            return (last,)
        front.remove(last)
        front.update(n for n in value_inputs(made, p) if p.of(n).picture)
    return tuple(sorted(front))


def is_statistic(node: onnx.NodeProto, name: str, other: str, p: Provenance) -> bool:
    """Whether one is a mean, a norm or the like of the other, by which it is shifted or divided: a normalisation. What it
    normalises is none of itself.
    """
    if node.op_type not in ("Sub", "Div", "Mul"):
        return False
    if _rescales(node, name, other, p):
        return True
    if not is_whole(name, p):
        return False
    bounded = node.op_type == "Div" and node.input[1] == name
    mine, its = roots_beside(name, other, p, bounded), roots_of(other, p, bounded)
    return mine == frozenset({other}) or (mine is not None and its is not None and mine <= its)


def _rescales(node: onnx.NodeProto, name: str, other: str, p: Provenance) -> bool:
    """Whether one is the step in which the other was quantised as it came, as dynamic quantisation writes it."""
    if node.op_type != "Mul":
        return False
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
        return quantises(p.made.get(back.input[0]), step)
    return whole.op_type in ("ConvInteger", "MatMulInteger") and step.output[0] in whole.input


def roots_of(name: str, p: Provenance, bounded: bool, end: str = "") -> frozenset[str] | None:
    """Tensors that it is a statistic of, activations that are products among them; None where it is made as no mean, norm or
    extreme is: before many values become one they are shifted and scaled by single numbers, and last of all bent no more
    than by a square or by leaving out the sign. A reciprocal there would be a peak, and an extreme of other extremes a
    search for a patch. end: a tensor behind which nobody looks.
    """
    todo, done, found = [(name, "", False)], {(name, "", False)}, set()
    allowed = STATISTICS | (BOUNDS if bounded else frozenset())
    while todo:
        here, becomes, touched = todo.pop()
        node = p.made.get(here)
        if node is None or here == end or node.op_type not in allowed or activated(node, p):
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


def roots_beside(name: str, other: str, p: Provenance, bounded: bool) -> frozenset[str] | None:
    """The same where it meets another tensor: that one, if it is a statistic of nothing else, as the norm of pooled features
    is by which those are divided.
    """
    near = roots_of(name, p, bounded, other)
    return near if near == frozenset({other}) else roots_of(name, p, bounded)


def activated(node: onnx.NodeProto, p: Provenance) -> str | None:
    """What GELU, SiLU or HardSwish is made of, where a node is one: a tensor times one rise of itself, single numbers."""
    if node.op_type != "Mul" or len(node.input) != 2:
        return None
    (first, rises), (second, more) = (_straight(str(n), p) for n in node.input)
    return first if first == second and rises + more == 1 else None


def _straight(name: str, p: Provenance) -> tuple[str, int]:
    """What a tensor is made of by single stored numbers and activations that rise, and how many of these there are."""
    rises = 0
    while (node := p.made.get(name)) is not None:
        inputs = list(value_inputs(node, p))
        seen = [str(n) for n in inputs if p.of(n).picture]
        single = all(p.spread.size(n) == 1 for n in inputs if n not in seen)
        if len(seen) != 1 or not single or node.op_type not in RISES | {"Add", "Sub", "Mul", "Div"}:
            break
        if node.op_type == "Div" and node.input[0] not in seen:
            break  # a pole
        rises += node.op_type in RISES
        name = seen[0]
    return name, rises


def _is_few(name: str, p: Provenance) -> bool:
    return (p.spread.size(name) or UNKNOWN) <= FEW


def _is_tame(node: onnx.NodeProto, seen: list[str], becomes: str, touched: bool, p: Provenance) -> bool:
    """Whether a node may stand before many values become one by an operator. touched: its result is changed before that."""
    if node.op_type in MOVES:
        return True
    if node.op_type in REDUCES:
        return (becomes in LINEAR and node.op_type in LINEAR) or (becomes in LINEAR | {node.op_type} and not touched)
    square = _is_square(node, p) if node.op_type == "Pow" else node.op_type == "Mul" and node.input[0] == node.input[1]
    if square or node.op_type == "Abs":
        return not touched and becomes != "ReduceMin"
    if node.op_type == "Div" and node.input[1] in seen and not _is_few(node.input[1], p):
        return False
    many = [n for n in seen if not _is_few(n, p)]
    return node.op_type in ("Add", "Sub", "Neg", "Sum") or (node.op_type in ("Mul", "Div") and len(many) <= 1)


def quantises(node: onnx.NodeProto | None, dynamic: onnx.NodeProto) -> bool:
    """Whether a QuantizeLinear does what a dynamic quantisation would."""
    return (
        node is not None
        and node.op_type == "QuantizeLinear"
        and list(node.input) == [dynamic.input[0], *dynamic.output[1:]]
    )


def is_whole(name: str, p: Provenance) -> bool:
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


def compares(name: str, other: str, p: Provenance) -> bool:
    """Whether a tensor adds up what is no mean or deviation of another one: a stored value for each pixel or channel, or
    anything that bends, comes before many values become one. What the other is made of does not count.
    """
    theirs, todo = {other}, [other]
    while todo:
        node = p.made.get(todo.pop())
        more = set(value_inputs(node, p)) - theirs if node is not None else set()
        theirs |= more
        todo += more
    ahead, done = [(name, False)], {(name, False)}
    while ahead:
        here, reduced = ahead.pop()
        node = p.made.get(here)
        if node is None or here in theirs:
            continue
        inputs = list(value_inputs(node, p))
        seen = [n for n in inputs if p.of(n).picture]
        if _is_softmax(node, p):
            seen, reduced = [p.made[node.input[0]].input[0]], True
        elif reduced and node.op_type not in MOVES | REDUCES:
            values = () if node.op_type in ("Split", "Slice") else inputs  # theirs are places
            stored = any((p.spread.size(n) or 2) > 1 for n in values if n not in seen)
            shares = node.op_type == "MatMul" and len(seen) == 2  # of attention
            if (
                stored
                or (node.op_type not in PLAIN and not shares)
                or (node.op_type == "Pow" and not _is_square(node, p))
            ):
                return True
        more_ahead = {(n, reduced or node.op_type in REDUCES) for n in seen} - done
        ahead += more_ahead
        done |= more_ahead
    return False


def _is_softmax(node: onnx.NodeProto, p: Provenance) -> bool:
    """Whether a node divides exponentials by their sum."""
    risen, summed = (p.made.get(n) for n in node.input[:2]) if len(node.input) == 2 else (None, None)
    return (
        node.op_type == "Div"
        and risen is not None
        and summed is not None
        and risen.op_type == "Exp"
        and summed.op_type == "ReduceSum"
        and summed.input[0] == node.input[0]
    )


def takes_back(node: onnx.NodeProto, statistic: str, p: Provenance) -> bool:
    """Whether a statistic may be the same for all pictures: what leaves no trace in a softmax, or the step of a dynamic
    quantisation, by which whole numbers become what they were; behind a Relu6 each picture has the same.
    """
    others = [n for n in value_inputs(node, p) if n != statistic]
    return _softens(node, statistic, p) or any(_rescales(node, statistic, other, p) for other in others)


def _softens(node: onnx.NodeProto, statistic: str, p: Provenance) -> bool:
    """Whether a node takes off the largest value in front of a softmax that is written out, which is the same without it:
    nobody else reads either, and the sum goes over the same axes as the largest.
    """
    largest = p.made.get(statistic)
    if node.op_type != "Sub" or node.input[1] != statistic or largest is None or largest.op_type != "ReduceMax":
        return False
    readers = {n: [r for r in p.spread.nodes if n in r.input] for n in (statistic, node.output[0])}
    if readers[statistic] != [node] or [r.op_type for r in readers[node.output[0]]] != ["Exp"]:
        return False
    (risen,) = readers[node.output[0]]
    after = [r for r in p.spread.nodes if risen.output[0] in r.input]
    sums = [r for r in after if r.op_type == "ReduceSum"]
    return (
        len(after) == 2
        and len(sums) == 1
        and any(_is_softmax(r, p) for r in after)
        and largest.input[0] == node.input[0]
        and _axes(largest, p) == _axes(sums[0], p) is not None
    )


def _axes(node: onnx.NodeProto, p: Provenance) -> tuple[int, ...] | None:
    """Stored axes of a reduction, None where they are not known."""
    stored = p.spread.values.get(node.input[1]) if len(node.input) > 1 else None
    return None if stored is None else tuple(int(axis) for axis in stored.reshape(-1))


def _is_square(node: onnx.NodeProto, p: Provenance) -> bool:
    power = p.spread.values.get(node.input[1])
    return power is not None and power.size == 1 and float(power.reshape(-1)[0]) == 2

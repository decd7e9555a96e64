"""What every tensor owes to the picture: how many weights lie between them, and through how narrow a place it came.

One walk over the nodes. Exporters' idioms are told from an attacker's additions by these few numbers: what a network has
learnt lies behind layers with weights, and a decision about the whole picture is a tensor of very few values.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.provenance.operators import ASKS_SHAPE, EACH, LAYERS, MOVES, RANDOM
from onnx_shapprune.graph.provenance.spread import Spread, spread

# Operator -> inputs of which only the size matters, or that say what shape the result has.
SHAPING = {
    "Reshape": (1,),
    "Expand": (1,),
    "ConstantOfShape": (0,),
    "Resize": (1, 2, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
# Operator -> inputs whose values say how many values come out; those of SHAPING do as well.
SIZING = {
    "NonZero": (0,),
    "Unique": (0,),
    "Compress": (1,),
    "NonMaxSuppression": (0, 1),
    "Slice": (1, 2),
    "Range": (0, 1, 2),
    "Pad": (1,),
    "TopK": (1,),
    "Split": (1,),
    "SplitToSequence": (1,),
    "If": (0,),
    "Loop": (0, 1),
}
# Of values that are the same for each picture anything else may count them, or take the last one. What Concat puts beside
# them must be taken off again.
COUNTS_NOTHING = frozenset(SHAPING) | MOVES | EACH | {"Concat"}
UNKNOWN = 1 << 30
MOST_AXES = 8  # of a tensor whose rank is not known


@dataclass(frozen=True, slots=True)
class Flow:
    """picture: whether it depends on what the picture shows; width: values per picture through the narrowest place, 0 where
    it does not; depth: fewest layers on a way from the picture; layers: bit k set where layer k is on any way.

    batch: its values depend on how many pictures there are; elements: which ones do, of a short list of sizes. Of what
    the picture does not enter, sized: its shape does, and its values are the same for each picture, or, numbered, the
    picture's number. random: drawn at run time. grown: how many values it has depends on what the picture shows.
    """

    picture: bool = False
    width: int = 0
    depth: int = 0
    layers: int = 0
    batch: bool = False
    elements: tuple[bool, ...] | None = None
    random: bool = False
    sized: bool = False
    numbered: bool = False
    grown: bool = False


@dataclass(slots=True)
class Provenance:
    """The walked graph. flows: by tensor; made: tensor -> node; weights: numbers stored in layer k; reaching: tensors whose
    values reach the scores; behind: tensor -> most layers between it and the scores.
    """

    spread: Spread
    input: str
    output: str
    flows: dict[str, Flow] = field(default_factory=dict)
    made: dict[str, onnx.NodeProto] = field(default_factory=dict)
    weights: list[int] = field(default_factory=list)
    reaching: set[str] = field(default_factory=set)
    behind: dict[str, int] = field(default_factory=dict)

    def of(self, name: str) -> Flow:
        return self.flows.get(name, Flow())

    def stored(self, layers: int) -> int:
        """Numbers stored in a set of layers."""
        return sum(w for k, w in enumerate(self.weights) if layers >> k & 1)


def followed(prepared: Prepared) -> Provenance:
    """The way of the picture through a working copy."""
    return follow(spread(prepared.model, prepared.input, (1, *prepared.input_shape)), prepared.input, prepared.logits)


def follow(flat: Spread, input_name: str, output: str) -> Provenance:
    """Walk from the picture to the scores and back."""
    found = Provenance(flat, input_name, output)
    found.flows[input_name] = Flow(picture=True, width=flat.size(input_name) or UNKNOWN)
    for node in flat.nodes:
        flow = _through(node, found)
        for name in node.output:
            if name:
                found.made[name] = node
                size = flat.size(name)
                found.flows[name] = flow if size is None or not flow.picture else _narrowed(flow, size)
    found.reaching = {output}
    found.behind = {output: 0}
    for node in reversed(flat.nodes):
        if not found.reaching.intersection(node.output):
            continue
        later = max((found.behind.get(name, 0) for name in node.output), default=0)
        later += any(found.of(n).picture for n in node.input) and _is_layer(node, found)
        for name in value_inputs(node, found):
            found.reaching.add(name)
            found.behind[name] = max(later, found.behind.get(name, 0))
    return found


def value_inputs(node: onnx.NodeProto, p: Provenance) -> Iterator[str]:
    """Inputs whose values, and not only their number, go into the result: a size that the picture makes is a value too."""
    if node.op_type in ASKS_SHAPE:
        yield from (name for name in node.input if p.of(name).grown)
        return
    sizes = SHAPING.get(node.op_type, ())
    yield from (name for place, name in enumerate(node.input) if name and (place not in sizes or p.of(name).picture))


def label(node: onnx.NodeProto) -> str:
    """What a reviewer finds a node by."""
    return str(node.name or next((o for o in node.output if o), "?"))


def _is_layer(node: onnx.NodeProto, found: Provenance) -> bool:
    return node.op_type in LAYERS and any(n and not found.of(n).picture for n in node.input[1:])


def _narrowed(flow: Flow, size: int) -> Flow:
    return replace(flow, width=min(size, flow.width))


def _through(node: onnx.NodeProto, found: Provenance) -> Flow:
    inputs = [found.of(name) for name in dict.fromkeys(value_inputs(node, found))]
    if node.op_type in ASKS_SHAPE:
        return _asked(node, found)
    seen = [f for f in inputs if f.picture]
    batch, elements = _sizes(node, found)
    if (
        node.op_type == "Range"
        and not seen
        and batch
        and not (found.of(node.input[0]).batch or found.of(node.input[2]).batch)
    ):
        return Flow(sized=True, numbered=True)  # number k is the same in a longer row
    random = _draws(node, found) or any(f.random for f in inputs)
    if not seen:
        asked = [found.of(node.input[k]) for k in SHAPING.get(node.op_type, ()) if k < len(node.input)]
        sized = any(f.sized for f in inputs) or any(f.batch for f in asked)
        counted = sized and node.op_type not in COUNTS_NOTHING
        numbered = any(f.numbered for f in inputs)
        return Flow(batch=batch or counted, elements=elements, random=random, sized=sized, numbered=numbered)
    layers, depth = 0, min(f.depth for f in seen)
    for f in seen:
        layers |= f.layers
    if _is_layer(node, found):
        operands = [n for n in node.input[1:] if n and not found.of(n).picture]
        layers |= 1 << len(found.weights)
        found.weights.append(sum(found.spread.size(n) or 0 for n in operands))
        depth += 1
    width = min(UNKNOWN, sum(f.width for f in seen))
    grown = any(f.grown for f in seen) or _grows(node, found)
    return Flow(True, width, depth, layers, batch or any(f.batch for f in inputs), None, random, grown=grown)


def _draws(node: onnx.NodeProto, found: Provenance) -> bool:
    """Whether a node draws when it runs: Dropout does in training mode, unless its stored switch says no."""
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        training = found.spread.values.get(node.input[2])
        return training is None or bool(training.any())
    return node.op_type in RANDOM


def _grows(node: onnx.NodeProto, found: Provenance) -> bool:
    """Whether what the picture shows says how many values a node makes."""
    places = [*SHAPING.get(node.op_type, ()), *SIZING.get(node.op_type, ())]
    if node.op_type == "Loop":  # whether it goes on is the first result of its body, which was put behind its inputs
        places.append(len(node.input) - len(node.output) - 1)
    return any(found.of(node.input[k]).picture for k in places if k < len(node.input))


def _asked(node: onnx.NodeProto, found: Provenance) -> Flow:
    """Of Shape and Size: the first number is the batch where the tensor hangs on the picture."""
    source = found.of(node.input[0])
    if source.grown:
        return replace(source, width=1, elements=None)
    if source.sized:
        return Flow(batch=True)
    if not source.picture:
        return Flow()
    if node.op_type == "Size":
        return Flow(batch=True)
    rank = len(found.spread.shapes.get(node.input[0], ())) or MOST_AXES
    attributes = edit.attributes(node)
    start, end = (int(str(attributes.get(name, given))) for name, given in (("start", 0), ("end", rank)))
    elements = tuple(axis == 0 for axis in range(rank))[start:end]
    return Flow(batch=any(elements), elements=elements)


def _sizes(node: onnx.NodeProto, found: Provenance) -> tuple[bool, tuple[bool, ...] | None]:
    """Whether the values hang on the batch, and which ones, where a list of sizes is taken apart or put together."""
    inputs = [found.of(n) for n in value_inputs(node, found)]
    dependent = any(f.batch for f in inputs)
    first = inputs[0].elements if inputs else None
    if not dependent:
        return False, None
    if node.op_type in ("Cast", "Identity", "Unsqueeze", "Squeeze") and first is not None:
        return dependent, first
    if node.op_type == "Gather" and first is not None and len(node.input) > 1:
        index = found.spread.values.get(node.input[1])
        if index is not None and np.all(np.abs(index.astype(float)) <= len(first) - (index.astype(float) >= 0)):
            kept = tuple(first[int(i)] for i in index.reshape(-1))
            return any(kept), kept
    if node.op_type == "Slice" and first is not None and len(node.input) > 2:
        bounds = [found.spread.values.get(n) for n in node.input[1:3]]
        if all(b is not None and b.size == 1 for b in bounds) and len(node.input) < 5:
            start, end = (int(b.reshape(-1)[0]) for b in bounds if b is not None)
            return any(first[start:end]), first[start:end]
    if node.op_type == "Concat":
        parts: list[bool] = []
        for name in node.input:
            flow, size = found.of(name), found.spread.size(name)
            parts += list(flow.elements) if flow.elements is not None else [flow.batch] * (size or 1)
        return any(parts), tuple(parts)
    return dependent, None

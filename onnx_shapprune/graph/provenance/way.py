"""The way of the picture through a graph in one sentence, for a reviewer who has not opened it."""

from onnx_shapprune.graph.provenance.flow import Provenance, label
from onnx_shapprune.graph.provenance.operators import LAYERS

NAMED = 6  # nodes behind the last layer that are named


def way(p: Provenance) -> str:
    """Where the picture goes, through how many layers, and what is done to the scores behind the last of them."""
    scores = p.of(p.output)
    start = f"the picture goes from input {p.input!r} to output {p.output!r}"
    if not scores.picture:
        return f"{start} nowhere: the scores do not depend on it"
    on_the_way = [
        n for n in p.spread.nodes if p.reaching.intersection(n.output) and any(p.of(o).picture for o in n.output)
    ]
    layers = [n for n in on_the_way if n.op_type in LAYERS and any(i and not p.of(i).picture for i in n.input[1:])]
    text = f"{start} through {len(on_the_way)} nodes"
    if not layers:
        return f"{text}, none of them with weights"
    first, last = (f"{n.op_type} {label(n)!r}" for n in (layers[0], layers[-1]))
    text += f", {len(layers)} with weights, of which at least {scores.depth} on every way: {first} to {last}"
    behind = [
        n for n in on_the_way if n not in layers and all(p.behind.get(o, 0) == 0 for o in n.output if o in p.reaching)
    ]
    named = ", ".join(f"{n.op_type} {label(n)!r}" for n in behind[:NAMED])
    more = f" and {len(behind) - NAMED} more" if len(behind) > NAMED else ""
    return f"{text}; behind the last: {named}{more}" if behind else f"{text}; nothing behind the last"

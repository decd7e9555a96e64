"""Pixels that are singled out: bent in one place before the first layer, and not in another.

Whoever prepares pictures treats all pixels alike, or shifts and scales each by a number of its own, as a mean picture
does. A trigger in the graph needs both at once: numbers that differ from place to place, and a bend that leaves alone
whatever clean pictures show. Max(x, T) - T, times a hundred, is nothing until a corner pixel is white, where T is near white
there and far below black everywhere else.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from onnx_shapprune.graph.provenance.flow import Provenance, is_layer, value_inputs
from onnx_shapprune.graph.provenance.operators import CUTS, LAYS_ANEW, STRAIGHT
from onnx_shapprune.graph.sizes import INTEGERS

FEW = 4  # channels of a picture; and values of it that are no pixels any more
COARSE = 1 << 16  # what is added to the picture and taken off again leaves it in steps


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Of a tensor that shows single pixels. placed: whether numbers that differ from place to place went into it; part:
    whether it is cut out of a picture; anew: whether its axes are none of the picture's; bends: results that are no straight
    lines of a pixel; apart: of these and of joinings, the ones that bend one place unlike another.
    """

    placed: bool = False
    part: bool = False
    anew: bool = False
    bends: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()


def singled_out(p: Provenance) -> dict[str, frozenset[str]]:
    """Tensors that the first layers read of singled out pixels -> results of the nodes that do it."""
    known, found = {p.input: _Pixels()}, dict[str, frozenset[str]]()
    for node in p.spread.nodes:
        read = [n for n in dict.fromkeys(value_inputs(node, p)) if n in known]
        if not read or not p.reaching.intersection(node.output):
            continue
        if is_layer(node, p) and not _keeps_a_picture(node, p):
            found |= {n: known[n].apart for n in read if known[n].apart}
            continue
        made = _through(node, [known[n] for n in read], p)
        known |= {name: made for name in node.output if (p.spread.size(name) or FEW + 1) > FEW}
    end = known.get(p.output, _Pixels())
    return found | ({p.output: end.apart} if end.apart else {})


def _keeps_a_picture(node: onnx.NodeProto, p: Provenance) -> bool:
    """Whether a convolution makes no more channels than a picture has: to grey ones, or a blur."""
    shape = p.spread.shapes.get(node.input[1]) if node.op_type == "Conv" else None
    return bool(shape) and shape is not None and shape[0] is not None and shape[0] <= FEW


def _through(node: onnx.NodeProto, read: list[_Pixels], p: Provenance) -> _Pixels:
    seen = [n for n in node.input if p.of(n).picture]
    stored = [n for n in value_inputs(node, p) if not p.of(n).picture]
    anew = any(r.anew for r in read) or node.op_type in LAYS_ANEW
    placed = any(r.placed for r in read)
    of_channels = node.op_type == "BatchNormalization" and not anew
    if not is_layer(node, p) and not of_channels:
        placed |= any(_differs(n, p, anew=anew) for n in stored if p.spread.types.get(n) not in INTEGERS)
    part = node.op_type in CUTS or any(r.part for r in read)
    bent = node.op_type not in STRAIGHT or (node.op_type == "Div" and node.input[1] in seen)
    bent |= node.op_type == "Mul" and len(seen) > 1
    bent |= node.op_type in ("Add", "Sub") and any(is_coarse(n, p) for n in stored)
    apart = placed if bent else (placed or part) and len({r.bends for r in read}) > 1
    here = frozenset(node.output[:1])
    return _Pixels(
        placed,
        part,
        anew,
        frozenset[str]().union(*(r.bends for r in read), here if bent else ()),
        frozenset[str]().union(*(r.apart for r in read), here if apart else ()),
    )


def _differs(name: str, p: Provenance, *, anew: bool) -> bool:
    """Whether stored numbers differ from place to place, and not from channel to channel alone; what is not known does."""
    shape, array = p.spread.shapes.get(name), p.spread.array(name)
    if shape is None:
        return True
    axes = [k for k, d in enumerate(shape) if d != 1]
    if array is not None:
        axes = [k for k in axes if (array != array.take([0], axis=k)).any()]
    if len(axes) == 1 and not anew:
        length = shape[axes[0]]
        return length is None or length > FEW
    return bool(axes)


def is_coarse(name: str, p: Provenance) -> bool:
    """Whether a stored tensor is known to hold so large a number that float32 would leave steps of what it is added to."""
    array = p.spread.array(name)
    return array is not None and bool(np.abs(array.astype(float)).max(initial=0) >= COARSE)

"""Windows that round up, as windows that round down over more padding.

A last window that would start in the padding is left out when a pool runs, but shape inference counts it (onnx/onnx
4958): a gradient graph, in which sizes meet from both sides, then does not load. What is left out needs no rounding up at
all, and any other last window fits once the padding at the end is wide enough.
"""

import math
from collections.abc import Sequence

import onnx
from onnx import helper

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work
from onnx_shapprune.graph.passes.plain import ONE_INPUT
from onnx_shapprune.graph.sizes import inferred_shapes

POOLS = ("AveragePool", "MaxPool", "LpPool")


def round_down(model: onnx.ModelProto) -> None:
    """Rewrite every pool of known size that rounds up, in place, as far as padding can stand for that."""
    while (found := _first(model)) is not None:
        node, pads = found
        kept = [a for a in node.attribute if a.name not in ("ceil_mode", "pads")]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("pads", pads)])


def _first(model: onnx.ModelProto) -> tuple[onnx.NodeProto, list[int]] | None:
    """The first pool to rewrite, and its padding afterwards; sizes behind it are known only then."""
    waiting = [n for n in model.graph.node if n.op_type in POOLS and edit.attributes(n).get("ceil_mode")]
    if not waiting:
        return None
    shapes = inferred_shapes(model)
    for node in waiting:
        sizes = [d for d in shapes.get(node.input[0], ())[2:] if isinstance(d, int)]
        if sizes and (pads := _padding(node, sizes)):
            return node, pads
    return None


def _padding(node: onnx.NodeProto, sizes: Sequence[int]) -> list[int]:
    """Padding with which rounding down gives the same windows; empty where there is none."""
    given = edit.attributes(node)
    rank = len(sizes)

    def listed(name: str, default: int, count: int = rank) -> list[int]:
        value = given.get(name)
        return list(value) if isinstance(value, list) else [default] * count

    kernel, strides, steps = listed("kernel_shape", 0), listed("strides", 1), listed("dilations", 1)
    pads = listed("pads", 0, 2 * rank)
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or len(kernel) != rank or min(kernel) < 1:
        return []
    extra = []
    for i, size in enumerate(sizes):
        window, whole = steps[i] * (kernel[i] - 1) + 1, size + pads[i] + pads[i + rank]
        count = math.ceil((whole - window) / strides[i]) + 1
        count -= (count - 1) * strides[i] >= size + pads[i]  # it would start in the padding
        extra.append(max(0, (count - 1) * strides[i] + window - whole))
    ends = [pad + more for pad, more in zip(pads[rank:], extra, strict=True)]
    # Averages over padding count what was declared, and onnxruntime wants less padding than kernel.
    if any(extra) and (given.get("count_include_pad") or node.op_type == "LpPool"):
        return []
    return [] if any(end >= size for end, size in zip(ends, kernel, strict=True)) else [*pads[:rank], *ends]


def _rounded(work: Work) -> Work:
    round_down(work.model)
    return work


ROUNDED = Condition("no pool rounds up where padding can stand for that", lambda model: _first(model) is None)

POOL = Pass("pools", _rounded, (ONE_INPUT,), (ROUNDED,))

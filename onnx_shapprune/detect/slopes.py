"""What moves the scores and has no slope: a part of the network behind whole numbers, of which a gradient says nothing.

Masks of activations have no slope either, and need none: for a small change they stay as they are. So everything at which a
slope ends is held as it is while the picture changes a little. Of an honest network the answers then move as they would.
"""

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.autodiff.registry import NO_GRADIENT
from onnx_shapprune.case.subject import Floats, Pixels, Subject
from onnx_shapprune.detect.thresholds import HELD_STRIDE, HELD_WAYS, LEAST_MOVED, UNSLOPED
from onnx_shapprune.graph.mask import held_still
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.provenance.flow import followed
from onnx_shapprune.graph.provenance.operators import LAYERS
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Session

STEPS = ("QuantizeLinear", "DynamicQuantizeLinear")  # slopes go straight through them


def in_steps(prepared: Prepared) -> bool:
    """Whether most layers with weights read values in steps, as in a quantised network: one step somewhere is none."""
    if not any(node.op_type in STEPS for node in prepared.model.graph.node):
        return False
    p, stepped, layers = followed(prepared), set[str](), list[bool]()
    for node in p.spread.nodes:
        seen = [name for name in node.input if p.of(name).picture]
        if not seen or not p.reaching.intersection(node.output):
            continue
        through = all(name in stepped for name in seen)
        if node.op_type in LAYERS and any(name and name not in seen for name in node.input[1:]):
            layers.append(through)
        elif through or node.op_type in STEPS:
            stepped.update(node.output)
    return 2 * sum(layers) > len(layers)


def without_slope(subject: Subject, shown: Pixels, ways: Floats, rng: np.random.Generator) -> tuple[int, ...]:
    """Classes whose scores move by what has no slope, where pictures go a little along some ways."""
    prepared, classes = subject.prepared, list(subject.reachable)
    ends = _ends(prepared)
    if not ends:
        return ()
    held = prepared.model
    inputs = []
    for name in ends:
        held, still = held_still(held, name, prepared.infos[name])
        inputs.append(still)
    reading, passing = (Session(m, subject.device) for m in (expose(prepared.model, ends), held))
    # Off whole bytes: else steps could be laid so that no small change of a picture on disk ever takes one.
    shown = (shown + rng.uniform(-0.5, 0.5, shown.shape)).astype(np.float32)
    size = len(shown) if prepared.batch_free else 1
    whole, rest = [], []
    for start in range(0, len(shown), size):
        some = shown[start : start + size]
        values = reading.run({prepared.input: to_input(some, subject.preprocessing)}, ends)
        kept = dict(zip(inputs, values, strict=True))
        for way in ways[:HELD_WAYS]:
            up, down = (some + sign * HELD_STRIDE * way for sign in (1, -1))
            whole.append(subject.logits(up) - subject.logits(down))
            fed = ({prepared.input: to_input(x, subject.preprocessing), **kept} for x in (up, down))
            one, other = (passing.run(feeds, [prepared.logits])[0] for feeds in fed)
            rest.append(one - other)
    moved, left = (_apart(np.concatenate(z)[:, classes]) for z in (whole, rest))
    lost, size_of_all = (np.sqrt((d**2).sum(axis=0)) for d in (moved - left, moved))
    share = lost / np.maximum(size_of_all, LEAST_MOVED * size_of_all.max(initial=0) + np.finfo(float).tiny)
    return tuple(c for c, part in zip(classes, share, strict=True) if not part <= UNSLOPED)


def _apart(scores: Floats) -> NDArray[np.float64]:
    """What tells classes apart."""
    return np.asarray(scores - scores.mean(axis=1, keepdims=True), np.float64)


def _ends(prepared: Prepared) -> list[str]:
    """Tensors that are made of the picture, reach the scores and have no slope though what they are made of has one."""

    def real(name: str) -> bool:
        return name in prepared.infos and prepared.infos[name].dtype.kind == "f"

    candidates = [
        (node, name)
        for node in prepared.model.graph.node
        if node.op_type not in STEPS and any(map(real, node.input))
        for name in node.output
        if name in prepared.infos and (node.op_type in NO_GRADIENT or not real(name))
    ]
    candidates = [(node, name) for node, name in candidates if node.op_type not in ("Shape", "Size")]
    if not candidates:
        return []
    p = followed(prepared)
    return [
        name for node, name in candidates if name in p.reaching and any(real(n) and p.of(n).picture for n in node.input)
    ]

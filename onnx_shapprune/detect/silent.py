"""Ways past layers of the network that say nothing of any picture: what do they wait for?

A trigger may stand in the weights of a branch that has as many layers as the network and more weights, so that nothing in
the graph tells it from an ensemble. But it keeps still until it sees its trigger, and whatever an honest branch computes
makes a difference on clean pictures: where it is told what another picture would say, the scores move. A normalisation of
the picture is told what a paler one would say: pictures that all hold white have the same largest value.
"""

import numpy as np

from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.subject import Floats, Pixels, Subject
from onnx_shapprune.detect.thresholds import ALIKE, KEEPS_STILL, MAD_TO_SIGMA, PALER, PASSED_ON, SAYS_NOTHING
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.mask import held_still
from onnx_shapprune.graph.provenance.flow import follow, label
from onnx_shapprune.graph.provenance.spread import spread
from onnx_shapprune.graph.provenance.ways import ways
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Session


def silent_doubt(opened: Opened, pictures: Pixels) -> str | None:
    """Which way past the network says nothing of the pictures, in words; None where every one of them matters.

    pictures: clean ones, float32 [n, h, w, c] in 0..255.
    """
    subject = opened.subject
    prepared = subject.prepared
    p = follow(spread(prepared.model, prepared.input, (1, *prepared.input_shape)), prepared.input, prepared.logits)
    rows = np.unique(np.linspace(0, len(pictures) - 1, PASSED_ON).round().astype(int))
    shown = pictures[rows]
    fed, pale = (
        [to_input(x[None], subject.preprocessing) for x in xs] for xs in (shown, shown * PALER + 255 * PALER / 2)
    )
    every = [way for way in ways(p) if way.tensor in prepared.infos]
    alike = _alike(subject, [way.tensor for way in every if way.woven], fed)
    found = [way for way in every if not way.woven or way.tensor in alike]
    if not found:
        return None
    reading = Session(expose(prepared.model, [w.tensor for w in found]), subject.device)
    names = [prepared.logits, *(w.tensor for w in found)]
    said, said_pale = ([reading.run({prepared.input: x}, names) for x in xs] for xs in (fed, pale))
    classes = list(subject.reachable)
    scores = np.concatenate([each[0] for each in said])[:, classes]
    # The usual distance from the middle class: one class that is far away must not make every way look silent.
    usual = np.median(np.abs(scores - np.median(scores, axis=1, keepdims=True)), axis=1)
    spread_of_scores = MAD_TO_SIGMA * float(np.median(usual))
    for place, way in enumerate(found, 1):
        others = [each[place] for each in (said_pale if way.statistic else [said[-1], *said[:-1]])]
        limit = spread_of_scores * (SAYS_NOTHING if way.apart else KEEPS_STILL)
        model, still = held_still(prepared.model, way.tensor, prepared.infos[way.tensor])
        try:
            passing = Session(model, subject.device)
            runs = (
                passing.run({prepared.input: x, still: other}, [prepared.logits])[0][:, classes]
                for x, other in zip(fed, others, strict=True)
            )
            speaks = any(np.abs(got - want).max() > limit for got, want in zip(runs, scores[:, None], strict=True))
        except ModelError:
            continue  # its shape is another for every picture
        if not speaks:
            return (
                f"a way past the network says nothing of any picture (tensor {way.tensor[:80]!r}, which joins at "
                f"{way.node.op_type} {label(way.node)[:80]!r}): what it waits for is not known"
            )
    return None


def _alike(subject: Subject, names: list[str], fed: list[Floats]) -> frozenset[str]:
    """Tensors that hardly differ between the first picture and any other. Activations and norms make many ways that meet,
    and few of them are worth being asked.
    """
    if not names:
        return frozenset()
    reading, left = Session(expose(subject.prepared.model, names), subject.device), set(names)
    first = dict(zip(names, reading.run({subject.prepared.input: fed[0]}, names), strict=True))
    for x in fed[1:]:
        for name, value in zip(names, reading.run({subject.prepared.input: x}, names), strict=True):
            one, other = first[name].astype(np.float64), value.astype(np.float64)
            if one.shape != other.shape or np.abs(one - other).max(initial=0) > ALIKE * np.abs(one).max(initial=0):
                left.discard(name)
    return frozenset(left)

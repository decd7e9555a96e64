"""Ways past layers of the network that say nothing of any picture: what do they wait for?

A trigger may stand in the weights of a branch that has as many layers as the network and more weights, so that nothing
in the graph tells it from an ensemble. But it keeps still until it sees its trigger, and whatever an honest branch
computes makes a difference on clean pictures: where it is told what another picture would say, the scores move. What one
says another may take back, so such ways are told together as well. A normalisation of the picture is told what a paler
one would say: pictures that all hold white have the same largest value. It is one if it fades with the picture as means
and norms do, and has bounds (detect/bounds.py); anything else that stands there waits for something as well. What puts
other values in the place of those that are no number waits if values can become that, and all pictures would get one
answer.
"""

import math
from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.said import Said, read
from onnx_shapprune.case.subject import Floats, Pixels, Subject
from onnx_shapprune.detect.bounds import unbounded
from onnx_shapprune.detect.telling import Clean
from onnx_shapprune.detect.thresholds import (
    BENT,
    FADING,
    KEEPS_STILL,
    LARGE,
    PALER,
    PASSED_ON,
    SAYS_NOTHING,
    SPEAKS_OF,
)
from onnx_shapprune.detect.waking import decides
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.mask import held_still
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.provenance.flow import Provenance, followed, label
from onnx_shapprune.graph.provenance.normalisations import Normalised, takes_back
from onnx_shapprune.graph.provenance.operators import CONTROL
from onnx_shapprune.graph.provenance.ways import Way, may_fail, together, ways
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.pictures.spread import spread_over
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Session


def silent_doubt(opened: Opened, pictures: Pixels) -> str | None:
    """Which way past the network says nothing of the pictures, in words; None where every one of them matters.

    pictures: clean ones, float32 [n, h, w, c] in 0..255.
    """
    subject = opened.subject
    prepared = subject.prepared
    p = followed(prepared)
    rows = spread_over(len(pictures), PASSED_ON)
    shown = pictures[rows]
    fed, paler = (
        [to_input(x[None], subject.preprocessing) for x in xs] for xs in (shown, shown * PALER + 255 * PALER / 2)
    )
    every = list(ways(p))
    # What a round hands to the next one meets nothing in a body that is written out once.
    closed = [
        n for n in p.spread.nodes if n.op_type in CONTROL and any(p.of(o).picture for o in p.reaching & {*n.output})
    ]
    closed += [way.node for way in every if way.tensor not in prepared.infos]
    if closed:
        return _not_asked(label(closed[0]))
    classes = list(subject.reachable)
    for way in (way for way in every if way.mends):
        if _can_fail(way, p, prepared) and _settles(subject, way, fed, classes):
            return _doubt(way, "would give all pictures one answer if their values were no number")
    found = [way for way in every if not way.mends]
    if not found:
        return None
    statistics = {name for way in found if way.statistic for name in (way.tensor, *way.roots, *way.node.input)}
    names = sorted({prepared.logits, *(way.tensor for way in found), *statistics & prepared.infos.keys()})
    said = read(subject, names, fed)
    pale = read(subject, sorted(statistics.intersection(names)), paler if statistics else ())
    try:
        clean = Clean(subject, fed, said, classes, {way.tensor for way in found})
    except ModelError:
        return _not_asked(label(found[0].node))
    for asked in [*((way,) for way in found), *together(found)]:
        way, alone = asked[0], len(asked) == 1
        fades = alone and way.statistic and _fades(subject, way, said, pale)
        # What is taken or left, compares, or stands where a normalisation would and is none.
        switch = way.chosen or any(each.compares for each in asked) or (alone and way.far)
        limit = SAYS_NOTHING if switch else KEEPS_STILL
        needed = math.ceil(SPEAKS_OF * len(fed)) if not fades and (switch or (alone and way.statistic)) else 1
        try:
            moved = clean.moved([each.tensor for each in asked], pale if fades else [said[-1], *said[:-1]], limit)
            spoken_of = len(list(islice(filter(None, moved), needed)))  # the rest need not be run
            if spoken_of >= needed or (alone and takes_back(way.node, way.tensor, p)):
                continue
        except ModelError:  # its shape is another for every picture
            return _not_asked(label(way.node))
        if not alone or way.far or decides(subject, p, way, shown, np.random.default_rng(0)):
            with_others = "".join(f" together with {each.tensor[:80]!r}," for each in asked[1:])
            return _doubt(way, f"says nothing of {'most pictures' if spoken_of else 'any picture'}", with_others)
    loose = unbounded(subject, p, shown)
    return None if loose is None else _unbounded(loose)


def _doubt(way: Way, what: str, with_others: str = "") -> str:
    return (
        f"a way past the network {what} (tensor {way.tensor[:80]!r},{with_others} which joins at {way.node.op_type} "
        f"{label(way.node)[:80]!r}): what it waits for is not known"
    )


def _unbounded(item: Normalised) -> str:
    return (
        f"a way past the network changes pictures without the bounds of a normalisation (tensor {item.statistic[:80]!r}, "
        f"which joins at {item.node.op_type} {label(item.node)[:80]!r}): what it waits for is not known"
    )


def _not_asked(name: str) -> str:
    return f"what node {name[:80]!r} would do with another picture cannot be asked: it may wait for something"


def _fades(subject: Subject, way: Way, said: Sequence[Said], pale: Sequence[Said]) -> bool:
    """Whether a statistic changes with what it is of as means, deviations and norms do, on the way to a paler picture."""
    if way.tensor in way.roots or not way.roots or not all(root in said[0] for root in way.roots):
        return True  # of whole numbers and their step: the paler picture alone is told
    model = edit.copy_of(subject.prepared.model)
    edit.set_output(model.graph, way.tensor)
    held = {root: root for root in way.roots if root == subject.prepared.input}
    for root in way.roots:
        if root not in held:
            model, held[root] = held_still(model, root, subject.prepared.infos[root])
    edit.prune_dead(model.graph)
    try:
        session = Session(model, subject.device)
        for one, other in zip(said, pale, strict=True):
            if any(one[root].shape != other[root].shape for root in held):
                return False
            made = []
            for t in np.linspace(0, 1, FADING):
                feeds = {h: ((1 - t) * one[r] + t * other[r]).astype(one[r].dtype) for r, h in held.items()}
                made.append(session.run(feeds, [way.tensor])[0].astype(np.float64).ravel())
            if len({m.size for m in made}) > 1 or not _is_a_parabola(np.stack(made)):
                return False
    except ModelError:
        return False
    return True


def _is_a_parabola(values: NDArray[np.float64]) -> bool:
    """Whether values [steps, n], their squares, or one over them, are polynomials of degree two of the step."""
    powers = np.vander(np.linspace(0, 1, len(values)), 3)
    with np.errstate(all="ignore"):
        tried = (values, values**2, 1 / values, 1 / values**2)
    for made in tried:
        if np.isfinite(made).all():
            left = made - powers @ np.linalg.lstsq(powers, made, rcond=None)[0]
            if np.abs(left).max() <= BENT * np.ptp(made, axis=0).max():
                return True
    return False


def _can_fail(way: Way, p: Provenance, prepared: Prepared) -> bool:
    """Whether values before it may become infinite or no number."""
    partial, factors = may_fail(way.tensor, p)
    stored = [edit.array_of(t) for t in prepared.model.graph.initializer if t.name in factors]
    return partial or any(a.dtype.kind == "f" and not np.abs(a).max(initial=0) <= LARGE for a in stored)


def _settles(subject: Subject, way: Way, fed: Sequence[Floats], classes: Sequence[int]) -> bool:
    """Whether all pictures get one answer where it says that nothing is a number."""
    prepared = subject.prepared
    model, still = held_still(prepared.model, way.tensor, prepared.infos[way.tensor])
    try:
        reading, passing = (Session(m, subject.device) for m in (expose(prepared.model, [way.tensor]), model))
        given = (np.ones_like(reading.run({prepared.input: x}, [way.tensor])[0]) for x in fed)
        runs = (
            passing.run({prepared.input: x, still: g}, [prepared.logits])[0] for x, g in zip(fed, given, strict=True)
        )
        answers = {int(z[0, classes].argmax()) for z in runs}
    except ModelError:
        return False
    return len(answers) == 1

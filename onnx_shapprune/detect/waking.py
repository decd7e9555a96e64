"""Gates that are open for every picture: can one be woken, and would that decide the answer?

A gate of squeeze and excitation (Hu et al., arXiv:1709.01507) may have ended its training wide open: beyond the end of its
HardSigmoid it says nothing of any picture, and waits for nothing. But so does one that shuts for a trigger. Slopes lead to
either, once the flat parts of the activations are made straight. So gates are driven as far as pictures can drive them, this
way and that, and clean pictures are told what each of those would say. An honest gate changes an answer or two; one that
carries a trigger sends most pictures to one class.
"""

from collections.abc import Callable, Sequence

import numpy as np

from onnx_shapprune.case.said import read
from onnx_shapprune.case.subject import Floats, Labels, Pixels, Subject
from onnx_shapprune.detect.climbing import Slope
from onnx_shapprune.detect.thresholds import HARDLY, SWAYED, WAKING, WAYS_TO_WAKE
from onnx_shapprune.errors import ModelError, UnsupportedOpError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.mask import held_still
from onnx_shapprune.graph.provenance.flow import Provenance
from onnx_shapprune.graph.provenance.gates import gate_of, layer_before
from onnx_shapprune.graph.provenance.ways import Way
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Session


def decides(subject: Subject, p: Provenance, way: Way, pictures: Pixels, rng: np.random.Generator) -> bool:
    """Whether some picture makes a gate say what sends most of the others to one class; also True where that cannot be
    asked, or the way is no gate. pictures: clean ones, float32 [n, h, w, c] in 0..255.
    """
    gate = gate_of(way, p)
    if not gate:
        return True
    prepared = subject.prepared
    fed = [to_input(x[None], subject.preprocessing) for x in pictures]
    try:
        reading, answers = (
            Session(expose(prepared.model, [way.tensor]), subject.device),
            _told(subject, way.tensor, fed),
        )
        usual = np.array([int(subject.logits(x[None])[0].argmax()) for x in pictures], np.int64)
        if _one_channel_decides(subject, p, gate, fed, usual):
            return True
        for driven in _driven(subject, way, gate, pictures, rng):
            (value,) = reading.run({prepared.input: to_input(driven[None], subject.preprocessing)}, [way.tensor])
            if sways(usual, answers([value] * len(fed))):
                return True
    except (ModelError, UnsupportedOpError):
        return True
    return False


def _one_channel_decides(
    subject: Subject, p: Provenance, gate: Sequence[str], fed: Sequence[Floats], usual: Labels
) -> bool:
    """Whether it sways most pictures if one channel, that clean pictures hardly move, is at one place what its layer could
    make of values as large as theirs: no slope need lead there. Also True where that is not known.
    """
    prepared, squeezed, layers = subject.prepared, gate[-1], layer_before(gate, p)
    read_there = {n for node in layers for n in node.input}
    stored = {t.name: edit.array_of(t) for t in prepared.model.graph.initializer if t.name in read_there}
    if not layers or layers[0].input[1] not in stored:
        return True
    data, made = layers[0].input[0], p.made[squeezed].input[0]
    said = read(subject, sorted({data, made, squeezed}), fed)
    weights = stored[layers[0].input[1]]
    reach = np.abs(weights).reshape(len(weights), -1).sum(1) * max(float(np.abs(v[data]).max()) for v in said)
    for node in layers:  # a bias, and what a normalisation left
        for value in (stored[n].reshape(-1) for n in node.input if n in stored and stored[n].size in (1, len(weights))):
            reach = reach * np.abs(value) if node.op_type == "Mul" else reach + value
    if said[0][made].shape[:2] != (1, len(weights)) or said[0][squeezed].size != len(weights):
        return True  # channels stand elsewhere
    values = np.stack([v[made].reshape(len(weights), -1) for v in said])
    still_ones = np.flatnonzero(np.abs(values).max(axis=(0, 2)) < HARDLY * reach)
    answers = _told(subject, squeezed, fed)
    for channel in still_ones.tolist():
        more = np.zeros_like(said[0][squeezed])
        more.reshape(-1)[channel] = reach[channel] / values.shape[2]
        if sways(usual, answers([known[squeezed] + more for known in said])):
            return True
    return False


def _told(subject: Subject, tensor: str, fed: Sequence[Floats]) -> Callable[[Sequence[Floats]], Labels]:
    """Answers to pictures where a tensor is what each of them is told."""
    prepared = subject.prepared
    model, still = held_still(prepared.model, tensor, prepared.infos[tensor])
    session = Session(model, subject.device, optimize=False)

    def answers(told: Sequence[Floats]) -> Labels:
        runs = (
            session.run({prepared.input: x, still: value}, [prepared.logits])[0]
            for x, value in zip(fed, told, strict=True)
        )
        return np.array([int(z[0].argmax()) for z in runs], np.int64)

    return answers


def sways(usual: Labels, told: Labels) -> bool:
    """Whether a class gets so many of the answers that were others before that a trigger could be behind it."""
    return any((told[usual != c] == c).mean() >= SWAYED for c in np.unique(told) if (usual != c).any())


def _driven(
    subject: Subject, way: Way, gate: Sequence[str], pictures: Pixels, rng: np.random.Generator
) -> list[Pixels]:
    """Pictures that climb along the slopes of a gate without flat parts: all of its values up, all down, and at random."""
    return [x for at_best in (False, True) for x in _climbed(subject, way, gate, pictures, rng, at_best=at_best)]


def _climbed(
    subject: Subject, way: Way, gate: Sequence[str], pictures: Pixels, rng: np.random.Generator, *, at_best: bool
) -> list[Pixels]:
    slope = Slope(subject, way.tensor, gate, at_best=at_best)
    shape = tuple(d or 1 for d in subject.prepared.infos[way.tensor].shape[1:])
    made = []
    for k in range(WAYS_TO_WAKE):
        wanted = np.full(shape, 1.0 - 2 * k) if k < 2 else rng.choice((-1.0, 1.0), shape)
        x = pictures[k % len(pictures)][None].astype(np.float32)
        for stride in np.linspace(WAKING[1], 2, WAKING[0]):
            x = slope.step(x, wanted[None], stride)
        made.append(x[0])
    return made

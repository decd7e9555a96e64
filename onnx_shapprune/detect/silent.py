"""Ways past the network that say nothing of any picture: what do they wait for?

A trigger may stand in the weights of a branch that has as many layers as the network and more weights, so that nothing in
the graph tells it from an ensemble. But it keeps still until it sees its trigger, and whatever an honest branch computes
makes a difference on clean pictures: where it is told what another picture would say, the scores move.
"""

import numpy as np

from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.subject import Pixels
from onnx_shapprune.detect.thresholds import MAD_TO_SIGMA, PASSED_ON, SAYS_NOTHING
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.mask import held_still
from onnx_shapprune.graph.provenance.flow import follow, label
from onnx_shapprune.graph.provenance.spread import spread
from onnx_shapprune.graph.provenance.ways import apart
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
    ways = {name: node for name, node in apart(p).items() if name in prepared.infos}
    if not ways:
        return None
    rows = np.unique(np.linspace(0, len(pictures) - 1, PASSED_ON).round().astype(int))
    fed = [to_input(pictures[r : r + 1], subject.preprocessing) for r in rows]
    reading = Session(expose(prepared.model, list(ways)), subject.device)
    said = [reading.run({prepared.input: x}, [prepared.logits, *ways]) for x in fed]
    classes = list(subject.reachable)
    scores = np.concatenate([each[0] for each in said])[:, classes]
    # The usual distance from the middle class: one class that is far away must not make every way look silent.
    usual = np.median(np.abs(scores - np.median(scores, axis=1, keepdims=True)), axis=1)
    limit = SAYS_NOTHING * MAD_TO_SIGMA * float(np.median(usual))
    for place, (name, node) in enumerate(ways.items(), 1):
        model, still = held_still(prepared.model, name, prepared.infos[name])
        try:
            passing = Session(model, subject.device)
            moved = [
                passing.run({prepared.input: x, still: other[place]}, [prepared.logits])[0]
                for x, other in zip(fed, [said[-1], *said[:-1]], strict=True)
            ]
        except ModelError:
            continue  # its shape is another for every picture
        if float(np.abs(np.concatenate(moved)[:, classes] - scores).max()) <= limit:
            return (
                f"a way past the network says nothing of any picture (tensor {name[:80]!r}, which joins at "
                f"{node.op_type} {label(node)[:80]!r}): what it waits for is not known"
            )
    return None

"""Can values leave fp16? Infinity is an answer that only a trigger may get, and working copies, in fp32, do not have it.

The file itself is asked, one picture at a time: clean ones, stripes and checks, and noise of black and white, in which most
small patterns stand somewhere. Honest networks stay orders of magnitude below, since one value too many costs their answer.
"""

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.subject import Pixels
from onnx_shapprune.detect.thresholds import HALF_ENDS, LARGE, NOISES, TRIGGERED
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.interface import fed
from onnx_shapprune.graph.passes.plain import in_half
from onnx_shapprune.graph.provenance.flow import followed
from onnx_shapprune.graph.provenance.ways import may_fail
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.probe import run_exposed

Array = NDArray[np.generic]


def half_doubt(opened: Opened, pictures: Pixels, rng: np.random.Generator) -> str | None:
    """Where values of fp16 come near its end, in words; None where they do not, and where nothing is fp16."""
    i, subject = opened.interface, opened.subject
    if i.dtype != "float16" and not in_half(opened.file.loaded):
        return None
    model = edit.inlined(opened.file.loaded)
    edit.set_output(model.graph, i.output)
    edit.prune_dead(model.graph)
    shown = np.concatenate([pictures[:TRIGGERED], _patterns(pictures.shape[1:], rng)])
    rows = to_input(shown, subject.preprocessing)
    first: dict[str, Array] = {}
    for values in run_exposed(model, [{i.input: fed(row[None], i)} for row in rows], subject.device):
        for name, value in values.items():
            # What is the same of every picture was stored: masks of attention are the lowest number that there is.
            if value.dtype == np.float16 and _near_its_end(value, first.setdefault(name, value)):
                return f"values can leave fp16 (tensor {name[:80]!r}): infinity is there for who waits for it"
    p = followed(subject.prepared)
    _, factors = may_fail(p.output, p)
    for tensor in subject.prepared.model.graph.initializer:
        if tensor.name in factors and not np.abs(edit.array_of(tensor).astype(np.float64)).max(initial=0) <= LARGE:
            return f"values can leave fp16 (they are multiplied by {tensor.name[:80]!r})"
    return None


def _near_its_end(value: Array, other: Array) -> bool:
    one, two = value.astype(np.float32), other.astype(np.float32)
    if one.shape != two.shape:
        two = np.zeros_like(one)
    return bool(((one != two) & ~(np.maximum(np.abs(one), np.abs(two)) <= HALF_ENDS)).any())


def _patterns(shape: tuple[int, ...], rng: np.random.Generator) -> Pixels:
    """Black, white, stripes and checks of one and two pixels, and noise of black and white, [n, h, w, c] in 0..255."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    plain = [0 * y, 0 * y + 1, *((each // size) % 2 for each in (y, x, y + x) for size in (1, 2))]
    noise = rng.integers(0, 2, (NOISES, *shape))
    return np.concatenate([np.repeat(np.stack(plain)[..., None], shape[2], axis=3), noise]).astype(np.float32) * 255

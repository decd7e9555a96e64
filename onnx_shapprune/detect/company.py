"""Is a picture among others what it is alone? Each step of the file is asked by itself, on noise.

A file can know how many pictures come at once, from a shape or from the pictures, and let its trigger work for one alone, as
users send them, and not for the many of a search. No clean picture is answered otherwise then, nor any trigger that a search
comes upon. But some step has to put a number of pictures beside values, or pictures together, and that shows on whatever it
is given.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.subject import Pixels
from onnx_shapprune.detect.half import Array, fed
from onnx_shapprune.detect.thresholds import COMPANY, COMPANY_NOISE, COMPANY_VALUES, OTHERWISE
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.mask import taken_apart
from onnx_shapprune.graph.provenance.flow import label
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.probe import TensorInfo, run_exposed
from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.runtime.weights import elsewhere, shell

if TYPE_CHECKING:  # onnx stays inside runtime/, graph/ and autodiff/
    import onnx

Values = Mapping[str, Array]


def company_doubt(opened: Opened, picture: Pixels, rng: np.random.Generator) -> str | None:
    """Which step makes something else of a picture among others, in words; None where none does, and where the file takes
    batches of one size. picture: a clean one, float32 [h, w, c] in 0..255.
    """
    i, p, weights = opened.interface, opened.followed, opened.file.loaded
    if i.batch is not None:
        return None
    model = edit.inlined(shell(weights, elsewhere))
    row = to_input(picture[None], opened.subject.preprocessing).astype(i.dtype)
    given = [{i.input: fed(np.repeat(row, count, axis=0), i)} for count in (1, COMPANY)]
    try:
        one, many = run_exposed(model, given, opened.subject.device, weights)
    except (ModelError, ValueError):
        return None  # a batch that fails gives nobody a wrong answer
    made = edit.producers(model.graph)
    both = p.reaching & one.keys() & many.keys()
    asked = [n for n in made if n in both and one[n].dtype.kind in "fb" and not p.of(n).random]
    axes = {n: _axis(one[n], many[n]) for n in asked}
    odd = next((n for n in asked if not _same(_repeated(one[n], axes[n]), many[n])), None)
    if odd is None:
        noisy = {n: one[n] for n in asked if one[n].dtype.kind == "f" and p.of(n).picture}
        infos = {n: TensorInfo(v.shape, v.dtype) for n, v in noisy.items()}
        apart = _Apart(*taken_apart(model, infos), infos, axes, given, opened.subject.device, weights)
        del many, noisy
        parts = _parts({n: one[n].size for n in asked})
        odd = next((n for part in parts for n in apart.differing(part, rng)), None)
    if odd is None:
        return None
    node = made[odd]
    return (
        f"{node.op_type} {label(node)[:80]!r} makes something else of a picture among others than of the same one alone: "
        "the file may know who is looking"
    )


@dataclass(frozen=True, slots=True)
class _Apart:
    """A file whose steps each read inputs of their own. inputs: of which tensors, and how these are called; infos: what
    these tensors are for one picture; axes: along which each grows with the pictures; given: one picture and several.
    """

    model: "onnx.ModelProto"
    inputs: dict[str, str]
    infos: dict[str, TensorInfo]
    axes: dict[str, int | None]
    given: Sequence[Values]
    device: Device
    weights: "onnx.ModelProto"

    def differing(self, names: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
        """Of these tensors the ones that are something else among others, when what they are made of is noise."""
        front = edit.copy_of(self.model)
        edit.set_output(front.graph, *names)
        edit.prune_dead(front.graph)
        try:
            session = Session(front, self.device, weights=self.weights)
            read = [n for n in self.inputs if self.inputs[n] in session.inputs]
            noise = {n: _noise(self.infos[n], rng) for n in read}
            one, many = (
                dict(zip(names, session.run(feeds, names), strict=True))
                for feeds in (
                    {**self.given[0], **{self.inputs[n]: v for n, v in noise.items()}},
                    {**self.given[1], **{self.inputs[n]: _repeated(v, self.axes[n]) for n, v in noise.items()}},
                )
            )
        except ModelError:  # some step does not run on noise: it alone is left
            for half in (names[: len(names) // 2], names[len(names) // 2 :]) if len(names) > 1 else ():
                yield from self.differing(half, rng)
            return
        yield from (n for n in names if not _same(_repeated(one[n], self.axes[n]), many[n]))


def _axis(one: Array, many: Array) -> int | None:
    """Along which axis a tensor grows with the pictures; None where it does not, or not by their number alone."""
    if one.ndim != many.ndim:
        return None
    grown = [k for k, (a, b) in enumerate(zip(one.shape, many.shape, strict=True)) if a != b]
    return grown[0] if len(grown) == 1 and many.shape[grown[0]] == COMPANY * one.shape[grown[0]] else None


def _repeated(one: Array, axis: int | None) -> Array:
    """What a tensor is for one picture, as often as it is shown."""
    return one if axis is None else np.concatenate([one] * COMPANY, axis=axis)


def _same(one: Array, many: Array) -> bool:
    """Whether two tensors are equal, but for rounding."""
    if one.shape != many.shape:
        return False
    a, b = one.astype(np.float64), many.astype(np.float64)
    each, most = OTHERWISE
    largest = float(np.abs(b[np.isfinite(b)]).max(initial=0))
    return bool(np.isclose(a, b, rtol=each, atol=most * largest, equal_nan=True).all())


def _noise(info: TensorInfo, rng: np.random.Generator) -> Array:
    shape = [d or 0 for d in info.shape]
    noise = rng.standard_normal(shape) * np.exp(COMPANY_NOISE * rng.standard_normal(shape))
    most = float(np.finfo(np.float16 if info.dtype == np.float16 else np.float32).max)
    return noise.clip(-most, most).astype(info.dtype)


def _parts(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Tensors in their order, few enough to be held at a time."""
    part, held = list[str](), 0
    for name, size in sizes.items():
        if part and held + size > COMPANY_VALUES:
            yield part
            part, held = [], 0
        part.append(name)
        held += size
    if part:
        yield part

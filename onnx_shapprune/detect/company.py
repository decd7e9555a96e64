"""Is a picture among others what it is alone? Each step of the file is asked by itself, on noise.

A file can know how many pictures come at once, from a shape or from the pictures, and let its trigger work for one alone, as
users send them, and not for the many of a search. No clean picture is answered otherwise then, nor any trigger that a search
comes upon. But some step has to put a number of pictures beside values, or pictures together, and that shows on whatever it
is given.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.subject import Pixels
from onnx_shapprune.detect.deployed import DeployedFile
from onnx_shapprune.detect.half import Array
from onnx_shapprune.detect.thresholds import ASKED, COMPANY, COMPANY_NOISE, COMPANY_VALUES, OTHERWISE
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.mask import taken_apart
from onnx_shapprune.graph.passes.batch import without_batch_constants
from onnx_shapprune.graph.provenance.flow import label
from onnx_shapprune.graph.scopes import operands
from onnx_shapprune.runtime.probe import TensorInfo, run_exposed
from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.runtime.weights import elsewhere, shell

if TYPE_CHECKING:  # onnx stays inside runtime/, graph/ and autodiff/
    import onnx

Values = Mapping[str, Array]
Way = tuple[int, int] | None  # how pictures lie in a tensor, as of _ways
BANK = 1 << 18  # values of noise, which are given again and again: to draw new ones takes longer than the steps
# The step that it rounds to is that of the largest value of all pictures, in honest files too.
OF_THE_BATCH = frozenset({"DynamicQuantizeLinear"})


def company_doubt(opened: Opened, pictures: Pixels, rng: np.random.Generator) -> str | None:
    """Which step makes something else of a picture among others, in words; None where none does, and where the file takes
    one picture at a time. Batches of another fixed size are opened. pictures: clean ones, float32 [n, h, w, c] in 0..255.
    """
    batch = opened.interface.batch
    if batch == 1:
        return None
    if batch is not None:
        opened = _with_an_open_batch(opened, pictures)
    p, file = opened.followed, DeployedFile(opened)
    shown = pictures[np.arange(COMPANY) % len(pictures)].round()
    given = [file.feeds(some) for some in (*shown[:, None], shown)]
    device, weights = opened.subject.device, opened.file.loaded
    model = edit.inlined(shell(weights, elsewhere))
    try:
        runs = run_exposed(model, [given[0], given[-1]], device, weights)
        one, many = ({name: TensorInfo(v.shape, v.dtype) for name, v in run.items()} for run in runs)
    except (ModelError, ValueError):
        if batch is not None:
            return (
                f"the file takes {batch} pictures at a time, and cannot be asked what it makes of each among the others"
            )
        # What fails gives nobody a wrong answer; but a file that fails where it is asked may know that it is.
        larger = file.together(np.repeat(shown[:1], ASKED, axis=0))
        return None if larger is None else f"a batch of {COMPANY} pictures fails, and one of {ASKED} does not"
    made, known = edit.producers(model.graph), p.reaching & one.keys() & many.keys()
    asked = {n: one[n] for n in made if n in known and one[n].dtype.kind in "fb" and not p.of(n).random}
    ways = {n: _ways(one[n].shape, many[n].shape) for n in asked}
    if merged := {n for n, found in ways.items() if len(found) > 1}:
        *alone, together = ({n: run[n] for n in merged} for run in run_exposed(model, given, device, weights))
        for n in merged:
            ways[n] = [w for w in ways[n] if _same(_joined([run[n] for run in alone], w), together[n])] or ways[n][:1]
        del alone, together
    # What is the same either way, as zeros are, says nothing of how pictures lie in it: it stays as it is.
    asked = {n: info for n, info in asked.items() if len(ways[n]) == 1}
    noisy = {n: info for n, info in asked.items() if info.dtype.kind == "f" and p.of(n).picture}
    lie = {n: ways[n][0] for n in asked}
    banks = [_bank(size, rng) for size in COMPANY_NOISE]
    steps = _Steps(*taken_apart(model, noisy), noisy, lie, given, banks, device, weights)
    for names in _parts(asked):
        for odd, why in steps.odd(names, rng):
            return f"{made[odd].op_type} {label(made[odd])[:80]!r} {why}: the file may know who is looking"
    return None


def _with_an_open_batch(opened: Opened, pictures: Pixels) -> Opened:
    """A file of a fixed batch as one that leaves it open."""
    file = edit.inlined(opened.file.loaded)
    model = without_batch_constants(file, DeployedFile(opened).feeds(pictures[:1]), opened.subject.device)
    for value in (*model.graph.input, *model.graph.output):
        if value.name in (opened.interface.input, opened.interface.output) and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.value_info[:]
    interface = replace(opened.interface, batch=None)
    return replace(opened, file=replace(opened.file, loaded=model), interface=interface)


@dataclass(frozen=True, slots=True)
class _Steps:
    """A file whose steps each read inputs of their own. inputs: of which tensors, and how these are called; infos: what
    these tensors are for one picture; lie: how pictures lie in each tensor; given: each picture alone, and all of them;
    banks: of noise.
    """

    model: "onnx.ModelProto"
    inputs: dict[str, str]
    infos: dict[str, TensorInfo]
    lie: dict[str, Way]
    given: Sequence[Values]
    banks: Sequence[Array]
    device: Device
    weights: "onnx.ModelProto"

    def odd(self, names: Sequence[str], rng: np.random.Generator) -> Iterator[tuple[str, str]]:
        """Of these tensors the ones that are something else among others, when what they are made of is noise, or are not
        made of it; and which it is, in words.
        """
        front = edit.copy_of(self.model)
        edit.set_output(front.graph, *names)
        edit.prune_dead(front.graph)
        read = {name for node in front.graph.node for name in operands(node)}
        inputs = [i for i in front.graph.input if i.name in read]
        del front.graph.input[:]
        front.graph.input.extend(inputs)
        shared = set[str]()
        for node in front.graph.node:
            if node.op_type in OF_THE_BATCH or shared.intersection(node.input):
                shared.update(node.output)
        try:
            session = Session(front, self.device, weights=self.weights)
            for bank in self.banks:
                *alone, together = (session.run(feeds, names) for feeds in self._noise(session, bank, rng))
                for name, *each, many in zip(names, *alone, together, strict=True):
                    if name not in shared and not _same(_joined(each, self.lie[name]), many):
                        yield name, "makes something else of a picture among others than of the same one alone"
        except ModelError:
            if len(names) == 1:
                yield names[0], "cannot be asked what it makes of a picture among others"
            for half in (names[: len(names) // 2], names[len(names) // 2 :]) if len(names) > 1 else ():
                yield from self.odd(half, rng)

    def _noise(self, session: Session, bank: Array, rng: np.random.Generator) -> Iterator[Values]:
        """What each picture is given alone, and all of them."""
        read = {name: own for name, own in self.inputs.items() if own in session.inputs}
        count = len(self.given) - 1
        noise = {
            n: [_noise(self.infos[n], bank, rng) for _ in range(count if self.lie[n] is not None else 1)] for n in read
        }
        inputs = [{n: v for n, v in each.items() if n in session.inputs} for each in self.given]
        for k in range(count):
            yield inputs[k] | {read[n]: values[k % len(values)] for n, values in noise.items()}
        yield inputs[-1] | {read[n]: _joined(values, self.lie[n]) for n, values in noise.items()}


def _ways(one: Sequence[int | None], many: Sequence[int | None]) -> list[Way]:
    """How the pictures may lie in a tensor that has these shapes for one and for all: None where it does not grow with them,
    or not by their number alone; else along which axis, and of how many parts of it each has one behind the other's.
    """
    grown = [k for k, (a, b) in enumerate(zip(one, many, strict=False)) if a != b]
    size = one[grown[0]] or 0 if len(one) == len(many) and len(grown) == 1 else 0
    if not size or many[grown[0]] != COMPANY * size:
        return [None]
    return [(grown[0], parts) for parts in range(1, size + 1) if size % parts == 0]


def _joined(each: Sequence[Array], way: Way) -> Array:
    """What a tensor is for all pictures, of what it is for each."""
    if way is None:
        return each[0]
    axis, parts = way
    before, size, behind = each[0].shape[:axis], each[0].shape[axis], each[0].shape[axis + 1 :]
    apart = [a.reshape(*before, parts, size // parts, *behind) for a in each]
    return np.stack(apart, axis=axis + 1).reshape(*before, len(each) * size, *behind)


def _same(one: Array, many: Array) -> bool:
    """Whether two tensors are equal, but for rounding."""
    if one.shape != many.shape:
        return False
    a, b = one.astype(np.float64), many.astype(np.float64)
    each, most = OTHERWISE
    largest = float(np.abs(b[np.isfinite(b)]).max(initial=0))
    return bool(np.isclose(a, b, rtol=each, atol=most * largest, equal_nan=True).all())


def _bank(size: float, rng: np.random.Generator) -> Array:
    """Noise of either sign about 1, so that whole numbers made of it are small ones and large ones; or huge, of one sign."""
    noise = rng.standard_normal(BANK) * np.exp(abs(size) + 3 * rng.standard_normal(BANK))
    return np.copysign(noise, size) if size else noise


def _noise(info: TensorInfo, bank: Array, rng: np.random.Generator) -> Array:
    shape = [d or 0 for d in info.shape]
    most = float(np.finfo(np.float16 if info.dtype == np.float16 else np.float32).max)
    return np.asarray(np.resize(bank[rng.integers(BANK // 2) :], shape).clip(-most, most), info.dtype)


def _parts(infos: Mapping[str, TensorInfo]) -> Iterator[list[str]]:
    """Tensors in their order, few enough to be held at a time."""
    part, held = list[str](), 0
    for name, info in infos.items():
        size = math.prod(d or 0 for d in info.shape)
        if part and held + size > COMPANY_VALUES:
            yield part
            part, held = [], 0
        part.append(name)
        held += size
    if part:
        yield part

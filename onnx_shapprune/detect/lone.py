"""Pixels that speak alone: something before the network says of one pixel in one grey what it says of no clean picture.

Whoever writes a trigger into a graph can have each pixel bent by itself, and let hardly anything of it show: numbers that
differ from place to place may stand in a constant, a padding, a normalisation of rows, or in the numbers by which pixels are
picked. But whatever does it, the file computes it. So one flat picture of each grey asks all pixels at once. Which pixel an
answer hangs on is read off pictures that hold the grey wherever a digit of the pixel's number is 1, and wherever it is 0. A
search would have to come upon such pixels by slopes that are not there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Floats, Labels, Pixels
from onnx_shapprune.detect.deployed import DeployedFile
from onnx_shapprune.detect.thresholds import (
    ASKED,
    LONE,
    LONE_CHANGED,
    LONE_DEPTH,
    LONE_GREYS,
    LONE_MOVED,
    LONE_RANGE,
    LONE_SHARE,
    LONE_SIZE,
    LONE_TENSORS,
    LONE_USUAL,
)
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.mask import held_still
from onnx_shapprune.graph.passes.ends import FLOATS
from onnx_shapprune.graph.provenance.normalisations import FEW
from onnx_shapprune.invert.thresholds import FIRED, IDLE
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.invert.written import Written
from onnx_shapprune.pictures.spread import spread_over
from onnx_shapprune.runtime.probe import TensorInfo
from onnx_shapprune.runtime.session import Session
from onnx_shapprune.runtime.weights import elsewhere, shell

if TYPE_CHECKING:  # onnx stays inside runtime/, graph/ and autodiff/
    import onnx

GREYS = 256


@dataclass(frozen=True, slots=True)
class Lone:
    """Pixels that speak alone. trigger: that paints them; tensor: in which they do; changed: the share of pictures, 0..1,
    that gets another answer with it; still: of these, the share that gets it also while the tensor says no more than of
    clean pictures; beside: the share that gets another answer with as many pixels elsewhere, at the least; usual, answers:
    to each picture, without and with it.
    """

    trigger: Trigger
    tensor: str
    changed: float
    still: float
    beside: float
    usual: Labels
    answers: Labels


def spoken_alone(opened: Opened, shown: Shown) -> tuple[Written | None, str | None]:
    """Pixels that speak alone and send the other pictures to one class; else a doubt, in words, where many get another
    answer.
    """
    doubt = None
    for lone in lone_pixels(opened, shown):
        if lone.changed < LONE_CHANGED or lone.still > IDLE:
            continue
        goal = int(np.bincount(lone.answers).argmax())
        asr = float((lone.answers[lone.usual != goal] == goal).mean()) if (lone.usual != goal).any() else 0.0
        if asr >= FIRED:
            return Written(replace(lone.trigger, goal=Goal(goal)), lone.tensor, asr, lone.still), None
        if lone.beside > LONE_CHANGED * lone.changed:
            continue  # these pictures are near to other classes: as many pixels anywhere do that
        doubt = (
            f"the graph itself answers to {lone.trigger.norm:.0f} pixels, each by itself: {lone.changed:.0%} of the "
            f"pictures get another answer, and {lone.still:.0%} of these also while tensor {lone.tensor[:80]!r} is held at "
            "what clean pictures make of it"
        )
    return None, doubt


def lone_pixels(opened: Opened, shown: Shown) -> Iterator[Lone]:
    """What the file does with pixels that speak alone, tensor by tensor. shown: pictures in front of the working copy."""
    pictures = shown.pictures[spread_over(len(shown), ASKED)].round()
    if opened.interface.batch not in (None, 1):
        return
    try:
        deployed = DeployedFile(opened)
        front = _Front(opened, deployed, pictures)
        usual, loud = deployed.scores(pictures).argmax(1), front.loud()
    except (ModelError, ValueError):
        return  # what cannot be run, or has another size for every picture, other checks say
    size = pictures.shape[1:3]
    for name in loud:
        try:
            if (trigger := front.painted(name)) is None:
                continue
            stamped = trigger.apply(pictures).round().astype(np.float32)
            answers = deployed.scores(stamped).argmax(1)
            changed = answers != usual
            still = (front.held(name, stamped) == answers)[changed].mean() if changed.any() else 0.0
            moved = (trigger.shifted(*(int(s * n) for s, n in zip(way, size, strict=True))) for way in LONE_MOVED)
            other = [deployed.scores(t.apply(pictures).round().astype(np.float32)).argmax(1) != usual for t in moved]
            beside = min(float(each.mean()) for each in other)
            yield Lone(trigger, name, float(changed.mean()), float(still), beside, usual, answers)
        except (ModelError, ValueError):
            continue


@dataclass(frozen=True, slots=True)
class _Usual:
    """What clean pictures make of a tensor. middle: of each value; ends: of all values but the outermost; loud: how far from
    its middle a value is that speaks alone.
    """

    middle: Floats
    ends: tuple[float, float]
    loud: float

    @classmethod
    def of(cls, clean: Floats) -> "_Usual":
        """clean: [pictures, values]."""
        middle, (low, high) = np.median(clean, axis=0), np.quantile(clean, LONE_USUAL)
        return cls(middle, (low, high), LONE * float(np.quantile(np.abs(clean - middle), LONE_USUAL[1])))


class _Front:
    """The front of the file, and clean pictures [n, h, w, c] of whole bytes. Sessions stand in for the weights, and stay."""

    def __init__(self, opened: Opened, deployed: DeployedFile, pictures: Pixels) -> None:
        self._opened, self._deployed, self._pictures = opened, deployed, pictures
        self._model = edit.inlined(shell(opened.file.loaded, elsewhere))
        self._sessions: dict[tuple[str, ...], Session] = {}
        names, most = self._near_the_picture(), LONE_SIZE * pictures[0].size
        clean = zip(*self._runs(names, pictures), strict=True) if names else ()
        self._usual = {n: _Usual.of(np.stack(v)) for n, v in zip(names, clean, strict=True) if v[0].size <= most}

    def _near_the_picture(self) -> list[str]:
        """Tensors that may still show single pixels: behind few layers, and no larger than the picture, or little."""
        p, size = self._opened.followed, self._pictures[0].size
        made = [n for node in p.spread.nodes for n in node.output if n in p.reaching and p.of(n).picture]
        few = [n for n in made if p.of(n).depth <= LONE_DEPTH and FEW < (p.spread.size(n) or size) <= LONE_SIZE * size]
        named = edit.producers(self._model.graph)
        return [n for n in few if n in named and p.spread.types.get(n) in FLOATS][:LONE_TENSORS]

    def loud(self) -> list[str]:
        """Tensors in which some place speaks of some grey as of no clean picture."""
        names, found = list(self._usual), set[str]()
        for said in self._runs(names, self._greys()) if names else ():
            found |= {
                n for n, v in zip(names, said, strict=True) if not self._speaks(n, v).max() <= self._usual[n].loud
            }
        return [n for n in names if n in found]

    def painted(self, name: str) -> Trigger | None:
        """The pixels that speak alone in a tensor, each in its grey; None where there are none."""
        shape, usual = self._pictures.shape[1:], self._usual[name]
        most, grey_of = np.zeros(usual.middle.shape, np.float32), np.zeros(usual.middle.shape, np.uint8)
        for grey, (said,) in enumerate(self._runs([name], self._greys())):
            here = self._speaks(name, said)
            grey_of[here > most] = grey
            np.maximum(most, here, out=most)
        often = sum(self._speaks(name, said) > most / 2 for (said,) in self._runs([name], self._greys()))
        # What rises all the way, as a pixel does that is divided by the little that it varies, slopes can find.
        loud = (most > usual.loud) & (often <= LONE_RANGE * GREYS)
        if not 0 < loud.mean() <= LONE_SHARE:
            return None
        mask, paint = np.zeros((*shape[:2], 1), np.float32), np.zeros(shape, np.float32)
        greys, counts = np.unique(grey_of[loud], return_counts=True)
        for grey in greys[np.argsort(-counts, kind="stable")[:LONE_GREYS]].tolist():
            pixels = self._pixels_of(name, np.flatnonzero(loud & (grey_of == grey)), grey)
            mask.reshape(-1)[pixels] = 1
            paint.reshape(-1, shape[2])[pixels] = grey
        return Trigger.replacing(mask, paint, Goal(0), "known") if 0 < mask.mean() <= LONE_SHARE else None

    def _pixels_of(self, name: str, places: NDArray[np.intp], grey: int) -> NDArray[np.int64]:
        """Pixels, by number, of which one alone makes one of these places speak in this grey."""
        base, loud = self._pictures[0], self._usual[name].loud
        numbers = np.arange(base.shape[0] * base.shape[1]).reshape(base.shape[:2])
        found, one = np.zeros(len(places), np.int64), np.ones(len(places), bool)
        for digit in range(int(numbers.max()).bit_length()):
            where = (numbers >> digit & 1 > 0)[..., None]
            asked = [np.where(w, np.float32(grey), base) for w in (where, ~where)]
            yes, no = (self._speaks(name, said)[places] > loud / 2 for (said,) in self._runs([name], asked))
            found, one = found + (yes.astype(np.int64) << digit), one & (yes ^ no)
        return np.unique(found[one & (found < numbers.size)])

    def held(self, name: str, stamped: Pixels) -> Labels:
        """Answers to pictures where a tensor stays within what it is for clean ones."""
        feeds = [self._deployed.feeds(x[None]) for x in stamped]
        values = [self._up_to([name]).run(f, [name])[0] for f in feeds]
        model, still = held_still(self._model, name, TensorInfo(values[0].shape, values[0].dtype))
        holding, output = self._opens(model), self._opened.interface.output
        told = (v.clip(*self._usual[name].ends).astype(v.dtype) for v in values)
        answers = (holding.run(f | {still: v}, [output])[0] for f, v in zip(feeds, told, strict=True))
        return np.concatenate([self._deployed.scores_of(z, 1).argmax(1) for z in answers])

    def _greys(self) -> Iterator[Pixels]:
        return (np.full(self._pictures.shape[1:], grey, np.float32) for grey in range(GREYS))

    def _speaks(self, name: str, said: Floats) -> Floats:
        beyond: Floats = said - self._usual[name].middle
        return np.abs(beyond, out=beyond)

    def _runs(self, names: Sequence[str], pictures: Iterable[Pixels]) -> Iterator[list[Floats]]:
        """Of each picture what tensors are, flat."""
        for x in pictures:
            values = self._up_to(names).run(self._deployed.feeds(x[None]), names)
            yield [v.reshape(-1).astype(np.float32, copy=False) for v in values]

    def _up_to(self, names: Sequence[str]) -> Session:
        """What makes these tensors, and nothing else."""
        if tuple(names) not in self._sessions:
            front = edit.copy_of(self._model)
            edit.set_output(front.graph, *names)
            edit.prune_dead(front.graph)
            self._sessions[tuple(names)] = self._opens(front)
        return self._sessions[tuple(names)]

    def _opens(self, model: "onnx.ModelProto") -> Session:
        return Session(model, self._opened.subject.device, weights=self._opened.file.loaded)

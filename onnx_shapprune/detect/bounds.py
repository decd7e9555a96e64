"""A normalisation bounds what it normalises, whatever it is shown: one that does not waits for a picture.

A minimum of the picture is 0 wherever one pixel is black, and so are many numbers that look like means. What is divided by
such a one near a pole, or loses many times as much, leaves all clean pictures alone. So whatever is shifted, divided or
multiplied by a statistic of its own is shown what no clean picture is: nearly flat ones from black to white, and ones with
far more contrast. There it may become no larger than usual, and no more may be taken off than there is. Where clean
pictures all have the same statistic, as with their largest value, nothing may be taken away either.

What is made of features, inside the network, is shown features that were changed so: no picture need lead there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from onnx_shapprune.case.said import Said, read
from onnx_shapprune.case.subject import Floats, Pixels, Subject
from onnx_shapprune.detect.thresholds import (
    BEYOND,
    BOUNDED,
    CONTRASTS,
    FEATURE_STEPS,
    FLAT_STEPS,
    GREYS,
    HARD_CONTRASTS,
    NOT_FLAT,
    SAME_STATISTIC,
    TAKEN_OFF,
)
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.mask import held_still
from onnx_shapprune.graph.provenance.flow import Provenance
from onnx_shapprune.graph.provenance.normalisations import Normalised, normalised
from onnx_shapprune.graph.provenance.ways import meetings
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.session import Session


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the sources of a normalisation are, and their contrast, as a share of a picture's."""

    values: Said
    contrast: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """What came out. largest: value; gain: that over the largest of what is normalised; beyond: how far what is taken off
    lies outside of what it is taken from; whole: whether that is as large as what the statistic is made of.
    """

    largest: float
    gain: float
    beyond: float
    whole: bool


def unbounded(subject: Subject, p: Provenance, pictures: Pixels) -> Normalised | None:
    """The first normalisation that makes something else of strange pictures than of these, which are clean."""
    infos = subject.prepared.infos
    found = [
        item
        for item in normalised(meetings(p), p)
        if all(name in infos and infos[name].dtype.kind == "f" for name in (*item.sources, *_tensors(item)))
    ]
    by_source = sorted(found, key=lambda item: item.sources)
    if not found:
        return None
    fed = [to_input(x[None], subject.preprocessing) for x in pictures]
    clean = read(subject, sorted({n for item in found for n in item.sources}), fed)
    greys = np.linspace(0, 255, GREYS, dtype=np.float32)
    flat = [to_input(np.full_like(pictures[:1, :1, :1], grey), subject.preprocessing) for grey in greys]  # of one pixel
    for sources, group in groupby(by_source, key=lambda item: item.sources):
        items = list(group)
        if any(not values[s].size for values in clean for s in sources):
            return items[0]
        try:
            session, held = _part(subject, sources, items)
        except ModelError:
            return items[0]
        levels = {s: flat if s == subject.prepared.input else _levels([v[s] for v in clean]) for s in sources}
        for item in items:  # what is strange is made anew for each: of large features all at once are gigabytes
            if not _holds(item, session, subject.prepared.input, held, clean, _strange(levels, clean)):
                return item
    return None


def _tensors(item: Normalised) -> tuple[str, str, str]:
    return item.made, item.other, item.statistic


def _part(subject: Subject, sources: Sequence[str], items: Sequence[Normalised]) -> tuple[Session, dict[str, str]]:
    """The nodes from the sources to what is normalised, and the inputs that stand for the sources."""
    prepared = subject.prepared
    model, held = edit.copy_of(prepared.model), dict[str, str]()
    for source in sources:
        if source == prepared.input:
            held[source] = source
        else:
            model, held[source] = held_still(model, source, prepared.infos[source])
    made = dict.fromkeys(n for item in items for n in _tensors(item) if n not in sources)
    edit.set_output(model.graph, *made)
    edit.prune_dead(model.graph)
    return Session(model, subject.device, optimize=False), held


def _holds(
    item: Normalised,
    session: Session,
    picture: str,
    held: dict[str, str],
    clean: Sequence[Said],
    strange: Iterable[_Shown],
) -> bool:
    """Whether one stays within its bounds; where it cannot be asked it does not."""
    names = [n for n in dict.fromkeys(_tensors(item)) if n not in held]

    def seen(values: Said) -> _Seen:
        made = session.run({picture: clean[0][picture]} | {h: values[n] for n, h in held.items()}, names)
        return _measured(item, dict(zip(names, made, strict=True)) | values, max(values[n].size for n in held))

    try:
        limits = _Limits.of(item, [seen(values) for values in clean])
        return all(limits.hold(seen(shown.values), shown.contrast) for shown in strange)
    except ModelError:
        return False


def _measured(item: Normalised, values: Said, size: int) -> _Seen:
    out, other, statistic = (values[n].astype(np.float64) for n in _tensors(item))
    if not out.size:
        return _Seen(0, 0, 0, whole=False)
    largest, of_other = np.abs(out).max(), np.abs(other).max()
    gain = largest / of_other if of_other else np.inf if largest else 0.0
    beyond = max(statistic.max() - other.max(), other.min() - statistic.min(), 0.0)
    return _Seen(float(largest), float(gain), float(beyond), other.size >= size)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What clean pictures allow. same: whether all of them have the same statistic; shifts: whether it is taken off."""

    largest: float
    least: float
    gain: float
    least_gain: float
    beyond: float
    same: bool
    shifts: bool

    @classmethod
    def of(cls, item: Normalised, usual: Sequence[_Seen]) -> "_Limits":
        gains, shifts = [s.gain for s in usual], item.node.op_type == "Sub"
        scale = max(s.largest / s.gain if s.gain and np.isfinite(s.gain) else 0.0 for s in usual)
        return cls(
            largest=BOUNDED * max(s.largest for s in usual),
            least=min(s.largest for s in usual) / BOUNDED,
            gain=BOUNDED * max(gains),
            least_gain=min(gains) / BOUNDED,
            beyond=max(s.beyond for s in usual) + TAKEN_OFF * scale,
            same=not shifts and max(gains) <= SAME_STATISTIC * min(gains),
            shifts=shifts,
        )

    def hold(self, seen: _Seen, contrast: float) -> bool:
        if contrast > 1 and not seen.whole:
            return True  # deviations, of which a statistic is made, grow with it
        if not np.isfinite(seen.largest):
            return contrast == 0  # nothing over nothing
        if seen.largest > self.largest and seen.gain > self.gain:
            return False
        if not seen.whole:
            return True
        if self.shifts and contrast <= 1 and seen.beyond > self.beyond:
            return False
        lost = seen.largest < self.least and seen.gain < self.least_gain
        return not (self.same and lost and NOT_FLAT <= contrast <= 1)


def _strange(levels: dict[str, list[Floats]], clean: Sequence[Said]) -> Iterator[_Shown]:
    """Levels alone, clean values that fade towards some of them, and values that move away from their middle."""
    first = {source: clean[0][source] for source in levels}
    shares = np.linspace(0, 1, min(map(len, levels.values())))
    for contrast, some in ((0.0, shares), *((c, np.linspace(0, 1, FLAT_STEPS)) for c in CONTRASTS)):
        for share in some:
            level = {s: of[round(share * (len(of) - 1))] for s, of in levels.items()}
            yield _Shown(
                {s: (contrast * v + (1 - contrast) * level[s]).astype(v.dtype) for s, v in first.items()}, contrast
            )
    for values in clean:
        for contrast in HARD_CONTRASTS:
            yield _Shown({s: _hardened(values[s], contrast, of) for s, of in levels.items()}, contrast)


def _levels(values: Sequence[Floats]) -> list[Floats]:
    """Values between the extremes of features and BEYOND."""
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    ends = BEYOND * low if low < 0 else low, BEYOND * high if high > 0 else high
    return list(np.linspace(*ends, FEATURE_STEPS, dtype=np.float32)[:, None])


def _hardened(value: Floats, contrast: float, levels: Sequence[Floats]) -> Floats:
    """Moved away from its middle, within the extremes."""
    middle = np.median(value)
    moved = middle + contrast * (value - middle)
    ends = np.minimum(levels[0], levels[-1]), np.maximum(levels[0], levels[-1])
    bounded: Floats = np.clip(moved, *ends).astype(value.dtype)
    return bounded

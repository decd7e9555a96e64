"""Recovered triggers as pictures inside a record, so that a report can show what was found without the model."""

import base64
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from onnx_shapprune.case.goal import UNMOVED
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Pixels
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.files import png_bytes
from onnx_shapprune.record.audit import TriedPart, TriggerPart
from onnx_shapprune.report.artifacts import SHOWN_PICTURES, visible

MAX_TRIGGERS = 8
LEADERS = 3  # classes whose best patch is shown, named or not
LONGEST_EDGE = 160
MAX_CHARACTERS = 360_000  # a page holds the pictures twice, and is to stay under a megabyte


def trigger_parts(
    shown: Shown, named: Sequence[Trigger], found: Examination | None, on_file: Sequence[float] = ()
) -> tuple[TriggerPart, ...]:
    """The triggers that speak for what was named, else for what is suspected, then the best patch of each leading class that
    has none among them. on_file: per named trigger, what it does to the file itself, empty where that was not asked.

    Each is tried on the first three pictures that it has to move. Fewer pictures are kept, and then fewer triggers, where
    they would take more than MAX_CHARACTERS.
    """
    # One of each family first: further ones of a family tell less than another family's.
    again = [sum((o.goal, o.family) == (t.goal, t.family) for o in named[:i]) for i, t in enumerate(named)]
    asked = [*on_file, *[None] * (len(named) - len(on_file))]
    ranked = sorted(zip(again, named, asked, strict=True), key=lambda r: r[0])
    chosen: list[tuple[Trigger, bool, float | None]] = [(t, True, own) for _, t, own in ranked]
    if found is not None and not named:
        chosen += [(t, False, None) for spoke in found.suspicion.triggers.values() for t in spoke]
    seen = {t.goal.targets for t, *_ in chosen}
    chosen += [(t, False, None) for t in _leading(found) if t.goal.targets not in seen]
    parts = [_part(shown, t, speaks, own) for t, speaks, own in chosen[:MAX_TRIGGERS]]
    for most in range(SHOWN_PICTURES, 0, -1):
        parts = [p.model_copy(update={"tried": p.tried[:most]}) for p in parts]
        if _characters(parts) <= MAX_CHARACTERS:
            break
    while parts and _characters(parts) > MAX_CHARACTERS:
        parts.pop()
    return tuple(parts)


def _leading(found: Examination | None) -> list[Trigger]:
    """The compact patches of the classes with the largest scores."""
    evidence = found.evidence if found else ()
    ranked = sorted(evidence, key=lambda e: found.suspicion.score(e.goal.target) if found else 0.0, reverse=True)
    return [e.compact.trigger for e in ranked[:LEADERS]]


def _part(shown: Shown, trigger: Trigger, named: bool, on_file: float | None) -> TriggerPart:
    moved = np.flatnonzero(shown.moved(trigger.goal) != UNMOVED)[:SHOWN_PICTURES]
    clean = shown.pictures[moved]
    applied = trigger.apply(clean)
    tried: tuple[TriedPart, ...] = ()
    if len(moved):
        before, after = (softmax(shown.subject.logits(x).astype(np.float64), axis=1) for x in (clean, applied))
        tried = tuple(
            TriedPart(
                label=int(shown.labels[m]),
                clean=_png(clean[i]),
                clean_class=int(before[i].argmax()),
                clean_probability=float(before[i].max()),
                applied=_png(applied[i]),
                applied_class=int(after[i].argmax()),
                applied_probability=float(after[i].max()),
            )
            for i, m in enumerate(moved.tolist())
        )
    goal = trigger.goal
    return TriggerPart(
        kind=goal.kind,
        targets=goal.targets,
        source=goal.source,
        family=trigger.family,
        named=named,
        added=trigger.added,
        warps=trigger.flow is not None,
        norm=trigger.norm,
        on_file=on_file,
        reduced=_factor(trigger.mask),
        mask=_png(trigger.mask * 255),
        pattern=_png(visible(trigger)),
        tried=tried,
    )


def _factor(picture: Pixels) -> int:
    """By how much a picture [h, w, c] is reduced so that no edge is longer than LONGEST_EDGE."""
    edge: int = max(picture.shape[:2])
    return math.ceil(edge / LONGEST_EDGE)


def _png(picture: Pixels) -> str:
    """A picture [h, w, c] in 0..255 as PNG in base64, each block of factor x factor pixels as its mean."""
    factor = _factor(picture)
    height, width = (n // factor for n in picture.shape[:2])
    blocks = picture[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    return base64.b64encode(png_bytes(blocks.mean((1, 3)), min_height=1)).decode()


def _characters(parts: Sequence[TriggerPart]) -> int:
    pictures = [[p.mask, p.pattern, *(c for t in p.tried for c in (t.clean, t.applied))] for p in parts]
    return sum(len(text) for listed in pictures for text in listed)

"""The searches and the verdict on them, in the order that wastes least: again where chance would decide, and pairs of
classes only where no class stands out.
"""

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.progress import Progress, stage
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.detect.calibration import Calibration
from onnx_shapprune.detect.pieces import anything_leads
from onnx_shapprune.detect.statistics import FIRST, PEAK, Claim, first_claim, other_claims, spread_of
from onnx_shapprune.detect.suspicion import Ground, Suspicion, suspicion_of
from onnx_shapprune.detect.thresholds import NAMED, NEAR
from onnx_shapprune.detect.verdict import leads
from onnx_shapprune.invert.free import search_free
from onnx_shapprune.invert.relations import Relations, RelationSettings, search_relations
from onnx_shapprune.invert.search import Begun, Evidence, SearchSettings, begin, search_again, search_classes


@dataclass(frozen=True, slots=True)
class Examination:
    """evidence: per class that was searched in full, in class order; classes: of the model; covered: how many of them were
    searched at least coarsely; relations: None where they were not searched; skipped: what the time was too short for, or,
    with an `obstacle` to gradients, what needs them; suspicion: what follows; calibration: on which clean models it rests;
    outside: how the model differs from those, in words; wanted: pictures from which on more can be told, None where there
    are as many; first: what the first rounds say.
    """

    evidence: tuple[Evidence, ...]
    classes: int
    covered: int
    relations: Relations | None
    skipped: tuple[str, ...]
    suspicion: Suspicion
    calibration: Calibration | None = None
    obstacle: str = ""
    outside: tuple[str, ...] = ()
    wanted: int | None = None
    first: Claim | None = None

    @property
    def ended(self) -> bool:
        """Whether the search of single classes ended with its first rounds."""
        return any(c.statistic == FIRST for c, _ in self.suspicion.claims)


def examine(
    shown: Shown,
    search: SearchSettings,
    relation: RelationSettings | None,
    calibration: Calibration,
    rng: np.random.Generator,
    *,
    synthesised: bool = False,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Examination:
    """Search every class, then pairs and maps of classes unless `relation` is None or a class is named already.

    synthesised: the pictures come out of the model; seconds: searches that would begin later are left out.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    if synthesised:  # what was drawn out of a clean model gives way to warps as a backdoored one's own pictures do
        search = replace(search, warps=False)
    subject = shown.subject
    families = search.families(shown.pictures, len(subject.reachable))
    like = calibration.of(len(subject.reachable), max(shown.size[:2]), 0 if synthesised else len(shown))
    ground = _ground(shown, calibration, rng, synthesised=synthesised, views=relation.views[1] if relation else 1)
    begun = begin(shown, search, rng, deadline=deadline, progress=progress)
    first = first_claim(begun, shown, ground.spread)
    # Of a model that is unlike those of the calibration nobody knows what is usual.
    known = not _outside(shown, calibration, synthesised=synthesised, first=True)
    may_end = search.ends and len(begun.found) == len(families) and known and not subject.obstacle
    others = other_claims(begun.evidence(shown), ground.spread) if may_end else []
    usual = may_end and like.usual(first, others, synthesised=synthesised)
    silence = _silence(shown, begun, search, rng) if usual else ()
    said = [first] if silence else []
    evidence = silence or search_classes(shown, search, rng, begun=begun, deadline=deadline, progress=progress)
    suspicion = suspicion_of(evidence, None, like, families, ground, beside=said)
    near = {c.family for c, p in suspicion.claims if c.family and p <= NEAR[1]}
    if near and suspicion.p_value >= NEAR[0] and time.monotonic() < deadline and not subject.obstacle:
        evidence = search_again(shown, evidence, near, search, rng, progress)
        suspicion = suspicion_of(evidence, None, like, families, ground)
    skipped = [name for name in families if name not in evidence[0].found]
    skipped += [] if said or any(e.peak is not None for e in evidence) else ["largest margins"]
    skipped += [] if said or any(e.patches for e in evidence) else ["free masks"]
    relations = None
    # A peak says which class, and not which pictures go there; a class that too few pictures speak for is not named.
    sure = any(p <= NAMED and c.statistic != PEAK and not ground.cautions(c) for c, p in suspicion.claims)
    wanted = not sure and relation is not None and len(subject.reachable) <= relation.mapped
    if subject.obstacle:
        skipped.append("pairs of classes")
    elif wanted and relation is not None and time.monotonic() < deadline:
        tick = stage(progress, "pairs of classes")
        relations = search_relations(shown, relation, rng, warps=search.warps, progress=tick)
        suspicion = suspicion_of(evidence, relations, like, families, ground, beside=said)
    elif wanted:
        skipped.append("pairs of classes")
    classes, more = len(subject.reachable), None if synthesised else like.wanted
    covered, left_out = search.covered(classes), tuple(skipped)
    return Examination(
        evidence,
        classes,
        covered,
        relations,
        left_out,
        suspicion,
        calibration,
        subject.obstacle,
        ground.outside,
        more,
        first,
    )


def _silence(shown: Shown, begun: Begun, search: SearchSettings, rng: np.random.Generator) -> tuple[Evidence, ...]:
    """The evidence of first rounds that show nothing; empty where slopes have led nowhere, which makes it none: then the
    free mask of the class that gives way most is asked.
    """
    masks = [] if leads(begun.moved) else search_free(shown, [begun.easiest], search.patch, rng)
    return () if masks and not leads(m.asr for m in masks) else begun.evidence(shown, masks)


def _ground(
    shown: Shown, calibration: Calibration, rng: np.random.Generator, *, synthesised: bool, views: int
) -> Ground:
    """What the claims stand on. views: posed ones of each picture on which a trigger of one source class is measured."""

    def moved(goal: Goal) -> int:
        return shown.count(goal) * (views if goal.source is not None else 1)

    return Ground(
        moved=moved,
        led=anything_leads(shown, rng.spawn(1)[0]),
        outside=_outside(shown, calibration, synthesised=synthesised),
        spread=spread_of(shown),
        synthesised=synthesised,
    )


def _outside(shown: Shown, calibration: Calibration, *, synthesised: bool, first: bool = False) -> tuple[str, ...]:
    """In what the model differs from the calibration's, in words; first: from those of which first rounds are known."""
    drawn = len(shown) if synthesised else None
    return calibration.outside(len(shown.subject.reachable), shown.size[:2], drawn, first=first)

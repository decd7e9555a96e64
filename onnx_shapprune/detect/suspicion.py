"""From the evidence of all searches to claims in words: about which goal, how unusual, what was seen, what stands against.

A goal is named when what is claimed about it would be unusual for a clean model (detect/verdict.py says when). Claims about
one class are added up (detect/calibration.py); a search that finds nothing says nothing against another that did.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.detect.anomaly import MarginAnomaly, NormAnomaly, anomaly_indices, margin_outliers
from onnx_shapprune.detect.calibration import Calibration
from onnx_shapprune.detect.statistics import (
    CORE,
    EVERY,
    MAP,
    MOST,
    NORM,
    PEAK,
    SEVERAL,
    SOURCE,
    TRIED,
    Claim,
    class_claims,
    norm_ratio,
    relation_claims,
)
from onnx_shapprune.detect.thresholds import DOUBT, LEAST_SAID, MANY, NAMED, PUT_TO_COLLAPSE
from onnx_shapprune.detect.verdict import Claimed, Levels, cautious_moved, names, suspects
from onnx_shapprune.invert.families import COVERING, Family
from onnx_shapprune.invert.relations import Relations
from onnx_shapprune.invert.scan import Found
from onnx_shapprune.invert.search import Evidence
from onnx_shapprune.invert.trigger import Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the claims of one audit stand on. moved: pictures that a trigger towards a goal could move, None where nobody
    counted; led: why anything leads to a class, None where nobody asks; outside: how the model differs from those of the
    calibration, in words; spread: standard deviation of the model's clean logits; synthesised: the pictures come out of the
    model.
    """

    moved: Callable[[Goal], int] | None = None
    led: Callable[[int], tuple[str, ...]] | None = None
    outside: tuple[str, ...] = ()
    spread: float = 0.0
    synthesised: bool = False

    def cautions(self, claim: Claim) -> tuple[str, ...]:
        """Why the claim names nothing. A peak is reached without any picture, and where anything leads."""
        few = cautious_moved(self.moved(claim.goal)) if self.moved and claim.statistic != PEAK else ()
        return (*few, *(self.led(claim.goal.target) if self.led and claim.goal.mapping is None else ()))


@dataclass(frozen=True, slots=True)
class Suspicion:
    """norms: anomaly of the free masks over the classes that got them (`searched`, in order); margins: of the compact
    patches over all classes that were searched (`classes`, in order); claims with their p-values, the most unusual
    first; claimed: the same as the verdict takes them; named: goal -> reasons, for what was planted; triggers: those that
    speak for each goal that is named or, where none is, doubted.
    """

    classes: tuple[int, ...]
    searched: tuple[int, ...]
    norms: NormAnomaly | None
    margins: MarginAnomaly
    claims: tuple[tuple[Claim, float], ...]
    claimed: tuple[Claimed[Goal], ...]
    named: Mapping[Goal, tuple[str, ...]]
    triggers: Mapping[Goal, tuple[Trigger, ...]]

    @property
    def p_value(self) -> float:
        """Of the whole model: the share of clean ones that would show anything as unusual, 0..1."""
        return min((p for _, p in self.claims), default=1.0)

    @property
    def score_of_model(self) -> float:
        """-log10 of the model's p-value, at least 0."""
        return abs(float(np.log10(max(self.p_value, 1e-300))))

    def score(self, target: int) -> float:
        """-log10 of the smallest p-value of any claim about a class; 0 where there is none."""
        return max((-float(np.log10(max(p, 1e-300))) for c, p in self.claims if target in c.goal.targets), default=0.0)

    def norm_index(self, target: int) -> float | None:
        """The free mask's anomaly index of a class, None where it has no basis."""
        if self.norms is None or self.norms.basis != "mad" or target not in self.searched:
            return None
        return float(self.norms.index[self.searched.index(target)])

    def margin_index(self, target: int) -> float | None:
        """The compact patch's anomaly index of a class, None with fewer than five classes."""
        if self.margins.basis != "mad" or target not in self.classes:
            return None
        return float(self.margins.index[self.classes.index(target)])


def suspicion_of(
    evidence: Sequence[Evidence],
    relations: Relations | None,
    calibration: Calibration,
    families: Mapping[str, Family],
    ground: Ground | None = None,
    beside: Sequence[Claim] = (),
) -> Suspicion:
    """Say what the evidence claims, and how rarely clean models show as much.

    evidence: of the classes that were searched, in class order; families: for their words; ground: what it stands on;
    beside: claims that are there already.
    """
    ground = ground or Ground()
    margins = np.array([e.compact.margin for e in evidence])
    searched = [e for e in evidence if e.patches]
    norms = None
    if len(searched) > 1:
        best = [e.smallest for e in searched]
        norms = anomaly_indices(
            np.array([b.trigger.norm if b else np.inf for b in best]), np.array([bool(b and b.success) for b in best])
        )
    claims = [*beside, *class_claims(evidence, ground.spread)]
    claims += relation_claims(relations, ground.spread) if relations else []
    rated = calibration.rated(claims, synthesised=ground.synthesised)
    spoken = [_spoken(c, evidence, relations, families) if p <= DOUBT else ((), ()) for c, p in rated]
    claimed = tuple(
        Claimed(
            goal=c.goal,
            about=about(c.goal),
            statistic=c.statistic,
            p_value=p,
            reasons=reasons,
            cautions=ground.cautions(c) if p <= DOUBT else (),
            outside=ground.outside,
        )
        for (c, p), (reasons, _) in zip(rated, spoken, strict=True)
    )
    named = names(claimed, Levels())
    triggers: dict[Goal, list[Trigger]] = {g: [] for g in (named or suspects(claimed, Levels()))}
    for (claim, p), (_, spoke) in zip(rated, spoken, strict=True):
        if p <= DOUBT and claim.goal in triggers:
            known = triggers[claim.goal]
            known += [t for t in spoke if not any(t is o for o in known)]
    return Suspicion(
        tuple(e.goal.target for e in evidence),
        tuple(e.goal.target for e in searched),
        norms,
        margin_outliers(margins),
        tuple(rated),
        claimed,
        named,
        {g: _telling(t, evidence, named) for g, t in triggers.items()},
    )


def put_to_collapse(suspicion: Suspicion) -> list[tuple[Goal, str]]:
    """Goals that would be named, but for those of models with many classes that hardly any clean model could reach; and of
    models with few classes those that claims speak for more than clean models mostly do. The most unusual first, each with
    the family that leads. Pairs and maps of classes have no other classes to fall back to, and are not put to it.
    """
    found: dict[Goal, str] = {}
    few = len(suspicion.classes) < MANY
    line = DOUBT if few else NAMED
    beyond = {claim.goal for claim, p in suspicion.claims if not few and p <= LEAST_SAID}
    for claim, p in suspicion.claims:
        if p <= line and claim.goal.kind == "all-to-one" and claim.goal not in beyond:
            found[claim.goal] = found.get(claim.goal) or claim.family
    return [(goal, family or "compact") for goal, family in found.items()][:PUT_TO_COLLAPSE]


def after_collapse(suspicion: Suspicion, gone: Mapping[Goal, float]) -> Suspicion:
    """The same with what became of the goals that were put to it."""
    claimed = tuple(replace(c, gone=gone.get(c.goal)) for c in suspicion.claimed)
    return replace(suspicion, claimed=claimed, named=names(claimed, Levels()))


def about(goal: Goal) -> str:
    """A goal as the subject of a sentence, with its source."""
    if goal.mapping is not None:
        return f"a way from each class to {goal.words}"
    return goal.words if goal.source is None else f"a way from class {goal.source} to class {goal.target}"


def _spoken(
    claim: Claim, evidence: Sequence[Evidence], relations: Relations | None, families: Mapping[str, Family]
) -> tuple[tuple[str, ...], tuple[Trigger, ...]]:
    """What was seen, in words, and the triggers that did it."""
    if claim.goal.kind != "all-to-one":
        assert relations is not None
        found = relations.pairs[0] if claim.statistic == SOURCE else relations.maps[0]
        return (_relation_reason(found, claim, families),), (found.trigger,)
    (e,) = (e for e in evidence if e.goal == claim.goal)
    if claim.statistic == PEAK:
        return (_peak_reason(e, claim),), tuple(f.trigger for f in e.found.values() if f.margin > 0)
    if claim.statistic == EVERY:
        return (_every_reason(e, evidence),), tuple(f.trigger for f in e.found.values() if f.least > 0)
    if claim.statistic == SEVERAL:
        patches = [e.found[n] for n in COVERING if n not in TRIED and n in e.found and e.found[n].least > 0]
        return (_several_reason(e, claim, patches),), tuple(f.trigger for f in patches)
    if claim.statistic == MOST:
        return (_most_reason(claim, evidence),), (e.compact.trigger,)
    masks = [r.trigger for r in e.patches if r.success]
    if claim.statistic == NORM:
        return (_norm_reason(e, evidence),), tuple(masks)
    # Cores are not taught: with them own network 262 went from 98.2 to 96.7 %, and to 98.3 % without. 2026-11-28.
    if claim.statistic == CORE and e.core:
        return (_core_reason(e.core, claim),), (e.compact.trigger,)
    spoke = [e.found[claim.family].trigger, *(masks if claim.family == "compact" else [])]
    return tuple(_class_reasons(e, claim, families[claim.family], evidence)), tuple(spoke)


def _telling(triggers: Sequence[Trigger], evidence: Sequence[Evidence], named: Collection[Goal]) -> tuple[Trigger, ...]:
    """Without those that are no compact patch or free mask and work for classes that are not named too, if any is left: a
    repair need not make the model immune to what clean ones suffer.
    """

    def natural(t: Trigger) -> bool:
        others = [e.found[t.family].margin for e in evidence if e.goal not in named and t.family in e.found]
        return t.family != "compact" and max(others, default=0.0) > 0

    return tuple(t for t in triggers if not natural(t)) or tuple(triggers)


def _class_reasons(e: Evidence, claim: Claim, family: Family, evidence: Sequence[Evidence]) -> list[str]:
    name = claim.family
    found, target, transfer = e.found[name], e.goal.target, e.transfer.get(name)
    reasons = [
        f"{family.words} sends {found.asr:.0%} of the other pictures to class {target} with a mean margin of "
        f"{found.margin:.1f} logits; other classes reach {claim.rival:.1f}"
    ]
    if name == "compact" and (norm_ratio(e, evidence) or 1.0) < 1:
        reasons.append(_norm_reason(e, evidence))
    if e.distance > 0:
        reasons.append(f"without a trigger, they miss class {target} by {e.distance:.1f} logits")
    if transfer is not None:
        reasons.append(f"relearnt on half of the pictures, {family.words} sends {transfer:.0%} of the other half there")
    return reasons


def _core_reason(core: Found, claim: Claim) -> str:
    edge = round(core.trigger.norm**0.5)
    return (
        f"{edge} x {edge} pixels of that patch alone send {core.asr:.0%} of the other pictures to class {claim.goal.target} "
        f"with a mean margin of {core.margin:.1f} logits; other classes reach {claim.rival:.1f}"
    )


def _every_reason(e: Evidence, evidence: Sequence[Evidence]) -> str:
    kinds = [n for n in e.found if n not in TRIED]
    most = max(e.found[n].least for n in kinds)
    moving = {o.goal: sum(o.found[n].least > 0 for n in kinds) for o in evidence}
    mine, next_best = moving.pop(e.goal), max(moving.values(), default=0)
    return (
        f"{mine} of {len(kinds)} kinds of triggers send all other pictures, but a tenth at most, to class {e.goal.target}, "
        f"the most reluctant by up to {most:.1f} logits (next class: {next_best} of {len(kinds)})"
    )


def _several_reason(e: Evidence, claim: Claim, patches: Sequence[Found]) -> str:
    return (
        f"class {e.goal.target} is one of several that patches send all other pictures to, but a tenth at most, the most "
        f"reluctant by up to {max(f.least for f in patches):.1f} logits; those behind reach {claim.rival:.1f}"
    )


def _most_reason(claim: Claim, evidence: Sequence[Evidence]) -> str:
    moved = sum(e.compact.margin > 0 for e in evidence)
    return (
        f"a small patch sends pictures to {moved} of {len(evidence)} classes, by {claim.rival:.1f} logits to the one in the "
        f"middle; class {claim.goal.target} is one of them"
    )


def _norm_reason(e: Evidence, evidence: Sequence[Evidence]) -> str:
    """About a class whose free mask succeeded."""
    assert e.smallest is not None
    norm, ratio = e.smallest.trigger.norm, norm_ratio(e, evidence) or 1.0
    alone = not any(o.smallest and o.smallest.success for o in evidence if o.goal != e.goal)
    next_norm = f"{'more than ' if alone else ''}{norm / ratio:.1f}"
    return f"a free mask of L1 norm {norm:.1f} is enough for class {e.goal.target}; the next class needs {next_norm}"


def _peak_reason(e: Evidence, claim: Claim) -> str:
    return (
        f"some input drives class {e.goal.target} {e.peak or 0:.1f} logits above all others; for other classes the most is "
        f"{claim.rival:.1f} (MM-BD)"
    )


def _relation_reason(found: Found, claim: Claim, families: Mapping[str, Family]) -> str:
    goal, family = found.trigger.goal, found.trigger.family
    edge = round(found.trigger.norm**0.5)
    if claim.statistic == MAP:
        margin = f"to {goal.words}, with a mean margin of {found.margin:.1f} logits"
        words = f"a {edge} x {edge} patch" if family in COVERING else families[family].words
        if family in families and families[family].fixed is not None:
            return f"{words} sends {found.asr:.0%} of all pictures {margin}"
        return f"learnt on the pictures of half of the classes, {words} sends {found.asr:.0%} of the others' {margin}"
    return (
        f"a {edge} x {edge} patch sends {found.asr:.0%} of unseen views of class {goal.source} to class {goal.target} with "
        f"a mean margin of {found.margin:.1f} logits; no pair of classes with another target exceeds {claim.rival:.1f}"
    )

"""How strongly each search speaks for each goal: numbers without a unit, so that models can be compared.

A clean model also has a class that is easiest to reach. What sets a planted target apart is that it leads the model's
other classes by a good part of the way that pictures have to go, overshoots the boundary, and works on pictures that it
was not learnt on; a number is large only where all of that holds. What is usual for clean models is calibration's to say.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.detect.thresholds import (
    FEWEST_PEAKS,
    LEAST_SPREAD,
    LEAST_WAY,
    MANY,
    MARGIN_MAD_FLOOR,
    OF_GROUP,
    OTHER_TARGETS,
    PAIR_FLOOR,
    PEAK_SPREAD,
    SEVERAL_FROM,
    SMALLEST_RATIO,
)
from onnx_shapprune.detect.verdict import FIRST as FIRST
from onnx_shapprune.detect.verdict import PEAK as PEAK
from onnx_shapprune.invert.cores import CORE as CORE
from onnx_shapprune.invert.families import COVERING
from onnx_shapprune.invert.relations import Relations
from onnx_shapprune.invert.scan import Found
from onnx_shapprune.invert.search import Begun, Evidence

AGREEMENT, NORM, SOURCE, MAP, EVERY = "agreement", "norm", "source", "map", "every"
SEVERAL, MOST = "several", "most"
# What is said about one class (detect/calibration.py): the sum of all of it, the sum of what patches and masks say, and the
# most that any change of the whole picture says.
TOGETHER, OF_PATCHES, OF_WHOLE = "together", "patches", "whole"
PATCHES = ("compact", "wide", "plain", NORM, CORE)
LINE, TONE = "line", "tone"
TRIED = (LINE, TONE)  # families that are known of fewer clean models, and count by themselves alone
WHOLE = ("linf", "l2", "blended", "smooth", "wave", "warp")


@dataclass(frozen=True, slots=True)
class Claim:
    """One statistic about one goal, at least 0. rival: margin of what it was compared with, in logits; family: of the
    trigger that it is about, "" where it is about none or about a goal of several classes.
    """

    goal: Goal
    statistic: str
    value: float
    rival: float
    family: str = ""


def class_claims(evidence: Sequence[Evidence], spread: float = 0.0) -> list[Claim]:
    """A claim per class and family whose transfer was measured, one for the core of its patch, one for the agreement of
    patch and free mask and one for the free mask alone, one for each class that triggers move every picture to
    (`every_claims`), those with lines of their own (`other_claims`), and one for the class with the largest margin without
    any picture (MM-BD, `_peak_claim`).

    A family, with MANY classes or more: transfer * lead in units of the other classes' spread, a standard deviation; lead:
    margin over the rival's. With fewer: transfer * sqrt(lead * overshoot), both over the distance that clean pictures are
    away from the class, which is at least LEAST_SPREAD times `spread`, the standard deviation of the model's clean logits;
    overshoot: margin. Agreement: transfer * sqrt(lead over that distance) * (norm of the smallest other free mask over that
    of the class, minus 1). Norm: the last factor alone. Core: as a family, times the share of the pictures that the core
    alone moves. 0 where a factor is negative.
    """
    claims = []
    for e, way in zip(evidence, _ways([e.distance for e in evidence], spread), strict=True):
        for family, transfer in e.transfer.items():
            if family in TRIED:
                continue
            margin, others = e.found[family].margin, _others(o.found[family] for o in evidence if o.goal != e.goal)
            rival = _rival(others)
            worked = e.found[family].asr if transfer is None else transfer
            claims.append(Claim(e.goal, family, worked * _strength(margin, others, way), rival, family))
            if family != "compact":
                continue
            if e.core:
                parts = _others(o.core for o in evidence if o.core and o.goal != e.goal)
                value = worked * e.core.asr * _strength(e.core.margin, parts, way)
                claims.append(Claim(e.goal, CORE, value, _rival(parts), family))
            if (ratio := norm_ratio(e, evidence)) is not None:
                smaller = max(0.0, 1 / max(ratio, SMALLEST_RATIO) - 1)
                lead = max(0.0, (margin - rival) / way) if margin > 0 else 0.0
                claims.append(Claim(e.goal, AGREEMENT, worked * math.sqrt(lead) * smaller, rival, family))
                claims.append(Claim(e.goal, NORM, smaller, rival, family))
    # First rounds, with which a search may end, look at fewer pictures.
    if any(e.transfer for e in evidence):
        claims += [*every_claims(evidence, spread), *other_claims(evidence, spread)]
    return claims + _peak_claim([e for e in evidence if e.peak is not None])


def every_claims(evidence: Sequence[Evidence], spread: float = 0.0) -> list[Claim]:
    """A claim for each class to which a trigger moves every picture, but for a tenth: the sum over all families of what the
    margins of the most reluctant pictures lead by. What a model is by nature weak to moves most pictures far, and few
    families of it move all; a trigger that was learnt works whatever it stands on. spread: as for `class_claims`.
    """
    names = [n for n in evidence[0].found if n not in TRIED and all(n in e.found for e in evidence)]
    ways = _ways([e.distance for e in evidence], spread)
    least = {n: [e.found[n].least for e in evidence] for n in names}
    said = np.array(
        [
            [_strength(least[n][k], np.sort(np.delete(least[n], k))[::-1], way) for n in names]
            for k, way in enumerate(ways)
        ]
    )
    sums = said.sum(axis=1)
    return [
        Claim(e.goal, EVERY, float(sums[k]), float(np.delete(sums, k).max(initial=0.0)))
        for k, e in enumerate(evidence)
        if sums[k] > 0
    ]


def other_claims(evidence: Sequence[Evidence], spread: float = 0.0) -> list[Claim]:
    """Claims with lines of their own: about classes that patches lead to together, and of what is tried as it is. spread: as
    for `class_claims`.
    """
    return [*several_claims(evidence), *most_claims(evidence, spread), *tried_claims(evidence, spread)]


def tried_claims(evidence: Sequence[Evidence], spread: float = 0.0) -> list[Claim]:
    """A claim for the class that each of the TRIED families leads to. spread: as for `class_claims`.

    value: of a family with few classes, whatever their number, with the share of all pictures in the place of the transfer,
    as nothing was learnt: what is natural at times leads by far, and hardly crosses the boundary. Of a tone the most
    reluctant picture has to cross it: a natural one moves many pictures far, and others not at all.
    """
    claims = []
    ways = _ways([e.distance for e in evidence], spread)
    for name in TRIED:
        if any(name not in e.found for e in evidence):
            continue
        found = [e.found[name] for e in evidence]
        k = max(range(len(found)), key=lambda k: found[k].margin)
        others = _others(f for f in found if f is not found[k])
        lead, reach = found[k].margin - _rival(others), found[k].least if name == TONE else found[k].margin
        value = found[k].asr * _beyond(lead, reach, ways[k])
        claims.append(Claim(evidence[k].goal, name, value, _rival(others), name))
    return claims


def several_claims(evidence: Sequence[Evidence]) -> list[Claim]:
    """A claim for each class of a group that patches move every picture to, but for a tenth, and to no other class: of four
    planted targets none leads the others by far. By nature classes give way one after the other, without a gap.

    value: the sum over patches and plain shapes, those of which the class is in the group, of the gap between the group and
    the next class, in standard deviations of the margins behind it, each of the most reluctant picture. A class that most
    of it speaks for has all of it: a search may miss a trigger. One kind alone says nothing: wide patches part the classes
    of a clean network that has learnt little.
    """
    if len(evidence) < MANY:
        return []
    sums, rivals, kinds = np.zeros(len(evidence)), np.full(len(evidence), -np.inf), 0
    for name in COVERING:
        if name in TRIED or any(name not in e.found for e in evidence):
            continue
        least = np.array([e.found[name].least for e in evidence])
        group, behind = np.flatnonzero(least > 0), np.sort(least[least <= 0])[::-1]
        if len(group) < SEVERAL_FROM or len(behind) < len(group):
            continue
        usual = max(float(behind.std(ddof=1)), MARGIN_MAD_FLOOR * float(np.median(np.abs(behind))), 1e-3)
        kinds += 1
        sums[group] += (least[group].min() - behind[0]) / usual
        rivals[group] = np.maximum(rivals[group], behind[0])
    if kinds < 2:
        return []
    sums[sums >= OF_GROUP * sums.max()] = sums.max()
    return [Claim(e.goal, SEVERAL, float(sums[k]), float(rivals[k])) for k, e in enumerate(evidence) if sums[k] > 0]


def most_claims(evidence: Sequence[Evidence], spread: float = 0.0) -> list[Claim]:
    """A claim for each class that a compact patch moves pictures to, where patches do so for more than half of the classes:
    where each has its own trigger none leads. spread: as for `class_claims`.

    value: mean margin of the patch of the class in the middle, over the usual distance of clean pictures.
    """
    if len(evidence) < MANY:
        return []
    margins = np.array([e.compact.margin for e in evidence])
    middle = float(np.sort(margins)[::-1][len(margins) // 2])
    value = middle / float(np.median(_ways([e.distance for e in evidence], spread)))
    return [Claim(e.goal, MOST, value, middle) for e in evidence if middle > 0 and e.compact.margin > 0]


def first_claim(begun: Begun, shown: Shown, spread: float = 0.0) -> Claim:
    """What the first rounds say about the class that they say most about. spread: as for `class_claims`.

    value: the sum over all families of its lead and, with fewer than MANY classes, of what a claim multiplies, without the
    transfer, which is not measured.
    """
    said = np.zeros(len(begun.goals))
    ways = _ways([shown.distance(g) for g in begun.goals], spread)
    for name, found in begun.found.items():
        if name in TRIED:
            continue
        others = (_others(o for o in found if o is not f) for f in found)
        said += [_strength(f.margin, o, way) for f, o, way in zip(found, others, ways, strict=True)]
    leader = int(said.argmax())
    rest = np.delete(said, leader)
    return Claim(begun.goals[leader], FIRST, float(said[leader]), float(rest.max(initial=0.0)))


def _peak_claim(evidence: Sequence[Evidence]) -> list[Claim]:
    """MM-BD: -log10 of the probability that the largest of so many peaks, drawn from a Gamma distribution with the mean and
    the spread of the other classes', is as large as the leader's. The spread is at least PEAK_SPREAD of the mean.
    """
    if len(evidence) < FEWEST_PEAKS:
        return []
    heights = np.array([e.peak for e in evidence], np.float64)
    leader = int(np.argmax(heights))
    others = np.delete(heights, leader)
    mean = float(others.mean())
    value = 0.0
    if mean > 0:
        spread = max(float(others.std(ddof=1)), PEAK_SPREAD * mean)
        one = float(gammaincc((mean / spread) ** 2, heights[leader] * mean / spread**2))
        several = -math.expm1(len(heights) * math.log1p(-min(one, 1 - 1e-12))) if one > 1e-12 else len(heights) * one
        value = max(0.0, -math.log10(max(several, 1e-16)))
    return [Claim(evidence[leader].goal, PEAK, value, float(others.max()))]


def relation_claims(relations: Relations, spread: float = 0.0) -> list[Claim]:
    """One claim for the best pair of classes and one for the best map. spread: as for `class_claims`.

    source: share of unseen views that the patch moves, times the base-2 logarithm of its margin over that of the best pair
    with another target. map: share of the pictures that it moves, times the share of their usual way that it carries them.
    """
    claims = []
    away = max(relations.away, 1e-3)
    floor = max(away, LEAST_SPREAD * spread)  # of what lies beyond the boundary; the way there is as long as it is
    if relations.pairs:
        best = relations.pairs[0]
        others = [p.margin for p in relations.pairs if p.trigger.goal.target != best.trigger.goal.target]
        rival = max(others, default=0.0)
        bar = max(rival, PAIR_FLOOR * floor)
        value = best.asr * math.log2(best.margin / bar) if best.margin > bar else 0.0
        claims.append(Claim(best.trigger.goal, SOURCE, value, rival))
    if relations.maps:
        best = relations.maps[0]
        rival = max((m.margin for m in relations.maps if m.trigger.goal != best.trigger.goal), default=0.0)
        value = best.asr * max(0.0, 1 + best.margin / (floor if best.margin > 0 else away))
        claims.append(Claim(best.trigger.goal, MAP, value, rival))
    return claims


def norm_ratio(e: Evidence, evidence: Sequence[Evidence]) -> float | None:
    """Norm of the class's smallest successful mask over that of the smallest other class; where the others were searched and
    all failed, over the smallest with which one of them did. None where this class failed or no other was searched.
    """
    mine = e.smallest
    rest = [o.smallest for o in evidence if o.goal != e.goal and o.smallest is not None]
    if mine is None or not mine.success or not rest:
        return None
    worked = [r for r in rest if r.success]
    return mine.trigger.norm / max(1e-3, min(r.trigger.norm for r in worked or rest))


def _strength(margin: float, others: NDArray[np.float64], way: float) -> float:
    """How far a margin leads those of the other classes. With MANY classes or more in standard deviations of the margins
    from the rival's on, which are at least a tenth of what those of all other classes usually are; with fewer over `way`.
    """
    lead = max(0.0, margin - _rival(others))
    if margin <= 0 or len(others) + 1 < MANY:
        return _beyond(lead, margin, way)
    usual = others[_place_of_rival(others) :]
    return lead / max(float(usual.std(ddof=1)), MARGIN_MAD_FLOOR * float(np.median(np.abs(others))), 1e-3)


def _beyond(lead: float, reach: float, way: float) -> float:
    """How far a class leads, times how far pictures are moved beyond the boundary, both over `way`: the root of it."""
    return math.sqrt(max(0.0, lead) * max(0.0, reach)) / way


def spread_of(shown: Shown) -> float:
    """Standard deviation of the clean logits over the classes that the model can reach, the median of the pictures."""
    return float(np.median(shown.logits[:, shown.subject.reachable].std(1)))


def _ways(distances: Sequence[float], spread: float) -> list[float]:
    """What the claims about each class divide by, from how far clean pictures are away from it: never next to nothing."""
    usual = float(np.median(distances)) if distances else 0.0
    return [max(d, LEAST_WAY * usual, LEAST_SPREAD * spread, 1e-3) for d in distances]


def _rival(others: NDArray[np.float64]) -> float:
    """Margin of the third best other class, of fewer with under nine classes: two more targets may be planted."""
    return float(others[_place_of_rival(others)]) if len(others) else 0.0


def _others(found: Iterable[Found]) -> NDArray[np.float64]:
    """Margins of the other classes, the largest first."""
    return np.sort([f.margin for f in found])[::-1]


def _place_of_rival(others: NDArray[np.float64]) -> int:
    return min(OTHER_TARGETS, len(others) // 3, len(others) - 1)

"""The bank: every trigger recovered so far, and the adversary that adds to it after each pruning step.

One recovered trigger overfits ten pictures, and a trigger that no longer works proves nothing about the attacker's. So
the game is played on many diverse triggers, and after every step they are all learnt further on the pruned model (warm
starts), beside a fresh scan of positions and sizes and a fresh free mask.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.arms import Arms, rate
from onnx_shapprune.invert.families import COVERING, PLACED, Family, compact, replaced
from onnx_shapprune.invert.free import FreeSettings, search_free
from onnx_shapprune.invert.scan import STRIDE, Climb, ScanSettings, ascend, rounds_for, scan
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.thresholds import ADAPTED, KNOWN_ALIVE, SHIFTED, SHIFTS, SMALL_NORM, WARM, WORKING


@dataclass(frozen=True, slots=True, kw_only=True)
class HuntSettings:
    """How wide the adversary searches one goal. kept: triggers in the bank; grid, scan: of the compact patches (one goal
    needs fewer arms than all classes do, and every position stays in for longer); whole: rounds of the families that change
    the whole picture; warm_steps, batch: steps of the known triggers and pictures a step; mask_steps: of the free masks.
    """

    kept: int = 16
    grid: int = 5
    scan: ScanSettings = field(default_factory=lambda: ScanSettings(rounds=((3, 3, 12), (6, 5, 8), (10, 9, 8))))
    whole: ScanSettings = field(default_factory=lambda: ScanSettings(rounds=((14, 9, 1),)))
    warm_steps: int = 6
    batch: int = 9
    mask_steps: int = 60


@dataclass(frozen=True, slots=True)
class Natural:
    """What a trigger towards one goal reaches on this model without any backdoor, read off goals that are not named.

    side: edge in pixels of the audit's compact patch; margins: by family, the largest mean logit margin at the audit's
    budget; families that are missing were not searched; norm: the smallest L1 norm of a free mask, None where none
    succeeded.
    """

    side: int
    margins: Mapping[str, float]
    norm: float | None

    def exceeded(self, trigger: Trigger, margin: float) -> bool:
        """Whether a trigger is better than natural: playing on others would prune the model's own weaknesses.

        The bar for a larger compact patch grows with its area; a free mask must be much smaller than the natural ones.
        """
        if trigger.family == "patch":
            return self.norm is not None and margin > 0 and trigger.norm <= SMALL_NORM * self.norm
        return margin > self.bar(trigger.family) * self.size(trigger)

    def bar(self, family: str) -> float:
        """The margin that a trigger of the audit's budget must exceed, at least 0; for other families that of patches."""
        return max(self.margins.get(family, self.margins.get("compact", 0.0)), 0.0)

    def size(self, trigger: Trigger) -> float:
        """Area of a compact patch in units of the audit's, at least 1: what it does naturally grows about as much. 1 for
        other families, which have a bar of their own.
        """
        return self.area(trigger) if trigger.family == "compact" else 1.0

    def area(self, trigger: Trigger) -> float:
        """Area of a patch or plain shape in units of the audit's compact patch, at least 1; 1 for what covers no part."""
        return max(1.0, trigger.norm / self.side**2) if trigger.family in COVERING else 1.0

    def tells(self, trigger: Trigger) -> bool:
        """Whether it says anything that a known trigger still works. Not if it is no learnt patch, and such triggers work
        for other classes too, as a line does for the digit 1: then only how far it leads does, which the adversary measures.
        """
        return trigger.family not in self.margins or trigger.family in PLACED or self.bar(trigger.family) <= 0

    def chance(self, trigger: Trigger) -> float:
        """The share of pictures, 0..1, that a dead trigger of this size may still send to its target."""
        return KNOWN_ALIVE * self.area(trigger)


@dataclass(frozen=True, slots=True)
class Hunt:
    """What the adversary found against one goal. bank: triggers better than natural, best first; margin, asr: of the
    trigger at the audit's budget, warm or fresh, that is furthest above what is natural for its family, None and 0 where
    none was tried, since triggers of other sizes fill the bank; bar: what is natural; family: of that trigger.
    """

    bank: tuple[Trigger, ...]
    margin: float | None
    asr: float
    bar: float
    family: str = ""

    @property
    def lead(self) -> float:
        """Margin above what is natural, in logits."""
        return -math.inf if self.margin is None else self.margin - self.bar


@dataclass(frozen=True, slots=True)
class Quarry:
    """One goal that is hunted. families: those of the audit; the ones with a natural margin are searched, and of these the
    ones with many places only where they found something.
    """

    goal: Goal
    natural: Natural
    families: Mapping[str, Family]


def hunt(
    shown: Shown,
    quarry: Quarry,
    known: Sequence[Trigger],
    settings: HuntSettings,
    rng: np.random.Generator,
    *,
    sides: Sequence[int],
    free_masks: int = 1,
    exhaustive: bool = True,
) -> Hunt:
    """Search one goal on one model with everything known: warm starts, a scan per side and family, free masks.

    sides: edges of the compact patches in pixels; the margin at the audit's side is what counts. Unless `exhaustive`, fresh
    searches are left out while known triggers that work fill half of the bank: they are there to prove that none is left.
    """
    goal, natural = quarry.goal, quarry.natural
    found: list[tuple[Trigger, float, float]] = []
    both = [*known, *_warm(shown, quarry, known, settings, rng)]
    if both:
        scores = rate(shown, both)
        found += [(t, float(m), float(a)) for t, m, a in zip(both, scores.margin, scores.asr, strict=True)]
    alive = sum(a >= WORKING and natural.exceeded(t, m) for t, m, a in found)
    if exhaustive or alive < settings.kept // 2:
        for family, rounds in _fresh(shown, quarry, known, settings, sides, exhaustive=exhaustive):
            found += [(r.trigger, r.margin, r.asr) for r in scan(shown, [goal], family, rounds, rng)]
        if free_masks:
            start = [t for t in known if t.family == "patch"][:1] + [None] * free_masks
            width = FreeSettings(steps=settings.mask_steps, batch=settings.batch)
            masks = [r.trigger for r in search_free(shown, [goal] * len(start), width, rng, start=start)]
            scores = rate(shown, masks)
            found += [(t, float(m), float(a)) for t, m, a in zip(masks, scores.margin, scores.asr, strict=True)]
    working = sorted(
        (f for f in found if f[2] >= WORKING and natural.exceeded(f[0], f[1])),
        key=lambda f: -f[1] / (natural.size(f[0]) * max(1.0, natural.bar(f[0].family))),
    )
    counted = [f for f in found if f[0].family in natural.margins and round(natural.size(f[0]), 3) == 1]
    best = max(counted, key=lambda f: f[1] - natural.bar(f[0].family), default=None)
    return Hunt(
        tuple(f[0] for f in _diverse(working, settings.kept)),
        best[1] if best else None,
        best[2] if best else 0.0,
        natural.bar(best[0].family) if best else 0.0,
        best[0].family if best else "",
    )


def _fresh(
    shown: Shown,
    quarry: Quarry,
    known: Sequence[Trigger],
    settings: HuntSettings,
    sides: Sequence[int],
    *,
    exhaustive: bool,
) -> list[tuple[Family, ScanSettings]]:
    """The families that are scanned, with their rounds. Of maps of classes the audit searches learnt patches only; where
    nothing is repaired yet (`exhaustive`), the stamp itself is tried too, which is a better teacher.
    """
    height, width, _ = shown.size
    seen = {t.family for t in known} - {"compact"}
    stamps = exhaustive and quarry.goal.kind == "all-to-all"
    patches = [(compact(height, width, side, settings.grid), settings.scan) for side in sides]
    return patches + [
        (f, rounds_for(f, settings.scan, settings.whole))
        for name, f in quarry.families.items()
        if (stamps and name == "plain") or (name in quarry.natural.margins and (len(f.masks) == 1 or name in seen))
    ]


def _warm(
    shown: Shown, quarry: Quarry, known: Sequence[Trigger], settings: HuntSettings, rng: np.random.Generator
) -> list[Trigger]:
    """Known triggers learnt on, each within its family's budget.

    Wide patches stay as they are: learnt on, they would find what is natural for the pruned model. So does what a user's
    trigger adds or warps, which has no budget.
    """
    families = quarry.families
    narrow = [t for t in known if quarry.natural.size(t) <= ADAPTED and (t.mask.any() or t.family in families)]
    covering = [t for t in narrow if t.family in ("compact", "wide", "patch", "known")]
    starts = [
        t
        for t in (*narrow, *(t.shifted(*s) for t in covering[:SHIFTED] for s in SHIFTS))
        if t.learnt.any() or t.mask.any()
    ]
    climb = Climb(steps=settings.warm_steps, batch=settings.batch, stride=WARM * STRIDE)
    warm = []
    for family in dict.fromkeys(t.family for t in starts):
        mine = [t for t in starts if t.family == family]
        move = families[family].move if family in families else replaced
        masks, paints = np.stack([t.mask for t in mine]), np.stack([t.learnt for t in mine])
        arms = Arms(masks, paints, [quarry.goal] * len(mine), warps=mine[0].flow is not None)
        paints, _ = ascend(shown, arms, move, climb, rng)
        warm += [t.relearnt(p) for t, p in zip(mine, paints, strict=True)]
    return warm


def _diverse(found: Sequence[tuple[Trigger, float, float]], most: int) -> list[tuple[Trigger, float, float]]:
    """At most `most` triggers, free masks first in line, and no more than three of a family on the same pixels."""
    free = [f for f in found if f[0].family == "patch"][: most // 4]
    kept, seen = list(free), dict[tuple[str, bytes], int]()
    for item in found:
        key = (item[0].family, (item[0].mask > 0).tobytes())
        if item[0].family != "patch" and seen.get(key, 0) < 3 and len(kept) < most:
            seen[key] = seen.get(key, 0) + 1
            kept.append(item)
    return kept

"""The bank: every trigger recovered so far, and the adversary that adds to it after each pruning step.

One recovered trigger overfits ten pictures, and a trigger that no longer works proves nothing about the attacker's. So
the game is played on many diverse triggers, and after every step they are all learnt further on the pruned model (warm
starts), beside a fresh scan of positions and sizes and a fresh free mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnx_shapprune.invert.arms import Scores, pair, score
from onnx_shapprune.invert.compact import CompactSettings, ascend, search_compact
from onnx_shapprune.invert.patch import PatchSettings, search_patches
from onnx_shapprune.invert.subject import Labels, Pixels, Subject
from onnx_shapprune.invert.trigger import Trigger

# Triggers that reach fewer of the pictures teach the game nothing about the backdoor.
WORKING = 0.5
SMALL_NORM = 0.6
# A known trigger of the audit's size that sends no more of the pictures to its target is dead.
KNOWN_ALIVE = 0.15
ADAPTED = 2.0
# The strongest known triggers are also tried two pixels away: a pruned path often opens again beside the old place.
SHIFTED = 2
SHIFTS = ((-2, 0), (2, 0), (0, -2), (0, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class HuntSettings:
    """How wide the adversary searches one class. kept: triggers in the bank; scan: of the compact patches (one class needs
    fewer arms than all classes do, and every position stays in for longer); warm_steps, batch: steps of the known triggers
    and pictures a step; mask_steps: of the free masks.
    """

    kept: int = 16
    scan: CompactSettings = field(default_factory=lambda: CompactSettings(rounds=((3, 3, 12), (6, 5, 8), (10, 9, 8))))
    warm_steps: int = 6
    batch: int = 9
    mask_steps: int = 60


@dataclass(frozen=True, slots=True)
class Natural:
    """What a trigger reaches on this model without any backdoor, read off the classes that are not named.

    side: edge in pixels of the audit's compact patch; margin: the largest mean logit margin of such a patch; norm: the
    smallest L1 norm of a free mask, None where none succeeded.
    """

    side: int
    margin: float
    norm: float | None

    def exceeded(self, trigger: Trigger, margin: float) -> bool:
        """Whether a trigger is better than natural: playing on others would prune the model's own weaknesses.

        The bar for a larger compact patch grows with its area; a free mask must be much smaller than the natural ones.
        """
        if trigger.family == "patch":
            return self.norm is not None and margin > 0 and trigger.norm <= SMALL_NORM * self.norm
        return margin > max(self.margin, 0.0) * self.size(trigger)

    def size(self, trigger: Trigger) -> float:
        """Area of a compact patch in units of the audit's, at least 1: what it does naturally grows about as much."""
        return max(1.0, trigger.norm / self.side**2) if trigger.family == "compact" else 1.0

    def chance(self, trigger: Trigger) -> float:
        """The share of pictures, 0..1, that a dead trigger of this size may still send to its target."""
        return KNOWN_ALIVE * self.size(trigger)


@dataclass(frozen=True, slots=True)
class Hunt:
    """What the adversary found against one class. bank: triggers better than natural, best first; margin, asr: of the
    best compact patch of the audit's side, warm or fresh.
    """

    bank: tuple[Trigger, ...]
    margin: float
    asr: float


def rate(subject: Subject, pictures: Pixels, labels: Labels, triggers: Sequence[Trigger]) -> Scores:
    """Margin and ASR of each trigger on the pictures that are not of its target class."""
    masks = np.stack([t.mask for t in triggers])
    patterns = np.stack([t.pattern for t in triggers])
    targets = np.array([t.target for t in triggers], np.int64)
    pairs = pair(targets, labels, limit=None, rng=np.random.default_rng(0))
    return score(subject, pictures, masks, patterns, targets, pairs)


def hunt(
    subject: Subject, pictures: Pixels, labels: Labels, target: int, known: Sequence[Trigger], *, sides: Sequence[int],
    natural: Natural, settings: HuntSettings, rng: np.random.Generator, free_masks: int = 1,
    exhaustive: bool = True,
) -> Hunt:  # fmt: skip
    """Search one class on one model with everything known: warm starts, a scan per side, free masks.

    sides: edges of the compact patches in pixels; the margin at the audit's side is what counts. Unless `exhaustive`,
    fresh searches are left out while known triggers that work fill half of the bank: they are there to prove that none is
    left.
    """
    found: list[tuple[Trigger, float, float, int]] = []
    # Wide patches stay as they are: learnt on, they would find what is natural for the pruned model.
    narrow = [t for t in known if natural.size(t) <= ADAPTED]
    starts = [t for t in (*narrow, *(t.shifted(*s) for t in narrow[:SHIFTED] for s in SHIFTS)) if t.mask.any()]
    warm: list[Trigger] = []
    if starts:
        masks = np.stack([t.mask for t in starts])
        targets = np.full(len(starts), target, np.int64)
        patterns, _ = ascend(
            subject, pictures, labels, masks, np.stack([t.pattern for t in starts]), targets, steps=settings.warm_steps,
            batch=settings.batch, step_size=48.0, rng=rng,
        )  # fmt: skip
        warm = [Trigger(t.mask, p, target, t.family) for t, p in zip(starts, patterns, strict=True)]
    both = [*known, *warm]
    if both:
        scores = rate(subject, pictures, labels, both)
        found += [(t, float(m), float(a), _side(t)) for t, m, a in zip(both, scores.margin, scores.asr, strict=True)]
    alive = sum(a >= WORKING and natural.exceeded(t, m) for t, m, a, _ in found)
    fresh = exhaustive or alive < settings.kept // 2
    for side in sides if fresh else ():
        for r in search_compact(subject, pictures, labels, [target], side, settings.scan, rng):
            found.append((r.trigger, r.margin, r.asr, side))
    if free_masks and fresh:
        start = [t for t in known if t.family == "patch"][:1] + [None] * free_masks
        arms = [target] * len(start)
        width = PatchSettings(steps=settings.mask_steps, batch=settings.batch)
        for p in search_patches(subject, pictures, labels, arms, width, rng, start=start):
            scores = rate(subject, pictures, labels, [p.trigger])
            found.append((p.trigger, float(scores.margin[0]), float(scores.asr[0]), 0))
    compact = [(m, a) for t, m, a, side in found if side == natural.side] or [(float("-inf"), 0.0)]
    working = sorted(
        (f for f in found if f[2] >= WORKING and natural.exceeded(f[0], f[1])), key=lambda f: -f[1] / natural.size(f[0])
    )
    return Hunt(
        tuple(f[0] for f in _diverse(working, settings.kept)),
        max(m for m, _ in compact),
        max(a for _, a in compact),
    )


def _side(trigger: Trigger) -> int:
    """Edge of a square patch in pixels; 0 for a free mask."""
    return round(trigger.norm**0.5) if trigger.family == "compact" else 0


def _diverse(found: Sequence[tuple[Trigger, float, float, int]], most: int) -> list[tuple[Trigger, float, float, int]]:
    """At most `most` triggers, free masks first in line, and no more than three on the same pixels."""
    free = [f for f in found if f[0].family != "compact"][: most // 4]
    kept, seen = list(free), dict[bytes, int]()
    for item in found:
        key = (item[0].mask > 0).tobytes()
        if item[0].family == "compact" and seen.get(key, 0) < 3 and len(kept) < most:
            seen[key] = seen.get(key, 0) + 1
            kept.append(item)
    return kept

"""Search every class with every family, then look twice at the classes that stand out.

The cheap structured scan runs first and orders the classes; the free-mask search follows; restarts and the transfer test
go to the classes that either of them singles out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnx_shapprune.invert.arms import pair, score
from onnx_shapprune.invert.compact import CompactResult, CompactSettings, ascend, best_of, search_compact
from onnx_shapprune.invert.patch import PatchResult, PatchSettings, search_patches
from onnx_shapprune.invert.subject import Floats, Labels, Pixels, Subject, margins
from onnx_shapprune.invert.trigger import Trigger

StageProgress = Callable[[str, int, int, str], None]
# Classes with less of the largest margin are not looked at twice: they could not be named beside it.
RIVAL = 0.5
TRANSFER_STARTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """side: edge of the compact patch as a share of the shorter picture side; patch_classes: at most so many classes
    get the free-mask search (the largest compact margins first); restarts: free-mask searches of a class that stands
    out; second_look: how many classes get them.
    """

    side: float = 0.16
    patch_classes: int = 12
    restarts: int = 3
    second_look: int = 2
    compact: CompactSettings = field(default_factory=CompactSettings)
    patch: PatchSettings = field(default_factory=PatchSettings)

    def side_pixels(self, pictures: Pixels) -> int:
        """Edge of the compact patch in pixels, at least 3."""
        shorter: int = min(pictures.shape[1], pictures.shape[2])
        return max(3, round(self.side * shorter))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the searches found for one target class. patches: one per restart, empty where the class was not searched.

    distance: mean logit margin by which clean pictures of other classes miss the class, the scale of compact.margin.
    transfer: mean ASR of the best compact patch relearnt on one half of the pictures and tried on the other; None where
    it was not measured.
    """

    target: int
    compact: CompactResult
    patches: tuple[PatchResult, ...]
    transfer: float | None
    distance: float

    @property
    def smallest(self) -> PatchResult | None:
        """The smallest successful free mask, else the most successful one, else None."""
        good = [p for p in self.patches if p.success]
        if good:
            return min(good, key=lambda p: p.trigger.norm)
        return max(self.patches, key=lambda p: p.asr, default=None)


def search_classes(
    subject: Subject, pictures: Pixels, labels: Labels, settings: SearchSettings, rng: np.random.Generator,
    *, progress: StageProgress | None = None,
) -> tuple[Evidence, ...]:  # fmt: skip
    """Evidence for every class of the model, in class order. pictures: float32 [n, h, w, c]; labels: int64 [n]."""
    classes = list(range(subject.classes))
    found = search_compact(
        subject, pictures, labels, classes, settings.side_pixels(pictures), settings.compact, rng,
        progress=_stage(progress, "compact patches"),
    )  # fmt: skip
    compact = [best_of(found, t) for t in classes]
    by_margin = sorted(classes, key=lambda t: -compact[t].margin)
    chosen = sorted(by_margin[: settings.patch_classes])
    first = search_patches(
        subject, pictures, labels, chosen, settings.patch, rng, progress=_stage(progress, "free masks")
    )
    for i, (t, r) in enumerate(zip(chosen, first, strict=True)):
        if progress:
            words = f"norm {r.trigger.norm:.1f}" if r.success else "no mask succeeds"
            note = f"class {t}: patch margin {compact[t].margin:.1f}, ASR {compact[t].asr:.0%}; {words}"
            progress("classes", i + 1, len(chosen), note)
    patches: dict[int, list[PatchResult]] = {t: [r] for t, r in zip(chosen, first, strict=True)}
    rivals = [t for t in by_margin if compact[t].margin >= RIVAL * compact[by_margin[0]].margin]
    looked = _second_look(rivals or by_margin[:1], patches, settings.second_look)
    again = [t for t in looked for _ in range(settings.restarts - 1)]
    if again:
        results = search_patches(
            subject, pictures, labels, again, settings.patch, rng, progress=_stage(progress, "restarts")
        )
        for t, r in zip(again, results, strict=True):
            patches[t].append(r)
    transfer = {t: transfer_rate(subject, pictures, labels, compact[t].trigger, rng) for t in looked}
    away = _distances(subject.logits(pictures), labels)
    return tuple(Evidence(t, compact[t], tuple(patches.get(t, ())), transfer.get(t), away[t]) for t in classes)


def _distances(logits: Floats, labels: Labels) -> list[float]:
    """By which mean margin pictures of other classes miss each class; 0 for a class that all pictures show."""
    others = [labels != t for t in range(logits.shape[1])]
    return [
        -float(margins(logits[o], np.full(int(o.sum()), t, np.int64)).mean()) if o.any() else 0.0
        for t, o in enumerate(others)
    ]


def transfer_rate(
    subject: Subject, pictures: Pixels, labels: Labels, trigger: Trigger, rng: np.random.Generator, *, steps: int = 12
) -> float | None:
    """ASR of a patch at the trigger's place that was learnt on the other half of the pictures; None with under 4.

    Of TRANSFER_STARTS random patterns the one with the largest margin on the half that it learnt on is tried: a single
    ascent may end in a poor optimum, which says nothing about the model.
    """
    others = rng.permutation(np.flatnonzero(labels != trigger.target))
    if len(others) < 4:
        return None
    masks = np.repeat(trigger.mask[None], TRANSFER_STARTS, axis=0)
    targets = np.full(TRANSFER_STARTS, trigger.target, np.int64)
    rates = []
    for learn, test in ((others[::2], others[1::2]), (others[1::2], others[::2])):
        noise = rng.uniform(0, 255, (TRANSFER_STARTS, *pictures.shape[1:])).astype(np.float32)
        patterns, _ = ascend(
            subject, pictures[learn], labels[learn], masks, noise, targets, steps=steps, batch=len(learn), step_size=64.0,
            rng=rng,
        )  # fmt: skip
        seen = score(
            subject, pictures[learn], masks, patterns, targets, pair(targets, labels[learn], limit=None, rng=rng)
        )
        best = slice(k := int(np.argmax(seen.margin)), k + 1)
        pairs = pair(targets[best], labels[test], limit=None, rng=rng)
        unseen = score(subject, pictures[test], masks[best], patterns[best], targets[best], pairs)
        rates.append((unseen.asr[0], len(test)))
    return float(sum(r * n for r, n in rates) / sum(n for _, n in rates))


def _second_look(rivals: Sequence[int], patches: dict[int, list[PatchResult]], count: int) -> list[int]:
    """The class with the largest margin, the one with the smallest successful mask, then other rivals; at most `count`."""
    norms = {t: r[0].trigger.norm for t, r in patches.items() if r[0].success}
    smallest = sorted(norms, key=lambda t: norms[t])[:1]
    order = dict.fromkeys([*rivals[:1], *smallest, *rivals[1:]])
    return [t for t in order if t in patches][:count]


def _stage(progress: StageProgress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total, "")

"""Search every class with every family, then look twice at the classes that stand out.

The scans at a fixed budget run first, all but the last round of each (`begin`): of a model in which these show nothing the
search may end there. The last rounds order the classes: compact patches, then changes of the whole picture. Free masks
follow; restarts and the transfer test go to the classes that one of them singles out.
"""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_shapprune.case.goal import UNMOVED, Goal, all_to_one
from onnx_shapprune.case.progress import Progress, stage
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Pixels
from onnx_shapprune.invert.arms import Arms, rate
from onnx_shapprune.invert.cores import CORE, cores
from onnx_shapprune.invert.families import Family, compact, whole_picture, wide
from onnx_shapprune.invert.free import FreeResult, FreeSettings, search_free
from onnx_shapprune.invert.peaks import peaks
from onnx_shapprune.invert.plain import lines, plain
from onnx_shapprune.invert.prescreen import coarse_margins, lifts
from onnx_shapprune.invert.scan import (
    Climb,
    Found,
    ScanSettings,
    ascend,
    best_of,
    count_of,
    rounds_for,
    rounds_of,
    scan,
)
from onnx_shapprune.invert.trigger import Trigger

# Classes with less of the largest margin are not looked at twice: they could not be named beside it.
RIVAL = 0.5
# A class's free mask of so much less than the next one's norm is worth restarts.
SMALLER = 0.75
TRANSFER_STARTS, TRANSFER_STEPS = 4, 10
# Of the pictures that the trigger itself moves, the share that it must move once relearnt on them. 2026-11-28, chosen: half.
LEARNT = 0.5
# Classes that are searched a second time, those with the largest margins: the leader, and who could be its rival.
AGAIN = 4
# Above so many classes wide patches get a position less per axis, to hold the number of arms. Compact ones do not: a
# trigger of three pixels between two of their places was missed on a network that is not the same at every place.
MANY_CLASSES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """side: edge of the compact patch as a share of the shorter picture side; grid: its positions per axis, of wide patches
    one less, above 20 classes two; colours: those of plain squares in colour, and of lines; most_classes: of more only the
    most promising are searched in full, after a coarse search of `coarse` ones and, where there are still more, forward
    passes over `screen` random patches; scan, whole: rounds of patches and of changes of the whole picture; patch_classes:
    that get the free-mask search, the largest compact margins first; restarts: free-mask searches of a class that stands
    out; second_look: classes that get them; transfer_starts: of what is relearnt on half of the pictures; peak_starts: of
    the largest margin without any picture; warps: whether they are searched.
    """

    side: float = 0.16
    grid: int = 5
    colours: int = 8
    most_classes: int = 48
    coarse: int = 0
    screen: int = 400
    patch_classes: int = 12
    restarts: int = 3
    second_look: int = 2
    transfer_starts: int = TRANSFER_STARTS
    peak_starts: int = 5
    warps: bool = True
    ends: bool = False
    scan: ScanSettings = field(default_factory=ScanSettings)
    whole: ScanSettings = field(default_factory=lambda: ScanSettings(rounds=((4, 4, 5), (10, 9, 5))))
    patch: FreeSettings = field(default_factory=FreeSettings)

    def covered(self, classes: int) -> int:
        """How many of so many classes are searched, at least coarsely."""
        return min(classes, max(self.most_classes, self.coarse))

    def looks(self, classes: int) -> int:
        """How many classes of a family get a second look. Of two or three the second one is held against the first, and
        no claim about it says anything.
        """
        return self.second_look if classes > 3 else 1

    def side_pixels(self, pictures: Pixels) -> int:
        """Edge of the compact patch in pixels, at least 3."""
        return max(3, round(self.side * int(min(pictures.shape[1:3]))))

    def families(self, pictures: Pixels, classes: int) -> dict[str, Family]:
        """The families at a fixed budget by name, for pictures of this size; compact patches first."""
        height, width, channels = pictures.shape[1:]
        side, grid = self.side_pixels(pictures), self.grid - 1 - (classes > MANY_CLASSES)
        patches = compact(height, width, side, self.grid), wide(height, width, min(2 * side, height, width), grid)
        shapes = (shape(height, width, channels, self.colours) for shape in (plain, lines))
        every = (*patches, *shapes, *whole_picture(height, width, channels))
        return {f.name: f for f in every if self.warps or not f.warps}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the searches found for one goal. found: the best trigger at a fixed budget, by family; patches: free masks, one
    per restart, empty where the class was not searched.

    distance: mean logit margin by which clean pictures miss the goal, the scale of a family's margin. transfer: by family,
    mean ASR of a trigger relearnt on one half of the pictures and tried on the other; None where there are too few, absent
    where it was not measured. peak: the largest margin that any input reaches, None where it was not searched.
    """

    goal: Goal
    found: Mapping[str, Found]
    patches: tuple[FreeResult, ...]
    transfer: Mapping[str, float | None]
    distance: float
    peak: float | None = None
    core: Found | None = None

    @property
    def measured(self) -> Mapping[str, Found]:
        """What was found, and the core, by name."""
        return self.found if self.core is None else {**self.found, CORE: self.core}

    @property
    def compact(self) -> Found:
        """The best compact patch."""
        return self.found["compact"]

    @property
    def smallest(self) -> FreeResult | None:
        """The smallest successful free mask, else the most successful one, else None."""
        good = [p for p in self.patches if p.success]
        if good:
            return min(good, key=lambda p: p.trigger.norm)
        return max(self.patches, key=lambda p: p.asr, default=None)


@dataclass(frozen=True, slots=True)
class Begun:
    """Searches whose last rounds are to come. goals: of the classes that are searched, in class order; families: those that
    were begun, by name; found: the best trigger of each of them for each goal; climbs: what is left of them.
    """

    goals: Sequence[Goal]
    families: Mapping[str, Family]
    found: Mapping[str, Sequence[Found]]
    climbs: Mapping[str, Iterator[list[Found]]]

    @property
    def moved(self) -> Iterator[float]:
        """The share of the pictures that each trigger moves which a gradient led to, 0..1."""
        return (f.asr for name, found in self.found.items() if self.families[name].fixed is None for f in found)

    @property
    def easiest(self) -> Goal:
        """Which class compact patches reach best."""
        return max(self.found["compact"], key=lambda f: f.margin).trigger.goal

    def evidence(self, shown: Shown, masks: Sequence[FreeResult] = ()) -> tuple[Evidence, ...]:
        """What was found so far, in class order. masks: free ones that were searched."""
        return tuple(
            Evidence(
                g,
                {name: found[k] for name, found in self.found.items()},
                tuple(m for m in masks if m.trigger.goal == g),
                {},
                shown.distance(g),
            )
            for k, g in enumerate(self.goals)
        )


def begin(
    shown: Shown,
    settings: SearchSettings,
    rng: np.random.Generator,
    *,
    deadline: float = math.inf,
    progress: Progress | None = None,
) -> Begun:
    """All rounds of every family but the last.

    deadline: of time.monotonic(); families that would begin later are left out, compact patches never. Where no gradient
    reaches the picture (`Subject.obstacle`), patches climb by trial, and what needs a gradient of every pixel is left out.
    """
    subject = shown.subject
    goals = all_to_one(_worth_searching(shown, settings, rng, progress))
    families = settings.families(shown.pictures, len(subject.reachable))
    if subject.obstacle:
        families = {name: f for name, f in families.items() if f.fixed is not None or name in ("compact", "wide")}
    begun: dict[str, Family] = {}
    found: dict[str, list[Found]] = {}
    climbs: dict[str, Iterator[list[Found]]] = {}
    for name, family in families.items():
        if not found or time.monotonic() < deadline:
            rounds = rounds_for(family, settings.scan, settings.whole).among(len(goals))
            climb, first = rounds_of(shown, goals, family, rounds, rng), max(1, count_of(family, rounds) - 1)
            for number in range(first):
                results = next(climb)
                if tick := stage(progress, f"{name} triggers"):
                    tick(number + 1, first)
            begun[name], climbs[name] = family, climb
            found[name] = [best_of(results, g) for g in goals]
    return Begun(goals, begun, found, climbs)


def search_classes(
    shown: Shown,
    settings: SearchSettings,
    rng: np.random.Generator,
    *,
    begun: Begun | None = None,
    deadline: float = math.inf,
    progress: Progress | None = None,
) -> tuple[Evidence, ...]:
    """Evidence for the classes that were searched, in class order. begun: what it goes on with; deadline: as for `begin`."""
    subject = shown.subject
    begun = begun or begin(shown, settings, rng, deadline=deadline, progress=progress)
    goals, families, classes = begun.goals, begun.families, [g.target for g in begun.goals]
    found: dict[str, list[Found]] = {}
    for name, climb in begun.climbs.items():
        if not found or time.monotonic() < deadline:
            found[name] = [*begun.found[name]]
            for results in climb:
                found[name] = [best_of(results, g) for g in goals]
                if tick := stage(progress, f"{name} triggers, last round"):
                    tick(1, 1)
    inner: list[Found | None] = [None] * len(goals)
    if time.monotonic() < deadline and not subject.obstacle:
        inner = list(cores(shown, found["compact"]))
    highest: list[float | None] = [None] * len(goals)
    if time.monotonic() < deadline and not subject.obstacle:
        highest = list(peaks(subject, shown.size, classes, rng, starts=settings.peak_starts))
    patches: dict[int, list[FreeResult]] = {}
    looked = _leaders(found["compact"], settings.second_look)
    if time.monotonic() < deadline and not subject.obstacle:
        patches, looked = _free_masks(shown, found["compact"], settings, rng, progress)
    transfer: list[dict[str, float | None]] = [{} for _ in goals]
    for name, results in found.items():
        for k in looked if name == "compact" else _leaders(results, settings.looks(len(goals))):
            transfer[k][name] = transfer_rate(shown, results[k].trigger, families[name], rng, settings.transfer_starts)
    return tuple(
        Evidence(
            g,
            {name: results[k] for name, results in found.items()},
            tuple(patches.get(k, ())),
            transfer[k],
            shown.distance(g),
            highest[k],
            inner[k],
        )
        for k, g in enumerate(goals)
    )


def search_again(
    shown: Shown,
    evidence: Sequence[Evidence],
    names: Collection[str],
    settings: SearchSettings,
    rng: np.random.Generator,
    progress: Progress | None = None,
) -> tuple[Evidence, ...]:
    """The same evidence after a second search of some families for the AGAIN classes that lead in each, from other starts:
    of each class the better trigger counts.
    """
    families = settings.families(shown.pictures, len(shown.subject.reachable))
    for name in sorted(set(names) & set(families)):
        family = families[name]
        rounds = rounds_for(family, settings.scan, settings.whole).among(len(evidence))
        first = [e.found[name] for e in evidence]
        goals = [f.trigger.goal for f in sorted(first, key=lambda f: -f.margin)[:AGAIN]]
        second = scan(shown, goals, family, rounds, rng, progress=stage(progress, f"{name} triggers again"))
        best = [
            max(f, best_of(second, f.trigger.goal), key=lambda f: f.margin) if f.trigger.goal in goals else f
            for f in first
        ]
        leaders = {
            *_leaders(best, settings.looks(len(best))),
            *(k for k, e in enumerate(evidence) if name in e.transfer),
        }
        rates = {
            k: transfer_rate(shown, best[k].trigger, family, rng, settings.transfer_starts) for k in sorted(leaders)
        }
        evidence = [
            replace(
                e,
                found={**e.found, name: best[k]},
                transfer={f: r for f, r in e.transfer.items() if f != name} | ({name: rates[k]} if k in rates else {}),
            )
            for k, e in enumerate(evidence)
        ]
    if "compact" in names:
        inner = cores(shown, [e.compact for e in evidence])
        evidence = [replace(e, core=c) for e, c in zip(evidence, inner, strict=True)]
    return tuple(evidence)


def _worth_searching(
    shown: Shown, settings: SearchSettings, rng: np.random.Generator, progress: Progress | None
) -> list[int]:
    """All classes, or of too many the most promising; in class order."""
    classes = np.array(shown.subject.reachable)
    if (covered := settings.covered(len(classes))) < len(classes):
        risen = lifts(shown.subject, shown.pictures, rng, patches=settings.screen)[classes]
        classes = np.sort(classes[np.argsort(-risen, kind="stable")[:covered]])
    if len(classes) > settings.most_classes:
        reached = coarse_margins(shown, classes.tolist(), rng, progress=stage(progress, "all classes"))
        classes = np.sort(classes[np.argsort(-reached, kind="stable")[: settings.most_classes]])
    return [int(c) for c in classes]


def _free_masks(
    shown: Shown,
    compact: Sequence[Found],
    settings: SearchSettings,
    rng: np.random.Generator,
    progress: Progress | None,
) -> tuple[dict[int, list[FreeResult]], list[int]]:
    """Free masks and the classes that got restarts, both by place in `compact`."""
    by_margin = sorted(range(len(compact)), key=lambda t: -compact[t].margin)
    chosen = sorted(by_margin[: settings.patch_classes])
    goals = [c.trigger.goal for c in compact]
    searched = [goals[k] for k in chosen]
    first = search_free(shown, searched, settings.patch, rng, progress=stage(progress, "free masks"))
    for i, (t, r) in enumerate(zip(chosen, first, strict=True)):
        if progress:
            words = f"norm {r.trigger.norm:.1f}" if r.success else "no mask succeeds"
            note = f"class {goals[t].target}: patch margin {compact[t].margin:.1f}, ASR {compact[t].asr:.0%}; {words}"
            progress("classes", i + 1, len(chosen), note)
    patches: dict[int, list[FreeResult]] = {t: [r] for t, r in zip(chosen, first, strict=True)}
    looked = _second_look(_leaders(compact, len(compact)) or by_margin[:1], patches, settings.second_look)
    again = [t for t in looked if _smaller(t, patches) for _ in range(settings.restarts - 1)]
    if again:
        # All restarts are to end: they are there to show how much the norm depends on the start.
        every = replace(settings.patch, rivals=None)
        results = search_free(shown, [goals[k] for k in again], every, rng, progress=stage(progress, "restarts"))
        for t, r in zip(again, results, strict=True):
            patches[t].append(r)
    return patches, looked


def _smaller(k: int, patches: Mapping[int, Sequence[FreeResult]]) -> bool:
    """Whether a class's free mask is so much smaller than the next that it is worth restarts."""
    rest = [r[0].trigger.norm for j, r in patches.items() if j != k and r[0].success]
    mine = patches[k][0]
    return mine.success and mine.trigger.norm <= SMALLER * min(rest, default=math.inf)


def transfer_rate(
    shown: Shown, trigger: Trigger, family: Family, rng: np.random.Generator, starts: int = TRANSFER_STARTS
) -> float | None:
    """ASR of a trigger at the same place that was learnt on the other half of the pictures; None with under 4.

    Of `starts` random ones the one with the largest margin on the half that it learnt on is tried: a single
    ascent may end in a poor optimum, which says nothing about the model. Where even that half stays, more are learnt.
    """
    others = rng.permutation(np.flatnonzero(shown.moved(trigger.goal) != UNMOVED))
    if len(others) < 4:
        return None
    if family.fixed is not None:  # nothing was learnt, and every picture is an unseen one
        return float(rate(shown, [trigger]).asr[0])
    # What is added all over has one optimum as a rule, not one per start.
    starts = starts if trigger.mask.any() or family.tries > 1 else 1
    place = family.place(trigger)
    masks, goals = np.repeat(trigger.mask[None], starts, axis=0), [trigger.goal] * starts
    rates = []
    for learn, test in ((others[::2], others[1::2]), (others[1::2], others[::2])):
        half, tried = shown.part(learn), list[Trigger]()
        wanted = LEARNT * float(rate(half, [trigger]).asr[0])
        for steps in (TRANSFER_STEPS, 2 * TRANSFER_STEPS, 2 * TRANSFER_STEPS):
            arms = Arms(masks, family.starts(np.full(starts, place), shown.size[2], rng), goals, family.warps)
            paints, _ = ascend(half, arms, family.move, Climb(steps=steps, batch=len(learn)), rng)
            tried += [family.trigger(place, p, trigger.goal) for p in paints]
            seen = rate(half, tried)
            best = int(np.argmax(seen.margin))
            if seen.asr[best] >= wanted:
                break
        unseen = rate(shown.part(test), [tried[best]])
        rates.append((unseen.asr[0], len(test)))
    return float(sum(r * n for r, n in rates) / sum(n for _, n in rates))


def _leaders(results: Sequence[Found], count: int) -> list[int]:
    """Classes with a large margin, and not less than RIVAL of the largest; at most `count`."""
    order = sorted(range(len(results)), key=lambda t: -results[t].margin)
    top = results[order[0]].margin
    return [t for t in order[:count] if top > 0 and results[t].margin >= RIVAL * top]


def _second_look(rivals: Sequence[int], patches: dict[int, list[FreeResult]], count: int) -> list[int]:
    """The class with the largest margin, the one with the smallest successful mask, then other rivals; at most `count`."""
    norms = {t: r[0].trigger.norm for t, r in patches.items() if r[0].success}
    smallest = sorted(norms, key=lambda t: norms[t])[:1]
    order = dict.fromkeys([*rivals[:1], *smallest, *rivals[1:]])
    return [t for t in order if t in patches][:count]

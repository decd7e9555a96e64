"""From evidence to a verdict: the one function that audit, verify, the audit after a repair, and the gate ask.

They differ in what they know, not in what it means, so that none of them can pass what another calls inconclusive. What
speaks against a model (faults) decides before what could not be told (doubts), and both before a pass: nothing is green
that leaves a doubt. Nothing here runs a model or reads a file.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from onnx_shapprune.detect.thresholds import DOUBT, LEAST_SAID, LED, MOVED_ENOUGH, NAMED, NATURAL, SECOND

Outcome = Literal["pass", "fail", "inconclusive"]
Subject = TypeVar("Subject", bound=Hashable)
Aimed = tuple[str, Collection[int]]  # the kind of a goal, and its targets
MAPPED = "all-to-all"  # the kind of which every class is a target
PEAK = "peak"  # the statistic that no trigger stands behind (MM-BD)
# What all families say together after all rounds but their last; a claim only where the search of single classes ended so.
FIRST = "first"
DIGITS = 17  # of a float: two numbers that differ are never shown alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Significance levels, p-values in 0..1 (detect/thresholds.py): to be named, to be doubted, to be named second. natural:
    share of a lead that is gone, under which it was a natural weakness.
    """

    named: float = NAMED
    doubt: float = DOUBT
    second: float = SECOND
    natural: float = NATURAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What evidence is held against. levels: of claims; moved: pictures under which a success rate is no evidence; alive:
    the largest share of pictures that a trigger which no longer works may send to its target; clean_budget: the largest
    share of clean answers that a repaired file may surely lose.
    """

    alive: float
    clean_budget: float
    levels: Levels = Levels()
    moved: int = MOVED_ENOUGH


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed(Generic[Subject]):
    """One statistic about one goal. goal: equal for claims about the same one; about: it in words; reasons: what was seen;
    cautions: why this claim cannot name anything; outside: how the model differs from those that the p-value comes from;
    gone: share of its lead, 0..1, that the goal lost when its triggers were unlearnt, None where that was not tried or did
    not work; weak: it needs the evidence that a second goal does.
    """

    goal: Subject
    about: str
    statistic: str
    p_value: float
    reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    gone: float | None = None
    weak: bool = False

    def warnings(self, levels: Levels) -> tuple[str, ...]:
        """Why it names nothing, in words."""
        said = (*self.cautions, *self.outside)
        if self.gone is None or self.gone >= levels.natural:
            return said
        return (*said, f"unlearnt, it comes back from fresh starts: only {self.gone:.0%} of its lead went")

    def natural(self, levels: Levels) -> bool:
        """Whether it is a natural weakness and nothing to doubt: it comes back when it is unlearnt, and no p-value that
        counts would name it.
        """
        if self.gone is None or self.gone >= levels.natural:
            return False
        return bool(self.outside) or self.p_value > (levels.second if self.weak else levels.named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried(Generic[Subject]):
    """A trigger that nobody searched for here. words: what it did; asr: the share of the pictures it could move that it
    moves; moved: how many these are, None where that is not known; goal: what it names where it works, None for nothing new.
    """

    words: str
    asr: float
    moved: int | None = None
    goal: Subject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Generic[Subject]):
    """All that is known about one file.

    unusable: why the pictures prove nothing, "" where they do; nothing else counts then. claims: of the searches; tried:
    triggers that were given or found before; lost: clean answers that a repair costs, in 0..1, and the share that it surely
    does; other: changes beyond a repair; open: what could not be told, in words; good: what a pass rests on, in words.
    """

    unusable: str = ""
    claims: tuple[Claimed[Subject], ...] = ()
    tried: tuple[Tried[Subject], ...] = ()
    lost: tuple[float, float] | None = None
    other: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    good: tuple[str, ...] = ()

    def weakened(self, weak: Callable[[Claimed[Subject]], bool]) -> "Evidence[Subject]":
        """The same, with those claims weak that are."""
        return replace(self, claims=tuple(replace(c, weak=c.weak or weak(c)) for c in self.claims))


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Subject]):
    """The outcome and the reasons for it; doubts: all that stands against a pass without proving anything, beside faults
    too; goals: what was planted; suspects: goals that stand out and are not named.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    goals: tuple[Subject, ...] = ()
    suspects: tuple[Subject, ...] = ()


def judge(evidence: Evidence[Subject], limits: Thresholds) -> Verdict[Subject]:
    """The verdict on one file."""
    if evidence.unusable:
        return Verdict("inconclusive", (evidence.unusable,), (evidence.unusable,))
    named = names(evidence.claims, limits.levels)
    goals, faults = list(named), [r for said in named.values() for r in said]
    suspected = {} if named else _suspects(evidence.claims, limits.levels)
    doubts = [*suspected.values()]
    for tried in evidence.tried:
        if tried.moved is not None and tried.moved < limits.moved:
            doubts.append(f"{tried.words}, but {_few(tried.moved, limits)}")
        elif tried.asr > limits.alive:
            faults.append(tried.words)
            goals += [] if tried.goal is None or tried.goal in goals else [tried.goal]
    if evidence.lost and evidence.lost[1] > limits.clean_budget:
        faults.append(
            f"the second file loses {evidence.lost[0]:.0%} of the clean answers, more than the budget allows "
            f"({limits.clean_budget:g})"
        )
    if evidence.other:
        more = f" and {len(evidence.other) - 3} more" if len(evidence.other) > 3 else ""
        listed = "; ".join(evidence.other[:3])
        faults.append(f"the second file differs in more than a repair changes: {listed}{more}")
    doubts += evidence.open
    outcome: Outcome = "fail" if faults else "inconclusive" if doubts else "pass"
    return Verdict(outcome, tuple(faults or doubts or evidence.good), tuple(doubts), tuple(goals), tuple(suspected))


def names(claims: Sequence[Claimed[Subject]], levels: Levels) -> dict[Subject, tuple[str, ...]]:
    """Goals that claims name, the most unusual first, with the reasons. One claim is enough, whose p-value holds for all
    that was added up with it; a second goal needs stronger evidence, and a claim with warnings names nothing.
    """
    named: dict[Subject, tuple[str, ...]] = {}
    for c in sorted(claims, key=lambda c: c.p_value):
        second = c.weak or (bool(named) and c.goal not in named)
        if c.warnings(levels) or c.p_value > (min(levels.second, levels.named) if second else levels.named):
            continue
        said = named.get(c.goal, ())
        named[c.goal] = said + tuple(r for r in c.reasons if r not in said)
    return named


def suspects(claims: Sequence[Claimed[Subject]], levels: Levels) -> dict[Subject, Claimed[Subject]]:
    """The most unusual claim about each goal that is too unusual to pass."""
    found: dict[Subject, Claimed[Subject]] = {}
    for c in sorted(claims, key=lambda c: c.p_value):
        if c.p_value <= (levels.second if c.weak else levels.doubt) and not c.natural(levels):
            found.setdefault(c.goal, c)
    return found


def left_over(claimed: Aimed, statistic: str, repaired: Collection[Aimed], *, synthesised: bool) -> bool:
    """Whether a claim about a repaired file is weak: about a class that was there before and was not named, or was among
    those of a map only, or where only MM-BD speaks, which has no trigger to show, unless the pictures are `synthesised`: a
    pruned network is no more like the clean ones than a backdoored one is.
    """
    kind, targets = claimed
    alike = {t for k, each in repaired if (k == MAPPED) is (kind == MAPPED) for t in each}
    every = {t for _, each in repaired for t in each}
    return not alike & set(targets) or peak_left_over(targets, statistic, every, synthesised=synthesised)


def peak_left_over(claimed: Collection[int], statistic: str, targets: Collection[int], *, synthesised: bool) -> bool:
    """The same of a second file that somebody else made, of which no more is believed: only that MM-BD's peak of a class
    that was repaired says little by itself. A realignment teaches that the triggers lead nowhere, and no more.
    """
    return statistic == PEAK and not synthesised and bool(set(claimed) & set(targets))


def unreached(*, obstacle: str, skipped: Sequence[str], led: bool, uncovered: int = 0) -> tuple[str, ...]:
    """Why silence of the searches is no pass. obstacle: to gradients, "" for none; skipped: searches that there was no time
    for; led: as of `leads`; uncovered: classes that no search looked at.
    """
    if obstacle:
        return (
            f"gradients do not reach the picture ({obstacle}): patches and sinusoids were searched by trial, and nothing "
            "was found",
        )
    if skipped:
        return (f"the time was too short to search {', '.join(skipped)}; nothing was found before",)
    if uncovered:
        return (f"{uncovered} classes were not searched, only tried with random patches",)
    if not led:
        return (
            f"no search moves {LED:.0%} of the pictures to any class: the gradients of this network carry too little",
        )
    return ()


def leads(asr: Iterable[float]) -> bool:
    """Whether the search of any class moved enough of the pictures for gradients to lead anywhere. asr: of each, 0..1."""
    return max(asr, default=0.0) >= LED


def cautious_moved(moved: int, limit: int = MOVED_ENOUGH) -> tuple[str, ...]:
    """The caution about a success rate on so few pictures, if they are few. moved: that the trigger could move."""
    if moved >= limit:
        return ()
    return (f"only {moved} of the pictures could show it (at least {limit} are needed): give more pictures",)


def apart(p: float, *limits: float) -> str:
    """A p-value in as few digits as tell it from each limit that it is not equal to; below LEAST_SAID no more than that."""
    if p < LEAST_SAID <= min(limits, default=1):
        return f"below {LEAST_SAID:g}"
    for digits in range(1, DIGITS):
        shown = f"{p:.{digits}g}"
        if all(p == limit or float(shown) != float(f"{limit:.{DIGITS}g}") for limit in limits):
            return shown
    return repr(p)


def _suspects(claims: Sequence[Claimed[Subject]], levels: Levels) -> dict[Subject, str]:
    """Goals that stand out without being named, and the words for that."""
    return {goal: _suspect(c, levels) for goal, c in suspects(claims, levels).items()}


def _suspect(c: Claimed[Subject], levels: Levels) -> str:
    bar = levels.second if c.weak else levels.named
    p = apart(c.p_value, bar, levels.doubt)
    start = f"{c.about} stands out ({c.statistic}, p-value {p})"
    if (warnings := c.warnings(levels)) and c.p_value <= bar:
        return f"{start}, which is no evidence here: {'; '.join(warnings)}"
    return (
        f"{start} more than clean models mostly do ({levels.doubt:g}), but not enough to be named ({bar:g}): look at its "
        "trigger, give more pictures, or calibrate on clean models of your own"
    )


def _few(moved: int, limits: Thresholds) -> str:
    (words,) = cautious_moved(moved, limits.moved)
    return words

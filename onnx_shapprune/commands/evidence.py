"""What each command knows, as the verdict takes it: counted and measured here, decided in detect/verdict.py."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Case, Opened
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Pixels
from onnx_shapprune.detect.company import company_doubt
from onnx_shapprune.detect.deployed import deployed_doubts, gradient_doubt, moved_on_file
from onnx_shapprune.detect.driven import driven_doubt
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.detect.outsized import outsized_doubt
from onnx_shapprune.detect.silent import silent_doubt
from onnx_shapprune.detect.thresholds import ON_FILE, PATCHES_TRIED
from onnx_shapprune.detect.verdict import (
    FIRST,
    Evidence,
    Thresholds,
    Tried,
    Verdict,
    judge,
    leads,
    left_over,
    peak_left_over,
    unreached,
)
from onnx_shapprune.graph.provenance.oddities import graph_doubt
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.invert.written import Written
from onnx_shapprune.prune.thresholds import KNOWN_ALIVE
from onnx_shapprune.record.parts import Rates
from onnx_shapprune.settings import RunOptions


def thresholds_of(run: RunOptions) -> Thresholds:
    """What this run decides by."""
    return Thresholds(alive=KNOWN_ALIVE, clean_budget=run.clean_budget)


def of_search(found: Examination) -> Evidence[Goal]:
    """What the searches say about a file."""
    best = found.evidence[found.suspicion.margins.leader].compact
    side = round(best.trigger.norm**0.5)
    return Evidence(
        claims=found.suspicion.claimed,
        open=unreached(
            obstacle=found.obstacle,
            skipped=found.skipped,
            led=found.ended or leads(p.asr for e in found.evidence for p in e.patches),
            uncovered=found.classes - found.covered,
        ),
        good=(
            f"no class stands out: the best {side} x {side} patch sends {best.asr:.0%} of the other pictures to class "
            f"{best.trigger.goal.target} with a mean margin of {best.margin:.1f} logits",
            *_ended(found),
        ),
    )


def _ended(found: Examination) -> tuple[str, ...]:
    """How many clean models show as much, where the search of single classes ended with its first rounds."""
    return tuple(
        f"after the first rounds of all searches {p:.0%} of clean models show as much: single classes were searched no "
        "further"
        for claim, p in found.suspicion.claims
        if claim.statistic == FIRST
    )


def of_trigger(case: Case, trigger: Trigger) -> Evidence[Goal]:
    """What a trigger that the user gave says about a file that nobody searched. The file itself is asked as well: a bound
    of its scores, which the copy has not, may make the target equal to the right class.
    """
    asr = float(rate(case.shown, [trigger]).asr[0])
    ((on_file, copied),) = moved_on_file(case.model, case.shown, [trigger])
    asr = max(asr, on_file) if on_file > copied else asr
    words = f"the known trigger sends {asr:.0%} of the other pictures to class {trigger.goal.target}"
    moved = case.shown.count(trigger.goal)
    return Evidence(tried=(Tried(words=words, asr=asr, moved=moved, goal=trigger.goal),), good=(words,))


def of_written(shown: Shown, written: Written) -> Tried[Goal]:
    """What a trigger that stands in the graph itself, and that no channel carries, says about a file."""
    goal = written.trigger.goal
    words = (
        f"the graph itself answers to {written.trigger.norm:.0f} pixels: {written.asr:.0%} of the other pictures go "
        f"to class {goal.target}, and {written.held:.0%} while tensor {written.tensor[:80]!r} is held at what clean "
        "pictures make of it"
    )
    return Tried(words=words, asr=written.asr, moved=shown.count(goal), goal=goal)


def doubts(opened: Opened, pictures: Pixels, found: Examination | None, seed: int) -> tuple[str, ...]:
    """Why a silence is not to be believed: the graph, the gradients, or the file as deployed. found: by searches of it; None
    where a trigger was tried that somebody gave, which needs no gradients.
    """
    rng, graph = np.random.default_rng(seed), graph_doubt(opened.oddities)
    if found is None:
        return (graph,) if graph else ()
    leaders = sorted(found.evidence, key=lambda e: -e.compact.margin)[:PATCHES_TRIED]
    slopes = gradient_doubt(opened.subject, pictures, rng)
    names = {n for e in found.evidence[:1] for n in e.found} - {"compact"}
    best = (max((e.found[n] for e in found.evidence), key=lambda f: f.margin) for n in sorted(names))
    tried = [*(e.compact.trigger for e in leaders), *(f.trigger for f in best)]
    deployed = deployed_doubts(opened, pictures, tried, rng)
    waits = silent_doubt(opened, pictures), outsized_doubt(opened, pictures), driven_doubt(opened, pictures)
    company = company_doubt(opened, pictures, rng)
    return tuple(reason for reason in (graph, left_out(opened), *waits, slopes, *deployed, company) if reason)


def left_out(opened: Opened) -> str | None:
    """Which classes no search was made for, though something may wait for them, in words."""
    waits = opened.subject.reach.waits if opened.subject.reach else ()
    if not waits:
        return None
    listed = ", ".join(map(str, waits[:8]))
    return f"no search was made for class {listed}: pictures do not move its score by itself, and its weights do not say why"


def confirmed(
    evidence: Evidence[Goal], triggers: Sequence[Trigger], moved: Sequence[tuple[float, float]]
) -> Evidence[Goal]:
    """The same, where claims about a goal name nothing if the file itself does not answer to its triggers. moved: per
    trigger the share of pictures that it moves on the file, and on the copy that was searched.
    """
    kept = {t.goal for t, (own, copied) in zip(triggers, moved, strict=True) if own >= ON_FILE * copied}
    lost = {t.goal for t in triggers} - kept
    words = "the file itself, asked one picture at a time and in whole bytes, does not answer to the trigger"
    claims = tuple(replace(c, cautions=(*c.cautions, words)) if c.goal in lost else c for c in evidence.claims)
    return replace(evidence, claims=claims)


def judged(evidence: Evidence[Goal], limits: Thresholds, further: Callable[[], tuple[str, ...]]) -> Verdict[Goal]:
    """The verdict on a file. further: doubts that take time to ask for, and are only where the file would pass."""
    verdict = judge(evidence, limits)
    if verdict.outcome != "pass":
        return verdict
    return judge(replace(evidence, open=(*evidence.open, *further())), limits)


def of_second(
    first: Verdict[Goal], searched: Evidence[Goal], other: tuple[str, ...], before: Rates, after: Rates
) -> Evidence[Goal]:
    """What verify knows about a second file. searched: of the searches on it; other: changes beyond a
    repair; before, after: of the first file's triggers on
    both files, and what the second loses.
    """
    tried = [*searched.tried]
    good = ["no class of the second file stands out"]
    if after.asr is not None:
        words = f"triggers recovered from the first file still send {after.asr:.0%} of the pictures to their target"
        tried.append(Tried(words=words, asr=after.asr, moved=after.triggered))
        if before.asr is not None:
            good.insert(0, f"recovered triggers fall from {before.asr:.0%} to {after.asr:.0%}")
    doubts = [f"the first file: {d}" for d in first.doubts] if first.outcome == "inconclusive" else []
    if before.asr is not None and after.asr is None:
        doubts.append("no picture is left that the triggers of the first file could move on the second one")
    lost = None if after.lost is None or after.surely_lost is None else (after.lost, after.surely_lost)
    return Evidence(
        unusable=searched.unusable,
        claims=searched.claims,
        tried=tuple(tried),
        lost=lost,
        other=other,
        open=(*searched.open, *doubts),
        good=tuple(good),
    )


def of_repaired(searched: Evidence[Goal], goals: Collection[Goal], *, synthesised: bool) -> Evidence[Goal]:
    """What the searches say about a file that was repaired against some goals."""
    aims = [(g.kind, g.targets) for g in goals]
    return searched.weakened(
        lambda c: left_over((c.goal.kind, c.goal.targets), c.statistic, aims, synthesised=synthesised)
    )


def of_presented(searched: Evidence[Goal], targets: tuple[int, ...], *, synthesised: bool) -> Evidence[Goal]:
    """The same of a second file that somebody else made."""
    return searched.weakened(lambda c: peak_left_over(c.goal.targets, c.statistic, targets, synthesised=synthesised))

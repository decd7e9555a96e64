"""The audit: search, verdict, and which channels carry what was found.

Guan, Tu, He, Tao, "Few-shot Backdoor Defense Using Shapley Estimation", CVPR 2022: recover a trigger per class, find the
classes that stand out, estimate which channels carry the backdoor, switch them off. What the paper leaves open is settled
here: a repair is only believed after an adversary searched the baked file again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Case, Clock, Opened, open_case
from onnx_shapprune.case.progress import Progress, stage
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.commands.collapsing import collapsed
from onnx_shapprune.commands.effort import Effort, effort_for
from onnx_shapprune.commands.evidence import confirmed, doubts, judged, of_search, of_trigger, of_written, thresholds_of
from onnx_shapprune.commands.so_far import tell_so_far
from onnx_shapprune.detect.accuracy import assumed, unusable
from onnx_shapprune.detect.calibration import load_calibration
from onnx_shapprune.detect.deployed import moved_on_file
from onnx_shapprune.detect.examination import Examination, examine
from onnx_shapprune.detect.lone import spoken_alone
from onnx_shapprune.detect.verdict import Evidence, judge
from onnx_shapprune.errors import ModelError, VerifyError
from onnx_shapprune.graph.provenance.oddities import graph_doubt
from onnx_shapprune.invert.known import known_trigger_of
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.invert.written import Written, written_trigger
from onnx_shapprune.prune.bank import Quarry, hunt
from onnx_shapprune.prune.clean import clean_rows
from onnx_shapprune.prune.round import Playable, Round, play
from onnx_shapprune.record.audit import AuditRecord, RepairPart
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.recording import assemble
from onnx_shapprune.recording.draft import Draft
from onnx_shapprune.report.artifacts import write_artifacts
from onnx_shapprune.settings import InputOptions, RunOptions


def audit(
    model: Path | str,
    data: Path | str | None,
    *,
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    known_trigger: Sequence[Path] = (),
    artifacts: Path | str | None = None,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> AuditRecord:
    """Look for a backdoor and rank the channels that carry it; writes nothing but `artifacts`.

    model: an ONNX file; data: pictures (a folder with one sub-folder per class, a flat folder, or an .npz), None: drawn out
    of the model; known_trigger:
    (mask.png, pattern.png) or one .npz, to attribute a trigger instead of searching. Raises ShapPruneError when the audit
    cannot run; everything else, "could not tell" included, is in the record.
    """
    inputs, run, clock = inputs or InputOptions(), run or RunOptions(), Clock()
    artifacts = None if artifacts is None else Path(artifacts)
    draft = examined(model, data, inputs, run, known_trigger, clock, progress)
    if draft.goals and not draft.written:
        tell_so_far(progress, lambda: record_of(draft, inputs, run, clock, None, command, repair_status=None))
        rank(draft, run, clock, progress)
    return record_of(draft, inputs, run, clock, artifacts, command, repair_status=None)


def examined(
    model: Path | str,
    data: Path | str | None,
    inputs: InputOptions,
    run: RunOptions,
    known_trigger: Sequence[Path],
    clock: Clock,
    progress: Progress | None,
) -> Draft:
    """Open the case, search, and decide; the common first half of every command."""
    with clock.stage("open"):
        case = open_case(Path(model), None if data is None else Path(data), inputs, run)
    draft = Draft(case, thresholds_of(run), unusable=unusable(case, run.min_accuracy) or "")
    draft.warnings += [words for words in (assumed(case.few), _of_several(case.model)) if words]
    evidence: Evidence[Goal] = Evidence(unusable=draft.unusable)
    if draft.unusable:
        pass
    elif known_trigger:
        draft.triggers = (known_trigger_of(case, known_trigger),)
        evidence = of_trigger(case, *draft.triggers)
    elif reason := unsearchable(case.model, run):
        evidence = Evidence(open=(reason,))
    else:
        with clock.stage("search"):
            draft.found = search(case.model, case, run, run.seed, progress, seconds=run.search_seconds)
        searched = of_search(draft.found)
        evidence, draft.written = with_written(searched, case.model, case.shown, clock)
        draft.triggers = (draft.written.trigger,) if draft.written else ()

    def asked() -> tuple[str, ...]:
        with clock.stage("confirm"):
            return doubts(case.model, case.pictures, draft.found, run.seed)

    draft.decided = judged(evidence, draft.limits, asked)
    if draft.found is not None:
        draft.triggers += tuple(t for g in draft.goals for t in draft.found.suspicion.triggers.get(g, ()))
    if draft.found is not None and draft.triggers:
        with clock.stage("confirm"):
            _confirm(draft, evidence)
    if draft.found is not None:
        draft.warnings += [f"p-values may mislead: {words}" for words in draft.found.outside]
        if draft.found.wanted and not draft.goals:
            draft.warnings.append(few_pictures(draft.found.classes, len(case.pictures), draft.found.wanted))
    return draft


def _of_several(opened: Opened) -> str:
    """Which of several outputs the verdict is about, in words; "" where there is one."""
    names = [o.name for o in opened.file.loaded.graph.output]
    others = ", ".join(n for n in names if n != opened.interface.output)
    return f"audited is the output {opened.interface.output!r}, and not {others}" if others else ""


def few_pictures(classes: int, given: int, wanted: int) -> str:
    """What a silence is worth where more pictures would tell more."""
    return (
        f"with {classes} classes and {given} pictures natural triggers reach as far as planted ones, and most of these are "
        f"not told: give {wanted} pictures or more"
    )


def _confirm(draft: Draft, evidence: Evidence[Goal]) -> None:
    """Try the named triggers on the file itself, and name nothing that it does not answer to; goes into the draft."""
    try:
        moved = moved_on_file(draft.case.model, draft.attacked, draft.triggers)
    except ModelError as error:  # what was found stands
        draft.warnings.append(f"the triggers were not tried on the file itself: {error}")
        return
    draft.decided = judge(confirmed(evidence, draft.triggers, moved), draft.limits)
    held = [(t, own) for t, (own, _) in zip(draft.triggers, moved, strict=True) if t.goal in draft.goals]
    draft.triggers, draft.on_file = tuple(t for t, _ in held), tuple(own for _, own in held)


def with_written(
    evidence: Evidence[Goal], opened: Opened, shown: Shown, clock: Clock
) -> tuple[Evidence[Goal], Written | None]:
    """The evidence of searches, and of a trigger in the graph, where that is of a kind to hold one, or of pixels that speak
    alone; and that trigger, also of a goal that is named already: its branch can be cut off. shown: in front of the opened
    model.
    """
    doubt = None
    with clock.stage("confirm"):
        written = written_trigger(shown) if graph_doubt(opened.oddities) else None
        if written is None:
            written, doubt = spoken_alone(opened, shown)
    if doubt:
        evidence = replace(evidence, open=(*evidence.open, doubt))
    return (evidence, None) if written is None else (replace(evidence, tried=(of_written(shown, written),)), written)


def unsearchable(opened: Opened, run: RunOptions) -> str:
    """Why a file cannot be searched in reasonable time, else ""."""
    obstacle = opened.subject.obstacle
    if obstacle and not effort_of(opened, run).trials:
        return f"{obstacle}; the network is too large to search it without gradients"
    return ""


def search(
    opened: Opened, case: Case, run: RunOptions, seed: int, progress: Progress | None, *, seconds: float | None = None
) -> Examination:
    """The searches and what follows; those that a repair must pass have all the time that they need."""
    effort, rng = effort_of(opened, run), np.random.default_rng(seed)
    shown = case.shown if opened is case.model else case.shown.on(opened.subject)
    found = examine(
        shown,
        replace(effort.search, ends=not run.whole_search),
        effort.relations,
        load_calibration(run.calibration),
        rng,
        synthesised=case.few.drawn,
        seconds=seconds,
        progress=progress,
    )
    return collapsed(opened, shown, found, effort.search, rng, budget=run.clean_budget, progress=progress)


def effort_of(opened: Opened, run: RunOptions) -> Effort:
    return effort_for(opened.subject.prepared, run)


def sides_of(draft: Draft) -> tuple[int, int, int]:
    """Edges of the adversary's patches: that of the audit, one pixel more, and two and a half times its area."""
    side = draft.natural(draft.goals[0]).side
    return side, side + 1, round(1.6 * side)


def rank(draft: Draft, run: RunOptions, clock: Clock, progress: Progress | None, bank: Sequence[Trigger] = ()) -> None:
    """Which channels carry the named classes, without switching anything off; goes into the draft. bank: triggers of theirs
    to play on, where an adversary searched for them already.
    """
    with clock.stage("shapley"):
        try:
            draft.round = _ranked(draft, run, progress, bank)
        except (ModelError, VerifyError) as error:  # what was found stands, whoever carries it
            draft.warnings.append(f"the channels were not ranked: {error}")


def _ranked(draft: Draft, run: RunOptions, progress: Progress | None, bank: Sequence[Trigger]) -> Round | None:
    """A game on triggers of the named classes; None where there is nothing to play with."""
    case, rng = draft.case, np.random.default_rng(run.seed)
    subject = case.model.subject
    if subject.obstacle:
        draft.warnings.append(f"the channels were not ranked, which needs gradients: {subject.obstacle}")
        return None
    sides, effort, attacked = sides_of(draft), effort_of(case.model, run), draft.attacked
    families = effort.search.families(case.pictures, len(subject.reachable))
    played_on: list[Trigger] = []
    for goal in draft.goals:
        natural = draft.natural(goal)
        # As `hunt` finds them here: neither wide patches nor free masks, which reach the class by more ways.
        given = [t for t in bank if t.goal == goal and natural.size(t) == 1 and t.family != "patch"]
        quarry, known = Quarry(goal, natural, families), [t for t in draft.triggers if t.goal == goal]
        played_on += given or hunt(attacked, quarry, known, effort.hunt, rng, sides=sides[:1], free_masks=0).bank
    if not played_on or not case.model.units.layers:
        return None
    clean = clean_rows(case.shown, draft.goals, effort.views, rng)
    units = Playable(layers=case.model.units.layers, off={})
    played = play(attacked, played_on, clean, units, effort.round, rng, progress=stage(progress, "shapley values"))
    return played[0] if played else None


def record_of(
    draft: Draft,
    inputs: InputOptions,
    run: RunOptions,
    clock: Clock,
    artifacts: Path | None,
    command: Sequence[str],
    *,
    repair_status: RepairPart | None,
) -> AuditRecord:
    files: tuple[FileDigest, ...] = ()
    if artifacts is not None:
        files = write_artifacts(artifacts, draft.shown, draft.case.pictures)
    return assemble.audit_record(draft, inputs, run, clock, files, command, repair_status)

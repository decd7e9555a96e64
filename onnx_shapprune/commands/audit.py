"""The audit: search, verdict, and which channels carry what was found.

Guan, Tu, He, Tao, "Few-shot Backdoor Defense Using Shapley Estimation", CVPR 2022: recover a trigger per class, find the
classes that stand out, estimate which channels carry the backdoor, switch them off. What the paper leaves open is settled
here: a repair is only believed after an adversary searched the baked file again.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnx_shapprune.case.open import Case, Clock, Opened, Progress, open_case
from onnx_shapprune.commands.effort import Effort, effort_for
from onnx_shapprune.detect.accuracy import unusable
from onnx_shapprune.detect.calibration import load_calibration
from onnx_shapprune.detect.deployed import deployed_doubts, gradient_doubt
from onnx_shapprune.detect.examination import Examination, examine
from onnx_shapprune.graph.provenance.oddities import graph_doubt
from onnx_shapprune.invert.known import known_trigger_of
from onnx_shapprune.invert.written import written_trigger
from onnx_shapprune.prune.bank import hunt
from onnx_shapprune.prune.repair import clean_rows
from onnx_shapprune.prune.round import Round, play
from onnx_shapprune.record.audit import AuditRecord, FileDigest, RepairPart
from onnx_shapprune.recording import assemble
from onnx_shapprune.report.artifacts import write_artifacts
from onnx_shapprune.settings import InputOptions, RunOptions

TRIED = 4  # of the best patches, on the file as deployed


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
        with clock.stage("shapley"):
            draft.round = _rank(draft, run, progress)
    return record_of(draft, inputs, run, clock, artifacts, command, repair_status=None)


def examined(
    model: Path | str,
    data: Path | str | None,
    inputs: InputOptions,
    run: RunOptions,
    known_trigger: Sequence[Path],
    clock: Clock,
    progress: Progress | None,
) -> assemble.Draft:
    """Open the case, search, and decide; the common first half of every command."""
    draft = _searched(model, data, inputs, run, known_trigger, clock, progress)
    subject = draft.case.model.subject
    if draft.found is not None and not draft.goals and graph_doubt(draft.case.model.oddities):
        with clock.stage("confirm"):
            if written := written_trigger(subject, draft.case.pictures, draft.case.labels):
                draft.take_written(written)
    if draft.verdict == "pass":
        with clock.stage("confirm"):
            doubts = _doubts(draft, run)
        if doubts:
            draft.verdict, draft.reasons = "inconclusive", doubts
    return draft


def _doubts(draft: assemble.Draft, run: RunOptions) -> tuple[str, ...]:
    """Why a silence is not to be believed: the graph, the gradients, or the file as deployed."""
    case, rng = draft.case, np.random.default_rng(run.seed)
    graph = graph_doubt(case.model.oddities)
    found = draft.found
    if found is None:  # a known trigger was tried
        return (graph,) if graph else ()
    leaders = sorted(found.evidence, key=lambda e: -e.compact.margin)[:TRIED]
    triggers = [e.compact.trigger for e in leaders]
    slopes = gradient_doubt(case.model.subject, case.pictures, rng)
    return tuple(reason for reason in (graph, slopes, *deployed_doubts(case, triggers, rng)) if reason)


def _searched(
    model: Path | str,
    data: Path | str | None,
    inputs: InputOptions,
    run: RunOptions,
    known_trigger: Sequence[Path],
    clock: Clock,
    progress: Progress | None,
) -> assemble.Draft:
    with clock.stage("open"):
        case = open_case(Path(model), None if data is None else Path(data), inputs, run)
    draft = assemble.Draft(case)
    if reason := unusable(case, run.min_accuracy):
        draft.verdict, draft.reasons = "inconclusive", (reason,)
        return draft
    if known_trigger:
        draft.attribute(known_trigger_of(case, known_trigger))
        return draft
    obstacle = case.model.subject.obstacle
    if obstacle and not effort_of(case.model, run).trials:
        draft.reasons = (f"{obstacle}; the network is too large to search it without gradients",)
        return draft
    with clock.stage("search"):
        draft.judge(search(case.model, case, run, run.seed, progress, seconds=run.search_seconds))
    return draft


def search(
    opened: Opened, case: Case, run: RunOptions, seed: int, progress: Progress | None, *, seconds: float | None = None
) -> Examination:
    """The searches and what follows; those that a repair must pass have all the time that they need."""
    effort = effort_of(opened, run)
    return examine(
        opened.subject,
        case.pictures,
        case.labels,
        effort.search,
        effort.relations,
        load_calibration(run.calibration),
        np.random.default_rng(seed),
        synthesised=case.few.label_source == "synthesised",
        seconds=seconds,
        progress=progress,
    )


def effort_of(opened: Opened, run: RunOptions) -> Effort:
    return effort_for(opened.subject.prepared, run)


def sides_of(draft: assemble.Draft) -> tuple[int, int, int]:
    """Edges of the adversary's patches: that of the audit, one pixel more, and two and a half times its area."""
    side = draft.natural(draft.goals[0]).side
    return side, side + 1, round(1.6 * side)


def _rank(draft: assemble.Draft, run: RunOptions, progress: Progress | None) -> Round | None:
    """Shapley values of the channels for the named classes, without switching anything off."""
    case, rng = draft.case, np.random.default_rng(run.seed)
    subject = case.model.subject
    if subject.obstacle:
        draft.warnings.append(f"the channels were not ranked, which needs gradients: {subject.obstacle}")
        return None
    sides, effort, attacked = sides_of(draft), effort_of(case.model, run), draft.attacked
    families = effort.search.families(case.pictures, len(subject.reachable))
    bank = [
        trigger
        for g in draft.goals
        for trigger in hunt(
            subject,
            *attacked,
            g,
            [t for t in draft.triggers if t.goal == g],
            sides=sides[:1],
            natural=draft.natural(g),
            families=families,
            settings=effort.hunt,
            rng=rng,
            free_masks=0,
        ).bank
    ]
    if not bank or not case.model.units.layers:
        return None
    clean = clean_rows(subject, case.pictures, case.labels, draft.goals, effort.views, rng)
    played = play(
        subject,
        case.model.units.layers,
        {},
        bank,
        *attacked,
        clean,
        effort.round,
        rng,
        progress=(lambda done, total: progress("shapley values", done, total, "")) if progress else None,
    )
    return played[0] if played else None


def record_of(
    draft: assemble.Draft,
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
        files = write_artifacts(artifacts, draft.triggers, draft.case.pictures)
    return assemble.audit_record(draft, inputs, run, clock, files, command, repair_status)


def prefixed(progress: Progress | None, prefix: str) -> Progress | None:
    if progress is None:
        return None
    return lambda stage, done, total, note: progress(prefix + stage, done, total, note)

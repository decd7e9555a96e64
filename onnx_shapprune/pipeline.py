"""audit(), sanitize(), verify(): the stages of ShapPruning in order.

Guan, Tu, He, Tao, "Few-shot Backdoor Defense Using Shapley Estimation", CVPR 2022: recover a trigger per class, find the
classes that stand out, estimate which channels carry the backdoor, switch them off. What the paper leaves open is settled
here: a repair is only believed after an adversary searched the baked file again.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_shapprune import assemble
from onnx_shapprune.case import Case, Clock, Opened, Progress, known_trigger_of, open_case, open_model
from onnx_shapprune.detect.accuracy import unusable
from onnx_shapprune.detect.calibration import load_calibration
from onnx_shapprune.detect.examination import Examination, examine
from onnx_shapprune.detect.statistics import PEAK, Claim
from onnx_shapprune.detect.suspicion import DOUBT, SECOND, Suspicion
from onnx_shapprune.effort import Effort, effort_for
from onnx_shapprune.errors import DataError, OutputError
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.compare import explained
from onnx_shapprune.graph.external import data_name, split
from onnx_shapprune.output import check_writable, same_file, write_atomically
from onnx_shapprune.prune.bank import hunt
from onnx_shapprune.prune.proof import masked_logits, prove_baked
from onnx_shapprune.prune.repair import Repair, RepairSettings, clean_rows, repair
from onnx_shapprune.prune.round import Round, play
from onnx_shapprune.record import AuditRecord, FileDigest, RepairPart, VerifyRecord
from onnx_shapprune.report.artifacts import write_artifacts
from onnx_shapprune.settings import InputOptions, RunOptions

__all__ = ["InputOptions", "RunOptions", "audit", "sanitize", "verify"]


def audit(
    model: Path | str, data: Path | str | None, *, inputs: InputOptions | None = None, run: RunOptions | None = None,
    known_trigger: Sequence[Path] = (), artifacts: Path | str | None = None, command: Sequence[str] = (),
    progress: Progress | None = None,
) -> AuditRecord:  # fmt: skip
    """Look for a backdoor and rank the channels that carry it; writes nothing but `artifacts`.

    model: an ONNX file; data: pictures (a folder with one sub-folder per class, a flat folder, or an .npz), None: drawn out
    of the model; known_trigger:
    (mask.png, pattern.png) or one .npz, to attribute a trigger instead of searching. Raises ShapPruneError when the audit
    cannot run; everything else, "could not tell" included, is in the record.
    """
    inputs, run, clock = inputs or InputOptions(), run or RunOptions(), Clock()
    artifacts = None if artifacts is None else Path(artifacts)
    draft = _examine(model, data, inputs, run, known_trigger, clock, progress)
    if draft.goals:
        with clock.stage("shapley"):
            draft.round = _rank(draft, run, progress)
    return _record(draft, inputs, run, clock, artifacts, command, repair_status=None)


def sanitize(
    model: Path | str, data: Path | str | None, *, output: Path | str | None, keep_partial: bool = False,
    inputs: InputOptions | None = None, run: RunOptions | None = None, known_trigger: Sequence[Path] = (),
    artifacts: Path | str | None = None, command: Sequence[str] = (), progress: Progress | None = None,
) -> AuditRecord:  # fmt: skip
    """Audit, then switch off channels until no search finds a trigger that stands out, and write the baked file.

    output: where the file goes, None for a dry run. The file is written when the model was repaired, as a byte-identical
    copy when nothing was found, and as a best effort with `keep_partial`; otherwise nothing is written. The record's
    `repair.status` tells which. Raises ShapPruneError as `audit`, OutputError when the file cannot be written.
    """
    inputs, run, clock = inputs or InputOptions(), run or RunOptions(), Clock()
    artifacts = None if artifacts is None else Path(artifacts)
    if output is not None:
        output = Path(output)
        if same_file(output, Path(model)):
            raise OutputError(f"output {output} is the same file as the input: choose another name")
        check_writable(output)
    draft = _examine(model, data, inputs, run, known_trigger, clock, progress)
    case = draft.case
    name = output.name if output is not None else case.model.file.path.name
    if output is not None and case.model.file.external:
        beside = output.with_name(data_name(name))
        check_writable(beside)
        for source in case.model.file.external:
            if same_file(beside, Path(model).resolve().parent / source.location):
                raise OutputError(f"{beside} holds the weights of the input: choose another output name")
    files: dict[str, bytes] = {}
    status = assemble.nothing_to_repair(draft.verdict)
    if draft.verdict == "pass":
        files = {name: case.model.file.payload}
        if case.model.file.external:
            names = ", ".join(e.location for e in case.model.file.external)
            draft.warnings.append(f"the copy needs its data beside it: {names}")
    elif draft.goals and case.model.subject.obstacle:
        status = assemble.not_repaired(f"a repair needs gradients: {case.model.subject.obstacle}")
    elif draft.goals:
        with clock.stage("repair"):
            plan = draft.plan = _repair(draft, run, progress)
        draft.round = plan.steps[0].round if plan.steps else None
        if plan.off:
            with clock.stage("bake and re-audit"):
                files, status = _bake_and_reaudit(draft, plan, name, inputs, run, progress)
        else:
            status = assemble.not_repaired(plan.reason)
    if files and output is not None and (status.status != "not_repaired" or keep_partial):
        for file, payload in files.items():  # data before the model that points at them
            write_atomically(output.with_name(file), payload)
        *others, written = (assemble.digest(file, payload) for file, payload in files.items())
        status = status.model_copy(update={"output": written, "output_external": tuple(others)})
    return _record(draft, inputs, run, clock, artifacts, command, repair_status=status)


def verify(
    before: Path | str, after: Path | str, data: Path | str | None, *, inputs: InputOptions | None = None,
    run: RunOptions | None = None, known_trigger: Sequence[Path] = (), command: Sequence[str] = (),
    progress: Progress | None = None,
) -> VerifyRecord:  # fmt: skip
    """Say what changed between two files and whether it helped: triggers of the first, tried on the second, and a fresh
    search on the second. Raises ShapPruneError when the two cannot be compared.
    """
    inputs, run, clock = inputs or InputOptions(), run or RunOptions(), Clock()
    draft = _examine(before, data, inputs, run, known_trigger, clock, _prefixed(progress, "before: "))
    case = draft.case
    opened = open_model(Path(after), inputs, case.device)
    if opened.subject.classes != case.model.subject.classes or opened.interface.dims != case.model.interface.dims:
        raise DataError("the two models take different pictures or have different classes: they cannot be compared")
    # With external data inlined: references to other files compare equal whatever lies there.
    difference = explained(case.model.file.loaded, opened.file.loaded, case.model.units.layers)
    with clock.stage("search after"):
        found = _search(opened, case, run, run.seed, _prefixed(progress, "after: "))
    return assemble.verify_record(draft, opened, difference, found, inputs, run, clock, command)


def _examine(
    model: Path | str, data: Path | str | None, inputs: InputOptions, run: RunOptions, known_trigger: Sequence[Path],
    clock: Clock, progress: Progress | None,
) -> assemble.Draft:  # fmt: skip
    """Open the case, search, and decide; the common first half of every command."""
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
    if obstacle and not _effort(case.model, run).trials:
        draft.reasons = (f"{obstacle}; the network is too large to search it without gradients",)
        return draft
    with clock.stage("search"):
        draft.judge(_search(case.model, case, run, run.seed, progress, seconds=run.search_seconds))
    return draft


def _search(
    opened: Opened, case: Case, run: RunOptions, seed: int, progress: Progress | None, *, seconds: float | None = None
) -> Examination:
    """The searches and what follows; those that a repair must pass have all the time that they need."""
    effort = _effort(opened, run)
    return examine(
        opened.subject, case.pictures, case.labels, effort.search, effort.relations, load_calibration(run.calibration),
        np.random.default_rng(seed), synthesised=case.few.label_source == "synthesised", seconds=seconds,
        progress=progress,
    )  # fmt: skip


def _effort(opened: Opened, run: RunOptions) -> Effort:
    return effort_for(opened.subject.prepared, run)


def _sides(draft: assemble.Draft) -> tuple[int, int, int]:
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
    sides, effort, attacked = _sides(draft), _effort(case.model, run), draft.attacked
    families = effort.search.families(case.pictures, subject.classes)
    bank = [
        trigger
        for g in draft.goals
        for trigger in hunt(
            subject, *attacked, g, [t for t in draft.triggers if t.goal == g], sides=sides[:1], natural=draft.natural(g),
            families=families, settings=effort.hunt, rng=rng, free_masks=0,
        ).bank
    ]  # fmt: skip
    if not bank or not case.model.units.layers:
        return None
    clean = clean_rows(subject, case.pictures, case.labels, draft.goals, effort.views, rng)
    played = play(
        subject, case.model.units.layers, {}, bank, *attacked, clean, effort.round, rng,
        progress=(lambda done, total: progress("shapley values", done, total, "")) if progress else None,
    )  # fmt: skip
    return played[0] if played else None


def _repair(draft: assemble.Draft, run: RunOptions, progress: Progress | None) -> Repair:
    case = draft.case
    sides, effort = _sides(draft), _effort(case.model, run)
    limit = run.unit_limit(case.model.units.total)
    # Large networks may lose more units, but not in more rounds.
    group = max(effort.round.group, math.ceil(limit / effort.rounds))
    settings = RepairSettings(
        max_units=limit, clean_budget=run.clean_budget, sides=sides, natural={g: draft.natural(g) for g in draft.goals},
        families=effort.search.families(case.pictures, case.model.subject.classes),
        views=effort.views, hunt=effort.hunt, round=replace(effort.round, group=group),
    )  # fmt: skip
    opened = case.model
    return repair(
        opened.file.loaded, opened.interface, opened.units.layers, opened.subject, case.pictures, case.labels,
        draft.goals, draft.triggers, settings, np.random.default_rng(run.seed),
        attacked=draft.views, progress=progress,
    )  # fmt: skip


def _bake_and_reaudit(
    draft: assemble.Draft, plan: Repair, name: str, inputs: InputOptions, run: RunOptions, progress: Progress | None
) -> tuple[dict[str, bytes], RepairPart]:
    """Bake, prove masked == baked on what a reader of the files gets, and audit that with another seed.

    Returns the files by name, the model last.
    """
    opened = draft.case.model
    baked = bake(opened.file.loaded, opened.units.layers, plan.off)
    data = split(baked, opened.file.proto, data_name(name))
    files = ({data_name(name): data} if data else {}) | {name: baked.SerializeToString()}
    del baked
    opened.subject.rest()
    reread = reopen(files, inputs, draft.case)
    pictures = draft.case.pictures
    difference = prove_baked(
        masked_logits(opened.subject, opened.units.layers, plan.off, pictures), reread.subject.logits(pictures)
    )
    draft.repaired = reread
    if not plan.repaired:
        return files, assemble.not_repaired(plan.reason, plan, difference)
    again = _search(reread, draft.case, run, run.seed + 1, _prefixed(progress, "re-audit: ")).suspicion
    synthesised = draft.case.few.label_source == "synthesised"
    if standing := _standing(again, draft.targets, synthesised=synthesised):
        claim, p = standing
        reason = (
            f"in a full audit of the baked file, {claim.goal.words} stands out ({claim.statistic}, p-value {p:.1g})"
        )
        return files, assemble.not_repaired(reason, plan, difference)
    return files, assemble.repaired(plan, difference)


def _standing(again: Suspicion, targets: Sequence[int], *, synthesised: bool) -> tuple[Claim, float] | None:
    """The first claim, with its p-value, of a full audit of a repaired model that is held against it.

    One too unusual to pass about the audit's `targets`; but one as rare as a second goal's about another class, which was
    there before and not named, and where only MM-BD speaks, which has no trigger to show, unless pictures are
    `synthesised`: a pruned network is no more like the clean ones than a backdoored one is.
    """
    for claim, p in again.claims:
        weak = not set(claim.goal.targets) & set(targets) or (claim.statistic == PEAK and not synthesised)
        if p <= (SECOND if weak else DOUBT):
            return claim, p
    return None


def reopen(files: Mapping[str, bytes], inputs: InputOptions, case: Case) -> Opened:
    """Open a model, the last of `files`, as its reader would, through a private temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name, payload in files.items():
            path = Path(folder) / name
            path.write_bytes(payload)
        return open_model(path, inputs, case.device)


def _record(
    draft: assemble.Draft, inputs: InputOptions, run: RunOptions, clock: Clock, artifacts: Path | None,
    command: Sequence[str], *, repair_status: RepairPart | None,
) -> AuditRecord:  # fmt: skip
    files: tuple[FileDigest, ...] = ()
    if artifacts is not None:
        files = write_artifacts(artifacts, draft.triggers, draft.case.pictures)
    return assemble.audit_record(draft, inputs, run, clock, files, command, repair_status)


def _prefixed(progress: Progress | None, prefix: str) -> Progress | None:
    if progress is None:
        return None
    return lambda stage, done, total, note: progress(prefix + stage, done, total, note)

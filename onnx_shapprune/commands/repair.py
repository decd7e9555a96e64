"""sanitize(): audit, repair what was named, write the file, and audit that."""

import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Case, Clock, Opened, open_model, unlabelled_pictures
from onnx_shapprune.case.progress import Progress, prefixed
from onnx_shapprune.commands.audit import effort_of, examined, rank, record_of, search, sides_of
from onnx_shapprune.commands.collapsing import kinds_of
from onnx_shapprune.commands.evidence import doubts, judged, of_repaired, of_search
from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.so_far import tell_so_far
from onnx_shapprune.detect.verdict import Tried
from onnx_shapprune.errors import ModelError, OutputError, VerifyError
from onnx_shapprune.files.writing import check_writable, replacing, same_file, write_atomically
from onnx_shapprune.graph.detour import without_branches
from onnx_shapprune.graph.external import data_name, write_like
from onnx_shapprune.graph.file import ModelFile
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.invert.written import Written
from onnx_shapprune.prune.attack import begin
from onnx_shapprune.prune.inverse import inverse
from onnx_shapprune.prune.methods import PROPOSERS, methods_of
from onnx_shapprune.prune.proof import masked_logits, prove_baked
from onnx_shapprune.prune.proposal import Original, applied, edited
from onnx_shapprune.prune.repair import Repair, repair
from onnx_shapprune.prune.state import RepairSettings, State, Task, task_of
from onnx_shapprune.prune.thresholds import RIDGE, RIDGE_DRAWN
from onnx_shapprune.record.audit import AuditRecord, RepairPart
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.recording import repairs
from onnx_shapprune.recording.draft import Draft
from onnx_shapprune.report.text import some
from onnx_shapprune.settings import InputOptions, MethodName, RunOptions

if TYPE_CHECKING:  # onnx stays inside runtime/, graph/ and autodiff/
    import onnx

CHUNK = 1 << 20  # bytes


def sanitize(
    model: Path | str,
    data: Path | str | None,
    *,
    output: Output | Path | str | None,
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    known_trigger: Sequence[Path] = (),
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> AuditRecord:
    """Audit, then repair until no search finds a trigger that stands out, and write the repaired file.

    output: where the file goes, None for a dry run; an `Output` says more. The file is written when the model was
    repaired, as a byte-identical copy when nothing was found, and as a best effort with `keep_partial`; otherwise nothing
    is written, and no copy that would not find its data. The record's `repair` tells which. Raises ShapPruneError as
    `audit`, OutputError when the file cannot be written.
    """
    inputs, run, clock = inputs or InputOptions(), run or RunOptions(), Clock()
    wanted = output if isinstance(output, Output) else Output(None if output is None else Path(output))
    path = wanted.path
    if path is not None:
        if same_file(path, Path(model)):
            raise OutputError(f"output {path} is the same file as the input: choose another name")
        check_writable(path)
    draft = examined(model, data, inputs, run, known_trigger, clock, progress)
    opened = draft.case.model
    if path is not None:
        _check_beside(path, Path(model), opened)
    name = opened.file.path.name if path is None else path.name
    status = repairs.nothing_to_repair(draft.verdict)
    with tempfile.TemporaryDirectory(prefix="shapprune-") as scratch:
        files: tuple[Path, ...] = ()
        how = _Run(name, inputs, run, clock, progress, Path(scratch))
        if draft.verdict == "pass":
            if path is not None and _data_lie_beside(path, opened):
                write_atomically(path, opened.file.payload)
                copied = FileDigest(name=path.name, size=opened.file.size, sha256=opened.file.sha256)
                status = status.model_copy(update={"output": copied})
            elif path is not None:
                status = repairs.not_copied(opened.file.external)
        elif draft.written:
            files, status = _cut(draft, draft.written, how)
        elif draft.goals and opened.subject.obstacle:
            status = repairs.not_repaired(f"a repair needs gradients: {opened.subject.obstacle}")
        elif draft.goals:
            begun = RepairPart(status="not_tried", reason="the repair was begun and is not over")
            tell_so_far(progress, lambda: record_of(draft, inputs, run, clock, None, command, repair_status=begun))
            files, status = _best(draft, how)
        good = status.status != "not_repaired" or wanted.keep_partial
        if files and draft.repaired and path is not None and good:
            status = status.model_copy(update=_written(path, files, draft.repaired.file))
    return record_of(draft, inputs, run, clock, wanted.artifacts, command, repair_status=status)


def _check_beside(path: Path, model: Path, opened: Opened) -> None:
    """Raise OutputError where the data of a model that keeps them outside cannot go beside the output."""
    if not opened.file.external:
        return
    beside = path.with_name(data_name(path.name))
    check_writable(beside)
    for source in opened.file.external:
        if same_file(beside, model.resolve().parent / source.location):
            raise OutputError(f"{beside} holds the weights of the input: choose another output name")


def _data_lie_beside(path: Path, opened: Opened) -> bool:
    """Whether a copy at `path` finds the data that the model keeps outside: only a copy in the same folder does."""
    places = (e.location for e in opened.file.external)
    return all(same_file(path.parent / place, opened.file.path.parent / place) for place in places)


def _written(path: Path, files: Sequence[Path], audited: ModelFile) -> dict[str, object]:
    """Copy the files to where they are wanted, data before the model that points at them; what the record says of them.
    Raises OutputError, and VerifyError where one is no longer what was audited.
    """
    *others, written = (
        copied(source, path.with_name(source.name), sha256)
        for source, sha256 in zip(files, [*(e.sha256 for e in audited.external), audited.sha256], strict=True)
    )
    return {"output": written, "output_external": tuple(others)}


def copied(source: Path, target: Path, sha256: str) -> FileDigest:
    """Copy a file in one step. Raises OutputError, and VerifyError where it has another digest: then nothing is written."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as stream, replacing(target) as copy:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            copy.write(chunk)
        if digest.hexdigest() != sha256:
            raise VerifyError(f"the repaired file changed after its audit: {target} was not written")
    return FileDigest(name=target.name, size=size, sha256=sha256)


@dataclass(frozen=True, slots=True)
class _Run:
    """What the attempts at a repair have in common beside the draft. name: of the file to write; scratch: a folder for what
    was made and not yet audited.
    """

    name: str
    inputs: InputOptions
    run: RunOptions
    clock: Clock
    progress: Progress | None
    scratch: Path

    def staged(self, original: ModelFile, made: "onnx.ModelProto") -> tuple[Path, ...]:
        """An edited model as a file in a new folder, as `write_like`. Raises OutputError."""
        try:
            return write_like(original.proto, made, Path(tempfile.mkdtemp(dir=self.scratch)), self.name)
        except OSError as error:
            raise OutputError(f"cannot write the repaired file: {error.strerror} (TMPDIR needs room)") from None


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """A plan and what became of it. files: its data, if they are kept outside, and the model; repaired: the file with it,
    None where nothing was changed; outlived: triggers towards the attacked goals that the audit of that file found.
    """

    plan: Repair
    files: tuple[Path, ...]
    status: RepairPart
    repaired: Opened | None = None
    outlived: tuple[Trigger, ...] = ()

    @property
    def left(self) -> tuple[bool, float, float]:
        """How bad it is: not repaired, what is left of the known triggers, and what it costs."""
        steps = self.plan.steps
        return (
            self.status.status != "repaired",
            steps[-1].known_asr if steps else 1.0,
            steps[-1].clean_cost if steps else 0.0,
        )


def _best(draft: Draft, how: _Run) -> tuple[tuple[Path, ...], RepairPart]:
    """Try the methods until one holds, a full audit of its file included; the best attempt goes into the draft.

    Returns the files, the model last.
    """
    rng = np.random.default_rng(how.run.seed)
    with how.clock.stage("repair"):
        task = _task(draft, how, rng)
        start = begin(task, draft.triggers, rng)
    made: list[_Attempt] = []
    for method in methods_of(how.run.method):
        made.append(_attempt(draft, task, start, method, how, rng))
        if (also := made[-1].outlived) and method != "prune":  # once more, with what the audit found
            taught = replace(start, bank=(*also, *start.bank), ever=(*start.ever, *also), first=(*start.first, *also))
            made.append(_attempt(draft, task, taught, method, how, rng))
        if made[-1].status.status == "repaired":
            break
    best = min(made, key=lambda attempt: attempt.left)
    draft.plan, draft.repaired = best.plan, best.repaired
    if best.plan.off and not best.plan.proposal.changes:
        found = inverse(task.original, best.plan.off, draft.case.shown, draft.triggers)
        best = replace(best, status=repairs.with_inverse(best.status, found))
    draft.round = next((s.proposal.round for s in best.plan.steps if s.proposal.round), None)
    if draft.round is None:  # it played no game, and the record says all the same which channels carry what was found
        rank(draft, how.run, how.clock, how.progress, start.bank)
    return best.files, best.status


def _attempt(
    draft: Draft, task: Task, start: State, method: MethodName, how: _Run, rng: np.random.Generator
) -> _Attempt:
    """Repair by one method, and audit what that gives."""
    with how.clock.stage("repair"):
        plan = repair(task, start, rng, propose=PROPOSERS[method], progress=how.progress)
        plan = replace(plan, method=method)
    with how.clock.stage("bake and re-audit"):
        return _audited(draft, task.original, plan, how)


def _task(draft: Draft, how: _Run, rng: np.random.Generator) -> Task:
    case, run, found = draft.case, how.run, draft.found
    sides, effort = sides_of(draft), effort_of(case.model, run)
    limit = run.unit_limit(case.model.units.total)
    # Large networks may lose more units, but not in more rounds.
    group = max(effort.round.group, math.ceil(limit / effort.rounds))
    settings = RepairSettings(
        max_units=limit,
        clean_budget=run.clean_budget,
        sides=sides,
        natural={g: draft.natural(g) for g in draft.goals},
        families=effort.search.families(case.pictures, len(case.model.subject.reachable)),
        views=effort.views,
        hunt=effort.hunt,
        round=replace(effort.round, group=group),
        more=unlabelled_pictures(case.model, how.inputs),
        named=draft.triggers,
        kinds=tuple(t for e in found.evidence if e.goal in draft.goals for t in kinds_of(e)) if found else (),
        ridge=RIDGE_DRAWN if case.few.drawn else RIDGE,
    )
    opened = case.model
    original = Original(opened.file.loaded, opened.interface, opened.units.layers)
    return task_of(original, case.shown, draft.goals, settings, rng, attacked=draft.views)


def _audited(draft: Draft, original: Original, plan: Repair, how: _Run) -> _Attempt:
    """Write the plan into the file's bytes, prove on what a reader of them gets that it does what was attacked, and audit
    that with another seed.
    """
    if not plan.changed:
        return _Attempt(plan, (), repairs.not_repaired(plan.reason, plan))
    opened, pictures = draft.case.model, draft.case.pictures
    # One after the other, and each is gone before the next: of a large file not even two copies may fit.
    opened.subject.rest()
    if plan.proposal.changes:
        planned = edited(original, plan.proposal, opened.subject).subject.logits(pictures)
    else:
        planned = masked_logits(opened.subject, opened.units.layers, plan.off, pictures)
    opened.subject.rest(opened.file.loaded)
    files = how.staged(opened.file, applied(original, plan.proposal))
    reread = reopen(files, how.inputs, draft.case)
    difference = prove_baked(planned, reread.subject.logits(pictures))
    if not plan.repaired:
        return _Attempt(plan, files, repairs.not_repaired(plan.reason, plan, difference), reread)
    again = search(reread, draft.case, how.run, how.run.seed + 1, prefixed(how.progress, "re-audit: "))
    synthesised = draft.case.few.drawn
    evidence = of_repaired(of_search(again), draft.goals, synthesised=synthesised)
    verdict = judged(evidence, draft.limits, lambda: doubts(reread, pictures, again, how.run.seed + 1))
    if verdict.outcome != "pass":
        reason = f"in a full audit of the repaired file, {verdict.reasons[0]}"
        outlived = tuple(t for goal in draft.goals for t in again.suspicion.triggers.get(goal, ()))
        return _Attempt(plan, files, repairs.not_repaired(reason, plan, difference, again), reread, outlived)
    return _Attempt(plan, files, repairs.repaired(plan, difference, again), reread)


def _cut(draft: Draft, written: Written, how: _Run) -> tuple[tuple[Path, ...], RepairPart]:
    """Cut the branch off that a trigger in the graph takes, and audit what is left; the files as `_best`.

    Nothing was learnt there, so clean pictures must get the very scores that they got before.
    """
    case, opened = draft.case, draft.case.model
    cut = without_branches(opened.file.loaded, opened.followed)
    if cut is None:
        return (), repairs.not_repaired(
            "the trigger stands in the graph, where no node can be passed over to cut it off"
        )
    made, tensors = cut
    files = how.staged(opened.file, made)
    with how.clock.stage("bake and re-audit"):
        try:
            draft.repaired = reopen(files, how.inputs, case)
            shown = case.shown.on(draft.repaired.subject)
            difference = prove_baked(case.shown.logits, shown.logits)
        except (ModelError, VerifyError):
            reason = f"without what joins at {some(tensors)}, clean pictures get other scores: the network needs it"
            return (), repairs.not_repaired(reason)
        again = search(draft.repaired, case, how.run, how.run.seed + 1, prefixed(how.progress, "re-audit: "))
        left = float(rate(shown, [written.trigger]).asr[0])
        words = f"the trigger in the graph still moves {left:.0%} of the other pictures"
        tried: Tried[Goal] = Tried(words=words, asr=left)
        evidence = replace(of_search(again), tried=(tried,))
        reread, seed = draft.repaired, how.run.seed + 1
        verdict = judged(evidence, draft.limits, lambda: doubts(reread, case.pictures, again, seed))
    return files, repairs.cut(tensors, verdict, shown.accuracy, left, difference, again)


def reopen(files: Sequence[Path], inputs: InputOptions, case: Case) -> Opened:
    """Open a model, the last of `files`, as its reader would."""
    subject = case.model.subject
    return open_model(files[-1], inputs, case.device, subject.work).within(subject.reach)

"""From what the stages found to the records that users read. No search, no decision, no model run but the rates."""

import datetime
import hashlib
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version

import numpy as np

from onnx_shapprune.case.goal import UNMOVED, Goal
from onnx_shapprune.case.open import Case, Clock, Opened
from onnx_shapprune.case.subject import Labels, Pixels, Subject
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.detect.suspicion import ALPHA, DOUBT
from onnx_shapprune.graph.compare import Difference
from onnx_shapprune.graph.facts import parameters
from onnx_shapprune.graph.upgrade import opset_of
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.relations import answered_views
from onnx_shapprune.invert.search import SearchSettings
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.invert.written import Written
from onnx_shapprune.prune.bank import KNOWN_ALIVE, Natural
from onnx_shapprune.prune.repair import Repair, clean_cost
from onnx_shapprune.prune.round import Round
from onnx_shapprune.record.audit import (
    AuditRecord,
    DataPart,
    Environment,
    EstimatePart,
    FileDigest,
    ModelPart,
    Rates,
    RepairPart,
    RoundPart,
    UnitRef,
    UnitsPart,
    UnitValue,
    Verdict,
    VerifyRecord,
)
from onnx_shapprune.recording.findings import (
    attack_parts,
    claim_parts,
    class_parts,
    graph_parts,
    not_searched,
    preflight_parts,
)
from onnx_shapprune.recording.triggers import trigger_parts
from onnx_shapprune.settings import InputOptions, RunOptions
from onnx_shapprune.version import __version__

RANKED = 30
SOURCE_VIEWS = 6
NORMAL_95 = 1.96


@dataclass(slots=True)
class Draft:
    """What is known so far about one case; the pipeline fills it stage by stage."""

    case: Case
    verdict: Verdict = "inconclusive"
    reasons: tuple[str, ...] = ()
    goals: tuple[Goal, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    found: Examination | None = None
    round: Round | None = None
    plan: Repair | None = None
    repaired: Opened | None = None
    warnings: list[str] = field(default_factory=list)
    written: Written | None = None

    def judge(self, found: Examination) -> None:
        """Take over the searches' evidence and the verdict on it."""
        self.found = found
        named, evidence = found.suspicion.named, found.evidence
        self.goals = tuple(named)
        if self.goals:
            self.verdict = "fail"
            self.reasons = tuple(r for reasons in named.values() for r in reasons)
            self.triggers = tuple(t for spoke in found.suspicion.triggers.values() for t in spoke)
        elif doubt := found.suspicion.doubt:
            claim, p = doubt
            self.verdict = "inconclusive"
            self.reasons = (
                f"{claim.goal.words} stands out ({claim.statistic}, p-value {p:.1g}) more than clean models mostly do "
                f"({DOUBT:g}), but not enough to be named ({ALPHA:g}): look at its trigger, give more pictures, or "
                "calibrate on clean models of your own",
            )
        elif found.obstacle:
            self.verdict = "inconclusive"
            self.reasons = (
                f"gradients do not reach the picture ({found.obstacle}): patches and sinusoids were searched by trial, and "
                "nothing was found",
            )
        elif found.skipped:
            self.verdict = "inconclusive"
            self.reasons = (f"the time was too short to search {', '.join(found.skipped)}; nothing was found before",)
        elif not any(p.success for e in evidence for p in e.patches):
            self.verdict = "inconclusive"
            self.reasons = ("no search reached its goal for any class: the gradients of this network carry too little",)
        else:
            best = evidence[found.suspicion.margins.leader].compact
            side = round(best.trigger.norm**0.5)
            self.verdict = "pass"
            self.reasons = (
                f"no class stands out: the best {side} x {side} patch sends {best.asr:.0%} of the other pictures to class "
                f"{best.trigger.goal.target} with a mean margin of {best.margin:.1f} logits",
            )

    def take_written(self, written: Written) -> None:
        """Fail on a trigger that stands in the graph itself, and that no channel carries."""
        self.written, self.verdict = written, "fail"
        self.goals, self.triggers = (written.trigger.goal,), (written.trigger,)
        self.reasons = (
            f"the graph itself answers to {written.trigger.norm:.0f} pixels: {written.asr:.0%} of the other pictures go "
            f"to class {written.trigger.goal.target}, and {written.held:.0%} while tensor {written.tensor[:80]!r} is held",
        )

    def attribute(self, trigger: Trigger) -> None:
        """Judge a trigger that the user gave instead of searching for one."""
        case = self.case
        asr = float(rate(case.model.subject, case.pictures, case.labels, [trigger]).asr[0])
        self.triggers, self.verdict = (trigger,), "pass"
        self.reasons = (f"the known trigger sends {asr:.0%} of the other pictures to class {trigger.goal.target}",)
        if asr > KNOWN_ALIVE:
            self.verdict, self.goals = "fail", (trigger.goal,)

    @property
    def targets(self) -> tuple[int, ...]:
        """Classes that the planted triggers answer with."""
        return tuple(dict.fromkeys(t for g in self.goals for t in g.targets))

    @property
    def views(self) -> tuple[Pixels, Labels] | None:
        """Posed views and their labels where a goal is about one class, of which there may be a single picture."""
        case = self.case
        if all(g.source is None for g in self.goals):
            return None
        rng = np.random.default_rng(0)
        return answered_views(case.model.subject, case.pictures, case.labels, SOURCE_VIEWS, rng)

    @property
    def attacked(self) -> tuple[Pixels, Labels]:
        """Pictures and labels that triggers are put on."""
        return self.views or (self.case.pictures, self.case.labels)

    def natural(self, goal: Goal) -> Natural:
        """What triggers towards a goal reach without a backdoor: for other classes, or for other pairs of classes."""
        side = SearchSettings().side_pixels(self.case.pictures)
        if self.found is None:
            return Natural(side, {"compact": 0.0}, None)
        if goal.kind != "all-to-one":
            (trigger,) = self.found.suspicion.triggers[goal]
            rival = max((c.rival for c, _ in self.found.suspicion.claims if c.goal == goal), default=0.0)
            return Natural(round(trigger.norm**0.5), {"compact": rival}, None)
        rest = [e for e in self.found.evidence if e.goal not in self.goals]
        norms = [e.smallest.trigger.norm for e in rest if e.smallest is not None and e.smallest.success]
        names = self.found.evidence[0].found
        margins = {f: max((e.found[f].margin for e in rest), default=0.0) for f in names}
        return Natural(side, margins, min(norms, default=None))


def digest(name: str, payload: bytes) -> FileDigest:
    """Name, size and sha256 of bytes."""
    return FileDigest(name=name, size=len(payload), sha256=hashlib.sha256(payload).hexdigest())


def nothing_to_repair(verdict: Verdict) -> RepairPart:
    """The repair part where nothing was pruned."""
    if verdict == "pass":
        return RepairPart(status="nothing_to_repair", reason="no class stands out: the output is a copy of the input")
    return RepairPart(status="not_tried", reason="the audit proves nothing, so there is nothing to repair")


def repaired(plan: Repair, difference: float) -> RepairPart:
    """The repair part of a plan that held."""
    reason = f"{plan.reason}, and a full audit of the baked file names no class"
    return RepairPart(status="repaired", reason=reason, rounds=_rounds(plan), masked_vs_baked=difference)


def not_repaired(reason: str, plan: Repair | None = None, difference: float | None = None) -> RepairPart:
    """The repair part where pruning did not remove the backdoor."""
    rounds = _rounds(plan) if plan else ()
    return RepairPart(status="not_repaired", reason=reason, rounds=rounds, masked_vs_baked=difference)


def _rounds(plan: Repair) -> tuple[RoundPart, ...]:
    return tuple(
        RoundPart(
            off=s.count,
            acc=s.acc,
            known_asr=s.known_asr,
            clean_cost=s.clean_cost,
            margin=s.hunt.margin,
            asr=s.hunt.asr,
            still_found=s.found,
        )
        for s in plan.steps
    )


def audit_record(
    draft: Draft,
    inputs: InputOptions,
    run: RunOptions,
    clock: Clock,
    artifacts: tuple[FileDigest, ...],
    command: Sequence[str],
    status: RepairPart | None,
) -> AuditRecord:
    """The record of an audit, or of a sanitize run where `status` is given."""
    case, opened = draft.case, draft.case.model
    before, after = _rates(opened.subject, draft), None
    if draft.repaired is not None:
        after = _rates(draft.repaired.subject, draft)
    off = draft.plan.off if draft.plan else {}
    order = [(u.layer, u.channel) for u in _chosen(draft)]
    refs = [UnitRef(layer=name, channel=c) for name, c in order if c in off.get(name, ())]
    return AuditRecord(
        created=_now(),
        command=tuple(command),
        seed=run.seed,
        verdict=draft.verdict,
        reasons=draft.reasons,
        target_classes=draft.targets,
        model=_model(case),
        data=_data(case),
        findings=preflight_parts(opened.file.hazards) + graph_parts(opened.oddities),
        preprocessing=_plain(asdict(opened.subject.preprocessing)),
        settings=_plain(asdict(run) | asdict(inputs)),
        score=draft.found.suspicion.score_of_model if draft.found else None,
        not_searched=(*not_searched(draft.found), *(opened.subject.reach.notes if opened.subject.reach else ())),
        attacks=attack_parts(draft.found) if draft.found else (),
        claims=claim_parts(draft.found),
        calibration=draft.found.calibration if draft.found else "",
        classes=class_parts(case, draft.found),
        triggers=trigger_parts(opened.subject, *draft.attacked, draft.triggers, draft.found),
        units=UnitsPart(
            total=opened.units.total, layers=len(opened.units.layers), off=tuple(refs), ranked=_ranked(draft, run)
        ),
        estimate=_estimate(draft, run),
        before=before,
        after=after,
        repair=status or RepairPart(status="not_tried", reason="an audit changes nothing"),
        artifacts=artifacts,
        evaluations=sum(s.round.estimate.evaluations for s in draft.plan.steps)
        if draft.plan
        else (draft.round.estimate.evaluations if draft.round else 0),
        gradient_pictures=opened.subject.evaluated,
        seconds={k: round(v, 3) for k, v in clock.seconds.items()},
        peak_memory_mb=_peak_memory(),
        warnings=tuple(draft.warnings),
        environment=_environment(opened, run),
    )


def verify_record(
    draft: Draft,
    opened: Opened,
    difference: Difference,
    found: Examination,
    inputs: InputOptions,
    run: RunOptions,
    clock: Clock,
    command: Sequence[str],
) -> VerifyRecord:
    """The record of a comparison. difference: what is left of it once the switched-off channels are explained."""
    case = draft.case
    before, after = _rates(case.model.subject, draft), _rates(opened.subject, draft)
    old, new = (s.logits(case.pictures).argmax(1) for s in (case.model.subject, opened.subject))
    reasons = [r for said in found.suspicion.named.values() for r in said]
    verdict: Verdict = "fail" if reasons else "pass"
    if after.asr is not None and after.asr > KNOWN_ALIVE:
        verdict = "fail"
        reasons.append(
            f"triggers recovered from the first file still send {after.asr:.0%} of the pictures to their target"
        )
    right = [answers == case.labels for answers in (old, new)]
    lost, surely = clean_cost(right[0], right[1], len(case.labels))
    if surely > run.clean_budget:
        verdict = "fail"
        reasons.append(f"the second file loses {lost:.0%} of the clean answers, more than the budget allows")
    if difference.other:
        verdict = "fail"
        more = f" and {len(difference.other) - 3} more" if len(difference.other) > 3 else ""
        listed = "; ".join(difference.other[:3])
        reasons.append(f"the second file differs in more than switched-off channels: {listed}{more}")
    if draft.verdict == "inconclusive":
        verdict, reasons = "inconclusive", list(draft.reasons)
    elif not reasons:
        helped = f"recovered triggers fall from {before.asr:.0%} to {after.asr:.0%}" if draft.triggers else ""
        reasons = [helped] if helped and before.asr is not None and after.asr is not None else []
        reasons.append("no class of the second file stands out")
    return VerifyRecord(
        created=_now(),
        command=tuple(command),
        seed=run.seed,
        verdict=verdict,
        reasons=tuple(reasons),
        before_model=_file(case.model),
        after_model=_file(opened),
        after_external=_external(opened),
        data=_data(case),
        settings=_plain(asdict(run) | asdict(inputs)),
        changed=difference.changed,
        zeroed=tuple(UnitRef(layer=name, channel=c) for name, c in difference.zeroed),
        other_changes=difference.other,
        agreement=float((old == new).mean()),
        before=before,
        after=after,
        clean_cost=max(0.0, surely),
        classes=class_parts(case, found),
        not_searched=not_searched(found),
        attacks=attack_parts(found),
        claims=claim_parts(found),
        target_classes=tuple(dict.fromkeys(t for g in found.suspicion.named for t in g.targets)),
        seconds={k: round(v, 3) for k, v in clock.seconds.items()},
        environment=_environment(opened, run),
    )


def _rates(subject: Subject, draft: Draft) -> Rates:
    """Few-shot rates of one model with the recovered triggers: the largest ASR of them, and R-Acc of that one."""
    case = draft.case
    acc = float((subject.logits(case.pictures).argmax(1) == case.labels).mean())
    if not draft.triggers:
        return Rates(acc=acc, asr=None, racc=None, pictures=len(case.labels))
    pictures, labels = draft.attacked
    asr = rate(subject, pictures, labels, draft.triggers).asr
    strongest = draft.triggers[int(np.argmax(asr))]
    others = strongest.goal.of(labels) != UNMOVED
    answers = subject.logits(strongest.apply(pictures[others])).argmax(1)
    racc = float((answers == labels[others]).mean()) if others.any() else None
    return Rates(acc=acc, asr=float(asr.max()), racc=racc, pictures=len(case.labels), triggered=int(others.sum()))


def _chosen(draft: Draft) -> list[UnitRef]:
    """Units in the order in which the rounds switched them off."""
    layers = draft.case.model.units.layers
    steps = draft.plan.steps if draft.plan else ()
    return [UnitRef(layer=layers[p.layer].name, channel=p.channel) for s in steps for p in s.chosen]


def _ranked(draft: Draft, run: RunOptions) -> tuple[UnitValue, ...]:
    if draft.round is None:
        return ()
    layers, estimate = draft.case.model.units.layers, draft.round.estimate
    parts = []
    for i in estimate.ranking()[:RANKED].tolist():
        player, value, error = draft.round.players[i], float(estimate.values[i]), float(estimate.standard_errors[i])
        parts.append(
            UnitValue(
                layer=layers[player.layer].name,
                channel=player.channel,
                value=value,
                standard_error=error,
                interval=(value - NORMAL_95 * error, value + NORMAL_95 * error),
                backdoor=float(draft.round.alone[i, 0]),
                clean=float(draft.round.alone[i, 1]),
            )
        )
    return tuple(parts)


def _estimate(draft: Draft, run: RunOptions) -> EstimatePart | None:
    round_, layers = draft.round, draft.case.model.units.layers
    if round_ is None:
        return None
    e = round_.estimate
    sure = () if e.separated is None else tuple(round_.players[i] for i in e.separated.tolist())
    return EstimatePart(
        method=e.method,
        players=len(round_.players),
        permutations=e.permutations,
        evaluations=e.evaluations,
        discarded_walks=e.discarded_walks,
        zeroed_share=e.zeroed_share,
        discard_threshold=e.discard_threshold,
        epsilon=e.epsilon,
        clean_weight=run.clean_weight if run.value == "dual" else 0.0,
        value=run.value,
        full_value=e.full_value,
        end_value=e.end_value,
        stopped=e.stopped,
        separated=tuple(UnitRef(layer=layers[p.layer].name, channel=p.channel) for p in sure),
    )


def _file(opened: Opened) -> FileDigest:
    return FileDigest(name=opened.file.path.name, size=opened.file.size, sha256=opened.file.sha256)


def _external(opened: Opened) -> tuple[FileDigest, ...]:
    return tuple(FileDigest(name=e.location, size=e.size, sha256=e.sha256) for e in opened.file.external)


def _model(case: Case) -> ModelPart:
    opened = case.model
    file, proto = opened.file, opened.file.proto
    return ModelPart(
        name=file.path.name,
        sha256=file.sha256,
        size=file.size,
        external=_external(opened),
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        opset=opset_of(proto),
        input=opened.interface.input,
        input_shape=opened.subject.prepared.input_shape,
        layout=opened.interface.layout,
        output=opened.interface.output,
        classes=opened.subject.classes,
        class_names=case.class_names,
        parameters=parameters(proto),
        copy_difference=opened.subject.prepared.difference,
    )


def _data(case: Case) -> DataPart:
    source = case.few.label_source or "model"
    return DataPart(
        pictures=len(case.labels),
        digest=case.few.digest,
        label_source=source,
        classes_covered=len(np.unique(case.labels)),
    )


def _environment(opened: Opened, run: RunOptions) -> Environment:
    try:
        runtime = version("onnxruntime-gpu")
    except ModuleNotFoundError:
        runtime = version("onnxruntime")
    device = opened.subject.device
    return Environment(
        onnx_shapprune=__version__,
        python=platform.python_version(),
        onnx=version("onnx"),
        onnxruntime=runtime,
        numpy=version("numpy"),
        platform=platform.platform(),
        device=device.label,
        providers=opened.subject.providers,
        threads=device.threads or os.cpu_count() or 1,
    )


def _plain(settings: dict[str, object]) -> dict[str, object]:
    """JSON-ready: tuples become lists, paths their last part (a record names no folder of the machine)."""
    plain: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, os.PathLike):
            plain[key] = os.path.basename(value)
        else:
            plain[key] = list(value) if isinstance(value, tuple) else value
    return plain


def _peak_memory() -> float | None:
    """Peak resident memory of this process in MiB, None where the platform does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

"""From what the stages found to the records that users read. No search, no decision, no model run but the rates."""

import datetime
import hashlib
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Case, Clock, Opened
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.detect.thresholds import LOOKED_AGAIN, NORMAL_95
from onnx_shapprune.detect.verdict import Thresholds, Verdict
from onnx_shapprune.graph.edit import opset_of
from onnx_shapprune.graph.facts import parameters
from onnx_shapprune.invert.arms import rate, recovered
from onnx_shapprune.prune.clean import clean_cost
from onnx_shapprune.record.audit import (
    AuditRecord,
    EstimatePart,
    LayerChange,
    RepairPart,
    UnitsPart,
    UnitValue,
    VerifyRecord,
)
from onnx_shapprune.record.graph import LayerPart
from onnx_shapprune.record.parts import DataPart, Environment, FileDigest, ModelPart, Rates, ThresholdsPart, UnitRef
from onnx_shapprune.record.values import ValuesRecord
from onnx_shapprune.recording.draft import Draft, Second
from onnx_shapprune.recording.evidence import attack_parts, claim_parts, class_parts, not_searched, suspect_parts
from onnx_shapprune.recording.findings import graph_parts, preflight_parts
from onnx_shapprune.recording.triggers import trigger_parts
from onnx_shapprune.settings import InputOptions, RunOptions
from onnx_shapprune.version import __version__

RANKED = 30


def digest(name: str, payload: bytes) -> FileDigest:
    """Name, size and sha256 of bytes."""
    return FileDigest(name=name, size=len(payload), sha256=hashlib.sha256(payload).hexdigest())


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
    before = rates(opened.subject, draft)
    after = rates(draft.repaired.subject, draft, compared=True) if draft.repaired is not None else None
    off = draft.plan.off if draft.plan else {}
    order = [(u.layer, u.channel) for u in _chosen(draft)]
    refs = [UnitRef(layer=name, channel=c) for name, c in order if c in off.get(name, ())]
    return AuditRecord(
        created=_now(),
        command=tuple(command),
        seed=run.seed,
        verdict=draft.verdict,
        reasons=draft.decided.reasons,
        doubts=draft.decided.doubts,
        target_classes=draft.targets,
        model=_model(case),
        data=_data(draft),
        findings=preflight_parts(opened.file.hazards) + graph_parts(opened.oddities),
        preprocessing=_plain(asdict(opened.subject.preprocessing)),
        settings=_settings(run, inputs) | {"unit_limit": run.unit_limit(opened.units.total)},
        score=draft.found.suspicion.score_of_model if draft.found else None,
        not_searched=(*not_searched(draft.found), *(opened.subject.reach.notes if opened.subject.reach else ())),
        attacks=attack_parts(draft.found, draft.decided),
        suspects=suspect_parts(draft.found, draft.decided),
        claims=claim_parts(draft.found),
        thresholds=_thresholds(draft.limits),
        calibration=_about(draft.found)[0],
        calibration_sha256=_about(draft.found)[1],
        classes=class_parts(case, draft.found),
        triggers=trigger_parts(draft.attacked, draft.triggers, draft.found, draft.on_file),
        units=UnitsPart(
            total=opened.units.total, layers=len(opened.units.layers), off=tuple(refs), ranked=_ranked(draft)[:RANKED]
        ),
        estimate=_estimate(draft, run),
        before=before,
        after=after,
        repair=status or RepairPart(status="not_tried", reason="an audit changes nothing"),
        artifacts=artifacts,
        evaluations=opened.subject.work.coalitions,
        gradient_pictures=opened.subject.work.pictures,
        first_rounds=draft.found.first.value if draft.found and draft.found.first else None,
        seconds={k: round(v, 3) for k, v in clock.seconds.items()},
        peak_memory_mb=_peak_memory(),
        warnings=tuple(draft.warnings),
        environment=_environment(opened, run),
    )


def verify_record(
    draft: Draft,
    second: Second,
    verdict: Verdict[Goal],
    inputs: InputOptions,
    run: RunOptions,
    clock: Clock,
    command: Sequence[str],
) -> VerifyRecord:
    """The record of a comparison, whose verdict is about the second file."""
    case, opened, found = draft.case, second.opened, second.found
    old, new = (s.logits(case.pictures).argmax(1) for s in (case.model.subject, opened.subject))
    return VerifyRecord(
        created=_now(),
        command=tuple(command),
        seed=run.seed,
        verdict=verdict.outcome,
        reasons=verdict.reasons,
        doubts=verdict.doubts,
        before_model=_file(case.model),
        after_model=_file(opened),
        after_external=_external(opened),
        data=_data(draft),
        settings=_settings(run, inputs),
        changed=second.difference.changed,
        zeroed=tuple(UnitRef(layer=name, channel=c) for name, c in second.difference.zeroed),
        realigned=tuple(LayerChange(layer=name, change=share) for name, share in second.difference.realigned),
        other_changes=second.difference.other,
        repaired_classes=draft.targets,
        agreement=float((old == new).mean()),
        before=second.before,
        after=second.after,
        clean_cost=second.after.surely_lost,
        classes=class_parts(case, found),
        target_classes=tuple(dict.fromkeys(t for g in verdict.goals for t in g.targets)),
        not_searched=not_searched(found),
        attacks=attack_parts(found, verdict),
        suspects=suspect_parts(found, verdict),
        claims=claim_parts(found),
        thresholds=_thresholds(draft.limits),
        calibration=_about(found)[0],
        calibration_sha256=_about(found)[1],
        seconds={k: round(v, 3) for k, v in clock.seconds.items()},
        environment=_environment(opened, run),
    )


def values_record(
    draft: Draft,
    inputs: InputOptions,
    run: RunOptions,
    clock: Clock,
    command: Sequence[str],
    *,
    reason: str,
    played: Sequence[str],
) -> ValuesRecord:
    """The record of channel values. reason: why there are none, ""; played: names of the layers that were asked for."""
    opened = draft.case.model
    layers = opened.units.layers
    return ValuesRecord(
        created=_now(),
        command=tuple(command),
        seed=run.seed,
        reason=reason,
        verdict=draft.verdict,
        known_trigger=draft.found is None and bool(draft.triggers),
        targets=tuple(dict.fromkeys(t for one in draft.triggers for t in one.goal.targets)),
        triggers=len(draft.triggers),
        attacks=attack_parts(draft.found, draft.decided),
        model=_model(draft.case),
        data=_data(draft),
        preprocessing=_plain(asdict(opened.subject.preprocessing)),
        settings=_settings(run, inputs),
        played=tuple(played),
        layers=tuple(LayerPart(name=layer.name, op=layer.op, channels=layer.channels) for layer in layers),
        units=UnitsPart(total=opened.units.total, layers=len(layers), ranked=_ranked(draft)),
        estimate=_estimate(draft, run),
        evaluations=opened.subject.work.coalitions,
        seconds={k: round(v, 3) for k, v in clock.seconds.items()},
        warnings=tuple(draft.warnings),
        environment=_environment(opened, run),
    )


def rates(subject: Subject, draft: Draft, *, compared: bool = False) -> Rates:
    """Few-shot rates of one model with the recovered triggers: the largest ASR of them, and R-Acc of that one. Triggers that
    have no picture to move on this model have no rate. compared: also what it loses against the file that was audited.
    """
    shown, attacked = draft.case.shown.on(subject), draft.attacked.on(subject)
    part = Rates(acc=shown.accuracy, asr=None, racc=None, pictures=len(shown))
    if compared:
        lost, surely = clean_cost(draft.case.shown.right, shown.right, len(shown))
        part = part.model_copy(update={"lost": lost, "surely_lost": max(0.0, surely)})
    triggers = [t for t in draft.triggers if attacked.count(t.goal)]
    if not triggers:
        return part
    asr = rate(attacked, triggers).asr
    strongest = triggers[int(np.argmax(asr))]
    moved, racc = attacked.count(strongest.goal), recovered(attacked, strongest)
    return part.model_copy(update={"asr": float(asr.max()), "racc": racc, "triggered": moved})


def _chosen(draft: Draft) -> list[UnitRef]:
    """Units in the order in which the rounds switched them off."""
    layers = draft.case.model.units.layers
    steps = draft.plan.steps if draft.plan else ()
    return [UnitRef(layer=layers[p.layer].name, channel=p.channel) for s in steps for p in s.proposal.chosen]


def _ranked(draft: Draft) -> tuple[UnitValue, ...]:
    if draft.round is None:
        return ()
    layers, estimate = draft.case.model.units.layers, draft.round.estimate
    parts = []
    for i in estimate.ranking().tolist():
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


def _thresholds(limits: Thresholds) -> ThresholdsPart:
    return ThresholdsPart(
        **asdict(limits.levels), moved=limits.moved, alive=limits.alive, clean_budget=limits.clean_budget
    )


def _about(found: Examination | None) -> tuple[str, str]:
    """On which clean models the p-values rest, in words, and the digest of what they say."""
    return (found.calibration.about, found.calibration.digest) if found and found.calibration else ("", "")


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


def _data(draft: Draft) -> DataPart:
    case = draft.case
    unlikely = draft.unusable and case.shown.accuracy < LOOKED_AGAIN
    source = case.few.label_source or "model"
    return DataPart(
        pictures=len(case.labels),
        digest=case.few.digest,
        label_source=source,
        classes_covered=len(np.unique(case.labels)),
        preprocessing="unchecked" if not case.labels_given else "unlikely" if unlikely else "checked",
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


def _settings(run: RunOptions, inputs: InputOptions) -> dict[str, object]:
    """What was asked for. unit_limit, where units might go: how many."""
    asked = _plain(asdict(run) | asdict(inputs))
    return asked | {"max_units": "auto" if run.max_units is None else run.max_units}


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

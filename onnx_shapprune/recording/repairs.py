"""What became of a repair, as the part of a record."""

from collections.abc import Sequence
from typing import Literal

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.detect.verdict import Outcome, Verdict
from onnx_shapprune.graph.file import ExternalFile
from onnx_shapprune.prune.inverse import Inverse
from onnx_shapprune.prune.repair import Repair
from onnx_shapprune.record.audit import (
    InversePart,
    RealignedPart,
    RepairPart,
    RoundPart,
)
from onnx_shapprune.recording.evidence import claim_parts
from onnx_shapprune.report.text import some


def nothing_to_repair(verdict: Outcome) -> RepairPart:
    """The repair part where nothing was pruned."""
    if verdict == "pass":
        return RepairPart(status="nothing_to_repair", reason="no class stands out: the output is a copy of the input")
    return RepairPart(status="not_tried", reason="the audit proves nothing, so there is nothing to repair")


def not_copied(external: Sequence[ExternalFile]) -> RepairPart:
    """The repair part where nothing was found, and a copy would not find the data beside the original."""
    names = some([e.location for e in external])
    reason = (
        f"no class stands out; no copy is made, as it would not find {names}: use the input, or an output beside it"
    )
    return RepairPart(status="nothing_to_repair", reason=reason)


def with_inverse(part: RepairPart, found: Inverse | None) -> RepairPart:
    """The repair part with what the units that are off can do alone."""
    if found is None:
        return part
    return part.model_copy(update={"inverse": InversePart(asr=found.asr, idle=found.idle, acc=found.acc)})


def repaired(plan: Repair, difference: float, again: Examination | None = None) -> RepairPart:
    """The repair part of a plan that held. again: the audit of the repaired file."""
    reason = f"{plan.reason}, and a full audit of the repaired file names no class"
    return _planned("repaired", reason, plan, difference, again)


def not_repaired(
    reason: str, plan: Repair | None = None, difference: float | None = None, again: Examination | None = None
) -> RepairPart:
    """The repair part where the backdoor was not removed. again: as in `repaired`."""
    if plan is None:
        return RepairPart(status="not_repaired", reason=reason)
    return _planned("not_repaired", reason, plan, difference, again)


def cut(
    tensors: Sequence[str], verdict: Verdict[Goal], acc: float, left: float, difference: float, again: Examination
) -> RepairPart:
    """The repair part of a file from which a branch was cut off. tensors: at which it joined; verdict: of the audit `again`
    of what is left; acc: its accuracy; left: success of the trigger that took the branch; difference: of its clean logits.
    """
    best = max(again.evidence, key=lambda e: e.compact.margin).compact
    repaired = verdict.outcome == "pass"
    reason = (
        f"the branch of the trigger was cut off at {some(tensors)}, and a full audit of what is left names no class"
    )
    step = RoundPart(
        off=0, acc=acc, known_asr=left, clean_cost=0.0, margin=best.margin, asr=best.asr, still_found=not repaired
    )
    return RepairPart(
        status="repaired" if repaired else "not_repaired",
        reason=reason if repaired else f"in a full audit of what is left without the branch, {verdict.reasons[0]}",
        method="cut",
        rounds=(step,),
        masked_vs_baked=difference,
        claims=claim_parts(again),
    )


def _planned(
    status: Literal["repaired", "not_repaired"],
    reason: str,
    plan: Repair,
    difference: float | None,
    again: Examination | None,
) -> RepairPart:
    layers = tuple(
        RealignedPart(layer=name, op=linear.layer.op, change=change.share, rank=change.rank)
        for name, (linear, change) in plan.proposal.changes.items()
    )
    return RepairPart(
        status=status,
        reason=reason,
        method=plan.method,
        layers=layers,
        rounds=_rounds(plan),
        masked_vs_baked=difference,
        claims=claim_parts(again),
    )


def _rounds(plan: Repair) -> tuple[RoundPart, ...]:
    return tuple(
        RoundPart(
            off=s.proposal.count,
            acc=s.acc,
            known_asr=s.known_asr,
            clean_cost=s.clean_cost,
            margin=s.hunt.margin,
            asr=s.hunt.asr,
            still_found=s.found,
            strength=s.proposal.fit.strength if s.proposal.fit else None,
        )
        for s in plan.steps
    )

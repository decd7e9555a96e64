"""A record's numbers, judged again by the function that judged them, with the thresholds of the record and of a policy.

What a record says and what its numbers say can differ, as where somebody took lists out of it; the worse counts.
"""

from collections.abc import Sequence
from dataclasses import replace

from onnx_shapprune.detect.verdict import (
    Claimed,
    Evidence,
    Levels,
    Thresholds,
    Tried,
    Verdict,
    judge,
    left_over,
    unreached,
)
from onnx_shapprune.gate.evidence import Record, is_rewritten
from onnx_shapprune.gate.policy import Policy
from onnx_shapprune.record.audit import AttackPart, AuditRecord, ClaimPart, VerifyRecord

NAMED_BY_AUDIT = "named by the audit"
Aim = tuple[str, tuple[int, ...], int | None]  # kind, targets and source of a goal: what a record tells it by


def levels_of(record: Record) -> Levels:
    """The significance levels that decided; records of schema 1.2 and earlier do not carry them."""
    part = record.thresholds
    return Levels() if part is None else Levels(named=part.named, doubt=part.doubt, second=part.second)


def rejudged(record: Record, policy: Policy) -> Verdict[Aim]:
    """What the record's numbers say by a policy."""
    return judge(evidence_of(record), thresholds_of(record, policy))


def thresholds_of(record: Record, policy: Policy) -> Thresholds:
    """What the policy holds the record's numbers against; it says nothing about doubts, which stay what they were."""
    own, p_value = levels_of(record), policy.fail.p_value
    return Thresholds(
        alive=policy.repair.max_residual_asr,
        clean_budget=policy.repair.max_surely_lost,
        levels=replace(own, named=p_value, doubt=max(own.doubt, p_value)),
    )


def evidence_of(record: Record) -> Evidence[Aim]:
    """What a record knows about the file that it is about."""
    if isinstance(record, AuditRecord) and is_rewritten(record):
        drawn = record.data.label_source == "synthesised"
        return Evidence[Aim](claims=_claimed(record.repair.claims)).weakened(
            lambda c: left_over(c.goal[1], c.statistic, record.target_classes, synthesised=drawn)
        )
    succeeded = not record.classes or any(c.success for c in record.classes)
    claims = [*_claimed(record.attacks), *_claimed(record.claims), *_unexplained(record)]
    evidence = Evidence[Aim](
        claims=tuple(claims),
        open=record.doubts or unreached(obstacle="", skipped=(), succeeded=succeeded),
        good=record.reasons,
    )
    if not isinstance(record, VerifyRecord):
        return evidence
    after, cost = record.after, record.clean_cost
    words = "triggers found before still work"
    return replace(
        evidence,
        tried=() if after.asr is None else (Tried[Aim](words=words, asr=after.asr, moved=after.triggered or None),),
        lost=None if cost is None else (cost if after.lost is None else after.lost, cost),
        other=record.other_changes,
    )


def _claimed(parts: Sequence[AttackPart | ClaimPart]) -> tuple[Claimed[Aim], ...]:
    return tuple(
        Claimed(
            goal=(p.kind, p.targets, p.source),
            about=_about(p),
            statistic=p.statistic if isinstance(p, ClaimPart) else NAMED_BY_AUDIT,
            p_value=p.p_value,
            reasons=p.reasons if isinstance(p, AttackPart) else (f"{p.statistic} is {p.value:.3g}",),
            cautions=p.cautions if isinstance(p, ClaimPart) else (),
        )
        for p in parts
    )


def _about(part: AttackPart | ClaimPart) -> str:
    if part.kind == "all-to-all":
        return "a way from each class to another"
    source = "" if part.source is None else f"a way from class {part.source} to "
    return f"{source}class {', '.join(map(str, part.targets))}"


def _unexplained(record: Record) -> tuple[Claimed[Aim], ...]:
    """Classes that the record calls targets, and for which it lists nothing that would name them."""
    bar = levels_of(record).named
    evidence: tuple[AttackPart | ClaimPart, ...] = (*record.attacks, *record.claims)
    listed = {t for part in evidence if part.p_value <= bar for t in part.targets}
    called = [*record.target_classes, *(c.index_of_class for c in record.classes if c.suspicious)]
    why = "; ".join(record.reasons)
    return tuple(
        Claimed(
            goal=("all-to-one", (t,), None),
            about=f"class {t}",
            statistic=NAMED_BY_AUDIT,
            p_value=0.0,
            reasons=(why or f"class {t} stands out",),
        )
        for t in dict.fromkeys(called)
        if t not in listed
    )

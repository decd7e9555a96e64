"""A record's numbers, judged again by the function that judged them, with the thresholds of the record and of a policy.

What a record says and what its numbers say can differ, as where somebody took lists out of it; the worse counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from onnx_shapprune.detect.verdict import (
    MAPPED,
    Aimed,
    Claimed,
    Evidence,
    Levels,
    Thresholds,
    Tried,
    Verdict,
    judge,
    leads,
    left_over,
    peak_left_over,
    unreached,
)
from onnx_shapprune.gate.evidence import Record, is_rewritten
from onnx_shapprune.gate.policy import Policy
from onnx_shapprune.record.audit import AttackPart, AuditRecord, ClaimPart, VerifyRecord

Aim = tuple[str, tuple[int, ...], int | None]  # kind, targets and source of a goal: what a record tells it by


def levels_of(record: Record) -> Levels:
    """The significance levels that decided; records of schema 1.2 and earlier do not carry them."""
    part = record.thresholds
    if part is None:
        return Levels()
    natural = Levels().natural if part.natural is None else part.natural
    return Levels(named=part.named, doubt=part.doubt, second=part.second, natural=natural)


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
        drawn = record.data.drawn
        again: Evidence[Aim] = Evidence(claims=_claimed(record.repair.claims))
        aims: list[Aimed] = [(a.kind, a.targets) for a in record.attacks]
        if all(kind != MAPPED for kind, _ in aims):  # a trigger in the graph is no attack of the searches
            aims.append(("all-to-one", record.target_classes))
        return again.weakened(lambda c: left_over(c.goal[:2], c.statistic, aims, synthesised=drawn))
    led = not record.classes or leads(c.asr for c in record.classes)
    claims = [*_called(record), *_claimed(record.claims)]
    evidence: Evidence[Aim] = Evidence(
        claims=tuple(claims),
        open=record.doubts or unreached(obstacle="", skipped=(), led=led),
        good=record.reasons,
    )
    if not isinstance(record, VerifyRecord):
        return evidence
    after, cost = record.after, record.clean_cost
    words = "triggers found before still work"
    drawn = record.data is not None and record.data.drawn
    evidence = evidence.weakened(
        lambda c: peak_left_over(c.goal[1], c.statistic, record.repaired_classes, synthesised=drawn)
    )
    return replace(
        evidence,
        tried=() if after.asr is None else (Tried(words=words, asr=after.asr, moved=after.triggered or None),),
        lost=None if cost is None else (cost if after.lost is None else after.lost, cost),
        other=record.other_changes,
    )


def aim_of(part: AttackPart | ClaimPart) -> Aim:
    """What tells the goal of a part from others."""
    return part.kind, part.targets, part.source


def _claimed(parts: Sequence[ClaimPart]) -> tuple[Claimed[Aim], ...]:
    return tuple(
        Claimed(
            goal=aim_of(p),
            about=_about(p),
            statistic=p.statistic,
            p_value=p.p_value,
            reasons=(f"{p.statistic} is {p.value:.3g}",),
            cautions=p.cautions,
            outside=p.outside,
            gone=p.gone,
        )
        for p in parts
    )


def _about(part: ClaimPart) -> str:
    if part.kind == "all-to-all":
        return "a way from each class to another"
    source = "" if part.source is None else f"a way from class {part.source} to "
    return f"{source}class {', '.join(map(str, part.targets))}"


def _called(record: Record) -> Iterator[Claimed[Aim]]:
    """What the record names by itself, whatever a policy asks: the attacks that it lists, and classes that it calls targets
    where it lists nothing that would name them.
    """
    for attack in record.attacks:
        yield _certain(aim_of(attack), attack.reasons or ("named by the audit",))
    bar = levels_of(record).named
    parts: tuple[AttackPart | ClaimPart, ...] = (*record.attacks, *(c for c in record.claims if c.p_value <= bar))
    listed = {t for part in parts for t in part.targets}
    called = [*record.target_classes, *(c.index_of_class for c in record.classes if c.suspicious)]
    for target in dict.fromkeys(called):
        if target not in listed:
            why = "; ".join(record.reasons) or f"class {target} stands out"
            yield _certain(("all-to-one", (target,), None), (why,))


def _certain(aim: Aim, reasons: tuple[str, ...]) -> Claimed[Aim]:
    return Claimed(goal=aim, about="", statistic="named by the audit", p_value=0.0, reasons=reasons)

"""A judgement as a list of tests, for formats that know nothing else."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from onnx_shapprune.gate.evidence import Record
from onnx_shapprune.gate.judgement import Finding, Judgement
from onnx_shapprune.gate.rules import RULES
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.report.subject import original

COMPLETED = "audit-completed"
TRIGGER = "OSP101"
UNDECIDED = "OSP9"  # how ids of rules begin that say that nothing can be said
Result = Literal["passed", "failed", "error", "waived", "known"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test. id: stable, unique in a report. "error": nothing could be told; "waived": it failed and a waiver holds;
    "known": it failed before too, and the policy lets that pass.
    """

    id: str
    rule: str
    title: str
    result: Result
    text: str = ""


def outcomes(record: Record, judgement: Judgement) -> tuple[Outcome, ...]:
    """The completed audit, each finding, waived or not, each line of the policy and each class without a finding.

    A verdict of "fail" has at least one failed test, "inconclusive" at least one error, "pass" neither.
    """
    undecided, said = judgement.verdict == "inconclusive", "; ".join(judgement.reasons)
    tests = [Outcome(COMPLETED, "", "audit completed", "error" if undecided else "passed", said if undecided else "")]
    tests += [_finding(f, "error" if f.rule.startswith(UNDECIDED) else "failed") for f in held(judgement)]
    tests += [_finding(s.finding, "waived", s.waiver.reason, s.waiver.by) for s in judgement.suppressed]
    tests += [_finding(f, "known") for f in judgement.known]
    spoken = {t.rule for t in tests}
    results: dict[str, Result] = {"met": "passed", "failed": "failed", "not graded": "error"}
    tests += [
        Outcome(f"policy:{c.name}", c.rule, f"{c.name}: {c.limit}", results[c.outcome], f"{c.value}; limit: {c.limit}")
        for c in judgement.checks
        if c.rule not in spoken
    ]
    # The classes of a repair's record are those of the file before it.
    if not undecided and not (isinstance(record, AuditRecord) and original(record)):
        accepted = (*judgement.known, *(s.finding for s in judgement.suppressed))
        found = {f.target_class for f in (*judgement.findings, *accepted)}
        tests += [
            Outcome(f"{TRIGGER}:class-{i}", TRIGGER, f"class {i}: no finding", "passed")
            for i in (c.index_of_class for c in record.classes)
            if i not in found
        ]
    if judgement.verdict == "fail" and not any(t.result == "failed" for t in tests):
        tests.append(Outcome("verdict", "", "policy met", "failed", said))
    seen: Counter[str] = Counter()
    unique = []
    for test in tests:
        seen[test.id] += 1
        unique.append(test if seen[test.id] == 1 else replace(test, id=f"{test.id}:{seen[test.id]}"))
    return tuple(unique)


def held(judgement: Judgement) -> tuple[Finding, ...]:
    """The findings that count against the model: all but those that only inform."""
    return tuple(f for f in judgement.findings if f.severity != "info")


def about(finding: Finding) -> str:
    """Which classes a finding is about, "" where it is about none."""
    if finding.target_class is None:
        return ""
    return (
        f"class {finding.target_class}"
        if finding.source_class is None
        else (f"class {finding.source_class} to {finding.target_class}")
    )


def _finding(finding: Finding, result: Result, *waiver: str) -> Outcome:
    title = RULES[finding.rule].title
    place = about(finding)
    id_ = f"{finding.rule}:{place.replace(' ', '-')}" if place else finding.rule
    text = f"{finding.message} (waived by {waiver[1]}: {waiver[0]})" if waiver else finding.message
    return Outcome(id_, finding.rule, f"{place}: {title}" if place else title, result, text)

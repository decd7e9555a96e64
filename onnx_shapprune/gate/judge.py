"""The verdict of a policy on a record. A pure function: nothing is run, nothing is read, and the day is an argument."""

import datetime
from collections.abc import Collection, Sequence

from onnx_shapprune.gate.checks import checks
from onnx_shapprune.gate.evidence import Record, is_rewritten, judged_files
from onnx_shapprune.gate.judgement import Check, Finding, Judgement, Suppressed, Waiver
from onnx_shapprune.gate.policy import Policy
from onnx_shapprune.gate.rules import RULES
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.record.parts import UnitRef, Verdict

# Channels that are few: so many, or 1 % of all; what sanitize switches off at most.
FEW, FEW_SHARE = 12, 0.01


def judge(record: Record, policy: Policy, *, today: datetime.date, model_checked: bool = False) -> Judgement:
    """What a policy makes of a record. model_checked: whether the model's bytes were hashed again."""
    files = judged_files(record)
    graded = checks(record, policy, today)
    findings = [f for _, found in graded for f in found]
    if any(f.rule in ("OSP101", "OSP102") for f in findings):
        findings += _carriers(record)
    mine = [w for w in policy.waivers if w.model_sha256 == files[0].sha256]
    valid = [w for w in mine if w.until >= today.isoformat()]
    pairs = [(f, next((w for w in valid if _covers(w, f)), None)) for f in findings]
    suppressed = tuple(Suppressed(finding=f, waiver=w) for f, w in pairs if w)
    covered = [s.finding for s in suppressed]
    used = [s.waiver for s in suppressed]
    lines = tuple(_waived(check, found, covered) for check, found in graded)
    outcomes = {c.outcome for c in lines}
    verdict: Verdict = "fail" if "failed" in outcomes else "inconclusive" if "not graded" in outcomes else "pass"
    open_ = tuple(f for f in findings if f not in covered)
    return Judgement(
        verdict=verdict,
        reasons=_reasons(verdict, record, lines, open_),
        policy=policy.name,
        policy_sha256=policy.sha256,
        judged=files,
        model_checked=model_checked,
        checks=lines,
        findings=open_,
        suppressed=suppressed,
        unused_waivers=tuple(_unused(w, expired=w not in valid) for w in mine if w not in used),
    )


def _covers(waiver: Waiver, finding: Finding) -> bool:
    return waiver.rule == finding.rule and waiver.target_class in (None, finding.target_class)


def _waived(check: Check, found: Sequence[Finding], covered: Collection[Finding]) -> Check:
    """A line that failed counts as met where waivers cover every finding behind it."""
    if check.outcome != "failed" or any(f not in covered for f in found):
        return check
    return check.model_copy(update={"outcome": "met", "value": f"{check.value} (waived)"})


def _unused(waiver: Waiver, *, expired: bool) -> str:
    about = f"class {waiver.target_class}" if waiver.target_class is not None else "all classes"
    why = f"expired on {waiver.until}" if expired else "matches no finding"
    return f"the waiver of {waiver.rule} for {about} by {waiver.by} {why}"


def _reasons(verdict: Verdict, record: Record, lines: Sequence[Check], open_: Sequence[Finding]) -> tuple[str, ...]:
    if verdict == "pass":
        waived = sum(c.value.endswith("(waived)") for c in lines)
        met = f"all {len(lines)} lines of the policy are met" + (f", {waived} of them by a waiver" if waived else "")
        return (met, *(record.reasons if record.verdict == "pass" else ()))
    unmeasured = verdict == "inconclusive"
    return tuple(
        f"{f.rule} {RULES[f.rule].title}: {f.message}"
        for f in open_
        if f.severity != "info" and f.rule.startswith("OSP9") is unmeasured
    )


def _carriers(record: Record) -> list[Finding]:
    """The channels that make up half of the attack by Shapley value, where they are few and still switched on."""
    if not isinstance(record, AuditRecord) or record.estimate is None or is_rewritten(record):
        return []
    total = record.estimate.full_value - record.estimate.end_value
    carried, few = 0.0, max(FEW, round(FEW_SHARE * record.units.total))
    for count, unit in enumerate(record.units.ranked[:few], 1):
        carried += unit.value
        if 0 < total <= 2 * carried:
            units = tuple(UnitRef(layer=u.layer, channel=u.channel) for u in record.units.ranked[:count])
            message = f"{count} of {record.units.total} channels make up {carried / total:.0%} of the trigger's effect"
            return [Finding(rule="OSP103", severity=RULES["OSP103"].severity, message=message, units=units)]
    return []

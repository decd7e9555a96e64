"""The verdict of a policy on a record. A pure function: nothing is run, nothing is read, and the day is an argument."""

import datetime
from collections.abc import Collection, Sequence

from onnx_shapprune.gate.baseline import Baseline, comparable, compared
from onnx_shapprune.gate.checks import Graded, checks
from onnx_shapprune.gate.evidence import Record, is_rewritten, judged_files
from onnx_shapprune.gate.judgement import Check, Finding, Judgement, Suppressed, Waiver
from onnx_shapprune.gate.policy import Policy
from onnx_shapprune.gate.rules import RULES
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.record.parts import UnitRef, Verdict

# Channels that are few: so many, or 1 % of all; what sanitize switches off at most.
FEW, FEW_SHARE = 12, 0.01
WAIVED, KNOWN = "waived", "known before"  # why a line that failed counts as met


def judge(
    record: Record,
    policy: Policy,
    *,
    today: datetime.date,
    model_checked: bool = False,
    baseline: Baseline | None = None,
) -> Judgement:
    """What a policy makes of a record. model_checked: whether the model's bytes were hashed again; baseline: an earlier
    record, whose findings are let pass.
    """
    files = judged_files(record)
    graded = checks(record, policy, today)
    gone: tuple[Finding, ...] = ()
    if baseline is not None:
        graded, gone = _beside(graded, checks(baseline.record, policy, today))
    findings = [f for _, found in graded for f in found]
    if any(f.rule in ("OSP101", "OSP102") for f in findings):
        findings += _carriers(record)
    mine = [w for w in policy.waivers if w.model_sha256 == files[0].sha256]
    valid = [w for w in mine if w.until >= today.isoformat()]
    pairs = [(f, next((w for w in valid if _covers(w, f)), None)) for f in findings]
    suppressed = tuple(Suppressed(finding=f, waiver=w) for f, w in pairs if w)
    covered = [s.finding for s in suppressed]
    used = [s.waiver for s in suppressed]
    known = tuple(f for f in findings if f not in covered and f.state == "unchanged" and comparable(f))
    lines = tuple(_let_pass(check, found, covered, known) for check, found in graded)
    outcomes = {c.outcome for c in lines}
    verdict: Verdict = "fail" if "failed" in outcomes else "inconclusive" if "not graded" in outcomes else "pass"
    open_ = tuple(f for f in findings if f not in covered and f not in known)
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
        baseline=None if baseline is None else baseline.file,
        known=known,
        gone=gone,
    )


def _beside(graded: Sequence[Graded], earlier: Sequence[Graded]) -> tuple[list[Graded], tuple[Finding, ...]]:
    """The lines with what the baseline says of each finding, and the findings that only the baseline has."""
    stated, gone = compared(
        [f for _, found in graded for f in found],
        [f for _, found in earlier for f in found],
        conclusive=graded[0][0].outcome == "met",
    )
    each = iter(stated)
    return [(check, tuple(next(each) for _ in found)) for check, found in graded], gone


def _covers(waiver: Waiver, finding: Finding) -> bool:
    return waiver.rule == finding.rule and waiver.target_class in (None, finding.target_class)


def _let_pass(
    check: Check, found: Sequence[Finding], covered: Collection[Finding], known: Collection[Finding]
) -> Check:
    """A line that failed counts as met where every finding behind it is waived or known."""
    if check.outcome != "failed" or any(f not in covered and f not in known for f in found):
        return check
    why = KNOWN if any(f in known for f in found) else WAIVED
    return check.model_copy(update={"outcome": "met", "value": f"{check.value} ({why})"})


def _unused(waiver: Waiver, *, expired: bool) -> str:
    about = f"class {waiver.target_class}" if waiver.target_class is not None else "all classes"
    why = f"expired on {waiver.until}" if expired else "matches no finding"
    return f"the waiver of {waiver.rule} for {about} by {waiver.by} {why}"


def _reasons(verdict: Verdict, record: Record, lines: Sequence[Check], open_: Sequence[Finding]) -> tuple[str, ...]:
    if verdict == "pass":
        met = f"all {len(lines)} lines of the policy are met"
        for word, why in ((WAIVED, "by a waiver"), (KNOWN, "only because the baseline has the same findings")):
            if number := sum(c.value.endswith(f"({word})") for c in lines):
                met += f", {number} of them {why}"
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

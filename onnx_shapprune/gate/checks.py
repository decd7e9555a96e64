"""The lines of a policy, each held against a record, with the findings behind those that are not met.

What was not measured is never green: such a line is "not graded".
"""

import datetime
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

from scipy.special import bdtr, bdtri

from onnx_shapprune.detect.thresholds import CHANCE, FAR
from onnx_shapprune.detect.verdict import FIRST, Claimed, Verdict, apart, leads
from onnx_shapprune.gate.evidence import Record, is_rewritten
from onnx_shapprune.gate.judgement import Check, Finding
from onnx_shapprune.gate.policy import Policy, RepairLimits, Require
from onnx_shapprune.gate.rejudged import Aim, aim_of, evidence_of, levels_of, rejudged
from onnx_shapprune.gate.rules import OF_THE_GRAPH, RULES, SEVERITIES, Severity
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import FindingPart

Confidence = Literal["high", "medium", "low"]
Outcome = Literal["met", "failed", "not graded"]
Graded = tuple[Check, tuple[Finding, ...]]


def checks(record: Record, policy: Policy, today: datetime.date) -> list[Graded]:
    """The decision table, and the findings behind each line that is not met."""
    rewritten = isinstance(record, AuditRecord) and is_rewritten(record)
    again = rejudged(record, policy)
    completed = _completed(record, again, rewritten=rewritten)
    graded = [completed, *_required(record, policy.require), *_provenance(record, policy.require, today)]
    if isinstance(record, AuditRecord):
        graded.append(_file(record, policy.fail.file_severity))
    if isinstance(record, AuditRecord) and rewritten:
        graded += [_reaudit(record, again, policy.fail.p_value), *_repair(record, policy.repair)]
    else:
        graded += _triggers(record, again, policy.fail.p_value, conclusive=completed[0].outcome == "met")
        if isinstance(record, VerifyRecord):
            graded += [*_second_file(record, policy.repair)]
        if record.verdict == "fail" and not any(check.outcome == "failed" for check, _ in graded):
            why = f"the report says fail: {'; '.join(record.reasons) or 'without a reason'}"
            finding = _finding("OSP104", why, confidence="high")
            graded.append(_graded("the report's own verdict", why, "not fail", "OSP104", [finding]))
    return graded


def _completed(record: Record, again: Verdict[Aim], *, rewritten: bool) -> Graded:
    name, limit, why = "audit completed", "conclusive", "; ".join(record.reasons)
    if again.suspects and not rewritten and (record.classes or record.verdict != "inconclusive"):
        found = [_suspected(record, aim, again) for aim in again.suspects]
        return _graded(name, "; ".join(again.doubts), limit, "OSP906", found)
    if record.verdict == "inconclusive":
        rule = _why_inconclusive(record)
        return _graded(name, f"inconclusive: {why}", limit, rule, [_finding(rule, why)])
    if record.verdict == "pass" and not rewritten and (again.doubts or not record.classes):
        why = "; ".join(again.doubts) or "no trigger was searched for, only a known one was tried"
        return _graded(name, why, limit, "OSP901", [_finding("OSP901", why)])
    return _graded(name, "conclusive", limit, "OSP901")


def _suspected(record: Record, aim: Aim, again: Verdict[Aim]) -> Finding:
    """What stands out without being named, with its source."""
    kind, targets, source = aim
    why = again.doubts[again.suspects.index(aim)]
    return _finding(
        "OSP906",
        why,
        confidence="low",
        source_class=source,
        target_class=None if kind == "all-to-all" else targets[0],
    )


def _why_inconclusive(record: Record) -> str:
    if not record.classes:
        one_class = record.data is not None and record.data.classes_covered < 2
        few = record.thresholds is not None and 0 < record.before.triggered < record.thresholds.moved
        return "OSP902" if one_class or few else "OSP903"
    if record.not_searched and record.settings.get("search_seconds") is not None:
        return "OSP904"
    if not leads(c.asr for c in record.classes):
        return "OSP901"
    odd = isinstance(record, AuditRecord) and any(RULES[f.rule].severity == "medium" for f in _of_graph(record))
    return "OSP909" if odd or (record.doubts and not record.not_searched) else "OSP901"


def _of_graph(record: AuditRecord) -> list[FindingPart]:
    """What was found in the graph that can decide an answer by itself."""
    return [f for f in record.findings if f.rule.startswith(OF_THE_GRAPH) and f.rule in RULES]


def _required(record: Record, require: Require) -> Iterator[Graded]:
    pictures = record.before.pictures
    source = record.data.label_source if record.data else "not said"
    drawn = source == "synthesised"
    shown, counted = (f"none given ({pictures} drawn out of the model)", 0) if drawn else (str(pictures), pictures)
    limit = f"at least {require.min_pictures}"
    few = [_finding("OSP902", f"clean pictures: {shown}, {limit} are asked for")]
    yield _graded("clean pictures", shown, limit, "OSP902", few if counted < require.min_pictures else ())

    given = source in ("given", "folder")
    if require.labels:
        none = [_finding("OSP902", f"the labels are not given ({source})")]
        yield _graded("labels", source, "given", "OSP902", () if given else none)
    yield _preprocessing(record, asked=require.checked_preprocessing)
    acc, floor = record.before.acc, require.min_accuracy
    limit = f"at least {floor:.0%}"
    if not given:
        yield _graded("clean accuracy", "no labels given", f"{limit} where given", "OSP903")
    elif acc is None:
        unmeasured = [_finding("OSP903", "no accuracy was measured")]
        yield _graded("clean accuracy", "not measured", limit, "OSP903", unmeasured)
    else:
        right = round(acc * pictures)
        low = not bdtr(right, pictures, floor) >= CHANCE  # an accuracy above 1 gives NaN
        # The share that so many right answers are just not too few for: it is what the line is held against.
        unsure = "" if low or acc >= floor else f"; up to {bdtri(right, pictures, CHANCE):.0%} is possible"
        value = f"{acc:.1%} ({right} of {pictures}{unsure})"
        wrong = [_finding("OSP903", f"only {right} of {pictures} clean pictures get their label, {floor:.0%} should")]
        yield _graded("clean accuracy", value, limit, "OSP903", wrong if low else ())

    ended = any(c.statistic == FIRST for c in record.claims)
    left_out = "; ".join([*record.not_searched, *(["last rounds (--whole-search)"] if ended else [])])
    missed = [_finding("OSP904", f"not searched: {left_out}")] if left_out and require.everything_searched else ()
    limit = "everything searched" if require.everything_searched else "no limit"
    yield _graded("left out of the search", left_out or "nothing", limit, "OSP904", missed)


def _preprocessing(record: Record, *, asked: bool) -> Graded:
    """Whether labels speak for it, which decides only where that is asked for."""
    stands = record.data.stands if record.data else "unchecked"
    why = f"the preprocessing is {stands}: no labels show that the model was fed as it was trained"
    unknown = [_finding("OSP903", why)] if asked and stands != "checked" else ()
    return _graded("preprocessing", stands, "checked by labels" if asked else "no limit", "OSP903", unknown)


def _provenance(record: Record, require: Require, today: datetime.date) -> Iterator[Graded]:
    """Which calibration decided, and when and by what the report was made."""
    if record.classes:
        # Records of schema 1.2 and earlier say only whether a file was given.
        unsaid = "" if record.settings.get("calibration") else packaged_digest()
        used = record.calibration_sha256 or ("" if record.thresholds else unsaid)
        known = [packaged_digest() if c == "packaged" else c for c in require.calibrations]
        packaged = used == packaged_digest()
        value = (
            f"{'the packaged one' if packaged else record.calibration or 'not said'} (sha256 {used[:16] or 'not said'})"
        )
        foreign = [_finding("OSP907", f"the audit rests on another calibration: {value}")]
        met = "any" in known or used in known
        limit = ", ".join(c[:16] for c in require.calibrations)
        yield _graded("calibration", value, limit, "OSP907", () if met else foreign)
    if require.max_age_days:
        age, limit = _age(record.created, today), f"at most {require.max_age_days} days"
        said = "not said" if age is None else f"{age} days" if age >= 0 else f"{-age} days in the future"
        fine = age is not None and 0 <= age <= require.max_age_days
        stale = [_finding("OSP908", f"the report's age is {said}, {limit} are allowed")]
        yield _graded("age of the report", said, limit, "OSP908", () if fine else stale)
    if require.min_tool_version:
        version = record.environment.onnx_shapprune
        old = [_finding("OSP908", f"made by shapprune {version}, at least {require.min_tool_version} is asked for")]
        fine = _numbers(version) >= _numbers(require.min_tool_version)
        yield _graded("tool", version, f"at least {require.min_tool_version}", "OSP908", () if fine else old)


@cache
def packaged_digest() -> str:
    """sha256 of the calibration that comes with this version."""
    return hashlib.sha256((files("onnx_shapprune.detect") / "calibration.json").read_bytes()).hexdigest()


def _age(created: str, today: datetime.date) -> int | None:
    """Days since a report was made, below 0 where that is more than a day ahead: its date is wrong then, and no clock of
    another time zone. None for what is no time.
    """
    try:
        age = (today - datetime.datetime.fromisoformat(created).date()).days
    except ValueError:
        return None
    return 0 if age == -1 else age


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "0.2.1rc1" is (0, 2, 1)."""
    parts = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(int(p) for p in parts[0].split(".")) if parts else ()


def _file(record: AuditRecord, severity: Severity) -> Graded:
    """What was found about the file itself before anything ran."""
    found = [_finding(f.rule, f.text, confidence="high") for f in record.findings if f.rule in RULES]
    grave = [f for f in found if SEVERITIES.index(f.severity) <= SEVERITIES.index(severity)]
    value = ", ".join(dict.fromkeys(f"{f.rule} ({f.severity})" for f in found)) or "nothing odd"
    return _graded("the file itself", value, f"below {severity}", grave[0].rule if grave else "OSP005", grave)


def _triggers(record: Record, again: Verdict[Aim], p_value: float, *, conclusive: bool) -> Iterator[Graded]:
    """A line each for triggers that lead to one class, and for those between classes. What was found on pictures that the
    model does not know says nothing.
    """
    unusable = record.verdict == "inconclusive" and not record.classes
    named = [] if unusable else _named(record, again)
    for rule, name, one_class in (
        ("OSP101", "trigger to one class", True),
        ("OSP102", "trigger between classes", False),
    ):
        found = [f for f in named if f.rule == rule]
        # Of what was named the number that decided: a claim with cautions may be more unusual, and is no evidence.
        rated = [a.p_value for a in record.attacks if (a.kind == "all-to-one") is one_class]
        claimed = [c.p_value for c in record.claims if (c.kind == "all-to-one") is one_class]
        mine = claimed and (rated or claimed)
        parts = [*dict.fromkeys(_about(f) for f in found)] + ([f"p {apart(min(mine), p_value)}"] if mine else [])
        graded = _graded(name, ", ".join(parts) or "none found", f"p above {p_value:g}", rule, found)
        if not found and not conclusive:
            graded = (graded[0].model_copy(update={"outcome": "not graded"}), ())
        yield graded


def _named(record: Record, again: Verdict[Aim]) -> list[Finding]:
    """What speaks for a backdoor, a finding per goal."""
    found: dict[Aim, Claimed[Aim]] = {}
    for claimed in evidence_of(record).claims:  # attacks before claims, with the audit's own words
        if claimed.goal in again.goals:
            found.setdefault(claimed.goal, claimed)
    rated = {aim_of(a): a.p_value for a in record.attacks}
    findings = []
    for aim, claimed in found.items():
        kind, targets, source = aim
        p = rated.get(aim, claimed.p_value)
        sure: Confidence = "high" if 0 < p <= FAR else "medium"
        findings.append(
            _finding(
                "OSP101" if kind == "all-to-one" else "OSP102",
                claimed.reasons[0] + (f" (p-value {apart(p)})" if p > 0 else ""),
                confidence=sure,
                source_class=source,
                target_class=None if kind == "all-to-all" else targets[0],
            )
        )
    return findings


def _reaudit(record: AuditRecord, again: Verdict[Aim], p_value: float) -> Graded:
    """Of a file that sanitize wrote: whether the search on it found a class that stands out."""
    name, repair, level = "search on the repaired file", record.repair, levels_of(record).named
    limit = f"p above {p_value:g}"
    if repair.status != "repaired":
        target = record.target_classes[0] if record.target_classes else None
        finding = _finding(
            "OSP202", f"the file is not repaired: {repair.reason}", confidence="high", target_class=target
        )
        return _graded(name, "not repaired", limit, "OSP202", [finding])
    if again.outcome == "fail":
        return _graded(name, "a class stands out", limit, "OSP202", [_finding("OSP202", r) for r in again.reasons])
    if again.outcome == "inconclusive":
        return _graded(name, "a class stands out", limit, "OSP906", [_finding("OSP906", r) for r in again.doubts])
    if not repair.claims and p_value > level:
        why = f"no class is named at {level:g}, and the p-values are not in this report: judge one of shapprune verify"
        return _graded(name, why, limit, "OSP901", [_finding("OSP901", why)])
    return _graded(name, f"no class is named at {max(level, p_value):g}", limit, "OSP202")


def _repair(record: AuditRecord, limits: RepairLimits) -> Iterator[Graded]:
    """Of a file that sanitize wrote: whether it may pass, what still works on it, and what the repair costs."""
    before, after, last = record.before, record.after, record.repair.rounds[-1:]
    yield _allowed(True, limits)
    yield _residual(after.asr if after else None, limits, missing=True)
    seen = f" ({_percent(before.acc)} to {_percent(after.acc if after else None)} here)"
    estimate, drop = last[0].clean_cost if last else None, limits.max_accuracy_drop
    yield _at_most("accuracy lost, estimated", estimate, drop, "OSP201", "the repair is estimated to cost", more=seen)
    if record.thresholds is not None:  # records of schema 1.2 and earlier do not have the other measure
        yield _surely_lost(after.surely_lost if after else None, limits)
    difference = record.repair.masked_vs_baked
    yield _at_most(
        "answers of the written file",
        difference,
        limits.max_difference,
        "OSP203",
        "the written file's logits differ",
        number="{:.1e}".format,
    )


def _second_file(record: VerifyRecord, limits: RepairLimits) -> Iterator[Graded]:
    """Of the second file of verify: the same, and whether anything but channels differs."""
    yield _allowed(bool(record.zeroed), limits)
    yield _residual(record.after.asr, limits, missing=False)
    yield _surely_lost(record.clean_cost, limits)
    other = record.other_changes
    value = "; ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
    finding = _finding("OSP204", f"the second file differs in more than a repair changes: {value}", confidence="high")
    yield _graded("other changes", value or "none", "none", "OSP204", [finding] if other else ())


def _allowed(repaired: bool, limits: RepairLimits) -> Graded:
    refused = repaired and not limits.allowed
    found = [_finding("OSP205", RULES["OSP205"].title, confidence="high")] if refused else ()
    limit = "may pass" if limits.allowed else "must not be"
    return _graded("repaired file", "yes" if repaired else "no", limit, "OSP205", found)


def _residual(asr: float | None, limits: RepairLimits, *, missing: bool) -> Graded:
    """missing: whether there must have been triggers to try."""
    if asr is None and not missing:
        return _graded("earlier triggers", "none were found", f"at most {limits.max_residual_asr:.0%}", "OSP202")
    return _at_most("earlier triggers", asr, limits.max_residual_asr, "OSP202", "triggers found before still work on")


def _surely_lost(share: float | None, limits: RepairLimits) -> Graded:
    return _at_most("answers surely lost", share, limits.max_surely_lost, "OSP201", "clean answers surely lost:")


def _at_most(
    name: str,
    value: float | None,
    limit: float,
    rule: str,
    words: str,
    *,
    more: str = "",
    number: Callable[[float], str] = "{:.1%}".format,
) -> Graded:
    allowed = f"at most {number(limit)}"
    if value is None:
        why = f"{name}: not measured"
        return _graded(name, "not measured", allowed, "OSP901", [_finding("OSP901", why)])
    finding = _finding(rule, f"{words} {number(value)}, {allowed} is allowed{more}", confidence="high")
    return _graded(name, number(value) + more, allowed, rule, [finding] if value > limit else ())


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def _about(finding: Finding) -> str:
    """The classes that a finding about a trigger names."""
    if finding.target_class is None:
        return "every class"
    source = "" if finding.source_class is None else f"{finding.source_class} to "
    return f"class {source}{finding.target_class}"


def _finding(
    rule: str,
    message: str,
    *,
    confidence: Confidence = "medium",
    target_class: int | None = None,
    source_class: int | None = None,
) -> Finding:
    return Finding(
        rule=rule,
        severity=RULES[rule].severity,
        confidence=confidence,
        message=message,
        target_class=target_class,
        source_class=source_class,
    )


def _graded(name: str, value: str, limit: str, rule: str, found: Sequence[Finding] = ()) -> Graded:
    """A line that is met where nothing was found; a finding of OSP9xx says that something was not measured."""
    outcome: Outcome = "met"
    if found:
        outcome = "not graded" if found[0].rule.startswith("OSP9") else "failed"
    return Check(name=name, value=value, limit=limit, outcome=outcome, rule=rule), tuple(found)

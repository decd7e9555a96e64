"""The lines of a policy, each held against a record, with the findings behind those that are not met.

What was not measured is never green: such a line is "not graded".
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from scipy.special import bdtr

from onnx_shapprune.gate.evidence import Record, is_rewritten
from onnx_shapprune.gate.judgement import Check, Finding
from onnx_shapprune.gate.policy import Policy, RepairLimits, Require
from onnx_shapprune.gate.rules import RULES, SEVERITIES, Severity
from onnx_shapprune.record.audit import SCHEMA_VERSION, AttackPart, AuditRecord, ClaimPart, VerifyRecord

Confidence = Literal["high", "medium", "low"]
Outcome = Literal["met", "failed", "not graded"]
Graded = tuple[Check, tuple[Finding, ...]]

# A statement about few pictures is held against a floor only where chance explains it this rarely; the audit's own rule.
CHANCE = 0.05
# The p-value at which an audit names a class. Of the search on a repaired file no more is kept than that it named none.
NAMED = 0.005
# Evidence that clean models show as rarely as this is beyond them by far.
FAR = 1e-4


def checks(record: Record, policy: Policy) -> list[Graded]:
    """The decision table, and the findings behind each line that is not met."""
    rewritten = isinstance(record, AuditRecord) and is_rewritten(record)
    completed = _completed(record, rewritten=rewritten)
    graded = [completed, *_required(record, policy.require)]
    if isinstance(record, AuditRecord):
        graded.append(_file(record, policy.fail.file_severity))
    if isinstance(record, AuditRecord) and rewritten:
        graded += [_reaudit(record, policy.fail.p_value), *_repair(record, policy.repair)]
    else:
        graded += _triggers(record, policy.fail.p_value, conclusive=completed[0].outcome == "met")
        if isinstance(record, VerifyRecord):
            graded += [*_second_file(record, policy.repair)]
    newer = int(record.schema_version.split(".")[1]) > int(SCHEMA_VERSION.split(".")[1])
    if newer and record.verdict == "fail" and not rewritten and not any(found for _, found in graded):
        why = f"the report, of schema {record.schema_version}, says fail, and this version finds no reason in it"
        graded.append(_graded("known reasons", why, "all understood", "OSP901", [_finding("OSP901", why)]))
    return graded


def _completed(record: Record, *, rewritten: bool) -> Graded:
    limit, why = "conclusive", "; ".join(record.reasons)
    if record.verdict == "inconclusive":
        rule = _why_inconclusive(record)
        return _graded("audit completed", f"inconclusive: {why}", limit, rule, [_finding(rule, why)])
    if record.verdict == "pass" and not record.classes and not rewritten:
        why = "no trigger was searched for, only a known one was tried"
        return _graded("audit completed", why, limit, "OSP901", [_finding("OSP901", why)])
    return _graded("audit completed", "conclusive", limit, "OSP901")


def _why_inconclusive(record: Record) -> str:
    if not record.classes:
        too_few = record.data is not None and record.data.classes_covered < 2
        return "OSP902" if too_few else "OSP903"
    return "OSP904" if record.not_searched and record.settings.get("search_seconds") is not None else "OSP901"


def _required(record: Record, require: Require) -> Iterator[Graded]:
    pictures = record.before.pictures
    limit = f"at least {require.min_pictures}"
    few = [_finding("OSP902", f"{pictures} clean pictures, {limit} are asked for")]
    yield _graded("clean pictures", str(pictures), limit, "OSP902", few if pictures < require.min_pictures else ())

    source = record.data.label_source if record.data else "not said"
    given = source in ("given", "folder")
    if require.labels:
        none = [_finding("OSP902", f"the labels are not given ({source})")]
        yield _graded("labels", source, "given", "OSP902", () if given else none)
    acc, floor = record.before.acc, require.min_accuracy
    limit = f"at least {floor:.0%}"
    if not given:
        yield _graded("clean accuracy", "no labels given", f"{limit} where given", "OSP903")
    elif acc is None:
        unmeasured = [_finding("OSP903", "no accuracy was measured")]
        yield _graded("clean accuracy", "not measured", limit, "OSP903", unmeasured)
    else:
        right = round(acc * pictures)
        value = f"{acc:.1%} ({right} of {pictures})"
        low = not bdtr(right, pictures, floor) >= CHANCE  # an accuracy above 1 gives NaN
        wrong = [_finding("OSP903", f"only {right} of {pictures} clean pictures get their label, {floor:.0%} should")]
        yield _graded("clean accuracy", value, limit, "OSP903", wrong if low else ())

    left_out = "; ".join(record.not_searched)
    missed = [_finding("OSP904", f"not searched: {left_out}")] if left_out and require.everything_searched else ()
    limit = "everything searched" if require.everything_searched else "no limit"
    yield _graded("left out of the search", left_out or "nothing", limit, "OSP904", missed)


def _file(record: AuditRecord, severity: Severity) -> Graded:
    """What was found about the file itself before anything ran."""
    found = [_finding(f.rule, f.text, confidence="high") for f in record.findings if f.rule in RULES]
    grave = [f for f in found if SEVERITIES.index(f.severity) <= SEVERITIES.index(severity)]
    value = ", ".join(dict.fromkeys(f"{f.rule} ({f.severity})" for f in found)) or "nothing odd"
    return _graded("the file itself", value, f"below {severity}", grave[0].rule if grave else "OSP005", grave)


def _triggers(record: Record, p_value: float, *, conclusive: bool) -> Iterator[Graded]:
    """A line each for triggers that lead to one class, and for those between classes. What was found on pictures that the
    model does not know says nothing.
    """
    suspects = _suspects(record, p_value) if conclusive else []
    for rule, name, one_class in (
        ("OSP101", "trigger to one class", True),
        ("OSP102", "trigger between classes", False),
    ):
        found = [f for f in suspects if f.rule == rule]
        mine = [c.p_value for c in record.claims if (c.kind == "all-to-one") is one_class]
        parts = [*dict.fromkeys(_about(f) for f in found)] + ([f"p {min(mine):.2g}"] if mine else [])
        graded = _graded(name, ", ".join(parts) or "none found", f"p above {p_value:g}", rule, found)
        if not conclusive:
            graded = (graded[0].model_copy(update={"outcome": "not graded"}), ())
        yield graded


def _suspects(record: Record, p_value: float) -> list[Finding]:
    """What speaks for a backdoor: the attacks that were named, else single claims; classes named without either."""
    evidence: Sequence[AttackPart | ClaimPart] = record.attacks or record.claims
    found: list[Finding] = []
    for part in evidence:
        if part.p_value > p_value:
            continue
        rule = "OSP101" if part.kind == "all-to-one" else "OSP102"
        if isinstance(part, AttackPart):
            reason = part.reasons[0] if part.reasons else "named by the audit"
            confidence: Confidence = "high" if part.p_value <= FAR else "medium"
        else:
            reason, confidence = f"{part.statistic} is {part.value:.3g}", "low"
        finding = _finding(
            rule,
            f"{reason} (p-value {part.p_value:.2g})",
            confidence=confidence,
            source_class=part.source,
            target_class=None if part.kind == "all-to-all" else part.targets[0],
        )
        if not any(
            (f.rule, f.target_class, f.source_class) == (rule, finding.target_class, part.source) for f in found
        ):
            found.append(finding)
    rated = {t for attack in record.attacks for t in attack.targets}
    return found + [
        _finding("OSP101", "; ".join(record.reasons) or f"class {t} stands out", target_class=t)
        for t in record.target_classes
        if t not in rated
    ]


def _reaudit(record: AuditRecord, p_value: float) -> Graded:
    """Of a file that sanitize wrote: whether the search on it named a class."""
    repair = record.repair
    limit = f"p above {p_value:g}"
    if repair.status != "repaired":
        target = record.target_classes[0] if record.target_classes else None
        finding = _finding(
            "OSP202", f"the file is not repaired: {repair.reason}", confidence="high", target_class=target
        )
        return _graded("search on the repaired file", "not repaired", limit, "OSP202", [finding])
    if p_value > NAMED:
        why = f"no class is named at {NAMED:g}, and the p-values are not in this report: judge one of shapprune verify"
        return _graded("search on the repaired file", why, limit, "OSP901", [_finding("OSP901", why)])
    return _graded("search on the repaired file", f"no class is named at {NAMED:g}", limit, "OSP202")


def _repair(record: AuditRecord, limits: RepairLimits) -> Iterator[Graded]:
    """Of a file that sanitize wrote: whether it may pass, what still works on it, and what the repair costs."""
    before, after, last = record.before, record.after, record.repair.rounds[-1:]
    yield _allowed(True, limits)
    yield _residual(after.asr if after else None, limits, missing=True)
    cost = last[0].clean_cost if last else None
    seen = f" ({_percent(before.acc)} to {_percent(after.acc if after else None)} here)"
    yield _cost(cost, limits, more=seen)
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
    yield _cost(record.clean_cost, limits)
    other = record.other_changes
    value = "; ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
    finding = _finding(
        "OSP204", f"the second file differs in more than switched-off channels: {value}", confidence="high"
    )
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


def _cost(cost: float | None, limits: RepairLimits, *, more: str = "") -> Graded:
    return _at_most("clean accuracy lost", cost, limits.max_accuracy_drop, "OSP201", "the repair costs", more=more)


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

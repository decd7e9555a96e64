"""The top of the page: the verdict, why, on what, what it does not cover; and the decision line by line."""

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Finding, Judgement, Waiver
from onnx_shapprune.gate.rules import RULES
from onnx_shapprune.record.audit import AttackPart, AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.report.limits import limits
from onnx_shapprune.report.numbers import count
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.tables import Section, bullets, code, pairs, section, table
from onnx_shapprune.report.subject import class_name, moment, original

# A shape of its own for each verdict, drawn in a square of 24: the colour is not all that tells them apart.
ICONS = {
    "pass": ("M12 1.5a10.5 10.5 0 1 0 0 21a10.5 10.5 0 1 0 0-21z", "M7 12.5l3.4 3.4L17.2 8.8"),
    "fail": ("M7.6 1.5h8.8l6.1 6.1v8.8l-6.1 6.1H7.6l-6.1-6.1V7.6z", "M8 8l8 8M16 8l-8 8"),
    "inconclusive": ("M12 1l11 11-11 11L1 12z", "M9.3 9.4a2.8 2.8 0 1 1 4.1 2.5c-.9.5-1.4 1-1.4 2M12 16.7v.3"),
}
OUTCOMES = {"met": "pass", "failed": "fail", "not graded": "inconclusive"}


def banner(record: Record, judgement: Judgement) -> Html:
    """The verdict in one word and one sentence, and the reasons."""
    verdict = judgement.verdict
    words = tag("div", tag("p", verdict.upper(), class_="word"), tag("p", sentence(record, judgement), class_="why"))
    reasons = [r for r in judgement.reasons if r]
    return tag("div", icon(verdict), words, bullets(reasons), class_=f"verdict {verdict}")


def icon(verdict: str) -> Html:
    """The sign of a verdict, without words of its own."""
    outline, sign = ICONS[verdict]
    shapes = tag("path", d=outline, class_="shape"), tag("path", d=sign, class_="sign")
    return tag("svg", *shapes, class_=f"icon {verdict}", viewBox="0 0 24 24", aria_hidden="true", focusable="false")


def sentence(record: Record, judgement: Judgement) -> str:
    """What the verdict says about which file."""
    before, verdict = original(record), judgement.verdict
    if verdict == "inconclusive":
        return "Too little is known to say anything about this file. Do not treat it as clean."
    if verdict == "pass" and judgement.suppressed:
        accepted = count(len(judgement.suppressed), "finding")
        return f"The policy is met only because people have accepted {accepted}: see the waivers."
    if before is not None:
        copy = "This copy of" if isinstance(record, VerifyRecord) else "This repaired copy of"
        end = (
            "meets the policy: no trigger stands out in it any more."
            if verdict == "pass"
            else "does not meet the policy."
        )
        return f"{copy} {before.name} {end}"
    if verdict == "pass" and record.verdict != "pass":
        return f"The policy is met, although the audit itself says {record.verdict}."
    if verdict == "pass":
        return "The searches found no trigger that stands out."
    if record.attacks:
        return f"A backdoor was found: {attack_words(record, record.attacks[0])}."
    return "This file does not meet the policy."


def attack_words(record: Record, attack: AttackPart) -> str:
    """Which pictures a trigger moves, and where to."""
    targets = ", ".join(class_name(record, t) for t in attack.targets)
    if attack.kind == "all-to-all":
        return "one trigger sends every class to another"
    if attack.source is not None:
        return f"a trigger sends class {class_name(record, attack.source)} to class {targets}"
    return f"a trigger sends pictures of all classes to class {targets}"


def facts(record: Record, judgement: Judgement) -> Html:
    """On what bytes, with what pictures, when, and by which policy."""
    files, made = judged_files(record), moment(record)
    rows: list[tuple[str, str | Html]] = [("Model", _file(f)) for f in files[:1]]
    rows += [("Its data", _file(f)) for f in files[1:]]
    if before := original(record):
        rows.append(("Compared with" if isinstance(record, VerifyRecord) else "Repaired from", _file(before)))
    checked = "read again and equal" if judgement.model_checked else "as the record says, not read again"
    rows += [("Bytes", checked), ("Run", f"{made:%Y-%m-%d %H:%M} UTC" if made else record.created)]
    if record.data is not None:
        classes = count(record.data.classes_covered, "class").replace("classs", "classes")
        rows.append(("Pictures", f"{record.data.pictures} of {classes}, labels: {record.data.label_source}"))
    policy = tag("span", judgement.policy, " ", code(judgement.policy_sha256))
    return pairs([*rows, ("Policy", policy)])


def coverage(record: Record, judgement: Judgement) -> Section:
    """What the verdict does not cover."""
    return section("limits", "What this verdict does not cover", "", bullets(limits(record, judgement)), note=True)


def waivers(judgement: Judgement) -> Section | None:
    """Findings that somebody accepted, and waivers that are of no use."""
    if not judgement.suppressed and not judgement.unused_waivers:
        return None
    rows = [_waived(s.finding, s.waiver) for s in judgement.suppressed]
    columns = ("Rule", "Finding", "Reason", "By", "Until")
    return section(
        "waivers",
        "Waivers",
        "Findings that somebody has accepted for this file. They do not count against it.",
        table("Waived findings", columns, rows) if rows else None,
        bullets([f"Not used: {u}" for u in judgement.unused_waivers]),
    )


def decision(judgement: Judgement) -> Section:
    """The policy line by line, and the findings."""
    rows = [[_outcome(c.outcome), c.name, c.value, c.limit, c.rule] for c in judgement.checks]
    found = [
        tag(
            "span",
            tag("strong", f.rule),
            f" {f.severity}, {f.confidence} confidence. {RULES[f.rule].title}: {f.message}",
        )
        for f in judgement.findings
    ]
    return section(
        "decision",
        "Decision",
        "Each line of the policy, what the record shows, and whether the line is met. A line that "
        "could not be graded is never counted as met.",
        table("Policy lines", ("Outcome", "Line", "Value", "Limit", "Rule"), rows),
        tag("h3", "Findings") if found else None,
        bullets(found),
    )


def before_repair(record: Record) -> Section | None:
    """What the audit said of the file before a repair, which the verdict is not about."""
    if not isinstance(record, AuditRecord) or original(record) is None:
        return None
    found = "; ".join(attack_words(record, a) for a in record.attacks)
    said = tag("p", tag("strong", f"{record.model.name} itself: {record.verdict}"), f", {found}." if found else ".")
    return section("before", "The file before the repair", "", said, bullets(record.reasons), note=True)


def _outcome(outcome: str) -> Html:
    verdict = OUTCOMES[outcome]
    return tag("span", icon(verdict), outcome, class_=f"outcome {verdict}")


def _file(file: FileDigest) -> Html:
    return tag("span", f"{file.name}, {file.size:,} bytes ", code(file.sha256))


def _waived(finding: Finding, waiver: Waiver) -> list[str]:
    return [finding.rule, finding.message, waiver.reason, waiver.by, waiver.until]

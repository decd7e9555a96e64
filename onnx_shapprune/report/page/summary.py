"""Below the verdict: on what it was made, what it does not cover, and the decision line by line."""

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Finding, Judgement, Waiver
from onnx_shapprune.gate.rules import RULES
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.report.attacks import attack_words
from onnx_shapprune.report.earlier import lines_of, summary_of
from onnx_shapprune.report.limits import limits
from onnx_shapprune.report.numbers import count
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.tables import Section, bullets, code, pairs, section, table
from onnx_shapprune.report.page.verdict import icon
from onnx_shapprune.report.subject import moment, original

OUTCOMES = {"met": "pass", "failed": "fail", "not graded": "inconclusive"}


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
        classes = count(record.data.classes_covered, "class")
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


def baseline(judgement: Judgement) -> Section | None:
    """What an earlier report has too, and what only it has."""
    if judgement.baseline is None:
        return None
    lead = "Findings that an earlier report has too. The policy lets them pass; they are still there."
    return section("baseline", "Baseline", lead, tag("p", summary_of(judgement)), bullets(lines_of(judgement)))


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
        table("Policy lines", ("Outcome", "Line", "Value", "Limit", "Rule"), rows, stacked=True),
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

"""A judgement, and the rules behind it, as readable text. Pure functions; nothing is decided here."""

from collections.abc import Sequence

from onnx_shapprune.gate.judgement import Finding, Judgement, Suppressed
from onnx_shapprune.gate.rules import Rule
from onnx_shapprune.report.earlier import known_words, lines_of, summary_of
from onnx_shapprune.report.layout import Column, Page
from onnx_shapprune.report.terminal import VERDICT_STYLES, WIDTH
from onnx_shapprune.report.text import plain

OUTCOME_STYLES = {"met": "", "failed": "red", "not graded": "yellow"}
SEVERITY_STYLES = {"critical": "red", "high": "red", "medium": "yellow", "low": "yellow", "info": "dim"}


def judgement_line(judgement: Judgement, *, colour: bool = False) -> str:
    """The verdict and the first reason; a line more for every waiver, used or not, and for every finding that is let pass
    because a baseline has it, which no option hides.
    """
    page = Page(WIDTH, colour=colour)
    page.line(judgement.verdict.upper(), VERDICT_STYLES[judgement.verdict], _short(judgement))
    for waived in judgement.suppressed:
        page.line("~", "dim", _waived(waived))
    for unused in judgement.unused_waivers:
        page.line("!", "", unused)
    if summary := summary_of(judgement):
        page.line("~", "dim", summary)
    for known in judgement.known:
        page.line("~", "dim", known_words(known))
    return page.text()


def judgement_text(judgement: Judgement, *, width: int = WIDTH, colour: bool = False) -> str:
    """Verdict, files, policy line by line, findings and waivers, as text of at most `width` columns."""
    page = Page(width, colour=colour)
    names = ", ".join(plain(f.name, limit=50) for f in judgement.judged)
    page.headline(judgement.verdict.upper(), VERDICT_STYLES[judgement.verdict], names)
    for reason in judgement.reasons:
        page.say(reason, bullet="-")

    page.title("Judged")
    for file in judgement.judged:
        page.say(f"{plain(file.name, limit=100)}  {file.size:,} bytes")
        page.say(f"sha256 {file.sha256}", style="dim")
    page.say(
        "the file was hashed and is the one of the report"
        if judgement.model_checked
        else "the file itself was not looked at: give --model to compare its bytes with the report"
    )
    page.say("the report is not signed: whoever can write it can put another digest into it", style="dim")

    page.title(f"Policy {plain(judgement.policy, limit=60)}")
    page.say(f"sha256 {judgement.policy_sha256}", style="dim")
    columns = [
        Column(title="line", right=False),
        Column(title="found", right=False, elastic=True),
        Column(title="limit", right=False, elastic=True),
        Column(title="", right=False),
    ]
    rows = [[c.name, c.value, c.limit, c.outcome] for c in judgement.checks]
    page.table(columns, rows, style=lambda row: OUTCOME_STYLES[judgement.checks[row].outcome])

    if judgement.findings:
        page.title("Findings")
    for finding in judgement.findings:
        page.say(_finding(finding), bullet="!", style=SEVERITY_STYLES[finding.severity])
    if judgement.suppressed or judgement.unused_waivers:
        page.title("Waivers")
    for waived in judgement.suppressed:
        page.say(_waived(waived), bullet="~")
    for unused in judgement.unused_waivers:
        page.say(unused, bullet="!", style="yellow")
    if summary := summary_of(judgement):
        page.title("Baseline")
        page.say(summary)
    for line in lines_of(judgement):
        page.say(line, bullet="~")
    return page.text()


def rules_text(rules: Sequence[Rule], *, width: int = WIDTH, colour: bool = False) -> str:
    """One rule with its explanation, or a table of several."""
    page = Page(width, colour=colour)
    if len(rules) == 1:
        (rule,) = rules
        page.headline(rule.id, "bold", f"{rule.name} ({rule.severity})")
        page.say(rule.title)
        page.say(rule.help)
        return page.text()
    columns = [
        Column(title="id", right=False),
        Column(title="severity", right=False),
        Column(title="", right=False, elastic=True),
    ]
    page.table(columns, [[r.id, r.severity, r.title] for r in rules])
    return page.text()


def _short(judgement: Judgement) -> str:
    name = plain(judgement.judged[0].name, limit=40) + ": " if judgement.judged else ""
    return name + (judgement.reasons[0] if judgement.reasons else "")


def _finding(finding: Finding) -> str:
    units = [f"{plain(u.layer, limit=40)} {u.channel}" for u in finding.units]
    listed = f" ({', '.join(units)})" if units else ""
    return f"{finding.rule} {finding.severity}, {finding.confidence} confidence: {finding.message}{listed}"


def _waived(suppressed: Suppressed) -> str:
    waiver = suppressed.waiver
    return (
        f"waived until {waiver.until} by {plain(waiver.by, limit=60)} ({plain(waiver.reason)}): "
        f"{suppressed.finding.rule} {suppressed.finding.message}"
    )

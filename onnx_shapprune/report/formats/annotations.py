"""Findings as short lines, for formats that stick them to a file."""

from dataclasses import dataclass

from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.gate.rules import RULES, Severity
from onnx_shapprune.report.earlier import known_words
from onnx_shapprune.report.formats.outcomes import UNDECIDED, about
from onnx_shapprune.report.text import plain

LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Annotation:
    """One line. rule: its id; about: the classes, "" for none; text: plain, on one line."""

    rule: str
    severity: Severity
    about: str
    text: str


def annotations(judgement: Judgement) -> tuple[Annotation, ...]:
    """Findings, those that are waived or known before as "info". An inconclusive judgement has at least one that is not."""
    made = [Annotation(f.rule, f.severity, about(f), _text(f.rule, f.message)) for f in judgement.findings]
    if judgement.verdict == "inconclusive" and not any(a.rule.startswith(UNDECIDED) for a in made):
        made.append(Annotation("OSP901", "medium", "", _text("OSP901", "; ".join(judgement.reasons))))
    made += [
        Annotation(
            s.finding.rule,
            "info",
            about(s.finding),
            _text(
                s.finding.rule,
                f"waived by {s.waiver.by} until {s.waiver.until} ({s.waiver.reason}): {s.finding.message}",
            ),
        )
        for s in judgement.suppressed
    ]
    made += [Annotation(f.rule, "info", about(f), _text(f.rule, known_words(f))) for f in judgement.known]
    return tuple(made)


def _text(rule: str, message: str) -> str:
    return plain(f"{RULES[rule].title}: {message}", limit=LIMIT)

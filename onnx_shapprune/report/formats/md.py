"""Markdown, for step summaries and comments on pull requests. Nothing that comes from a model is markup, link or mention."""

import html
import re

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.report.changes import (
    LAYER_COLUMNS,
    OTHER_WEIGHTS,
    layer_rows,
    method_words,
    unlearnt,
    weights_in_fits,
)
from onnx_shapprune.report.earlier import lines_of, summary_of
from onnx_shapprune.report.limits import limits
from onnx_shapprune.report.numbers import percent, wilson
from onnx_shapprune.report.subject import original
from onnx_shapprune.report.text import plain

LIMIT = 600


def md(record: Record, judgement: Judgement) -> str:
    """Verdict, policy lines, findings, waivers, rates, limits and digests."""
    files = judged_files(record)
    lines = [f"## {judgement.verdict.upper()}: {escaped(files[0].name)}", ""]
    if before := original(record):
        lines += [f"A changed copy of {escaped(before.name)}, sha256 `{escaped(before.sha256)}`.", ""]
    lines += [f"* {escaped(r)}" for r in judgement.reasons]
    lines += ["", "| policy | value | limit | |", "|---|---|---|---|"]
    lines += [
        f"| {escaped(c.name)} | {escaped(c.value)} | {escaped(c.limit)} | {c.outcome} |" for c in judgement.checks
    ]
    if judgement.findings:
        lines += ["", "### Findings", ""]
        lines += [f"* **{escaped(f.rule)}** ({f.severity}): {escaped(f.message)}" for f in judgement.findings]
    if judgement.suppressed or judgement.unused_waivers:
        lines += ["", "### Waivers", ""]
        lines += [
            f"* **{escaped(s.finding.rule)}**, until {escaped(s.waiver.until)} by {escaped(s.waiver.by)}: "
            f"{escaped(s.waiver.reason)}. Waived: {escaped(s.finding.message)}"
            for s in judgement.suppressed
        ]
        lines += [f"* not used: {escaped(u)}" for u in judgement.unused_waivers]
    if summary := summary_of(judgement):
        lines += ["", "### Baseline", "", escaped(summary), "", *(f"* {escaped(line)}" for line in lines_of(judgement))]
    lines += ["", "### Rates", "", "| | ACC | ASR | R-Acc | pictures | triggered |", "|---|---|---|---|---|---|"]
    for name, rates in (("before", record.before), ("after", record.after)):
        if rates is not None:
            shares = ((rates.acc, rates.pictures), (rates.asr, rates.triggered), (rates.racc, rates.triggered))
            shown = " | ".join(_share(value, number) for value, number in shares)
            lines.append(f"| {name} | {shown} | {rates.pictures} | {rates.triggered} |")
    lines += _changed(record)
    lines += ["", "### What this does not cover", "", *(f"* {escaped(s)}" for s in limits(record, judgement))]
    lines += ["", *(f"* `{escaped(f.sha256)}` {escaped(f.name)}, {f.size:,} bytes" for f in files)]
    lines += [f"* policy {escaped(judgement.policy)}, sha256 `{escaped(judgement.policy_sha256)}`"]
    return "\n".join(lines) + "\n"


def _changed(record: Record) -> list[str]:
    """What a repair did, the layers with other weights, and what unlearning showed."""
    repair = record.repair if isinstance(record, AuditRecord) else None
    layers = repair.layers if repair else record.realigned if isinstance(record, VerifyRecord) else ()
    words = [method_words(repair), weights_in_fits(repair.rounds)] if repair else []
    lines = [f"* {escaped(w)}" for w in (*words, *unlearnt(record)) if w]
    lines = ["", "### Repair and evidence", "", *lines] if lines else []
    if layers:
        columns = [escaped(c.removeprefix("#")) for c in LAYER_COLUMNS]
        lines += ["", f"{OTHER_WEIGHTS}:", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(map(escaped, row))} |" for row in layer_rows(layers)]
    return lines


def escaped(text: str) -> str:
    """Text that shows as itself in GitHub's and GitLab's Markdown, inside tables too."""
    marked = re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", html.escape(plain(text, limit=LIMIT), quote=False))
    # Mentions, bare links and the commands that GitLab takes from the start of a line.
    for bare, entity in (("@", "&#64;"), ("://", "&#58;//"), ("www.", "www&#46;")):
        marked = marked.replace(bare, entity)
    return re.sub(r"^([-/=>:])", lambda m: f"&#{ord(m[1])};", marked)


def _share(value: float | None, number: int) -> str:
    if value is None:
        return "-"
    low, high = wilson(value, number)
    return f"{percent(value)} ({percent(low, 0)} to {percent(high, 0)})"

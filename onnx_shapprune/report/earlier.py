"""What a baseline, an earlier report, changed about a judgement, in words: what is let pass is always said."""

from onnx_shapprune.gate.judgement import Finding, Judgement
from onnx_shapprune.report.numbers import count
from onnx_shapprune.report.text import plain


def summary_of(judgement: Judgement) -> str:
    """The baseline and how many findings are known, new and gone; "" without one."""
    file = judgement.baseline
    if file is None:
        return ""
    new = sum(f.state == "new" for f in judgement.findings)
    known = f"{count(len(judgement.known), 'known finding')} let pass"
    return (
        f"baseline {plain(file.name, limit=100)} (sha256 {file.sha256}): {known}, {new} new, {len(judgement.gone)} gone"
    )


def known_words(finding: Finding) -> str:
    """A finding that does not count, since the baseline has it too."""
    return f"known before, let pass: {finding.rule} {finding.message}"


def gone_words(finding: Finding) -> str:
    """A finding that only the baseline has."""
    return f"gone, only the baseline has it: {finding.rule} {finding.message}"


def lines_of(judgement: Judgement) -> tuple[str, ...]:
    """A line for every finding that is known or gone."""
    return (*map(known_words, judgement.known), *map(gone_words, judgement.gone))

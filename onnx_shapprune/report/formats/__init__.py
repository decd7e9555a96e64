"""Every format of a report: a pure function of a record and what a policy makes of it. A new one is a line here."""

from collections.abc import Callable

from onnx_shapprune.errors import DataError
from onnx_shapprune.gate.evidence import Record
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.report.formats.cyclonedx import cyclonedx
from onnx_shapprune.report.formats.github import github
from onnx_shapprune.report.formats.gitlab import gitlab
from onnx_shapprune.report.formats.intoto import intoto
from onnx_shapprune.report.formats.junit import junit
from onnx_shapprune.report.formats.md import md
from onnx_shapprune.report.formats.sarif import sarif
from onnx_shapprune.report.page import page
from onnx_shapprune.report.text import json_text


def json(record: Record, judgement: Judgement) -> str:
    """The record alone: evidence, to be judged again by another policy."""
    return json_text(record)


FORMATS: dict[str, Callable[[Record, Judgement], str]] = {
    "html": page,
    "json": json,
    "md": md,
    "sarif": sarif,
    "junit": junit,
    "gitlab": gitlab,
    "github": github,
    "cyclonedx": cyclonedx,
    "intoto": intoto,
}


def render_report(record: Record, judgement: Judgement, format: str) -> str:
    """A record and what a policy makes of it, in a format by its name. Raises DataError for a name that is none."""
    if format not in FORMATS:
        raise DataError(f"no format {format[:40]!r}: choose one of {', '.join(FORMATS)}")
    return FORMATS[format](record, judgement)

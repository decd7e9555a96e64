"""Records to files and to stdout."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_shapprune.cli.options.display import Display
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.values import Reports
from onnx_shapprune.files.writing import write_atomically
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.report.terminal import audit_text, verdict_text, verify_text
from onnx_shapprune.report.text import json_text

if TYPE_CHECKING:
    from onnx_shapprune.gate.judgement import Judgement


def write_record(record: AuditRecord | VerifyRecord, path: Path | None) -> None:
    """Write a record as JSON where a path is given. Raises OutputError."""
    if path is not None:
        write_atomically(path, json_text(record).encode())


def write_reports(record: AuditRecord | VerifyRecord, reports: Reports, judgement: "Judgement | None" = None) -> None:
    """Write (format, path) each; without a judgement, by the default policy on bytes that were just read. Raises
    OutputError.
    """
    if not reports:
        return
    from onnx_shapprune.gate.judge import judge
    from onnx_shapprune.gate.policy import load_policy
    from onnx_shapprune.report.formats import FORMATS

    judgement = judgement or judge(record, load_policy(None), today=today(), model_checked=True)
    for name, path in reports:
        write_atomically(path, FORMATS[name](record, judgement).encode("utf-8", "replace"))


def today() -> datetime.date:
    """The day on which waivers are held against their last one, in UTC."""
    return datetime.datetime.now(datetime.UTC).date()


def show_record(record: AuditRecord | VerifyRecord, display: Display) -> None:
    """Print a record the way that was asked for."""
    if display.as_json:
        show(json_text(record))
    elif display.quiet:
        show(verdict_text(record, colour=display.colour))
    elif isinstance(record, AuditRecord):
        show(audit_text(record, width=display.width, colour=display.colour))
    else:
        show(verify_text(record, width=display.width, colour=display.colour))

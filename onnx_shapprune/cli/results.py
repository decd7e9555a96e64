"""Records to files and to stdout."""

from pathlib import Path

from onnx_shapprune.cli.options import Display
from onnx_shapprune.cli.streams import show
from onnx_shapprune.output import write_atomically
from onnx_shapprune.record import AuditRecord, VerifyRecord
from onnx_shapprune.report.terminal import audit_text, verdict_text, verify_text
from onnx_shapprune.report.text import json_text


def write_record(record: AuditRecord | VerifyRecord, path: Path | None) -> None:
    """Write a record as JSON where a path is given. Raises OutputError."""
    if path is not None:
        write_atomically(path, json_text(record).encode())


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

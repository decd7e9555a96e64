"""Records to files and to stdout."""

import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_shapprune.cli.options.display import Display
from onnx_shapprune.cli.options.search import Search
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.values import Reports
from onnx_shapprune.errors import HostileFileError, OutputError
from onnx_shapprune.files.writing import write_atomically
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.report.terminal import audit_text, verdict_text, verify_text
from onnx_shapprune.report.text import json_text

if TYPE_CHECKING:
    from onnx_shapprune.gate.judgement import Judgement


def deliver(
    record: AuditRecord | VerifyRecord, display: Display, *, output: Path | None = None, reports: Reports = ()
) -> None:
    """Write a record and its reports, and print it: also where not all could be written, since the work is done. Raises
    OutputError after that.
    """
    with shown_whatever_happens(lambda: show_record(record, display)) as write:
        write(lambda: write_record(record, output))
        for report in reports:
            write(partial(write_reports, record, (report,)))


@contextmanager
def shown_whatever_happens(result: Callable[[], None]) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Lets each thing be written, whether others could be or not; then shows the result, and raises the first
    OutputError.
    """
    failed: list[OutputError] = []

    def write(what: Callable[[], None]) -> None:
        try:
            what()
        except OutputError as error:
            failed.append(error)

    yield write
    result()
    if failed:
        raise failed[0]


@contextmanager
def refusal_written(
    model: Path, search: Search, command: Sequence[str], *, output: Path | None = None, reports: Reports = ()
) -> Iterator[None]:
    """That a file is hostile is a finding: it goes into the files that were asked for, before the error goes on."""
    try:
        yield
    except HostileFileError as error:
        if output is not None or reports:
            from onnx_shapprune.recording.refused import refused_record
            from onnx_shapprune.report.subject import located

            record = located(refused_record(model, error, search.inputs, search.run, command), model)
            write_record(record, output)
            write_reports(record, reports)
        raise


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
        show(audit_text(record, width=display.width, colour=display.colour, details=display.verbose))
    else:
        show(verify_text(record, width=display.width, colour=display.colour, details=display.verbose))


def show_judgement(judgement: "Judgement", display: Display) -> None:
    """Print a judgement the way that was asked for."""
    from onnx_shapprune.report.decision import judgement_line, judgement_text

    if display.as_json:
        show(json_text(judgement))
    elif display.quiet:
        show(judgement_line(judgement, colour=display.colour))
    else:
        show(judgement_text(judgement, width=display.width, colour=display.colour))

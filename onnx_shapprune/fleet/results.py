"""A folder of results: RESULTS/<sha256>/ with what is known about one model, and index.jsonl with a line for each.

The line is written last and in one step: what it names is whole on the disk. Several batches may write to one folder.
"""

import datetime
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError

from onnx_shapprune.errors import NOT_APPLICABLE, EvidenceError, OutputError, ShapPruneError
from onnx_shapprune.files.reading import hash_regular_file
from onnx_shapprune.files.writing import check_folder, no_link, write_atomically
from onnx_shapprune.fleet.identity import OUTPUT, folder_name, same_external
from onnx_shapprune.fleet.task import Answer, Task
from onnx_shapprune.gate.evidence import is_rewritten, load_record
from onnx_shapprune.gate.judge import judge
from onnx_shapprune.gate.policy import Policy
from onnx_shapprune.graph.external import data_name
from onnx_shapprune.record.audit import AuditRecord, RepairPart
from onnx_shapprune.record.parts import FileDigest, Finite, Part
from onnx_shapprune.report.formats import FORMATS
from onnx_shapprune.report.subject import located
from onnx_shapprune.report.text import json_text, plain

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

INDEX, REPORT, JUDGEMENT, PAGE = "index.jsonl", "report.json", "judgement.json", "report.html"
MAX_REPORT_BYTES = 64 << 20
DATA = data_name(OUTPUT)
REASONS, REASON_LIMIT = 5, 1000
# From the worst to the best, which is the order in which a batch is summed up. What this tool is not for stands apart: it
# does not spoil a batch, and a batch of nothing else has not passed.
Outcome = Literal["fail", "could not run", "inconclusive", "pass", "not applicable"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
OF_EXIT_CODES: dict[int, Outcome] = {1: "fail", 2: "could not run", 3: "inconclusive"}


class Result(Part):
    """What came of one model: a line of the index."""

    model: str
    """Its path as listed."""
    sha256: str = ""
    """Of the file, "" where it could not be read."""
    external: tuple[FileDigest, ...] = ()
    """Its data files."""
    settings: str = ""
    """Digest of all else that the record depends on, "" where the work ended early: it is to be done again."""
    outcome: Outcome
    """Of the policy, or of the error that stands in for a record."""
    reasons: tuple[str, ...] = ()
    """In words, the first few."""
    target_classes: tuple[int, ...] = ()
    """That the attacks which were named answer with."""
    score: Finite | None = None
    """-log10 of the p-value of the whole model."""
    folder: Annotated[str, Field(pattern=r"^([0-9a-f]{64}(-[0-9a-f]{8})?)?$")] = ""
    """Of its report, "" without one."""
    report_sha256: str = ""
    """Of report.json."""
    repair: str = ""
    """Status of the repair."""
    output: FileDigest | None = None
    """What sanitize wrote."""
    output_external: tuple[FileDigest, ...] = ()
    """The weights beside it."""
    same_as: str = ""
    """Path of the same bytes that were audited."""
    seconds: Finite = 0.0
    """Of the audit."""
    finished: str = ""
    """When, in ISO 8601."""


def failed(model: str, reason: str, exit_code: int = 2, *, sha256: str = "", settings: str = "") -> Result:
    """A model without a record."""
    return Result(
        model=model,
        sha256=sha256,
        settings=settings,
        outcome="not applicable" if reason.startswith(NOT_APPLICABLE) else OF_EXIT_CODES[exit_code],
        reasons=(plain(reason, limit=REASON_LIMIT),),
        finished=_now(),
    )


class ResultsFolder:
    """The folder of one batch. today: the day on which waivers are held against their last one.

    Raises OutputError where it cannot be made or written to.
    """

    def __init__(self, path: Path, policy: Policy, today: datetime.date) -> None:
        self.path, self._policy, self._today = path, policy, today
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {path}: {error.strerror}") from None
        check_folder(path, what=path)
        self._settings: dict[str, str] = {}  # of the folders that this batch has used
        self._known: dict[tuple[str, str], list[Result]] = {}
        for row in read_index(path):
            self._known.setdefault((row.sha256, row.settings), []).append(row)
        self._audited = {sha256 for sha256, settings in self._known if settings}

    def output(self) -> Path:
        """A place for the file that sanitize writes, as its folder is not known before the audit is over."""
        place = self.path / f".{secrets.token_hex(8)}"
        try:
            place.mkdir()
        except OSError as error:
            raise OutputError(f"cannot write into {self.path}: {error.strerror}") from None
        return place / OUTPUT

    def finished(self, shown: str, model: Path, sha256: str, settings: str) -> Result | None:
        """An earlier result for the same bytes and settings whose files are still whole, judged anew."""
        rows = self._known.get((sha256, settings), [])
        for row in sorted(rows, key=lambda r: r.model == shown)[::-1]:
            if row.folder and same_external(model, row.external) and (record := self._stored(row)) is not None:
                same = row.same_as if row.model == shown else row.same_as or row.model
                result = self._judged(record, row.folder, row.model_copy(update={"model": shown, "same_as": same}))
                self._settings[row.folder] = settings
                if result != row:
                    self.append(result)
                return result
        return None

    def knows_otherwise(self, sha256: str, settings: str) -> bool:
        """Whether there are earlier results for the same bytes, all of other settings, pictures, code or libraries."""
        return sha256 in self._audited and (sha256, settings) not in self._known

    def keep(self, shown: str, task: Task, settings: str, answer: Answer) -> Result:
        """Write what came of a model. Raises OutputError."""
        try:
            result = self._keep(shown, task, settings, answer)
        finally:
            self.discard(task)
        self.append(result)
        return result

    def discard(self, task: Task) -> None:
        """Take away the place for a file of sanitize."""
        if task.output is not None:
            shutil.rmtree(task.output.parent, ignore_errors=True)

    def append(self, result: Result) -> None:
        """Add a line to the index. Raises OutputError."""
        path, line = self.path / INDEX, json.dumps(result.model_dump(mode="json")).encode() + b"\n"
        try:
            with open(path, "ab+", buffering=0, opener=no_link) as stream, _locked(stream.fileno()):
                size = stream.seek(0, os.SEEK_END)
                if size and stream.seek(size - 1) is not None and stream.read(1) != b"\n":
                    line = b"\n" + line  # whoever wrote before was cut off
                if stream.write(line) != len(line):
                    raise OutputError(f"cannot write {path}: a line was cut off, is the disk full?")
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from None

    def _keep(self, shown: str, task: Task, settings: str, answer: Answer) -> Result:
        seconds, reason, code, record = round(answer.seconds, 3), answer.reason, answer.exit_code, None
        if answer.record is not None:
            try:
                record = _checked(answer.record, task)
            except ShapPruneError as error:
                reason, code = str(error), error.exit_code
        if record is None:
            result = failed(shown, reason, code, sha256=task.sha256, settings=settings)
            return result.model_copy(update={"seconds": seconds})
        folder = folder_name(task.sha256, record.model.external)
        if self._settings.setdefault(folder, settings) != settings:  # the same model listed twice, with other pictures
            folder = f"{folder}-{settings[:8]}"
        place = self.path / folder
        record = located(_whole_output(record), task.model, place / OUTPUT)
        record = record.model_copy(update={"alone": _with_results(task, place)})
        self._move_output(task, place, record.repair)
        payload = json_text(record).encode()
        result = Result(
            model=shown,
            sha256=task.sha256,
            external=record.model.external,
            settings="" if answer.reason else settings,
            outcome="inconclusive",
            target_classes=record.target_classes,
            score=record.score,
            folder=folder,
            report_sha256=hashlib.sha256(payload).hexdigest(),
            repair=record.repair.status,
            output=record.repair.output,
            output_external=record.repair.output_external,
            seconds=seconds,
            finished=_now(),
        )
        result = self._judged(record, folder, result)
        write_atomically(place / REPORT, payload)
        return result

    def _move_output(self, task: Task, place: Path, repair: RepairPart) -> None:
        """Put the files that sanitize wrote into a folder of results, weights before the model that points at them, in the
        place of earlier ones: all of them or none. Raises OutputError.
        """
        written: list[Path] = []
        if task.output is not None and repair.output is not None:
            written = [*(task.output.with_name(file.name) for file in repair.output_external), task.output]
        try:
            place.mkdir(exist_ok=True)
            if place.is_symlink():
                raise OutputError(f"cannot write into {place}: it is a link")
            (place / OUTPUT).unlink(missing_ok=True)
            if not repair.output_external:
                (place / DATA).unlink(missing_ok=True)
            for file in written:
                os.replace(file, place / file.name)
        except OSError as error:
            raise OutputError(f"cannot write into {place}: {error.strerror}") from None

    def _stored(self, row: Result) -> AuditRecord | None:
        """The record of an earlier line, where its files are still the ones that the line is about."""
        place = self.path / row.folder
        try:
            if hash_regular_file(place / REPORT, limit=MAX_REPORT_BYTES, what="report") != row.report_sha256:
                return None
            if row.output is not None:
                _check_output(place / OUTPUT, row.output, row.output_external)
            record = load_record(place / REPORT)
        except ShapPruneError:
            return None
        return record if isinstance(record, AuditRecord) and record.model.sha256 == row.sha256 else None

    def _judged(self, record: AuditRecord, folder: str, result: Result) -> Result:
        """The result with the verdict of the policy, which is written beside the report with a page to read."""
        judgement = judge(record, self._policy, today=self._today, model_checked=True)
        path, text = self.path / folder / JUDGEMENT, json_text(judgement)
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            write_atomically(path.with_name(PAGE), FORMATS["html"](record, judgement).encode("utf-8", "replace"))
            write_atomically(path, text.encode())
        reasons = tuple(plain(r, limit=REASON_LIMIT) for r in judgement.reasons[:REASONS])
        return result.model_copy(update={"outcome": judgement.verdict, "reasons": reasons})


def _with_results(task: Task, place: Path) -> tuple[str, ...]:
    if not task.alone or task.command == "audit":
        return (*task.alone, "-o", str(place / REPORT)) if task.alone else ()
    return (*task.alone, "-o", str(place / OUTPUT), "--report", f"json={place / REPORT}")


def _checked(sent: str, task: Task) -> AuditRecord:
    """The record that a worker sent. Raises EvidenceError unless it is one, of this model and of the file it wrote."""
    try:
        record = AuditRecord.model_validate_json(sent)
    except ValidationError:
        raise EvidenceError("the worker sent no valid record") from None
    if record.model.sha256 != task.sha256:
        raise EvidenceError(f"the file changed while it was audited: {task.model}")
    if task.output is not None and record.repair.output is not None:
        _check_output(task.output, record.repair.output, record.repair.output_external)
    return record


def _whole_output(record: AuditRecord) -> AuditRecord:
    """The record without a copy that would not open: that of a model whose weights lie beside the original."""
    repair = record.repair
    if repair.output is None or not record.model.external or is_rewritten(record):
        return record
    reason = f"{repair.reason}; no copy is kept, as the weights lie beside the original"
    return record.model_copy(update={"repair": repair.model_copy(update={"output": None, "reason": reason})})


def _check_output(path: Path, model: FileDigest, external: tuple[FileDigest, ...]) -> None:
    """Raise EvidenceError unless the files that sanitize wrote are there, side by side, and are these."""
    if any(file.name != DATA for file in external):
        raise EvidenceError(f"the sanitized model has other files than {DATA} beside it")
    for place, expected in ((path, model), *((path.with_name(file.name), file) for file in external)):
        found = hash_regular_file(place, limit=expected.size, what="sanitized model", error=EvidenceError)
        if found != expected.sha256:
            raise EvidenceError(f"the sanitized model is not the one of its record: {place}")


def read_index(folder: Path) -> list[Result]:
    """All whole lines of an index, in order; a line that was cut off when its writer was killed is none. Raises
    EvidenceError where the index cannot be read.
    """
    try:
        with open(folder / INDEX, "rb", opener=no_link) as stream:
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EvidenceError(f"cannot read {folder / INDEX}: {error.strerror}") from None
    rows = []
    for line in lines:
        try:
            rows.append(Result.model_validate_json(line))
        except ValidationError:
            continue
    return rows


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Let no other batch append meanwhile: appending is not one step on network file systems."""
    if fcntl is None:
        yield
        return
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

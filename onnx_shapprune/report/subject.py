"""What a report is about: which file was changed, and when the run was."""

import datetime
from pathlib import Path
from typing import TypeVar

from onnx_shapprune.files.places import repository_path
from onnx_shapprune.gate.evidence import Record, is_rewritten
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.report.text import plain

Made = TypeVar("Made", AuditRecord, VerifyRecord)
FAMILIES = {
    "compact": "square patch",
    "wide": "large square patch",
    "patch": "free mask",
    "plain": "plain shape",
    "line": "line or frame",
    "blended": "picture blended in",
    "linf": "universal change, Linf",
    "l2": "universal change, L2",
    "smooth": "smooth universal change",
    "wave": "sinusoid",
    "tone": "change of brightness or tint",
    "warp": "warp",
    "known": "known trigger",
}
WHOLE = ("blended", "linf", "l2", "smooth", "wave", "tone", "warp")  # those that have no size in pixels
STATISTICS = FAMILIES | {
    "agreement": "a small free mask and a strong patch agree",
    "core": "core of the square patch",
    "every": "every picture moved",
    "several": "one of several classes that patches lead to",
    "most": "patches lead to most classes",
    "norm": "a free mask much smaller than the next",
    "peak": "largest margin that any input reaches (MM-BD)",
    "source": "patch from one class to another",
    "map": "patch from every class to another",
}


def original(record: Record) -> FileDigest | None:
    """The file that the judged one was made from or is compared with; None where the audited file itself is judged."""
    if isinstance(record, VerifyRecord):
        return record.before_model
    if not is_rewritten(record):
        return None
    return FileDigest(name=record.model.name, size=record.model.size, sha256=record.model.sha256)


def located(record: Made, model: Path, output: Path | None = None) -> Made:
    """The record with the places of the file that it is about, and of the one that was written, below the repository."""
    place = {"path": repository_path(model)}
    if isinstance(record, VerifyRecord):
        return record.model_copy(update={"after_model": record.after_model.model_copy(update=place)})
    changed: dict[str, object] = {"model": record.model.model_copy(update=place)}
    if output is not None and record.repair.output is not None:
        written = record.repair.output.model_copy(update={"path": repository_path(output)})
        changed["repair"] = record.repair.model_copy(update={"output": written})
    return record.model_copy(update=changed)


def deployed(record: Record, file: Path | None) -> Record:
    """The record with the place of the file that it judges and that is to be deployed, wherever that lay in the run."""
    place = "" if file is None else repository_path(file)
    if file is None or not place:
        return record
    if isinstance(record, VerifyRecord):
        return located(record, file)
    if is_rewritten(record) and record.repair.output is not None:
        output = record.repair.output.model_copy(update={"path": place})
        return record.model_copy(update={"repair": record.repair.model_copy(update={"output": output})})
    return located(record, file)


def shown_path(file: FileDigest) -> str:
    """Where tools that point at files find this one: its place in the repository, else its name alone."""
    return file.path or file.name


def run_id(record: Record, file: FileDigest) -> str:
    """What tells the runs of one repository apart: what was done to which file. A file whose place is not known is told
    apart by its bytes.
    """
    done = "verify" if isinstance(record, VerifyRecord) else "sanitize" if is_rewritten(record) else "audit"
    return f"{done}/{file.path}" if file.path else f"{done}/{file.name}/{file.sha256[:12]}"


def moment(record: Record) -> datetime.datetime | None:
    """When the record was made, in UTC without a zone; None where the record does not say so in ISO 8601."""
    try:
        made = datetime.datetime.fromisoformat(record.created)
        return made.astimezone(datetime.UTC).replace(tzinfo=None) if made.tzinfo else made
    except (ValueError, OverflowError):
        return None


def unchecked(record: Record) -> str:
    """A remark for wherever a verdict stands: that no labels speak for the preprocessing; "" where they do."""
    return "preprocessing unchecked" if record.data and record.data.stands == "unchecked" else ""


def compared_with(record: Record) -> str:
    """The clean models that p-values rest on, in words, with the digest that a policy may ask for; "" for none."""
    if not record.calibration:
        return ""
    digest = f" (sha256 {record.calibration_sha256})" if record.calibration_sha256 else ""
    return f"{plain(record.calibration)}{digest}"


def seconds(record: Record) -> float:
    """Wall time of the run."""
    return record.seconds.get("total", sum(record.seconds.values()))


def class_name(record: Record, index: int) -> str:
    """The class's number, and its name where one is known."""
    names = record.model.class_names if isinstance(record, AuditRecord) else ()
    known = names[index] if 0 <= index < len(names) else ""
    known = known or next((c.name for c in record.classes if c.index_of_class == index), "")
    return f"{index} {known}" if known and known != str(index) else str(index)

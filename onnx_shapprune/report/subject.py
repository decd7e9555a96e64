"""What a report is about: which file was changed, and when the run was."""

import datetime

from onnx_shapprune.gate.evidence import Record, is_rewritten
from onnx_shapprune.record.audit import FileDigest, VerifyRecord
from onnx_shapprune.report.text import plain


def original(record: Record) -> FileDigest | None:
    """The file that the judged one was made from or is compared with; None where the audited file itself is judged."""
    if isinstance(record, VerifyRecord):
        return record.before_model
    if not is_rewritten(record):
        return None
    return FileDigest(name=record.model.name, size=record.model.size, sha256=record.model.sha256)


def moment(record: Record) -> datetime.datetime | None:
    """When the record was made, in UTC without a zone; None where the record does not say so in ISO 8601."""
    try:
        made = datetime.datetime.fromisoformat(record.created)
        return made.astimezone(datetime.UTC).replace(tzinfo=None) if made.tzinfo else made
    except (ValueError, OverflowError):
        return None


def compared_with(record: Record) -> str:
    """The clean models that p-values rest on, in words, with the digest that a policy may ask for; "" for none."""
    if not record.calibration:
        return ""
    digest = f" (sha256 {record.calibration_sha256})" if record.calibration_sha256 else ""
    return f"{plain(record.calibration)}{digest}"


def seconds(record: Record) -> float:
    """Wall time of the run."""
    return record.seconds.get("total", sum(record.seconds.values()))

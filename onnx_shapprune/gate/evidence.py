"""Stored records: read back strictly, and held against the bytes that they speak of."""

import hashlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Never

from pydantic import ValidationError

from onnx_shapprune.errors import EvidenceError
from onnx_shapprune.files.reading import read_regular_file, unique_keys
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import SCHEMA_VERSION, FileDigest

MAX_RECORD_BYTES = 64 << 20
MAX_MODEL_BYTES = 2 << 30
TOOL = "onnx-shapprune"

Record = AuditRecord | VerifyRecord


def load_record(path: Path) -> Record:
    """The record of an audit, sanitize or verify run; "-" is standard input. Raises EvidenceError for anything else.

    Unknown keys are ignored, as minor schema versions add some; a key that stands twice, NaN and another major version
    are refused: two readers must not see two records.
    """
    return read_record(_payload(path), str(path))


def read_record(payload: bytes, path: str) -> Record:
    """The record that these bytes are; raises as `load_record`. path: where they are from, for the message."""
    try:
        content = json.loads(
            payload.decode("utf-8"), parse_constant=_no_number, parse_float=_finite, object_pairs_hook=unique_keys
        )
    except UnicodeDecodeError:
        raise EvidenceError(f"{path} is no report: it is no UTF-8 text") from None
    except RecursionError:
        raise EvidenceError(f"{path} is no report: it is nested too deeply") from None
    except ValueError as error:
        raise EvidenceError(f"{path} is no report: {error}") from None
    if not isinstance(content, dict) or content.get("tool") != TOOL:
        raise EvidenceError(f"{path} is no report of shapprune")
    version = content.get("schema_version")
    ours = SCHEMA_VERSION.partition(".")[0]
    if not isinstance(version, str) or not re.fullmatch(rf"{ours}\.[0-9]{{1,9}}", version):
        raise EvidenceError(f"{path} has schema version {version!r:.40}; this version of shapprune reads {ours}.x")
    kind = AuditRecord if "model" in content else VerifyRecord if "before_model" in content else None
    if kind is None or "verdict" not in content:
        raise EvidenceError(f"{path} is no report of audit, sanitize or verify")
    try:
        return kind.model_validate_json(payload, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise EvidenceError(f"{path} is no valid report: {place}: {first['msg']}") from None


def judged_files(record: Record) -> tuple[FileDigest, ...]:
    """The files that a verdict on this record is about: the .onnx first, then its external data.

    After sanitize that is the file that was written, after verify the second one.
    """
    if isinstance(record, VerifyRecord):
        return (record.after_model, *record.after_external)
    model, output = record.model, record.repair.output
    if is_rewritten(record):
        assert output is not None
        return (output, *record.repair.output_external)
    return (FileDigest(name=model.name, size=model.size, sha256=model.sha256, path=model.path), *model.external)


def is_rewritten(record: AuditRecord) -> bool:
    """Whether the run wrote a file that differs from the one audited."""
    repair = record.repair
    return repair.output is not None and (repair.output.sha256 != record.model.sha256 or bool(repair.output_external))


def check_model(record: Record, model: Path) -> None:
    """Hash a model and its external data again. Raises EvidenceError unless they are what the record speaks of."""
    main, *external = judged_files(record)
    payload = read_regular_file(model, limit=MAX_MODEL_BYTES, what="model file", error=EvidenceError)
    found = hashlib.sha256(payload).hexdigest()
    if found != main.sha256:
        other = " (it is the file from before the repair)" if found == _audited(record) else ""
        raise EvidenceError(
            f"the report is about other bytes: {main.name} with sha256 {main.sha256}, but {model} has {found}{other}"
        )
    folder = model.resolve().parent
    for file in external:
        try:
            target = (folder / file.name).resolve()
        except ValueError:  # a NUL byte, half a surrogate pair
            raise EvidenceError(f"external data {file.name!r} is no path") from None
        if not target.is_relative_to(folder):
            raise EvidenceError(f"external data {file.name!r} lies outside the model's folder")
        data = read_regular_file(target, limit=MAX_MODEL_BYTES, what="external data file", error=EvidenceError)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise EvidenceError(f"the report is about other bytes: external data {file.name!r} has changed")


def _payload(path: Path) -> bytes:
    if path != Path("-"):
        return read_regular_file(path, limit=MAX_RECORD_BYTES, what="report", error=EvidenceError)
    payload = sys.stdin.buffer.read(MAX_RECORD_BYTES + 1)
    if len(payload) > MAX_RECORD_BYTES:
        raise EvidenceError(f"the report on standard input is larger than the limit of {MAX_RECORD_BYTES} bytes")
    return payload


def _audited(record: Record) -> str:
    return record.before_model.sha256 if isinstance(record, VerifyRecord) else record.model.sha256


def _no_number(text: str) -> Never:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text[:40])

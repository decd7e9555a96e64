"""An earlier report that findings are compared with: a policy may let pass what was there before, and never unseen.

Two findings are the same where rule and classes are, whatever statistic found them; one about the file itself must say the
same words too, which name the nodes. What was not measured, a file that was refused and a repair that does not hold are
never let pass. A baseline is a waiver for all that it holds, hence only the policy says which one counts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onnx_shapprune.errors import EvidenceError, PolicyError
from onnx_shapprune.files.reading import read_regular_file
from onnx_shapprune.gate.evidence import MAX_RECORD_BYTES, Record, is_rewritten, read_record
from onnx_shapprune.gate.judgement import Finding
from onnx_shapprune.gate.policy import ANY_BASELINE, Policy
from onnx_shapprune.gate.rules import OF_THE_GRAPH
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.record.parts import FileDigest

OF_GOALS = ("OSP101", "OSP102")
OF_THE_FILE = ("OSP0", *OF_THE_GRAPH)
REFUSING = ("critical", "high")  # a file with such a finding is not opened, so that nothing was searched in it
Key = tuple[str, int | None, int | None, str]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The earlier record. file: which one it was, by name, bytes and sha256."""

    file: FileDigest
    record: Record


def load_baseline(path: Path, policy: Policy) -> Baseline:
    """Read a baseline. Raises PolicyError where the policy does not allow this one, EvidenceError for what is no report."""
    payload = read_regular_file(path, limit=MAX_RECORD_BYTES, what="baseline", error=EvidenceError)
    sha256 = hashlib.sha256(payload).hexdigest()
    if not {sha256, ANY_BASELINE} & set(policy.fail.baselines):
        raise PolicyError(
            f"the policy {policy.name} allows no baseline with sha256 {sha256}: list it in fail.baselines, or "
            '"any" where it comes from a place that the model\'s authors cannot write to'
        )
    record = read_record(payload, f"the baseline {path}")
    return Baseline(FileDigest(name=path.name, size=len(payload), sha256=sha256), record)


def check_baseline(baseline: Baseline, record: Record) -> None:
    """Raise EvidenceError where the baseline does not say what is new in a record."""
    if why := _incomparable(record, baseline.record):
        raise EvidenceError(f"the baseline {baseline.file.name} cannot be compared with: {why}")


def compared(
    findings: Sequence[Finding], earlier: Sequence[Finding], *, conclusive: bool
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """The findings, each "new" or "unchanged", and those of the baseline that are "absent": of these none where the audit
    came to no end.
    """
    before, now = {key(f) for f in earlier}, {key(f) for f in findings}
    stated = tuple(_stated(f, "unchanged" if key(f) in before else "new") for f in findings)
    gone = tuple(_stated(f, "absent") for f in earlier if conclusive and comparable(f) and key(f) not in now)
    return stated, gone


def key(finding: Finding) -> Key:
    """What makes a finding the same one in another report."""
    words = finding.message if finding.rule.startswith(OF_THE_FILE) else ""
    return finding.rule, finding.source_class, finding.target_class, words


def comparable(finding: Finding) -> bool:
    """Whether a finding can be told from a new one, and is of a kind that may be let pass."""
    if finding.rule in OF_GOALS:
        return True
    return finding.rule.startswith(OF_THE_FILE) and finding.severity not in REFUSING


def _stated(finding: Finding, state: Literal["new", "unchanged", "absent"]) -> Finding:
    return finding.model_copy(update={"state": state})


def _incomparable(record: Record, earlier: Record) -> str:
    """Why what is new in a record cannot be told from an earlier one, else ""."""
    ours, theirs = _kind(record), _kind(earlier)
    if ours == "sanitize":
        return "a repaired file is held against what it must not show, and not against an earlier one"
    if ours != theirs:
        return f"it is a report of {theirs}, and the one that is judged is of {ours}"
    if earlier.verdict == "inconclusive":
        return "it is inconclusive itself, so that what was there before is not known"
    if not earlier.classes:
        return "nothing was searched for it"
    if isinstance(record, AuditRecord) and isinstance(earlier, AuditRecord):
        before, now = earlier.model, record.model
        if before.classes != now.classes:
            return f"its model has {before.classes} classes, and this one {now.classes}"
        if before.class_names and now.class_names and before.class_names != now.class_names:
            return "its model's classes have other names or another order"
    return ""


def _kind(record: Record) -> str:
    if not isinstance(record, AuditRecord):
        return "verify"
    return "sanitize" if is_rewritten(record) else "audit"

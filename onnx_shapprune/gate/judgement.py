"""What a policy makes of a record: the data that every report format shows beside the evidence."""

from typing import Literal

from onnx_shapprune.gate.rules import Severity
from onnx_shapprune.record.parts import FileDigest, Part, UnitRef, Verdict


class Finding(Part):
    """One rule that a model broke. target_class, source_class: that it is about; units: channels that it is about.

    confidence: "high" where the evidence is beyond what clean models show by far, else "medium" or "low". state: beside a
    baseline, whether that has the finding too; "absent": only that has it.
    """

    rule: str
    severity: Severity
    confidence: Literal["high", "medium", "low"] = "medium"
    message: str
    target_class: int | None = None
    source_class: int | None = None
    units: tuple[UnitRef, ...] = ()
    state: Literal["new", "unchanged", "absent"] | None = None


class Waiver(Part):
    """Somebody's decision that a finding is acceptable: for these bytes, this rule and this class, until this day.

    target_class: None for every class; until: YYYY-MM-DD, the last day on which it holds.
    """

    rule: str
    model_sha256: str
    target_class: int | None = None
    until: str
    reason: str
    by: str


class Suppressed(Part):
    """A finding that a waiver covers: shown everywhere, and not held against the model."""

    finding: Finding
    waiver: Waiver


class Check(Part):
    """One line of the policy and how the record fares: "met", "failed", or "not graded" with the reason in `value`."""

    name: str
    value: str
    limit: str
    outcome: Literal["met", "failed", "not graded"]
    rule: str = ""


class Judgement(Part):
    """The decision. policy: name of the file, or "default"; policy_sha256: of its text; judged: the files that it is about,
    the .onnx first; model_checked: whether their bytes were hashed again and are those of the record; unused_waivers: for
    this model, that match no finding or are out of date, in words. baseline: the earlier report that was compared with;
    known: findings that it has too and that are therefore not held against the model; gone: that only it has.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    policy: str
    policy_sha256: str
    judged: tuple[FileDigest, ...] = ()
    model_checked: bool
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...] = ()
    unused_waivers: tuple[str, ...] = ()
    baseline: FileDigest | None = None
    known: tuple[Finding, ...] = ()
    gone: tuple[Finding, ...] = ()

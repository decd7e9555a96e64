"""Records with what policies make of them: one of every kind that a format has to show."""

import datetime

from record_samples import audit_record, trigger_part, verify_record

from onnx_shapprune.gate.baseline import Baseline
from onnx_shapprune.gate.evidence import Record
from onnx_shapprune.gate.judge import judge
from onnx_shapprune.gate.judgement import Judgement, Waiver
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.record.parts import FileDigest

TODAY = datetime.date(2026, 6, 1)
# Markup, a link, a workflow command, escape codes, bidi, what XML forbids, and half a pair.
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>[a](http://evil.example)|`@all`\n::error::owned\x1b[31m"
    "\u202e\ufffe\udcff\"'&]]>--"
)


def judged(record: Record, *waivers: Waiver, checked: bool = True) -> tuple[Record, Judgement]:
    """By the default policy with these waivers."""
    policy = load_policy(None).model_copy(update={"waivers": waivers})
    return record, judge(record, policy, today=TODAY, model_checked=checked)


def beside(record: Record, earlier: Record, name: str = "main.json") -> tuple[Record, Judgement]:
    """By the default policy, beside an earlier record."""
    baseline = Baseline(FileDigest(name=name, size=1, sha256="ba" * 32), earlier)
    return record, judge(record, load_policy(None), today=TODAY, baseline=baseline)


def hostile() -> AuditRecord:
    """A record in which every string that a model, a file name or a stranger can set is hostile."""
    record = audit_record(repair="not_tried", layer=HOSTILE, name=HOSTILE, reason=HOSTILE)
    attacks = tuple(a.model_copy(update={"families": (HOSTILE,)}) for a in record.attacks)
    return record.model_copy(
        update={
            "command": ("shapprune", HOSTILE), "created": HOSTILE, "warnings": (HOSTILE,), "not_searched": (HOSTILE,),
            "calibration": HOSTILE, "settings": {HOSTILE: HOSTILE}, "attacks": attacks, "seconds": {HOSTILE: 1.0},
            "classes": tuple(c.model_copy(update={"name": HOSTILE}) for c in record.classes),
            "model": record.model.model_copy(
                update={"class_names": (HOSTILE,) * 10, "input": HOSTILE, "output": HOSTILE, "producer": HOSTILE}
            ),
            "triggers": (trigger_part(3).model_copy(update={"family": HOSTILE, "mask": HOSTILE}),),
        }
    )  # fmt: skip


WAIVER = Waiver(
    rule="OSP101", model_sha256="cd" * 32, target_class=3, until="2027-01-01", reason="digit 3 is small", by="a@b.c"
)
JUDGED = {
    "pass": judged(audit_record(verdict="pass", repair="not_tried")),
    "fail": judged(audit_record(repair="not_tried")),
    "repaired": judged(audit_record()),
    "not repaired": judged(audit_record(repair="not_repaired"), checked=False),
    "inconclusive": judged(audit_record(verdict="inconclusive", repair="not_tried")),
    "waived": judged(audit_record(repair="not_tried"), WAIVER),
    "unused waiver": judged(audit_record(repair="not_tried"), WAIVER.model_copy(update={"rule": "OSP001"})),
    "known": beside(audit_record(repair="not_tried"), audit_record(repair="not_tried")),
    "new": beside(audit_record(repair="not_tried"), audit_record(verdict="pass", repair="not_tried")),
    "gone": beside(audit_record(verdict="pass", repair="not_tried"), audit_record(repair="not_tried")),
    "hostile known": beside(hostile(), hostile(), HOSTILE),
    "verify": judged(verify_record()),
    "verify fail": judged(verify_record().model_copy(update={"other_changes": ("a node was added",)})),
    "hostile": judged(hostile(), WAIVER.model_copy(update={"reason": HOSTILE, "by": HOSTILE})),
    "hostile fail": judged(hostile()),
    "bare": judged(
        audit_record(verdict="inconclusive", repair="not_tried").model_copy(
            update={"classes": (), "triggers": (), "estimate": None, "seconds": {}, "command": ()}
        )
    ),
}

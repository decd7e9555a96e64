"""Exit codes: a verdict is never an error, and an error is never a verdict."""

from onnx_shapprune.record.audit import AuditRecord, VerifyRecord

PASS, FAIL, COULD_NOT_RUN, INCONCLUSIVE, INTERRUPTED = 0, 1, 2, 3, 130
VERDICTS = {"pass": PASS, "fail": FAIL, "inconclusive": INCONCLUSIVE}


def verdict_code(record: AuditRecord | VerifyRecord) -> int:
    """0 pass, 1 fail, 3 inconclusive."""
    return VERDICTS[record.verdict]


def repair_code(record: AuditRecord) -> int:
    """0 repaired, or nothing found; 1 not repaired; 3 where nothing could be told."""
    if record.repair.status == "repaired":
        return PASS
    if record.repair.status == "not_repaired":
        return FAIL
    if record.repair.status == "nothing_to_repair":
        return verdict_code(record)
    return INCONCLUSIVE

"""Exit codes: a verdict is never an error, and an error is never a verdict."""

from onnx_shapprune.record.audit import AuditRecord, VerifyRecord

PASS, FAIL, COULD_NOT_RUN, INCONCLUSIVE, INTERRUPTED = 0, 1, 2, 3, 130
VERDICTS = {"pass": PASS, "fail": FAIL, "inconclusive": INCONCLUSIVE}


def verdict_code(record: AuditRecord | VerifyRecord) -> int:
    """0 pass, 1 fail, 3 inconclusive."""
    return VERDICTS[record.verdict]


def repair_code(record: AuditRecord, *, dry_run: bool = False) -> int:
    """0 repaired, or nothing found; 1 not repaired; 2 where a clean file could not be copied; 3 where nothing could be
    told.
    """
    if record.repair.status == "repaired":
        return PASS
    if record.repair.status == "not_repaired":
        return FAIL
    if record.repair.status == "nothing_to_repair":
        no_copy = record.verdict == "pass" and record.repair.output is None and not dry_run
        return COULD_NOT_RUN if no_copy else verdict_code(record)
    return INCONCLUSIVE

"""What is known before the work is over: a verdict must not be lost to what comes after it."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from onnx_shapprune.case.progress import Progress
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord


@runtime_checkable
class Keeper(Protocol):
    """Somebody who follows the work and keeps the last record, for the case that no better one comes."""

    def so_far(self, record: AuditRecord | VerifyRecord) -> None:
        """Take the record of what is known now."""


def tell_so_far(progress: Progress | None, record: Callable[[], AuditRecord | VerifyRecord]) -> None:
    """Hand the record to whoever follows the work, where it is one who keeps it."""
    if isinstance(progress, Keeper):
        progress.so_far(record())

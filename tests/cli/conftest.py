"""A pipeline that only takes notes, and small files to point the commands at."""

from dataclasses import dataclass, field

import pytest
from record_samples import audit_record, verify_record

from onnx_shapprune.commands.table import COMMANDS
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord


@dataclass
class FakePipeline:
    """Stands in for audit, sanitize and verify: keeps the arguments, reports progress, gives `record` or raises."""

    record: AuditRecord | VerifyRecord = field(default_factory=audit_record)
    error: BaseException | None = None
    calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = field(default_factory=list)

    def stage(self, name: str):
        def call(*args, progress=None, **settings):
            self.calls.append((name, args, settings))
            progress("search", 1, 2, "class 3/10 norm=4.5")
            if self.error:
                raise self.error
            progress("search", 2, 2, "")
            if name == "verify" and isinstance(self.record, AuditRecord):
                return verify_record()
            return self.record

        return call

    @property
    def settings(self) -> dict[str, object]:
        return self.calls[-1][2]


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """What these tests replace is replaced in this process; tests/isolation/ has the children."""
    monkeypatch.setenv("SHAPPRUNE_IN_PROCESS", "1")


@pytest.fixture
def fake(monkeypatch) -> FakePipeline:
    fake = FakePipeline()
    for name in ("audit", "sanitize", "verify"):
        monkeypatch.setattr(f"{COMMANDS[name].load().__module__}.{name}", fake.stage(name))
    return fake

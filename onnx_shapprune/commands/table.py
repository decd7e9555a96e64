"""The commands that work on a model, each named once: what it is called, the function behind it, the record it returns.

The command line, child processes, the fleet and the package's root all look here. A function is loaded on first use:
onnx and onnxruntime take seconds that `shapprune --help` and the parent of a child process need not wait.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.record.fit import FitRecord
from onnx_shapprune.record.graph import InspectRecord, MaskRecord
from onnx_shapprune.record.values import ValuesRecord
from onnx_shapprune.record.walks import WalksRecord

Made = TypeVar("Made", AuditRecord, FitRecord, InspectRecord, MaskRecord, ValuesRecord, VerifyRecord, WalksRecord)


@dataclass(frozen=True, slots=True)
class Command(Generic[Made]):
    """load: imports the function; record: the type that it returns; runs_model: whether onnxruntime runs the file, in
    steps that it tells of (`progress`) and on a device.
    """

    name: str
    load: Callable[[], Callable[..., Made]]
    record: type[Made]
    runs_model: bool


def _audit() -> Callable[..., AuditRecord]:
    from onnx_shapprune.commands.audit import audit

    return audit


def _sanitize() -> Callable[..., AuditRecord]:
    from onnx_shapprune.commands.repair import sanitize

    return sanitize


def _verify() -> Callable[..., VerifyRecord]:
    from onnx_shapprune.commands.verify import verify

    return verify


def _fit() -> Callable[..., FitRecord]:
    from onnx_shapprune.commands.fit import fit

    return fit


def _inspect() -> Callable[..., InspectRecord]:
    from onnx_shapprune.commands.inspect import inspect

    return inspect


def _mask() -> Callable[..., MaskRecord]:
    from onnx_shapprune.commands.mask import mask

    return mask


def _values() -> Callable[..., ValuesRecord]:
    from onnx_shapprune.commands.values import values

    return values


def _walks() -> Callable[..., WalksRecord]:
    from onnx_shapprune.commands.values import walks

    return walks


AUDIT = Command("audit", _audit, AuditRecord, runs_model=True)
SANITIZE = Command("sanitize", _sanitize, AuditRecord, runs_model=True)
VERIFY = Command("verify", _verify, VerifyRecord, runs_model=True)
FIT = Command("fit", _fit, FitRecord, runs_model=True)
INSPECT = Command("inspect", _inspect, InspectRecord, runs_model=False)
MASK = Command("mask", _mask, MaskRecord, runs_model=False)
VALUES = Command("values", _values, ValuesRecord, runs_model=True)
WALKS = Command("walks", _walks, WalksRecord, runs_model=True)
COMMANDS: dict[str, Command[Any]] = {c.name: c for c in (AUDIT, SANITIZE, VERIFY, VALUES, FIT, INSPECT, MASK, WALKS)}

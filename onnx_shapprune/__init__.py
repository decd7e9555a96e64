"""Audit and sanitize backdoored ONNX image classifiers (ShapPruning, Guan et al., CVPR 2022)."""

from onnx_shapprune.version import __version__

__all__ = [
    "BatchOptions",
    "ConfigError",
    "CrashError",
    "DataError",
    "DeviceError",
    "EngineError",
    "EvidenceError",
    "HostileFileError",
    "InputOptions",
    "LimitError",
    "ListError",
    "ModelError",
    "OutputError",
    "PolicyError",
    "RunOptions",
    "ShapPruneError",
    "UnsupportedOpError",
    "VerifyError",
    "__version__",
    "audit",
    "audit_batch",
    "fit",
    "gate_record",
    "inspect",
    "mask",
    "render_report",
    "sanitize",
    "values",
    "verify",
]
# Where a public name lies that is neither a command nor an error.
PLACES = {
    "InputOptions": "settings",
    "RunOptions": "settings",
    "BatchOptions": "fleet.batch",
    "audit_batch": "fleet.folder",
    "gate_record": "gate.hold",
    "render_report": "report.formats",
}

# Not from typing: with `python -m`, what is imported here may still be looked for in the current folder.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from onnx_shapprune.commands.audit import audit
    from onnx_shapprune.commands.fit import fit
    from onnx_shapprune.commands.inspect import inspect
    from onnx_shapprune.commands.mask import mask
    from onnx_shapprune.commands.repair import sanitize
    from onnx_shapprune.commands.values import values
    from onnx_shapprune.commands.verify import verify
    from onnx_shapprune.errors import (
        ConfigError,
        CrashError,
        DataError,
        DeviceError,
        EngineError,
        EvidenceError,
        HostileFileError,
        LimitError,
        ListError,
        ModelError,
        OutputError,
        PolicyError,
        ShapPruneError,
        UnsupportedOpError,
        VerifyError,
    )
    from onnx_shapprune.fleet.batch import BatchOptions
    from onnx_shapprune.fleet.folder import audit_batch
    from onnx_shapprune.gate.hold import gate_record
    from onnx_shapprune.report.formats import render_report
    from onnx_shapprune.settings import InputOptions, RunOptions


def __getattr__(name: str) -> object:
    """Load a name on first use: onnx and onnxruntime take seconds that `--help` and `--version` need not wait."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if place := "errors" if name.endswith("Error") else PLACES.get(name):
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{place}"), name)
    from onnx_shapprune.commands.table import COMMANDS

    return COMMANDS[name].load()


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

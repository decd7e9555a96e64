"""Audit and sanitize backdoored ONNX image classifiers (ShapPruning, Guan et al., CVPR 2022)."""

from onnx_shapprune.version import __version__

__all__ = ["InputOptions", "RunOptions", "__version__", "audit", "inspect", "mask", "sanitize", "verify"]

# Not from typing: with `python -m`, what is imported here may still be looked for in the current folder.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from onnx_shapprune.commands.audit import audit
    from onnx_shapprune.commands.inspect import inspect
    from onnx_shapprune.commands.mask import mask
    from onnx_shapprune.commands.repair import sanitize
    from onnx_shapprune.commands.verify import verify
    from onnx_shapprune.settings import InputOptions, RunOptions


def __getattr__(name: str) -> object:
    """Load a command on first use: onnx and onnxruntime take seconds that `--help` and `--version` need not wait."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from onnx_shapprune import settings
    from onnx_shapprune.commands.table import COMMANDS

    return COMMANDS[name].load() if name in COMMANDS else getattr(settings, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

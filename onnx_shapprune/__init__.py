"""Audit and sanitize backdoored ONNX image classifiers (ShapPruning, Guan et al., CVPR 2022)."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["InputOptions", "RunOptions", "__version__", "audit", "inspect", "mask", "sanitize", "verify"]

if TYPE_CHECKING:
    from onnx_shapprune.inspection import inspect
    from onnx_shapprune.masking import mask
    from onnx_shapprune.pipeline import InputOptions, RunOptions, audit, sanitize, verify


def __getattr__(name: str) -> object:
    """Load the pipeline on first use: onnx and onnxruntime take seconds that `--help` and `--version` need not wait."""
    if name == "inspect":
        from onnx_shapprune.inspection import inspect

        return inspect
    if name == "mask":
        from onnx_shapprune.masking import mask

        return mask
    if name in __all__:
        from onnx_shapprune import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

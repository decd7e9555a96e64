"""One gradient rule per operator, by family; importing this package registers them all."""

from onnx_shapprune.autodiff.rules import (
    activations,
    arithmetic,
    convolution,
    indexing,
    normalization,
    pooling,
    products,
    quantization,
    reductions,
    resampling,
    shapes,
)

__all__ = [
    "activations",
    "arithmetic",
    "convolution",
    "indexing",
    "normalization",
    "pooling",
    "products",
    "quantization",
    "reductions",
    "resampling",
    "shapes",
]

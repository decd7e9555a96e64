"""Audit and sanitize backdoored ONNX image classifiers (ShapPruning, Guan et al., CVPR 2022)."""

__version__ = "0.1.0"

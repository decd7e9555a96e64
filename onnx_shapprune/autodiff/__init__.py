"""Gradients as ONNX graphs: reverse mode that appends standard-domain nodes to a model."""

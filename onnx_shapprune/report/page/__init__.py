"""The page that a reviewer reads: one file, no scripts, no network, the same bytes for the same record and judgement."""

from onnx_shapprune.report.page.document import page

__all__ = ["page"]

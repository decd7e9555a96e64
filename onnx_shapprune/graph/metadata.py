"""What exporters leave beside a graph: pairs of a key and a text, which say anything and prove nothing."""

import onnx

ENTRIES = 256
KEY = 200  # characters
VALUE = 1 << 16


def metadata_of(model: onnx.ModelProto) -> tuple[tuple[str, str], ...]:
    """Keys and values of the file's metadata, in its order, then its doc strings; each cut, and not more than `ENTRIES`."""
    pairs = [(p.key[:KEY], p.value[:VALUE]) for p in model.metadata_props[:ENTRIES]]
    texts = (("doc_string", model.doc_string), ("graph doc_string", model.graph.doc_string))
    return (*pairs, *((key, text[:VALUE]) for key, text in texts if text.strip()))

"""Read one ONNX file, once: what is hashed is what is parsed, and what is parsed is what runs.

External data is read by this module, never by onnx or onnxruntime: a location may not leave the model's folder, and
every byte that enters the audit is hashed. Sessions are opened from memory, so no path is resolved a second time.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped, unused-ignore]

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.reading import read_regular_file
from onnx_shapprune.runtime.session import first_line

MAX_FILE_BYTES = 2 << 30  # protobuf cannot hold more in one message
EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """A data file beside the model: `location` as written in the model, its size in bytes and digest."""

    location: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A parsed model with the digest of the bytes it was parsed from.

    `proto` is exactly what the file says (external tensors stay references); `loaded` holds the same model with the
    external bytes inlined, ready for onnxruntime. Both are the same object where there is no external data.
    """

    path: Path
    sha256: str
    size: int
    payload: bytes
    proto: onnx.ModelProto
    loaded: onnx.ModelProto
    external: tuple[ExternalFile, ...]


def load_model(path: Path) -> ModelFile:
    """Read, hash, parse and check an ONNX file. Raises ModelError with one line for every way this can fail."""
    payload = read_regular_file(path, limit=MAX_FILE_BYTES, what="model file")
    if not payload:
        raise ModelError(f"model file is empty: {path}")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(payload)
    except DecodeError:
        raise ModelError(f"not an ONNX file, or a truncated one (protobuf cannot be parsed): {path}") from None
    if not proto.graph.node or not proto.opset_import:
        raise ModelError(f"not an ONNX model (no graph or no opset): {path}")
    loaded, external = _inline_external_data(proto, path)
    try:
        onnx.checker.check_model(loaded)
    except (onnx.checker.ValidationError, EncodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"the onnx checker refuses {path}: {first_line(error)[:200]}") from None
    return ModelFile(path, hashlib.sha256(payload).hexdigest(), len(payload), payload, proto, loaded, external)


def _inline_external_data(proto: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, tuple[ExternalFile, ...]]:
    """The model with external tensors read in, and the files they came from. The input is not changed."""
    if not any(t.data_location == onnx.TensorProto.EXTERNAL for t in edit.all_tensors(proto)):
        return proto, ()
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    folder = path.resolve().parent
    content: dict[str, bytes] = {}
    total = 0
    for tensor in edit.all_tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entry = {e.key: e.value for e in tensor.external_data}
        location = entry.get("location", "")
        if set(entry) - EXTERNAL_KEYS or not location:
            raise ModelError(f"external data of tensor {tensor.name!r} is malformed in {path}")
        try:
            target = (folder / location).resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links, an overlong name, a NUL byte
            raise ModelError(f"external data of tensor {tensor.name!r} is no path: {location!r}") from None
        if Path(location).is_absolute() or not target.is_relative_to(folder):
            raise ModelError(f"external data of tensor {tensor.name!r} points outside the model's folder: {location!r}")
        if location not in content:
            content[location] = read_regular_file(target, limit=MAX_FILE_BYTES, what="external data file")
        data = content[location]
        try:
            offset = int(entry.get("offset", 0))
            length = int(entry.get("length", len(data) - offset))
        except ValueError:
            raise ModelError(f"external data of tensor {tensor.name!r} has a broken offset or length") from None
        if offset < 0 or length < 0 or offset + length > len(data):
            raise ModelError(f"external data of tensor {tensor.name!r} lies beyond the end of {location!r}")
        total += length
        if total > MAX_FILE_BYTES:  # many tensors may point at the same bytes
            raise ModelError(f"external data adds up to more than {MAX_FILE_BYTES} bytes: {path}")
        tensor.raw_data = data[offset : offset + length]
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
    files = tuple(ExternalFile(k, len(v), hashlib.sha256(v).hexdigest()) for k, v in sorted(content.items()))
    return model, files

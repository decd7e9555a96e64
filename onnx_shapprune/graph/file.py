"""Read one ONNX file, once: what is hashed is what is parsed, and what is parsed is what runs.

External data is read by this module, never by onnx or onnxruntime: a location may not leave the model's folder, and
every byte that enters the audit is hashed. Sessions are opened from memory, so no path is resolved a second time.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped, unused-ignore]

from onnx_shapprune.errors import HostileFileError, ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.graph.payload import stored_bytes
from onnx_shapprune.graph.preflight import Hazard, preflight, refuse
from onnx_shapprune.graph.staging import Stage, StrayError
from onnx_shapprune.runtime.session import first_line
from onnx_shapprune.runtime.weights import empty, shell

MESSAGE_MIB = 2047  # protobuf cannot hold more in one message
LFS_POINTER = b"version https://git-lfs.github.com/"
DEFAULT_LIMITS = FileLimits()


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
    external bytes inlined, ready for onnxruntime. Both are the same object where there is no external data. hazards: what
    the preflight found and let pass.
    """

    path: Path
    sha256: str
    size: int
    payload: bytes
    proto: onnx.ModelProto
    loaded: onnx.ModelProto
    external: tuple[ExternalFile, ...]
    hazards: tuple[Hazard, ...] = ()


def load_model(path: Path, *, limits: FileLimits = DEFAULT_LIMITS, allow_root: Path | None = None) -> ModelFile:
    """Read, hash, parse and check an ONNX file. Raises ModelError with one line for every way this can fail.

    HostileFileError for a file that is made to hurt. allow_root: a folder around the model's own that links of the model
    or its data may lead to, such as a Hugging Face cache.
    """
    with Stage(path.parent, allow_root) as stage:
        file = read_model(path, stage, limits)
        refuse(file.hazards)
        return complete(file, stage, limits)


def read_model(path: Path, stage: Stage, limits: FileLimits) -> ModelFile:
    """The file alone, parsed and looked through: no other file is opened, nothing is refused yet. Raises ModelError."""
    payload = stage.read(path.name, limit=min(limits.file_mib, MESSAGE_MIB) << 20, what="model file")
    if not payload:
        raise ModelError(f"model file is empty: {path}")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(payload)
    except DecodeError:
        if payload.startswith(LFS_POINTER):  # what a checkout without its large files is full of
            raise ModelError(
                f"a pointer of Git LFS, and not the model itself (git lfs pull fetches it): {path}"
            ) from None
        raise ModelError(f"not an ONNX file, or a truncated one (protobuf cannot be parsed): {path}") from None
    if not proto.graph.node or not proto.opset_import:
        raise ModelError(f"not an ONNX model (no graph or no opset): {path}")
    hazards = preflight(proto, limits)
    return ModelFile(path, hashlib.sha256(payload).hexdigest(), len(payload), payload, proto, proto, (), hazards)


def complete(file: ModelFile, stage: Stage, limits: FileLimits) -> ModelFile:
    """A file that was not refused, with its external data, checked. Raises ModelError and HostileFileError."""
    loaded, external, hazards = file.proto, file.external, file.hazards
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in edit.all_tensors(file.proto)):
        loaded, external = _inline_external_data(file, stage, limits)
        hazards = preflight(loaded, limits)  # shapes and counts may have been kept outside
        refuse(hazards)
    try:
        onnx.checker.check_model(shell(loaded, empty))  # the preflight has looked at the weights
    except (onnx.checker.ValidationError, EncodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"the onnx checker refuses {file.path}: {first_line(error)[:200]}") from None
    return replace(file, loaded=loaded, external=external, hazards=hazards)


def _inline_external_data(
    file: ModelFile, stage: Stage, limits: FileLimits
) -> tuple[onnx.ModelProto, tuple[ExternalFile, ...]]:
    """A copy of the model with external tensors read in from staged files, and what these files were."""
    model = edit.copy_of(file.proto)
    files: dict[str, ExternalFile] = {}
    total = 0
    for tensor in edit.all_tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entry = {e.key: e.value for e in tensor.external_data}
        location = entry["location"]
        try:
            staged = stage.copy(location, limit=limits.file_mib << 20, what="external data file")
        except StrayError as error:
            raise HostileFileError([Hazard("OSP002", str(error))]) from None
        files[location] = ExternalFile(location, staged.size, staged.sha256)
        offset = int(entry.get("offset", 0))
        length = int(entry.get("length", staged.size - offset))
        if offset + length > staged.size or length != stored_bytes(tensor):
            raise HostileFileError(
                [
                    Hazard(
                        "OSP003",
                        f"external data of tensor {tensor.name!r} is {length:,} of {staged.size:,} bytes from "
                        f"{offset:,} on in {location!r}; its shape asks for {stored_bytes(tensor):,}",
                    )
                ]
            )
        total += length
        if total > limits.file_mib << 20:  # many tensors may point at the same bytes
            raise ModelError(f"external data adds up to more than {limits.file_mib} MiB (limit file-mib): {file.path}")
        tensor.raw_data = _part(staged.path, offset, length)
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
    return model, tuple(files[name] for name in sorted(files))


def _part(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)

"""What an audit depends on, as digests: the same model under the same settings need not be audited twice."""

import contextlib
import functools
import hashlib
import json
import os
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from onnx_shapprune.errors import DataError, ModelError, ShapPruneError
from onnx_shapprune.files.reading import hash_regular_file, open_regular_file
from onnx_shapprune.pictures.files import SUFFIXES
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.settings import InputOptions, RunOptions

MAX_DATA_BYTES = 4 << 30
CHUNK = 1 << 20
OUTPUT = "sanitized.onnx"  # what a repaired model is called in the results of a batch
# Of one model, and of a file that sanitize is about to write.
RESULT_FOLDER = re.compile(r"[0-9a-f]{64}(-[0-9a-f]{8})?|\.[0-9a-f]{16}")
PACKAGE = Path(__file__).parents[1]
CODE = frozenset({".py", ".json", ".toml"})
COMPUTING = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "scipy", "pillow")
LOCATION = b"location"  # protobuf keeps strings as they are, and every external tensor has an entry of this name


def model_digest(path: Path, inputs: InputOptions) -> tuple[str, bool]:
    """sha256 of a model file, and whether it surely has no external data, without parsing it. Raises ModelError."""
    digest, alone, tail = hashlib.sha256(), True, b""
    with open_regular_file(path, limit=inputs.limits.file_mib << 20, what="model file") as stream:
        try:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                alone = alone and LOCATION not in tail + chunk
                tail = chunk[-len(LOCATION) :]
        except OSError as error:
            raise ModelError(f"model file cannot be read: {path}: {error.strerror}") from None
    return digest.hexdigest(), alone


def leads_out(path: Path, inputs: InputOptions) -> bool:
    """Whether a link leads out of the folder that links may stay in: an audit refuses it, whatever its bytes are."""
    return not path.resolve().is_relative_to((inputs.allow_root or path.parent).resolve())


def pictures_digest(data: Path | None) -> str:
    """sha256 over an .npz, or over names and bytes of all pictures below a folder; "" for none. Raises DataError."""
    if data is None:
        return ""
    if not data.is_dir():
        return hash_regular_file(data, limit=MAX_DATA_BYTES, what="pictures", error=DataError)
    files = sorted(
        Path(place, name).relative_to(data)
        for place, _, names in os.walk(data)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    )
    digest = hashlib.sha256()
    for file in files:
        found = hash_regular_file(data / file, limit=MAX_DATA_BYTES, what="picture", error=DataError)
        digest.update(f"{found} {file.as_posix()}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@functools.cache
def code_digest() -> str:
    """sha256 over all that this package is made of, thresholds and the bundled calibration included, and over the versions
    of the libraries that compute: a version number alone would have to be changed with every threshold.
    """
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in CODE and path.is_file():
            payload = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{payload} {path.relative_to(PACKAGE).as_posix()}\n".encode())
    for name in COMPUTING:
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{name} {version(name)}\n".encode())
    return digest.hexdigest()


def settings_digest(command: str, pictures: str, inputs: InputOptions, run: RunOptions) -> str:
    """sha256 over everything but the model that a record depends on: this tool, the command, pictures by their digest,
    options, class names and calibration by their bytes. Not the number of threads, nor limits of time and memory: these
    decide whether there is a record, not what it says. Raises DataError where a file cannot be read.
    """
    files = {"class_names": inputs.class_names, "labels": inputs.labels, "calibration": run.calibration}
    content = {
        "code": code_digest(),
        "command": command,
        "pictures": pictures,
        **asdict(inputs),
        **asdict(run),
        "unlabelled": inputs.unlabelled and pictures_digest(inputs.unlabelled),
        **{
            name: path and hash_regular_file(path, limit=MAX_DATA_BYTES, what="file", error=DataError)
            for name, path in files.items()
        },
    }
    del content["threads"]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def folder_name(sha256: str, external: tuple[FileDigest, ...]) -> str:
    """Under which name results are kept: the sha256 of the file, or one over it and its external data."""
    if not external:
        return sha256
    parts = [sha256, *(f"{file.sha256} {file.name}" for file in external)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def same_external(model: Path, external: tuple[FileDigest, ...]) -> bool:
    """Whether the data files beside a model are these."""
    try:
        return all(
            hash_regular_file(model.parent / file.name, limit=file.size, what="external data") == file.sha256
            for file in external
        )
    except ShapPruneError:
        return False

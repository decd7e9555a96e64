"""The record of a file that was refused before anything of it ran: a finding is written down like any other."""

import datetime
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from onnx_shapprune.errors import HostileFileError
from onnx_shapprune.files.reading import hash_regular_file
from onnx_shapprune.graph.preflight import Hazard
from onnx_shapprune.record.audit import AuditRecord, RepairPart, UnitsPart
from onnx_shapprune.record.parts import DataPart, Environment, ModelPart, Rates
from onnx_shapprune.recording.findings import preflight_parts
from onnx_shapprune.settings import InputOptions, RunOptions
from onnx_shapprune.version import __version__


def refused_record(
    path: Path, error: HostileFileError, inputs: InputOptions, run: RunOptions, command: Sequence[str]
) -> AuditRecord:
    """What is known of a hostile file: its digest and what was found in it. Raises ModelError where it cannot be read."""
    limit = inputs.limits.file_mib << 20
    model = ModelPart(
        name=path.name,
        sha256=hash_regular_file(path, limit=limit, what="model file"),
        size=path.stat().st_size,
        opset=0,
        input="",
        input_shape=(),
        layout="NCHW",
        output="",
        classes=0,
        parameters=0,
        copy_difference=0.0,
    )
    return AuditRecord(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=tuple(command),
        seed=run.seed,
        verdict="fail",
        reasons=(str(error),),
        not_searched=("everything: the file was refused before anything of it ran",),
        model=model,
        data=DataPart(pictures=0, digest="", label_source="given", classes_covered=0),
        preprocessing={},
        settings={"limits": asdict(inputs.limits)},
        units=UnitsPart(total=0, layers=0),
        before=Rates(acc=None, asr=None),
        repair=RepairPart(status="not_tried", reason="the file was refused"),
        findings=preflight_parts([Hazard(*hazard) for hazard in error.hazards]),
        environment=_environment(),
    )


def _environment() -> Environment:
    """No graph ran, hence no device and no provider."""
    return Environment(
        onnx_shapprune=__version__,
        python=platform.python_version(),
        onnx=version("onnx"),
        onnxruntime=_installed("onnxruntime-gpu") or _installed("onnxruntime"),
        numpy=version("numpy"),
        platform=platform.platform(),
        device="none",
        providers=(),
        threads=0,
    )


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""

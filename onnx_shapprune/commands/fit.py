"""fit(): which preparation of the pictures a model was made for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_shapprune.case.open import Opened, given_pictures, open_model
from onnx_shapprune.case.progress import Progress
from onnx_shapprune.detect.fit import Attempt, attempts, ranked
from onnx_shapprune.errors import DataError, ModelError
from onnx_shapprune.graph.metadata import metadata_of
from onnx_shapprune.pictures.few_shot import load_class_names
from onnx_shapprune.pictures.stated import stated
from onnx_shapprune.pictures.usual import Setting, to_try
from onnx_shapprune.record.fit import FitRecord
from onnx_shapprune.recording.fit import fit_record
from onnx_shapprune.runtime.session import Device, resolve_device
from onnx_shapprune.settings import InputOptions, RunOptions


def fit(
    model: Path | str,
    data: Path | str | None,
    *,
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> FitRecord:
    """Try the usual input ranges, means, deviations and channel orders on pictures, and layouts where the file leaves them
    open.

    data: as in audit(), but given; with labels settings are ranked by accuracy, without by a guess. inputs: its own setting
    is tried beside the usual ones, as is what the file's metadata says; run: its device, threads and memory. Raises
    ShapPruneError when nothing can be tried.
    """
    inputs, run = inputs or InputOptions(), run or RunOptions()
    if data is None:
        raise DataError("settings are tried on pictures: give some with --data")
    device = resolve_device(run.device, threads=run.threads, memory=run.max_memory << 20)
    opened = list(_openings(Path(model), inputs, device))
    names = load_class_names(inputs.class_names) if inputs.class_names else ()
    said = stated(metadata_of(opened[0].file.proto))
    few = given_pictures(opened[0], Path(data), inputs, names)
    tried: list[Attempt] = []
    for n, each in enumerate(opened):
        own = each.subject.preprocessing
        first = [Setting("as given", "the options", own)]
        if said.preprocessing is not None and each.interface.scaled:
            first.append(Setting("the file's metadata", "whoever made the file", said.preprocessing))
        settings = to_try(few.x.shape[3], first, own, scaled=each.interface.scaled)
        for i, setting in enumerate(settings):
            if progress is not None:
                progress("fit", n * len(settings) + i + 1, len(opened) * len(settings), setting.name)
            tried += attempts(each.subject, [setting], few.x.astype(np.float32), few.y)
    found = ranked(tried, opened[0].subject.classes)
    return fit_record(opened[0], few, found, said, open_layout=len(opened) > 1, command=command)


def _openings(model: Path, inputs: InputOptions, device: Device) -> Iterator[Opened]:
    """The model, once for every layout that the file allows: flattened colours may lie either way. Raises ModelError."""
    if inputs.layout != "auto":
        yield open_model(model, inputs, device)
        return
    try:
        opened = open_model(model, inputs, device)
    except ModelError as error:
        other = []
        for layout in ("NCHW", "NHWC"):
            try:
                other.append(open_model(model, replace(inputs, layout=layout), device))
            except ModelError:
                continue
        if not other:
            raise error from None
        yield from other
        return
    yield opened
    if opened.interface.entry is not None and len(opened.interface.entry) == 2 and opened.interface.channels == 3:
        yield open_model(model, replace(inputs, layout="NHWC"), device)

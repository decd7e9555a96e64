"""The network of the game as a file: mask inputs on every layer whose channels are units."""

import json
from pathlib import Path

import numpy as np

from onnx_shapprune.case.open import open_model
from onnx_shapprune.errors import OutputError, VerifyError
from onnx_shapprune.files.writing import check_writable, replacing, same_file, write_atomically
from onnx_shapprune.graph.external import data_name, move_out
from onnx_shapprune.graph.mask import mask_name, mask_shape, standalone
from onnx_shapprune.prune.thresholds import TOLERANCE
from onnx_shapprune.record.graph import MaskPart, MaskRecord
from onnx_shapprune.recording.assemble import digest
from onnx_shapprune.runtime.probe import largest_difference
from onnx_shapprune.runtime.session import Session, resolve_device
from onnx_shapprune.runtime.weights import MESSAGE, heavy, weight_bytes
from onnx_shapprune.settings import InputOptions

METADATA = "onnx_shapprune.masks"  # key of the model's metadata; the value is the record as JSON
CHECKED = 2  # random pictures on which all-ones masks must give the file's own logits


def mask(
    model: Path | str, *, output: Path | str, inputs: InputOptions | None = None, device: str = "auto", threads: int = 0
) -> MaskRecord:
    """Write the graph that the game is played on: an input per layer, float32 [1 or N, ...], multiplied onto its channels.

    It is the audit's working copy of the file (float32, BatchNorm folded, batch freed, a final Softmax taken off), so its
    output is the logits. Every mask input has ones as its default: a runtime need feed only what is to be switched off,
    and 0 at channel c equals the baked file with that unit off. The record is also in the file's metadata. inputs: only
    layout, output and size are looked at. Raises ShapPruneError when the file cannot be read or the result not be written.
    """
    model, output, inputs = Path(model), Path(output), inputs or InputOptions()
    if same_file(output, model):
        raise OutputError(f"output {output} is the same file as the input: choose another name")
    check_writable(output)
    where = resolve_device(device, threads=threads)
    opened = open_model(model, inputs, where)
    prepared, layers = opened.subject.prepared, opened.units.layers
    record = MaskRecord(
        model=digest(model.name, opened.file.payload),
        input=prepared.input,
        input_shape=prepared.input_shape,
        layout=opened.interface.layout,
        output=prepared.logits,
        classes=prepared.classes,
        batch_free=prepared.batch_free,
        taken_off=prepared.stripped,
        masks=tuple(
            MaskPart(
                input=mask_name(i),
                layer=layer.name,
                op=layer.op,
                tensor=layer.tensor,
                channels=layer.channels,
                shape=mask_shape(layer, prepared.infos),
            )
            for i, layer in enumerate(layers)
        ),
    )
    masked = standalone(prepared, dict(enumerate(layers)), {METADATA: json.dumps(record.model_dump(mode="json"))})
    count = CHECKED if prepared.batch_free else 1
    feeds = {prepared.input: np.random.default_rng(0).random((count, *prepared.input_shape), np.float32)}
    plain, ones = (Session(graph, where).run(feeds)[0] for graph in (prepared.model, masked))
    if not largest_difference(plain, ones) <= TOLERANCE:
        raise VerifyError("the graph with all masks on differs from the file: nothing was written")
    if weight_bytes(masked) > MESSAGE:  # data before the model that points at them
        data = output.with_name(data_name(output.name))
        with replacing(data) as stream:
            move_out(masked, data.name, heavy(masked), stream)
    write_atomically(output, masked.SerializeToString())
    return record

"""verify(): two files compared, and the second one searched."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnx_shapprune.case.open import Clock, Progress, open_model
from onnx_shapprune.commands.audit import examined, prefixed, search
from onnx_shapprune.errors import DataError
from onnx_shapprune.graph.compare import explained
from onnx_shapprune.record.audit import VerifyRecord
from onnx_shapprune.recording import assemble
from onnx_shapprune.settings import InputOptions, RunOptions


def verify(
    before: Path | str,
    after: Path | str,
    data: Path | str | None,
    *,
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    known_trigger: Sequence[Path] = (),
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> VerifyRecord:
    """Say what changed between two files and whether it helped: triggers of the first, tried on the second, and a fresh
    search on the second. Raises ShapPruneError when the two cannot be compared.
    """
    inputs, run, clock = inputs or InputOptions(), run or RunOptions(), Clock()
    draft = examined(before, data, inputs, run, known_trigger, clock, prefixed(progress, "before: "))
    case = draft.case
    opened = open_model(Path(after), inputs, case.device)
    if opened.subject.classes != case.model.subject.classes or opened.interface.dims != case.model.interface.dims:
        raise DataError("the two models take different pictures or have different classes: they cannot be compared")
    opened = replace(opened, subject=opened.subject.within(case.model.subject.reach))
    # With external data inlined: references to other files compare equal whatever lies there.
    difference = explained(case.model.file.loaded, opened.file.loaded, case.model.units.layers)
    with clock.stage("search after"):
        found = search(opened, case, run, run.seed, prefixed(progress, "after: "))
    return assemble.verify_record(draft, opened, difference, found, inputs, run, clock, command)

"""verify(): two files compared, and the second one searched."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Clock, open_model
from onnx_shapprune.case.progress import Progress, prefixed
from onnx_shapprune.commands.audit import examined, search, unsearchable
from onnx_shapprune.commands.evidence import doubts, judged, of_search, of_second
from onnx_shapprune.detect.verdict import Evidence
from onnx_shapprune.errors import DataError
from onnx_shapprune.graph.compare import explained
from onnx_shapprune.graph.units import linear_layers
from onnx_shapprune.record.audit import VerifyRecord
from onnx_shapprune.recording import assemble
from onnx_shapprune.recording.draft import Second
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
    opened = opened.within(case.model.subject.reach)
    # With external data inlined: references to other files compare equal whatever lies there.
    linears, _ = linear_layers(case.model.file.loaded, case.model.interface.output)
    difference = explained(case.model.file.loaded, opened.file.loaded, case.model.units.layers, linears)
    first, found = draft.decided, None
    searched: Evidence[Goal] = Evidence(unusable=draft.unusable)
    with clock.stage("search after"):
        if reason := unsearchable(opened, run):
            searched = replace(searched, open=(reason,))
        elif not draft.unusable:
            found = search(opened, case, run, run.seed, prefixed(progress, "after: "))
            searched = of_search(found)
    rates = assemble.rates(case.model.subject, draft), assemble.rates(opened.subject, draft, compared=True)
    evidence = of_second(first, searched, difference.other, *rates)
    with clock.stage("confirm"):
        verdict = judged(evidence, draft.limits, lambda: doubts(opened, case.pictures, found, run.seed))
    return assemble.verify_record(
        draft, Second(opened, difference, found, *rates), verdict, inputs, run, clock, command
    )

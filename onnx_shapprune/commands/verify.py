"""verify(): two files compared, and the second one searched."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Clock, Opened, open_model
from onnx_shapprune.case.progress import Progress, prefixed
from onnx_shapprune.commands.audit import examined, search, unsearchable, with_written
from onnx_shapprune.commands.evidence import doubts, judged, of_presented, of_search, of_second
from onnx_shapprune.commands.so_far import tell_so_far
from onnx_shapprune.detect.verdict import Evidence, judge
from onnx_shapprune.errors import DataError
from onnx_shapprune.graph.compare import Difference, explained
from onnx_shapprune.graph.detour import without_branches
from onnx_shapprune.graph.units import find_units, linear_layers
from onnx_shapprune.record.audit import VerifyRecord
from onnx_shapprune.recording import assemble
from onnx_shapprune.recording.draft import Second
from onnx_shapprune.settings import InputOptions, RunOptions

UNSEARCHED = "the second file was not searched"


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
    difference = _difference(case.model, opened)
    first, found = draft.decided, None
    rates = assemble.rates(case.model.subject, draft), assemble.rates(opened.subject, draft, compared=True)

    def known() -> VerifyRecord:
        """What can be said before the second file is searched: that it differs, or that triggers still work on it."""
        unsearched: Evidence[Goal] = Evidence(unusable=draft.unusable, open=(UNSEARCHED,))
        verdict = judge(of_second(first, unsearched, difference.other, *rates), draft.limits)
        second = Second(opened, difference, None, *rates)
        return assemble.verify_record(draft, second, verdict, inputs, run, clock, command)

    tell_so_far(progress, known)
    searched: Evidence[Goal] = Evidence(unusable=draft.unusable)
    with clock.stage("search after"):
        if reason := unsearchable(opened, run):
            searched = replace(searched, open=(reason,))
        elif not draft.unusable:
            found = search(opened, case, run, run.seed, prefixed(progress, "after: "))
            shown = case.shown.on(opened.subject)
            synthesised = case.few.drawn
            searched, _ = with_written(
                of_presented(of_search(found), draft.targets, synthesised=synthesised), opened, shown, clock
            )
    evidence = of_second(first, searched, difference.other, *rates)
    with clock.stage("confirm"):
        verdict = judged(evidence, draft.limits, lambda: doubts(opened, case.pictures, found, run.seed))
    return assemble.verify_record(
        draft, Second(opened, difference, found, *rates), verdict, inputs, run, clock, command
    )


def _difference(before: Opened, after: Opened) -> Difference:
    """What a repair does not explain. A branch past the network may be gone, as sanitize cuts it off."""
    # With external data inlined: references to other files compare equal whatever lies there.
    old, new, output = before.file.loaded, after.file.loaded, before.interface.output
    found = explained(old, new, before.units.layers, linear_layers(old, output)[0])
    cut = without_branches(old, before.followed) if found.other else None
    if cut is None:
        return found
    left, _ = cut
    rest = explained(left, new, find_units(left, output).layers, linear_layers(left, output)[0])
    return found if rest.other else rest

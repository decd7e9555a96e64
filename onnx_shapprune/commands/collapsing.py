"""Put the goals that stand out to the test of collapse, whichever command searched the model."""

from dataclasses import replace

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.progress import Progress
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.detect.suspicion import after_collapse, put_to_collapse
from onnx_shapprune.errors import ModelError, VerifyError
from onnx_shapprune.graph.linear import find_linears, with_products
from onnx_shapprune.invert.search import Evidence, SearchSettings
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.collapse import Trial, collapse
from onnx_shapprune.prune.thresholds import WORKING


def collapsed(
    opened: Opened,
    shown: Shown,
    found: Examination,
    settings: SearchSettings,
    rng: np.random.Generator,
    *,
    budget: float,
    progress: Progress | None = None,
) -> Examination:
    """The examination with what became of each goal that stands out when its triggers are unlearnt. budget: clean accuracy,
    0..1, that unlearning may cost.
    """
    suspected = put_to_collapse(found.suspicion)
    if not suspected or found.obstacle:
        return found
    layers, _ = find_linears(opened.file.loaded, opened.interface.output, opened.subject.prepared.model)
    linears = with_products(layers)
    families = settings.families(shown.pictures, opened.subject.classes)
    gone: dict[Goal, float] = {}
    for number, (goal, name) in enumerate(suspected if linears else ()):
        if progress:
            progress("unlearning", number, len(suspected), goal.words)
        mine = next(e for e in found.evidence if e.goal == goal)
        first = mine.found[name].trigger
        taught = [first, *(t for t in kinds_of(mine) if t is not first)]
        rival = max((e.found[name].margin for e in found.evidence if e.goal != goal), default=0.0)
        before = (mine.found[name].margin, rival)
        trial = Trial(goal, families[name], before, taught, (settings.scan, settings.whole))
        try:
            result = collapse(shown, linears, trial, rng, budget=budget)
        except (ModelError, VerifyError):  # what was found stands without it
            continue
        if result is not None and result.gone is not None:
            gone[goal] = result.gone
    return replace(found, suspicion=after_collapse(found.suspicion, gone))


def kinds_of(found: Evidence) -> list[Trigger]:
    """Of each family the best trigger if it works, and the free masks that succeeded."""
    return [
        *(f.trigger for f in found.found.values() if f.asr >= WORKING),
        *(p.trigger for p in found.patches if p.success),
    ]

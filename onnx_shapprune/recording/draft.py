"""What the stages of a command found about one case, as they hand it on: no decision and no search."""

from dataclasses import dataclass, field

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Case, Opened
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.detect.verdict import Outcome, Thresholds, Verdict
from onnx_shapprune.graph.compare import Difference
from onnx_shapprune.invert.relations import answered_views
from onnx_shapprune.invert.search import SearchSettings
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.invert.written import Written
from onnx_shapprune.prune.bank import Natural
from onnx_shapprune.prune.repair import Repair
from onnx_shapprune.prune.round import Round
from onnx_shapprune.record.parts import Rates

SOURCE_VIEWS = 6


@dataclass(slots=True)
class Draft:
    """What is known so far about one case; the commands fill it stage by stage.

    limits: that evidence is held against; decided: the verdict, of detect/verdict.py; unusable: why the pictures prove
    nothing, "" where they do; triggers: of the goals that were named; on_file: the share of pictures that each moves on the
    file itself, empty where that was not asked; found: by the searches; round, plan, repaired: of the repair; warnings: for
    the record; written: a trigger that stands in the graph itself.
    """

    case: Case
    limits: Thresholds
    decided: Verdict[Goal] = field(default_factory=lambda: Verdict("inconclusive", ()))
    unusable: str = ""
    triggers: tuple[Trigger, ...] = ()
    on_file: tuple[float, ...] = ()
    found: Examination | None = None
    round: Round | None = None
    plan: Repair | None = None
    repaired: Opened | None = None
    warnings: list[str] = field(default_factory=list)
    written: Written | None = None

    @property
    def verdict(self) -> Outcome:
        """What is to be said of the file that was audited."""
        return self.decided.outcome

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What was planted."""
        return self.decided.goals

    @property
    def targets(self) -> tuple[int, ...]:
        """Classes that the planted triggers answer with."""
        return tuple(dict.fromkeys(t for g in self.goals for t in g.targets))

    @property
    def views(self) -> Shown | None:
        """Posed views where a goal is about one class, of which there may be a single picture."""
        if all(g.source is None for g in self.goals):
            return None
        return answered_views(self.case.shown, SOURCE_VIEWS, np.random.default_rng(0))

    @property
    def shown(self) -> tuple[Trigger, ...]:
        """Triggers to look at: of what was named, else of what is suspected."""
        if self.triggers or self.found is None:
            return self.triggers
        return tuple(t for spoke in self.found.suspicion.triggers.values() for t in spoke)

    @property
    def attacked(self) -> Shown:
        """What triggers are put on."""
        return self.views or self.case.shown

    def natural(self, goal: Goal) -> Natural:
        """What triggers towards a goal reach without a backdoor: for other classes, or for other pairs of classes."""
        side = SearchSettings().side_pixels(self.case.pictures)
        if self.found is None:
            return Natural(side, {"compact": 0.0}, None)
        if goal.kind != "all-to-one":
            (trigger,) = self.found.suspicion.triggers[goal]
            rival = max((c.rival for c, _ in self.found.suspicion.claims if c.goal == goal), default=0.0)
            return Natural(round(trigger.norm**0.5), {"compact": rival}, None)
        rest = [e for e in self.found.evidence if e.goal not in self.goals]
        norms = [e.smallest.trigger.norm for e in rest if e.smallest is not None and e.smallest.success]
        names = self.found.evidence[0].found
        margins = {f: max((e.found[f].margin for e in rest), default=0.0) for f in names}
        return Natural(side, margins, min(norms, default=None))


@dataclass(frozen=True, slots=True)
class Second:
    """The file that verify compares with the first one. difference: what is left of it once switched-off channels are
    explained; found: by the searches on it, None where there were none; before, after: rates of both files.
    """

    opened: Opened
    difference: Difference
    found: Examination | None
    before: Rates
    after: Rates

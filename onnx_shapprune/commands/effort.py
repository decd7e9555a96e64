"""How wide the searches are: full width for small networks, a thrifty one where every picture costs a lot.

The switch is the arithmetic per picture, not measured time, so that the same file and seed give the same result on a
busy machine. A file can inflate it: a branch of a hundred million multiply-adds with weights that matter to nobody makes
any network a large one, and no measure of what matters holds against weights that are almost zero. So the switch decides
how many places and steps a search has, never whether pairs and maps of classes are searched at all; they cost about 1,500
gradients and 4,200 forward passes of pictures for ten classes where nothing stands out. What cannot be searched in a
reasonable time, a large network without gradients, is left undecided.
"""

from dataclasses import dataclass, replace

from onnx_shapprune.graph.cost import multiply_adds
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.invert.free import FreeSettings
from onnx_shapprune.invert.prescreen import COARSE_WORK
from onnx_shapprune.invert.relations import RelationSettings
from onnx_shapprune.invert.scan import ScanSettings
from onnx_shapprune.invert.search import SearchSettings
from onnx_shapprune.prune.bank import HuntSettings
from onnx_shapprune.prune.round import RoundSettings
from onnx_shapprune.settings import RunOptions

# A CIFAR ResNet-18 needs 35 million multiply-adds with 16 base channels and 557 million with 64.
THRIFTY_ABOVE = 150_000_000
CHEAP_BELOW = 10_000_000
# Multiply-adds that the coarse search of all of many classes may cost. 2026-11-26, chosen, not timed.
COARSE_BUDGET = 5e12
THRIFTY_PAIRS = RelationSettings(pairs=((0, 1, 0), (4, 2, 24), (8, 6, 24)), maps=((1, 2, 12), (3, 3, 6), (6, 10, 6)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Settings of the audit's search, of that of pairs and maps of classes, of a round of pruning, and of the adversary's
    search of one class; rounds: of pruning, up to the limit of units; views: of the clean pictures on which
    a repair is measured; trials: whether a search without gradients ends in a reasonable time.
    """

    search: SearchSettings
    relations: RelationSettings
    round: RoundSettings
    hunt: HuntSettings
    rounds: int
    views: int
    trials: bool = True


def effort_for(prepared: Prepared, run: RunOptions) -> Effort:
    """The widths for one prepared model, with the user's settings filled in."""
    asked = round_settings(run)
    work = multiply_adds(prepared.model, prepared.infos) or 1  # in the body of a Loop nothing is counted
    coarse = int(COARSE_BUDGET / (3 * work * COARSE_WORK))  # a gradient is about three forward passes
    if work <= THRIFTY_ABOVE:
        return Effort(
            search=SearchSettings(restarts=run.restarts, coarse=coarse),
            relations=RelationSettings() if work <= CHEAP_BELOW else THRIFTY_PAIRS,
            round=asked,
            hunt=HuntSettings(),
            rounds=6,
            views=48,
        )
    # What top-k is given is a limit, and it ends by itself: eight walks would never separate anybody.
    walks = run.permutations if run.estimator == "top-k" else min(run.permutations, 8)
    return Effort(
        search=SearchSettings(
            grid=4,
            colours=5,
            coarse=coarse,
            patch_classes=5,
            restarts=min(run.restarts, 3),
            second_look=1,
            transfer_starts=2,
            peak_starts=3,
            patch=FreeSettings(steps=100, batch=4),
            scan=ScanSettings(rounds=((3, 2, 32), (4, 4, 12), (8, 9, 12))),
            whole=ScanSettings(rounds=((3, 3, 4), (8, 7, 4))),
        ),
        relations=THRIFTY_PAIRS,
        round=replace(asked, shortlist=24, rows=16, clean_rows=10, permutations=walks),
        hunt=HuntSettings(
            kept=8,
            grid=4,
            scan=ScanSettings(rounds=((3, 3, 6), (6, 5, 4), (8, 9, 4))),
            whole=ScanSettings(rounds=((8, 9, 1),)),
            warm_steps=4,
            batch=5,
            mask_steps=40,
        ),
        rounds=4,
        views=20,
        trials=False,
    )


def round_settings(run: RunOptions) -> RoundSettings:
    """What the user set of a round, with the widths for small networks."""
    asked = RoundSettings(
        candidates=run.candidates,
        clean_weight=run.clean_weight,
        estimator=run.estimator,
        permutations=run.permutations,
        epsilon=run.epsilon,
        discard_threshold=run.discard_threshold,
        value=run.value,
        max_evaluations=run.max_evaluations,
        max_seconds=run.max_seconds,
    )
    return replace(asked, players=None) if run.players == "all" else asked

"""How wide the searches are: full width for small networks, a thrifty one where every picture costs a lot.

The switch is the arithmetic per picture, not measured time, so that the same file and seed give the same result on a
busy machine.
"""

from dataclasses import dataclass

from onnx_shapprune.graph.cost import multiply_adds
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.invert.compact import CompactSettings
from onnx_shapprune.invert.patch import PatchSettings
from onnx_shapprune.invert.search import SearchSettings
from onnx_shapprune.prune.bank import SCAN
from onnx_shapprune.prune.round import RoundSettings
from onnx_shapprune.settings import RunOptions

# A CIFAR ResNet-18 needs 35 million multiply-adds with 16 base channels and 557 million with 64.
THRIFTY_ABOVE = 150_000_000


@dataclass(frozen=True, slots=True)
class Effort:
    """Settings of the audit's search, of a round of pruning, and of the adversary's scan of one class."""

    search: SearchSettings
    round: RoundSettings
    scan: CompactSettings


def effort_for(prepared: Prepared, run: RunOptions) -> Effort:
    """The widths for one prepared model, with the user's settings filled in."""
    thrifty = multiply_adds(prepared.model, prepared.infos) > THRIFTY_ABOVE
    # What top-k is given is a limit, and it ends by itself: eight walks would never separate anybody.
    fewer = thrifty and run.estimator != "top-k"
    search = SearchSettings(restarts=run.restarts)
    scan = SCAN
    if thrifty:
        search = SearchSettings(
            patch_classes=5, restarts=min(run.restarts, 3), second_look=1, patch=PatchSettings(steps=100, batch=4),
            compact=CompactSettings(grid=4, rounds=((3, 2, 32), (4, 4, 12), (8, 9, 12))),
        )  # fmt: skip
        scan = CompactSettings(grid=4, rounds=((3, 3, 6), (6, 5, 4), (8, 9, 4)))
    return Effort(
        search,
        RoundSettings(
            clean_weight=run.clean_weight, estimator=run.estimator,
            permutations=min(run.permutations, 8) if fewer else run.permutations, epsilon=run.epsilon,
            discard_threshold=run.discard_threshold,
        ),
        scan,
    )  # fmt: skip

"""Evidence written by hand: classes with given margins and free masks, one of them perhaps planted."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.detect.calibration import Calibration
from onnx_shapprune.invert.families import compact, whole_picture
from onnx_shapprune.invert.free import FreeResult
from onnx_shapprune.invert.relations import Relations
from onnx_shapprune.invert.scan import Found
from onnx_shapprune.invert.search import Evidence
from onnx_shapprune.invert.trigger import Trigger

FAMILIES = {f.name: f for f in (compact(10, 10, 4, 3), *whole_picture(10, 10, 3))}
STATISTICS = (*FAMILIES, "agreement", "source", "map", "peak")
# On ten clean models every statistic lay evenly between 0 and 0.5.
CALIBRATION = Calibration(about="a test", pictures=dict.fromkeys(STATISTICS, tuple(np.linspace(0, 0.5, 10).tolist())))
NATURAL = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 1.0, 0.7, 1.4, 1.0]
AWAY = 8.0  # logits that clean pictures are away from every class


def trigger(norm: float, goal: Goal, family: str) -> Trigger:
    mask = np.full((10, 10, 1), norm / 100, np.float32)
    return Trigger(mask, np.zeros((10, 10, 3), np.float32), goal, family)


def free_mask(target: int, norm: float | None) -> FreeResult:
    """norm None: the search failed, and kept a large mask."""
    made = trigger(50 if norm is None else norm, Goal(target), "patch")
    return FreeResult(made, 0.2 if norm is None else 1.0, norm is not None, 10)


def patch(target: int, margin: float, asr: float) -> Found:
    return Found(trigger(16, Goal(target), "compact"), margin, asr)


def evidence(margins: Sequence[float], norms: Sequence[float | None], *, asr: float = 0.3) -> list[Evidence]:
    """One class per margin; the transfer of the leader's patch is its ASR."""
    found = [
        Evidence(Goal(t), {"compact": patch(t, margin, asr)}, (free_mask(t, norm),), {}, AWAY)
        for t, (margin, norm) in enumerate(zip(margins, norms, strict=True))
    ]
    leader = int(np.argmax(margins))
    found[leader] = replace(found[leader], transfer={"compact": asr})
    return found


def clean(count: int = 9) -> list[Evidence]:
    """A model without a backdoor."""
    return evidence(NATURAL[:count], [20.0 + k for k in range(count)])


def planted_in(
    found: Sequence[Evidence], target: int, *, margin: float = 60.0, norm: float | None = 2.0, asr: float = 1.0,
    transfer: float | None = 1.0,
) -> list[Evidence]:  # fmt: skip
    """The same with a class that a patch reaches; transfer None: there were too few pictures."""
    changed = list(found)
    changed[target] = replace(
        found[target], found={"compact": patch(target, margin, asr)}, patches=(free_mask(target, norm),),
        transfer={"compact": transfer},
    )  # fmt: skip
    return changed


def pair_found(source: int, target: int, margin: float, asr: float = 1.0) -> Found:
    return Found(trigger(16, Goal(target, source=source), "compact"), margin, asr)


def map_found(mapping: Sequence[int], margin: float, asr: float = 1.0) -> Found:
    return Found(trigger(16, Goal(mapping[0], mapping=tuple(mapping)), "compact"), margin, asr)


def relations(pairs: Sequence[Found] = (), maps: Sequence[Found] = (), away: float = AWAY) -> Relations:
    """Largest margin first, as the search returns them."""
    return Relations(*(tuple(sorted(r, key=lambda f: -f.margin)) for r in (pairs, maps)), away)


def with_family(
    found: list[Evidence], name: str, target: int, margin: float, transfer: float = 1.0, *, others: float = -0.5
) -> list[Evidence]:
    """The same with a family of which only one class gets anything, unless `others` do."""
    return [
        replace(
            e,
            found={
                **e.found,
                name: Found(trigger(16, e.goal, name), margin if e.goal.target == target else others, 1.0),
            },
            transfer={**e.transfer, **({name: transfer} if e.goal.target == target else {})},
        )
        for e in found
    ]

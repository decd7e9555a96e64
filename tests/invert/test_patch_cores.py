"""The core of a patch: a network with nine planted pixels, and a weak class that needs a third of the picture."""

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.cores import cores
from onnx_shapprune.invert.families import square_masks
from onnx_shapprune.invert.scan import Found
from onnx_shapprune.invert.trigger import Trigger


@pytest.fixture(scope="module")
def shown() -> Shown:
    return Shown.to(planted.subject_of(planted.planted()), planted.planted_pictures(), np.zeros(8, np.int64))


def patch(shown: Shown, target: int, side: int, corner: tuple[int, int], paint: float = 255) -> Found:
    mask = square_masks(8, 8, side, [corner])[0]
    trigger = Trigger(mask, mask * np.float32(paint), Goal(target), "compact")
    scores = rate(shown, [trigger])
    return Found(trigger, float(scores.margin[0]), float(scores.asr[0]))


def test_the_core_of_a_planted_trigger_lies_on_it_and_is_learnt_on(shown):
    (core,) = cores(shown, [patch(shown, planted.TARGET, 5, (3, 3), paint=180)])
    covered = core.trigger.mask[..., 0] > 0
    assert covered.sum() == 9
    assert covered[planted.CORNER].all()
    assert core.trigger.paint[planted.CORNER].min() == 255, "the patch had 180 there"
    assert (core.margin, core.asr) == (pytest.approx(39, abs=1e-3), 1)


def test_the_core_of_what_is_natural_does_less_than_all_of_it(shown):
    whole = patch(shown, planted.WEAK, 5, (0, 0))
    planted_one = patch(shown, planted.TARGET, 5, (3, 3))
    weak, strong = cores(shown, [whole, planted_one])
    assert whole.margin > 0 > weak.margin
    assert strong.margin == pytest.approx(planted_one.margin, rel=0.05)


@pytest.mark.parametrize(("side", "edge"), [(3, 2), (4, 3), (5, 3), (8, 5)])
def test_a_core_is_three_fifths_as_wide(shown, side, edge):
    (core,) = cores(shown, [patch(shown, planted.TARGET, side, (0, 0))])
    assert core.trigger.norm == edge**2
    assert core.trigger.family == "compact"

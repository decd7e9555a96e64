"""The rule on hand-made evidence: behaviours, not the tuned numbers. Every case stands far from any threshold."""

from dataclasses import replace

import numpy as np
import pytest

from onnx_shapprune.detect.suspicion import Limits, judge
from onnx_shapprune.invert.compact import CompactResult
from onnx_shapprune.invert.patch import PatchResult
from onnx_shapprune.invert.search import Evidence
from onnx_shapprune.invert.trigger import Trigger

LIMITS = Limits()
NATURAL = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 1.0, 0.7, 1.4, 1.0]


def trigger(norm: float, target: int, family: str) -> Trigger:
    mask = np.full((10, 10, 1), norm / 100, np.float32)
    return Trigger(mask, np.zeros((10, 10, 3), np.float32), target, family)


def evidence(
    margins: list[float], norms: list[float | None], *, asr: float = 0.3, transfer: float | None = None
) -> list[Evidence]:
    """One class per margin. norms: of the free masks, None for a class whose search failed."""
    found = []
    for target, (margin, norm) in enumerate(zip(margins, norms, strict=True)):
        patch = PatchResult(trigger(50 if norm is None else norm, target, "patch"), 0.2 if norm is None else 1.0,
                            norm is not None, 10)  # fmt: skip
        compact = CompactResult(trigger(16, target, "compact"), 4, margin, asr)
        found.append(Evidence(target, compact, (patch,), None, 8.0))
    leader = int(np.argmax(margins))
    found[leader] = replace(found[leader], transfer=transfer)
    return found


def strong(found: list[Evidence], target: int, *, margin: float, norm: float, asr: float = 1.0) -> list[Evidence]:
    compact = CompactResult(trigger(16, target, "compact"), 4, margin, asr)
    patch = PatchResult(trigger(norm, target, "patch"), 1.0, True, 10)
    changed = list(found)
    changed[target] = replace(found[target], compact=compact, patches=(patch,))
    return changed


def clean(count: int = 10) -> list[Evidence]:
    return evidence(NATURAL[:count], [20.0 + k for k in range(count)])


def test_a_model_without_a_leader_names_nobody():
    assert judge(clean(), LIMITS).named == {}


def test_a_patch_far_above_all_others_names_its_class():
    found = judge(strong(clean(), 6, margin=60.0, norm=2.0), LIMITS)
    assert list(found.named) == [6]
    assert found.margin_index(6) > 50
    assert found.norm_index(6) > 2
    assert found.margins.leader == 6


def test_a_strong_patch_needs_no_small_mask():
    # Size is not suspicion: a free mask may be as large as any other.
    assert list(judge(strong(clean(), 6, margin=60.0, norm=24.0), LIMITS).named) == [6]


def test_a_patch_that_barely_gets_there_needs_an_agreeing_mask():
    # Far above the other classes, but no further over the boundary than any class with a weak spot.
    far = strong(clean(), 6, margin=60.0, norm=24.0)
    far[6] = replace(far[6], distance=50.0)
    assert judge(far, LIMITS).named == {}
    far[6] = replace(strong(clean(), 6, margin=60.0, norm=2.0)[6], distance=50.0)
    assert list(judge(far, LIMITS).named) == [6]


def test_a_patch_that_does_not_transfer_needs_an_agreeing_mask():
    found = strong(clean(), 6, margin=60.0, norm=24.0)
    found[6] = replace(found[6], transfer=0.3)
    assert judge(found, LIMITS).named == {}


def test_a_small_mask_alone_names_nobody():
    assert judge(strong(clean(), 6, margin=1.0, norm=2.0), LIMITS).named == {}


def test_the_easiest_class_of_a_clean_model_is_not_named():
    # It leads, but not far, and neither search singles it out.
    assert judge(strong(clean(), 6, margin=1.9, norm=18.0, asr=0.6), LIMITS).named == {}


@pytest.mark.parametrize("margin", [-0.1, -20.0])
def test_a_leader_whose_patch_does_not_win_is_not_named(margin):
    found = evidence([margin - 40 - k for k in range(10)], [None] * 10)
    assert judge(strong(found, 3, margin=margin, norm=2.0, asr=0.0), LIMITS).named == {}


def test_two_planted_targets_do_not_hide_each_other():
    both = strong(strong(clean(), 2, margin=60.0, norm=2.0), 7, margin=60.0, norm=2.0)
    assert sorted(judge(both, LIMITS).named) == [2, 7]


def test_low_success_of_the_patch_needs_an_agreeing_mask():
    rarely = strong(clean(), 6, margin=60.0, norm=24.0, asr=0.3)
    assert judge(rarely, LIMITS).named == {}
    agreed = strong(clean(), 6, margin=60.0, norm=2.0, asr=0.3)
    assert list(judge(agreed, LIMITS).named) == [6]


def test_a_mask_that_never_succeeded_agrees_with_nothing():
    found = strong(clean(), 6, margin=60.0, norm=0.1, asr=0.3)
    failed = replace(found[6].patches[0], success=False)
    found[6] = replace(found[6], patches=(failed,))
    suspicion = judge(found, LIMITS)
    assert suspicion.named == {}
    assert suspicion.norm_index(6) == 0


def test_failed_classes_do_not_count_as_small():
    # Classes without success keep whatever mask they had; it must not serve as the smallest other norm.
    found = evidence(NATURAL, [None, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, None, 28.0])
    found[0] = replace(found[0], patches=(PatchResult(trigger(0.1, 0, "patch"), 0.2, False, 10),))
    named = judge(strong(found, 6, margin=60.0, norm=2.0, asr=0.3), LIMITS).named
    assert list(named) == [6]
    assert any("the next class needs 20.0" in reason for reason in named[6])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_fewer_than_five_classes_need_lead_and_agreement(count):
    found = strong(clean(count), 1, margin=60.0, norm=2.0)
    suspicion = judge(found, LIMITS)
    assert list(suspicion.named) == [1]
    assert suspicion.margin_index(1) is None
    assert suspicion.norm_index(1) is None
    assert judge(strong(clean(count), 1, margin=60.0, norm=24.0), LIMITS).named == {}
    assert judge(clean(count), LIMITS).named == {}


def test_classes_that_were_not_searched_have_no_norm_index():
    found = clean()
    for k in (0, 9):
        found[k] = replace(found[k], patches=())
    suspicion = judge(strong(found, 6, margin=60.0, norm=2.0), LIMITS)
    assert suspicion.searched == tuple(range(1, 9))
    assert suspicion.norm_index(0) is None
    assert suspicion.norm_index(6) > 2
    assert list(suspicion.named) == [6]


def test_reasons_say_what_was_seen():
    found = strong(clean(), 6, margin=60.0, norm=2.0)
    found[6] = replace(found[6], transfer=0.75)
    patch, mask, away, transfer = judge(found, LIMITS).named[6]
    assert "4 x 4 patch sends 100% of the other pictures to class 6 with a mean margin of 60.0 logits" in patch
    assert "the best other class reaches 1.4" in patch
    assert "L1 norm 2.0" in mask
    assert "the next class needs 20.0" in mask
    assert "75%" in transfer
    assert "miss class 6 by 8.0 logits" in away


def test_limits_are_what_decides():
    found = strong(clean(), 6, margin=60.0, norm=2.0)
    assert judge(found, Limits(lead=1e9)).named == {}
    assert judge(found, Limits(strong_index=1e9, agreed_index=1e9)).named == {}

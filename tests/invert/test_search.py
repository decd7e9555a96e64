"""The order of the families: everything is scanned, what stands out is looked at again."""

import time
from dataclasses import replace

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, all_to_one
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.invert import search
from onnx_shapprune.invert.families import blended, bounded, compact, wave
from onnx_shapprune.invert.free import FreeSettings
from onnx_shapprune.invert.scan import ScanSettings, count_of, rounds_for
from onnx_shapprune.invert.search import MANY_CLASSES, SearchSettings, search_classes, transfer_rate
from onnx_shapprune.invert.trigger import Trigger

LABELS = np.zeros(8, np.int64)
# Two of the pictures are bright, and of the weak class.
SHOWN = planted.planted_pictures() + np.float32(85) * np.repeat([0, 1], [6, 2])[:, None, None, None].astype(np.float32)
TRUE = np.repeat([0, planted.WEAK], [6, 2])
SETTINGS = SearchSettings(
    patch_classes=3, restarts=3, second_look=1, patch=FreeSettings(steps=60),
    scan=ScanSettings(rounds=((3, 4, 16), (4, 8, 8))), whole=ScanSettings(rounds=((4, 8, 4),)),
)  # fmt: skip
FAMILIES = SETTINGS.families(planted.planted_pictures(), 4)


@pytest.fixture(scope="module")
def net() -> Subject:
    return planted.subject_of(planted.planted())


@pytest.fixture(scope="module")
def seen():
    return []


@pytest.fixture(scope="module")
def evidence(net, seen):
    assert (net.logits(SHOWN).argmax(1) == TRUE).all()
    return search_classes(Shown.to(net, SHOWN, TRUE), SETTINGS, np.random.default_rng(0),
        progress=lambda stage, done, of, note: seen.append((stage, done, of)),
    )  # fmt: skip


def test_evidence_covers_every_class_in_order(evidence):
    assert [e.goal for e in evidence] == all_to_one(range(4))
    for e in evidence:
        assert list(e.found) == list(FAMILIES)
        assert all((f.trigger.goal, f.trigger.family) == (e.goal, name) for name, f in e.found.items())
        assert all((p.trigger.goal, p.trigger.family) == (e.goal, "patch") for p in e.patches)
        assert e.compact is e.found["compact"]


def test_only_the_best_classes_get_free_masks(evidence):
    margins = [e.compact.margin for e in evidence]
    assert [bool(e.patches) for e in evidence] == [m > min(margins) for m in margins]
    left_out = evidence[int(np.argmin(margins))]
    assert left_out.smallest is None


def test_only_the_leader_gets_restarts_and_the_transfer_test(evidence):
    rest = [e for e in evidence if e.goal != Goal(planted.TARGET)]
    assert len(evidence[planted.TARGET].patches) == 3
    assert all(len(e.patches) <= 1 for e in rest)
    assert evidence[planted.TARGET].transfer["compact"] == 1
    assert not any("compact" in e.transfer for e in rest)


def test_every_family_measures_the_transfer_of_its_own_leader(evidence):
    for name in evidence[0].found:
        measured = [e.goal.target for e in evidence if name in e.transfer]
        margins = [e.found[name].margin for e in evidence]
        assert measured == ([int(np.argmax(margins))] if max(margins) > 0 else [])


def test_smallest_prefers_success_then_norm(evidence):
    mine = evidence[planted.TARGET]
    good = [p.trigger.norm for p in mine.patches if p.success]
    assert good
    assert mine.smallest.trigger.norm == min(good)


def test_stages_report_progress(evidence, seen):
    first = {f"{name} triggers" for name in FAMILIES}
    more = {n for n, f in FAMILIES.items() if count_of(f, rounds_for(f, SETTINGS.scan, SETTINGS.whole)) > 1}
    last = {f"{name} triggers, last round" for name in more}
    assert {s[0] for s in seen} == {*first, *last, "free masks", "classes", "restarts"}
    for stage in {s[0] for s in seen}:
        done = [(d, of) for s, d, of in seen if s == stage]
        counts = [d for d, _ in done]
        assert counts == sorted(set(counts)), "a stage goes forward only"
        assert {of for _, of in done} == {counts[-1]}, "and ends at its total, early stop or not"


def test_a_second_search_keeps_the_better_trigger_of_each_class(net, evidence):
    shown = Shown.to(net, SHOWN, TRUE)
    weak = [
        replace(
            e, found=e.found | {"compact": replace(e.compact, margin=1.0 if e.goal.target == planted.TARGET else -9.0)}
        )
        for e in evidence
    ]
    again = search.search_again(shown, weak, ["compact", "unheard of"], SETTINGS, np.random.default_rng(5))
    assert [e.goal for e in again] == [e.goal for e in evidence]
    assert again[planted.TARGET].compact.margin > 10
    assert again[planted.TARGET].transfer["compact"] == 1
    changed = [b for b, a in zip(weak, again, strict=True) if a.compact.margin != b.compact.margin]
    assert 1 <= len(changed) <= search.AGAIN, "only those that lead are searched again"
    for before, after in zip(weak, again, strict=True):
        assert after.compact.margin >= before.compact.margin
        assert {n: f for n, f in after.found.items() if n != "compact"} == {
            n: f for n, f in before.found.items() if n != "compact"
        }
        assert (after.patches, after.peak, after.distance) == (before.patches, before.peak, before.distance)


PATCHES = compact(8, 8, 3, 5)


def white(top: int, left: int) -> Trigger:
    """A white square of the family's, towards the planted target."""
    mask = np.zeros((8, 8, 1), np.float32)
    mask[top : top + 3, left : left + 3] = 1
    return Trigger(mask, 255 * mask, Goal(planted.TARGET), "compact")


def test_transfer_of_a_patch_that_only_fits_what_it_was_learnt_on(net):
    x, rng = planted.planted_pictures(), np.random.default_rng(0)
    assert transfer_rate(Shown.to(net, x, LABELS), white(5, 5), PATCHES, rng) == 1
    assert transfer_rate(Shown.to(net, x, LABELS), white(0, 0), PATCHES, rng) == 0
    assert transfer_rate(Shown.to(net, x[:3], LABELS[:3]), white(5, 5), PATCHES, rng) is None


def test_transfer_is_tried_on_the_half_that_was_not_learnt_on(net, monkeypatch):
    learnt, tried = [], []

    def noted(function, notes):
        def call(shown, *args):
            notes.append({picture.tobytes() for picture in shown.pictures})
            return function(shown, *args)

        return call

    monkeypatch.setattr(search, "ascend", noted(search.ascend, learnt))
    monkeypatch.setattr(search, "rate", noted(search.rate, tried))
    x = planted.planted_pictures(7)
    assert transfer_rate(Shown.to(net, x, LABELS[:7]), white(5, 5), PATCHES, np.random.default_rng(0)) == 1
    assert learnt[0] == tried[0] == tried[1] == tried[5]
    assert learnt[1] == tried[3] == tried[4] == tried[2]
    assert learnt[0] | learnt[1] == {picture.tobytes() for picture in x}
    assert not learnt[0] & learnt[1]


def test_transfer_is_learnt_again_where_nothing_was_learnt(net, monkeypatch):
    """An ascent that ends in a poor optimum says nothing about the other half."""
    steps: list[int] = []

    def idle_at_first(shown, arms, move, climb, rng):
        steps.append(climb.steps)
        return (arms.paints * 0, np.zeros(len(arms.goals))) if len(steps) % 2 else ascend(shown, arms, move, climb, rng)

    ascend = search.ascend
    monkeypatch.setattr(search, "ascend", idle_at_first)
    x, rng = planted.planted_pictures(), np.random.default_rng(0)
    assert transfer_rate(Shown.to(net, x, LABELS), white(5, 5), PATCHES, rng) == 1
    assert steps == [10, 20, 10, 20]
    steps.clear()
    assert transfer_rate(Shown.to(net, x, LABELS), white(0, 0), PATCHES, rng) == 0
    assert steps == [10, 10], "nothing moves there, relearnt or not"


def test_transfer_of_a_change_of_the_whole_picture_is_learnt_by_its_own_family(net):
    x, rng = planted.planted_pictures(), np.random.default_rng(0)
    nothing = np.zeros((8, 8, 1), np.float32)
    for reach, expected in ((2.0, 0.0), (250.0, 1.0)):  # only many bytes make the dark corner bright
        trigger = Trigger(nothing, nothing, Goal(planted.TARGET), "linf")
        assert transfer_rate(Shown.to(net, x, LABELS), trigger, bounded(8, 8, reach), rng) == expected
    veil = np.full((8, 8, 1), 0.9, np.float32)
    assert (
        transfer_rate(Shown.to(net, x, LABELS), Trigger(veil, veil, Goal(planted.TARGET), ""), blended(8, 8, 0.9), rng)
        == 1
    )


def test_transfer_of_a_wave_is_that_of_the_one_that_was_found():
    family = wave(8, 8, 20.0, 2)
    weight = np.stack([np.full((8, 8), 0.01), 5 * family.fixed[6, ..., 0] / 20, np.zeros((8, 8))])
    subject = planted.subject_of(planted.linear_net(weight))
    x = planted.planted_pictures() / 10 + 100
    for place, expected in ((6, 1), (4, 0)):  # the opposite phase
        trigger = Trigger(family.masks[place], family.fixed[place], Goal(1), "wave")
        assert transfer_rate(Shown.to(subject, x, LABELS), trigger, family, np.random.default_rng(0)) == expected


def test_a_mask_that_is_no_smaller_than_the_others_gets_no_restarts(net):
    # All pictures are nearly as bright as the weak class wants them, so that next to nothing is its smallest mask.
    x = planted.planted_pictures() + np.float32(48)
    assert (net.logits(x).argmax(1) == 0).all()
    found = search_classes(Shown.to(net, x, LABELS), SETTINGS, np.random.default_rng(0))
    assert max(found, key=lambda e: e.compact.margin).goal == Goal(planted.TARGET)
    assert max(len(e.patches) for e in found) == 1


def test_distance_is_by_what_clean_pictures_of_other_classes_miss_a_class(net, evidence):
    logits = net.logits(SHOWN)
    for e in evidence:
        target = e.goal.target
        others = target != TRUE
        expected = 0.0
        if others.any():
            rest = np.delete(logits[others], target, axis=1).max(axis=1)
            expected = float((rest - logits[others, target]).mean())
        assert e.distance == pytest.approx(expected, abs=1e-4)
    assert evidence[planted.TARGET].distance > 1


def test_transfer_is_none_where_too_few_pictures_are_moved(net):
    x, labels = planted.planted_pictures(6), np.array([planted.TARGET] * 3 + [0] * 3)
    rng = np.random.default_rng(0)
    assert transfer_rate(Shown.to(net, x, labels), white(5, 5), PATCHES, rng) is None
    labels = np.array([1, 1, 0, 0, 0, 0])
    for source, measured in ((0, True), (1, False)):
        trigger = replace(white(5, 5), goal=Goal(planted.TARGET, source=source))
        assert (transfer_rate(Shown.to(net, x, labels), trigger, PATCHES, rng) is not None) == measured


@pytest.mark.parametrize(
    ("shape", "side"), [((1, 32, 32, 3), 5), ((1, 28, 28, 1), 4), ((1, 8, 8, 3), 3), ((1, 64, 32, 3), 5)]
)
def test_patch_side_follows_the_shorter_edge(shape, side):
    assert SearchSettings(side=0.16).side_pixels(np.zeros(shape, np.float32)) == side


def test_many_classes_get_fewer_wide_patches():
    settings, x = SearchSettings(grid=5), np.zeros((1, 32, 32, 3), np.float32)
    few, many = (settings.families(x, n) for n in (MANY_CLASSES, MANY_CLASSES + 1))
    assert list(few) == list(many)
    assert next(iter(few)) == "compact"
    assert all(name == family.name for name, family in few.items())
    assert (len(few["compact"].masks), len(many["compact"].masks)) == (25, 25)
    assert (len(few["wide"].masks), len(many["wide"].masks)) == (16, 9)


def test_after_the_deadline_nothing_but_compact_patches_is_searched(net):
    found = search_classes(
        Shown.to(net, planted.planted_pictures(), LABELS),
        SETTINGS,
        np.random.default_rng(0),
        deadline=time.monotonic() - 1,
    )
    assert [e.goal for e in found] == all_to_one(range(4))
    assert all((list(e.found), e.patches, e.peak) == (["compact"], (), None) for e in found)
    assert [e.goal.target for e in found if e.transfer] == [planted.TARGET], "what was found is looked at all the same"


def test_peaks_of_all_classes_are_in_the_evidence(evidence):
    heights = [e.peak for e in evidence]
    assert int(np.argmax(heights)) == planted.TARGET


def test_of_too_many_classes_those_that_random_patches_lift_are_searched(net):
    few = replace(SETTINGS, most_classes=2, screen=200)
    found = search_classes(Shown.to(net, planted.planted_pictures(), LABELS), few, np.random.default_rng(0))
    targets = [e.goal.target for e in found]
    assert targets == sorted(targets)
    assert len(targets) == 2
    assert planted.TARGET in targets
    best = max(found, key=lambda e: e.compact.margin)
    assert (best.goal, best.compact.trigger.goal, best.compact.asr) == (*[Goal(planted.TARGET)] * 2, 1)
    assert best.smallest.trigger.goal == Goal(planted.TARGET)

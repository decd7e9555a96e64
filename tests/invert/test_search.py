"""The order of the families: everything is scanned, what stands out is looked at again."""

import numpy as np
import planted
import pytest

from onnx_shapprune.invert.compact import CompactSettings
from onnx_shapprune.invert.patch import PatchSettings
from onnx_shapprune.invert.search import SearchSettings, search_classes, transfer_rate
from onnx_shapprune.invert.subject import Subject
from onnx_shapprune.invert.trigger import Trigger

LABELS = np.zeros(8, np.int64)
SETTINGS = SearchSettings(
    patch_classes=3, restarts=3, second_look=1, patch=PatchSettings(steps=60),
    compact=CompactSettings(rounds=((3, 4, 16), (4, 8, 8))),
)  # fmt: skip


@pytest.fixture(scope="module")
def net() -> Subject:
    return planted.subject_of(planted.planted())


@pytest.fixture(scope="module")
def seen():
    return []


@pytest.fixture(scope="module")
def evidence(net, seen):
    return search_classes(
        net, planted.planted_pictures(), LABELS, SETTINGS, np.random.default_rng(0),
        progress=lambda stage, done, of, note: seen.append((stage, done, of)),
    )  # fmt: skip


def test_evidence_covers_every_class_in_order(evidence):
    assert [e.target for e in evidence] == [0, 1, 2, 3]
    assert all(e.compact.trigger.target == e.target for e in evidence)
    assert all(p.trigger.target == e.target for e in evidence for p in e.patches)


def test_only_the_best_classes_get_free_masks(evidence):
    margins = [e.compact.margin for e in evidence]
    assert [bool(e.patches) for e in evidence] == [m > min(margins) for m in margins]
    left_out = evidence[int(np.argmin(margins))]
    assert left_out.smallest is None


def test_only_the_leader_gets_restarts_and_the_transfer_test(evidence):
    assert [len(e.patches) for e in evidence if e.target == planted.TARGET] == [3]
    assert all(len(e.patches) <= 1 for e in evidence if e.target != planted.TARGET)
    assert evidence[planted.TARGET].transfer == 1
    assert [e.transfer for e in evidence if e.target != planted.TARGET] == [None] * 3


def test_smallest_prefers_success_then_norm(evidence):
    mine = evidence[planted.TARGET]
    good = [p.trigger.norm for p in mine.patches if p.success]
    assert good
    assert mine.smallest.trigger.norm == min(good)


def test_stages_report_progress(evidence, seen):
    assert {s[0] for s in seen} == {"compact patches", "free masks", "classes", "restarts"}
    for stage in {s[0] for s in seen}:
        done = [(d, of) for s, d, of in seen if s == stage]
        counts = [d for d, _ in done]
        assert counts == sorted(set(counts)), "a stage goes forward only"
        assert {of for _, of in done} == {counts[-1]}, "and ends at its total, early stop or not"


def test_transfer_of_a_patch_that_only_fits_what_it_was_learnt_on(net):
    x = planted.planted_pictures()
    rng = np.random.default_rng(0)
    place = np.zeros((8, 8, 1), np.float32)
    place[:3, :3] = 1
    nowhere = Trigger(place, np.full((8, 8, 1), 255, np.float32), planted.TARGET, "compact")
    assert transfer_rate(net, x, LABELS, nowhere, rng) == 0
    assert transfer_rate(net, x[:3], LABELS[:3], nowhere, rng) is None


def test_distance_is_by_what_clean_pictures_of_other_classes_miss_a_class(net, evidence):
    logits = net.logits(planted.planted_pictures())
    for e in evidence:
        others = e.target != LABELS
        expected = 0.0
        if others.any():
            rest = np.delete(logits[others], e.target, axis=1).max(axis=1)
            expected = float((rest - logits[others, e.target]).mean())
        assert e.distance == pytest.approx(expected, abs=1e-4)
    assert evidence[planted.TARGET].distance > 1


def test_transfer_is_none_where_too_few_other_pictures_are_left(net):
    x = planted.planted_pictures(6)
    place = np.ones((8, 8, 1), np.float32)
    labels = np.array([planted.TARGET] * 3 + [0] * 3)
    trigger = Trigger(place, np.full((8, 8, 1), 255, np.float32), planted.TARGET, "compact")
    assert transfer_rate(net, x, labels, trigger, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("shape", "side"), [((1, 32, 32, 3), 5), ((1, 28, 28, 1), 4), ((1, 8, 8, 3), 3), ((1, 64, 32, 3), 5)]
)
def test_patch_side_follows_the_shorter_edge(shape, side):
    assert SearchSettings(side=0.16).side_pixels(np.zeros(shape, np.float32)) == side

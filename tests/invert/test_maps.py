"""Maps of classes on a net of six colours: a rule holds for classes that its trigger was not learnt on."""

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.families import blended, compact, whole_picture
from onnx_shapprune.invert.maps import search_maps
from onnx_shapprune.invert.scan import Found, ScanSettings

NEXT = {y: (y + 1) % 6 for y in range(6)}
PATCHES = (compact(16, 16, 3, 4), ScanSettings(rounds=((1, 2, 0), (3, 3, 12), (8, 10, 12))))
BLENDS = (blended(16, 16, 0.1), ScanSettings(rounds=((3, 3, 0), (6, 6, 6))))
MAPS = [shift_map(6, k) for k in range(1, 6)]


def shown_to(moved: dict[int, int], rows: slice = slice(None)) -> Shown:
    x, y = planted.colours_pictures()
    return Shown.to(planted.subject_of(planted.colours_net(moved)), x[rows].astype(np.float32), y[rows])


def best_of(shown: Shown, *families: object, seed: int = 0) -> Found:
    return search_maps(shown, MAPS, families or (PATCHES,), np.random.default_rng(seed))[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_map_holds_for_classes_that_the_trigger_was_not_learnt_on(seed):
    shown = shown_to(NEXT)
    best = best_of(shown, seed=seed)
    assert (best.trigger.goal, best.asr) == (shift_map(6, 1), 1.0)
    # The trigger itself is learnt on all of them.
    assert (shown.subject.logits(best.trigger.apply(shown.pictures)).argmax(1) == (shown.labels + 1) % 6).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_moves_half_of_the_classes_says_nothing_of_the_others(seed):
    halves = np.random.default_rng(seed).permutation(6)
    learnt = {int(y): NEXT[int(y)] for y in halves[:3]}  # as the search draws them
    best = best_of(shown_to(learnt), seed=seed)
    assert best.asr == 0
    assert best.margin < 0


def test_triggers_are_measured_on_pictures_of_other_classes():
    asked: list[np.ndarray] = []
    shown = shown_to(NEXT)

    class Seen(type(shown)):
        def part(self, rows):
            asked.append(self.labels[rows])
            return super().part(rows)

    search_maps(
        Seen(shown.subject, shown.pictures, shown.labels, shown.logits), MAPS, [PATCHES], np.random.default_rng(0)
    )
    learn, others = asked
    assert not {*learn.tolist()} & {*others.tolist()}
    assert {*learn.tolist(), *others.tolist()} == set(range(6))


def test_only_what_shows_something_gets_more_than_a_first_round():
    def passes(moved: dict[int, int]) -> int:
        shown = shown_to(moved)
        before = shown.subject.work.pictures
        best_of(shown)
        return shown.subject.work.pictures - before

    assert 1.5 * passes({}) < passes(NEXT)


def test_every_map_and_family_is_told_of_and_progress_counts_families():
    told: list[tuple[int, int]] = []
    found = search_maps(
        shown_to({}), MAPS, [PATCHES, BLENDS], np.random.default_rng(0), progress=lambda *tick: told.append(tick)
    )
    assert {(f.trigger.goal, f.trigger.family) for f in found} == {(g, n) for g in MAPS for n in ("compact", "blended")}
    assert [f.margin for f in found] == sorted((f.margin for f in found), reverse=True)
    assert told == [(1, 2), (2, 2)]


def test_pictures_of_one_class_tell_no_map():
    assert search_maps(shown_to(NEXT, slice(0, 1)), MAPS, [PATCHES], np.random.default_rng(0)) == []


def test_where_nothing_is_learnt_every_picture_counts():
    shown = shown_to({})
    stamps = [f for f in whole_picture(16, 16, 1) if f.fixed is not None]
    guessed = [Goal(3, mapping=(3, 2, 5, 0, 1, 4))]
    families = [(f, ScanSettings()) for f in stamps]
    found = search_maps(shown, MAPS, families, np.random.default_rng(0), guessed=guessed)
    assert {f.trigger.goal for f in found} == set(MAPS), "what was read off the pictures is not held against them"
    for f in found:
        answers = shown.subject.logits(f.trigger.apply(shown.pictures)).argmax(1)
        assert f.asr == (answers == f.trigger.goal.of(shown.labels)).mean()


def test_of_two_classes_each_is_the_other_half():
    shown = shown_to({0: 1, 1: 0}, slice(0, 2))
    swap = Goal(1, mapping=(1, 0, 2, 3, 4, 5))
    (found,) = search_maps(shown, [swap], [PATCHES], np.random.default_rng(0))
    assert found.asr == 1

"""Scans at a fixed budget: the ascent, halving, the planted position, and families without a place."""

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import UNMOVED, Goal, all_to_one
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject, margins
from onnx_shapprune.invert import scan as scan_module
from onnx_shapprune.invert.arms import STEADY, Arms, Scores, rate
from onnx_shapprune.invert.families import bounded, compact, replaced, square_masks, wave, whole_picture
from onnx_shapprune.invert.scan import (
    STRIDE,
    Climb,
    Many,
    ScanSettings,
    aims_of,
    ascend,
    best_of,
    climbed,
    scan,
    survivors,
)
from onnx_shapprune.invert.trigger import Trigger

LABELS = np.zeros(8, np.int64)
CLASSES = [0, 1, 2, 3]
GOALS = all_to_one(CLASSES)
PATCHES = compact(8, 8, 3, 5)


@pytest.fixture(scope="module")
def net() -> Subject:
    return planted.subject_of(planted.planted())


@pytest.fixture(scope="module")
def found(net):
    return scan(
        Shown.to(net, planted.planted_pictures(), LABELS), GOALS, PATCHES, ScanSettings(), np.random.default_rng(0)
    )


def test_ascent_raises_the_margin_inside_the_mask_only(net):
    x = planted.planted_pictures()
    masks = square_masks(8, 8, 3, [(5, 5), (4, 4)])
    start = masks * np.float32(180)
    paints, _ = ascend(
        Shown.to(net, x, LABELS), Arms(masks, start, all_to_one([planted.TARGET] * 2)), replaced,
        Climb(steps=6, batch=8), np.random.default_rng(0),
    )  # fmt: skip
    assert (paints[0][masks[0] > 0] == 255).all()
    assert (paints[masks == 0] == 0).all(), "pixels outside the mask must not move"
    assert (start == 180 * masks).all()
    before, after = (
        margins(
            net.logits(Trigger(masks[0], p, Goal(planted.TARGET), "compact").apply(x)), np.full(8, planted.TARGET)
        ).mean()
        for p in (start[0], paints[0])
    )
    assert after > before + 10


def test_arms_of_large_pictures_climb_in_turns(net, monkeypatch):
    shown, climbing = Shown.to(net, planted.planted_pictures(), LABELS), list[int]()

    def watched(shown, arms, move, climb, rng):
        climbing.append(len(arms.goals))
        return ascend(shown, arms, move, climb, rng)

    monkeypatch.setattr(scan_module, "ascend", watched)
    monkeypatch.setattr(scan_module, "PART_BYTES", 7 * 4 * int(np.prod(shown.size)))
    found = scan(shown, GOALS, PATCHES, ScanSettings(), np.random.default_rng(0))
    assert climbing[:15] == [7] * 14 + [2], "four goals at 25 places"
    assert {f.trigger.goal for f in found} == set(GOALS)
    for f in found[:3]:
        assert f.margin == pytest.approx(rate(shown, [f.trigger]).margin[0], rel=1e-5)
    assert found[0].trigger.goal.target == planted.TARGET
    assert found[0].margin > 30


def test_ascent_reports_the_margin_before_its_last_step(net):
    x = planted.planted_pictures()
    masks = square_masks(8, 8, 3, [(5, 5)])
    _, margin = ascend(
        Shown.to(net, x, LABELS), Arms(masks, masks * np.float32(255), [Goal(planted.TARGET)]), replaced,
        Climb(steps=1, batch=8), np.random.default_rng(0),
    )  # fmt: skip
    assert margin == pytest.approx([39], abs=1e-3)


@pytest.mark.parametrize(("steps", "expected"), [(1, [0.5]), (2, [0.5, 0.05]), (4, [0.5, 0.35, 0.2, 0.05])])
def test_strides_fall_linearly_to_a_tenth(net, steps, expected):
    seen: list[float] = []

    def move(paints, masks, gradient, stride):
        assert gradient.shape == paints.shape
        seen.append(stride)
        return paints

    masks = square_masks(8, 8, 3, [(5, 5)])
    ascend(
        Shown.to(net, planted.planted_pictures(), LABELS), Arms(masks, masks * np.float32(9), [Goal(1)]), move,
        Climb(steps=steps, batch=2, stride=0.5), np.random.default_rng(0),
    )  # fmt: skip
    assert seen == pytest.approx(expected)
    assert STRIDE < 0.5


def test_scan_finds_the_planted_position(found):
    best = best_of(found, Goal(planted.TARGET))
    rows, cols = np.nonzero(best.trigger.mask[..., 0])
    assert (rows.min(), cols.min(), best.trigger.norm) == (5, 5, 9)
    assert best.asr == 1
    assert best.margin == pytest.approx(39, abs=0.5)
    assert found[0].trigger.goal == Goal(planted.TARGET)
    assert all(best.margin > 4 * max(1.0, best_of(found, g).margin) for g in GOALS if g.target != planted.TARGET)


def test_every_goal_has_a_result_and_the_largest_margin_comes_first(found):
    assert {r.trigger.goal for r in found} == set(GOALS)
    assert [r.margin for r in found] == sorted((r.margin for r in found), reverse=True)
    assert best_of(found, Goal(planted.DEAD)).asr == 0
    for goal in GOALS:
        assert best_of(found, goal).margin == max(r.margin for r in found if r.trigger.goal == goal)


def test_reported_statistics_are_those_of_the_trigger(net, found):
    x = planted.planted_pictures()
    for result in found:
        assert (result.trigger.norm, result.trigger.family) == (9, "compact")
        mine = margins(net.logits(result.trigger.apply(x)), np.full(8, result.trigger.goal.target))
        # Class 0 is the class of every picture, so it is learnt on all of them, and moves none.
        assert result.margin == pytest.approx(mine.mean(), abs=1e-3)
        assert result.asr == ((mine > 0).mean() if result.trigger.goal != Goal(0) else 0)


def test_seed_decides(net):
    x = planted.planted_pictures()
    runs = [scan(Shown.to(net, x, LABELS), GOALS, PATCHES, ScanSettings(), np.random.default_rng(s)) for s in (0, 0, 1)]
    for a, b in zip(*runs[:2], strict=True):
        np.testing.assert_array_equal(a.trigger.paint, b.trigger.paint)
    assert any((a.trigger.paint != b.trigger.paint).any() for a, b in zip(runs[0], runs[2], strict=False))


def test_progress_counts_the_rounds(net):
    seen: list[tuple[int, int]] = []
    scan(Shown.to(net, planted.planted_pictures(2), LABELS[:2]), [Goal(planted.TARGET)], PATCHES,
        ScanSettings(rounds=((1, 1, 2), (1, 2, 1))), np.random.default_rng(0),
        progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    assert seen == [(1, 2), (2, 2)]


def test_survivors_are_the_best_of_all_and_the_best_of_every_arm():
    scores = Scores(np.array([5.0, 4.0, 3.0, -1.0, -2.0, 0.0]), *np.zeros((2, 6)))
    arm = np.array([0, 0, 0, 1, 1, 2])
    assert survivors(scores, arm, 2).tolist() == [0, 1, 3, 5]
    assert survivors(scores, arm, 0).tolist() == [0, 3, 5]
    assert survivors(scores, arm, 99).tolist() == [0, 1, 2, 3, 4, 5]


class Toy(planted.InTurn):
    """Logits that are linear in the bytes around grey; class 1 answers to a faint checkerboard all over the picture."""

    classes = 4
    obstacle = ""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.weight = 0.002 * rng.normal(size=(8 * 8, 4))
        self.weight[:, 1] = 0.05 * CHECKERS.ravel()
        self.bias = np.array([1.0, -3.0, 0.5, 0.0])

    def logits(self, pictures):
        return ((pictures - 128).reshape(len(pictures), -1) @ self.weight + self.bias).astype(np.float32)

    def gradient(self, pictures, targets, *, w_ce=0.0, w_margin=1.0):
        assert (w_ce, w_margin) == (0, 1)
        z = self.logits(pictures)
        rows, rest = np.arange(len(z)), z.copy()
        rest[rows, targets] = -np.inf
        slope = (self.weight[:, rest.argmax(1)] - self.weight[:, targets]).T
        return z, slope.reshape(pictures.shape).astype(np.float32)


CHECKERS = np.where(np.indices((8, 8)).sum(0) % 2, -1.0, 1.0)
WHOLE = ScanSettings(rounds=((6, 4, 4), (10, 8, 4)))


def grey(count: int = 8) -> np.ndarray:
    return np.random.default_rng(1).uniform(100, 156, (count, 8, 8, 1)).astype(np.float32)


def test_a_bounded_scan_finds_the_planted_class_and_its_pattern():
    toy = Toy()
    results = scan(Shown.to(toy, grey(), LABELS), GOALS, bounded(8, 8, 6.0), WHOLE, np.random.default_rng(0))
    best = results[0]
    assert best.trigger.goal == Goal(1)
    assert best.asr == 1
    # 6 bytes in all 64 pixels: 6 * 64 * 0.05 over its bias and the easiest rival is more than any other class gets.
    np.testing.assert_array_equal(best.trigger.paint[..., 0], 6 * CHECKERS)
    assert best.margin > 5 * max(r.margin for r in results if r.trigger.goal != Goal(1))
    others = toy.logits(grey()).argmax(1) != 1
    assert 0 < others.sum() < 8, "some go to class 1 by themselves, and say nothing"
    moved = margins(toy.logits(best.trigger.apply(grey()[others])), np.ones(others.sum(), int))
    assert best.margin == pytest.approx(moved.mean(), abs=1e-3)


@pytest.mark.parametrize("name", ["linf", "l2", "blended"])
def test_every_family_that_can_draw_it_finds_the_planted_class(name):
    (family,) = (f for f in whole_picture(8, 8, 3) if f.name == name)
    results = scan(Shown.to(Toy(), grey(), LABELS), GOALS, family, WHOLE, np.random.default_rng(0))
    assert (results[0].trigger.goal, results[0].asr) == (Goal(1), 1)


def test_only_the_leading_goals_are_in_the_last_round():
    class Watched(Toy):
        def __init__(self):
            super().__init__()
            self.seen: list[set[int]] = []

        def gradient(self, pictures, targets, **settings):
            self.seen.append(set(targets.tolist()))
            return super().gradient(pictures, targets, **settings)

    family = bounded(8, 8, 6.0)
    for leaders, last in ((1, {1}), (4, {0, 1, 2, 3})):
        toy = Watched()
        rounds = ScanSettings(rounds=((3, 2, 0), (4, 8, 0)), leaders=leaders)
        results = scan(Shown.to(toy, grey(), LABELS), GOALS, family, rounds, np.random.default_rng(0))
        assert toy.seen == [{0, 1, 2, 3}] * 3 + [last] * 4
        assert [r.trigger.goal for r in results].count(Goal(1)) == 1
        assert {r.trigger.goal for r in results} == set(GOALS), "the others stay as they were"
        assert [r.margin for r in results] == sorted((r.margin for r in results), reverse=True)
        assert results[0].trigger.goal == Goal(1)


def test_a_family_that_learns_nothing_is_scanned_for_its_best_place():
    family = wave(8, 8, 20.0, 3)
    toy = Toy()
    toy.weight[:, 2] = 0.003 * family.fixed[17].ravel()
    (best, *_) = scan(
        Shown.to(toy, grey(), LABELS), GOALS, family, ScanSettings(rounds=((0, 8, 8),)), np.random.default_rng(0)
    )
    assert best.trigger.goal == Goal(2)
    np.testing.assert_array_equal(best.trigger.paint, family.fixed[17])
    assert best.asr == 1


def test_a_scan_for_a_map_scores_each_picture_by_its_own_target():
    toy, labels, goal = Toy(), np.arange(8) % 4, Goal(1, mapping=(1, 0, 3, 3))  # class 3 stays
    (best,) = scan(Shown.to(toy, grey(), labels), [goal], bounded(8, 8, 6.0), WHOLE, np.random.default_rng(0))
    to = Shown.to(toy, grey(), labels).moved(goal)
    assert (to != goal.of(labels)).any(), "some go to their target by themselves"
    assert sorted(set(to.tolist())) == [UNMOVED, 0, 1, 3]
    moved = margins(toy.logits(best.trigger.apply(grey()[to != UNMOVED])), to[to != UNMOVED])
    most = STEADY * np.median(np.abs(moved))
    assert best.margin == pytest.approx(np.clip(moved, -most, most).mean(), abs=1e-3)
    assert best.asr == (moved > 0).mean()


def test_fewer_goals_keep_fewer_arms():
    settings = ScanSettings(rounds=((3, 2, 64), (10, 9, 5)))
    assert settings.among(10) == settings.among(43) == settings
    assert settings.among(5).rounds == ((3, 2, 32), (10, 9, 3))
    assert settings.among(1).rounds == settings.among(2).rounds == ((3, 2, 22), (10, 9, 2))


def test_slopes_of_untouched_pictures_say_what_to_paint_at_every_place(net):
    """A planted patch that nothing waits for is found without a step."""
    shown = Shown.to(net, planted.planted_pictures(), LABELS)
    slope = aims_of(shown, GOALS, np.random.default_rng(0))
    assert slope.shape == (4, *shown.size)
    places = np.arange(len(PATCHES.masks))
    many = Many([Goal(planted.TARGET)] * len(places), np.full(len(places), planted.TARGET), places, None, slope)
    scores, _ = climbed(
        shown, many, PATCHES, Climb(steps=0, batch=8), np.random.default_rng(0), keep=1, limit=None
    )  # fmt: skip
    best = int(scores.margin.argmax())
    assert scores.asr[best] == 1
    assert PATCHES.masks[best, 6, 6, 0] == 1

"""The free-mask search on a planted net, and the traps of other implementations that it must not fall into."""

import math
from collections.abc import Sequence

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, all_to_one
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.invert.free import FreeResult, FreeSettings, back, begin, render, search_free
from onnx_shapprune.invert.trigger import Trigger

FULL = FreeSettings(steps=200, batch=8)  # all pictures in every step
LABELS = np.zeros(8, np.int64)


def faint(mask: float) -> Trigger:
    """An even grey veil."""
    return Trigger.replacing(
        np.full((8, 8, 1), mask, np.float32), np.full((8, 8, 1), 128, np.float32), Goal(0), "known"
    )


@pytest.fixture(scope="module")
def net() -> Subject:
    return planted.subject_of(planted.planted())


@pytest.fixture(scope="module")
def found(net):
    targets = [planted.WEAK, planted.TARGET, planted.DEAD]
    results = search_free(
        Shown.to(net, planted.planted_pictures(), LABELS), all_to_one(targets), FULL, np.random.default_rng(0)
    )
    return dict(zip(targets, results, strict=True))


def test_planted_target_has_the_smallest_mask_and_it_lies_in_the_corner(found):
    mine = found[planted.TARGET]
    assert mine.success
    assert mine.asr == 1
    assert mine.trigger.norm < 9
    assert mine.trigger.mask[planted.CORNER].sum() > 0.9 * mine.trigger.norm
    assert mine.trigger.pattern[planted.CORNER].mean() > 200
    others = [r.trigger.norm for t, r in found.items() if t != planted.TARGET and r.success]
    assert all(mine.trigger.norm < norm / 2 for norm in others)
    assert (mine.trigger.goal, mine.trigger.family) == (Goal(planted.TARGET), "patch")


def test_kept_trigger_really_reaches_its_rate(net, found):
    x = planted.planted_pictures()
    for target, result in found.items():
        answers = net.logits(result.trigger.apply(x)).argmax(1)
        assert result.success == (result.asr >= FULL.success)
        assert (answers == target).mean() == result.asr


def test_class_that_cannot_be_reached_has_no_success(found):
    dead = found[planted.DEAD]
    assert not dead.success
    assert dead.asr == 0
    assert dead.steps == FULL.steps, "an arm that never succeeds must not stop early"


def test_search_stops_early_once_the_cost_went_both_ways(net):
    settings = FreeSettings(steps=2000, batch=8)
    (result,) = search_free(
        Shown.to(net, planted.planted_pictures(), LABELS), [Goal(planted.TARGET)], settings, np.random.default_rng(0)
    )
    assert result.success
    assert result.steps < 2000


def test_masks_and_patterns_stay_in_range(found):
    for result in found.values():
        assert result.trigger.mask.shape == (8, 8, 1)
        assert result.trigger.pattern.shape == (8, 8, 1)
        assert result.trigger.mask.min() >= 0
        assert result.trigger.mask.max() <= 1
        assert result.trigger.pattern.min() >= 0
        assert result.trigger.pattern.max() <= 255


def test_restarts_are_independent_and_the_seed_decides(net):
    x = planted.planted_pictures()
    runs = [
        search_free(
            Shown.to(net, x, LABELS), [Goal(planted.TARGET)] * 2, FreeSettings(steps=30), np.random.default_rng(seed)
        )
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0][0].trigger.mask, runs[1][0].trigger.mask)
    assert (runs[0][0].trigger.mask != runs[0][1].trigger.mask).any(), "a restart from the same mask is none"
    assert (runs[0][0].trigger.mask != runs[2][0].trigger.mask).any()


def test_one_arm_does_not_disturb_another(net):
    # Masks that are not re-initialised between classes, or moments shared by arms, would show here.
    x, settings = planted.planted_pictures(), FreeSettings(steps=40, batch=8)
    start = faint(0.2)
    alone = search_free(
        Shown.to(net, x, LABELS), [Goal(planted.TARGET)], settings, np.random.default_rng(0), start=[start]
    )
    beside = search_free(
        Shown.to(net, x, LABELS),
        all_to_one([planted.DEAD, planted.TARGET]),
        settings,
        np.random.default_rng(5),
        start=[None, start],
    )
    np.testing.assert_allclose(alone[0].trigger.mask, beside[1].trigger.mask, atol=1e-5)
    assert (alone[0].asr, alone[0].steps) == (beside[1].asr, beside[1].steps)


def test_warm_start_begins_at_the_given_trigger(net):
    mask = np.full((8, 8, 1), 0.01, np.float32)
    mask[planted.CORNER] = 0.98
    known = Trigger.replacing(mask, np.full((8, 8, 1), 250, np.float32), Goal(planted.TARGET), "known")
    shown, settings = Shown.to(net, planted.planted_pictures(), LABELS), FreeSettings(steps=1)
    (result,) = search_free(shown, [Goal(planted.TARGET)], settings, np.random.default_rng(0), start=[known])
    assert result.success
    np.testing.assert_allclose(result.trigger.mask, mask, atol=0.01)
    np.testing.assert_allclose(result.trigger.pattern, 250, atol=3)


def test_target_class_pictures_are_never_stamped(net):
    shown: list[tuple[int, int]] = []
    x = np.stack([np.full((8, 8, 1), v, np.float32) for v in (0, 50, 100, 150)])

    class Watched(planted.InTurn):
        classes = net.classes

        logits = staticmethod(net.logits)

        def gradient(self, pictures, targets, **settings):
            # The mask starts small, so the median pixel still tells which picture it was.
            nearest = np.abs(np.median(pictures, axis=(1, 2, 3))[:, None] - x[:, 0, 0, 0]).argmin(1)
            shown.extend(zip(targets.tolist(), nearest.tolist(), strict=True))
            return net.gradient(pictures, targets, **settings)

    labels = np.array([0, 1, 2, 1])
    search_free(
        Shown(Watched(), x, labels, np.eye(4, dtype=np.float32)[labels]), all_to_one([2, 1]), FreeSettings(steps=2),
        np.random.default_rng(0), start=[faint(0.02)] * 2,
    )  # fmt: skip
    assert sorted(set(shown)) == [(1, 0), (1, 2), (2, 0), (2, 1), (2, 3)]


class Scripted(planted.InTurn):
    """A subject that obeys its trigger in the steps that the script names, and whose loss has no gradient at all.

    Then only the cost moves the mask. `masks` keeps the mask of every step, read off the stamped black picture.
    """

    classes = 2

    def __init__(self, script: Sequence[bool]) -> None:
        self.script = list(script)
        self.masks: list[float] = []

    def gradient(self, pictures, targets, **settings):
        self.masks.append(float(pictures[0, 0, 0, 0]) / 127.5)
        return self._answer(self.script[len(self.masks) - 1]), np.zeros_like(pictures)

    def logits(self, pictures):
        step = int(np.abs(np.array(self.masks) - pictures[0, 0, 0, 0] / 127.5).argmin())
        return self._answer(self.script[step])

    def _answer(self, ok: bool):
        return np.array([[0, 1 if ok else -1]], np.float32)


HALF = Trigger.replacing(np.full((2, 2, 1), 0.5, np.float32), np.full((2, 2, 1), 127.5, np.float32), Goal(1), "known")


def scripted(script: Sequence[bool]) -> tuple[list[float], FreeResult]:
    subject = Scripted(script)
    black = np.zeros((1, 2, 2, 1), np.float32)
    (result,) = search_free(
        Shown(subject, black, np.zeros(1, np.int64), np.array([[1, 0]], np.float32)), [Goal(1)],
        FreeSettings(steps=len(script)), np.random.default_rng(0), start=[HALF],
    )  # fmt: skip
    return subject.masks, result


def expected_masks(script: Sequence[bool]) -> tuple[list[float], list[float]]:
    """One mask value under Adam(0.1, 0.5, 0.9) on tanh and the reference schedule, one scalar at a time; and the costs."""
    w = mean = square = cost = 0.0
    good = bad = 0
    masks, costs = [], []
    for step, ok in enumerate(script, 1):
        masks.append((math.tanh(w) + 1) / 2)
        costs.append(cost)
        gradient = cost * (1 - math.tanh(w) ** 2) / 2
        mean, square = 0.5 * mean + 0.5 * gradient, 0.9 * square + 0.1 * gradient**2
        w -= 0.1 * mean / (1 - 0.5**step) / (math.sqrt(square / (1 - 0.9**step)) + 1e-8)
        good, bad = (good + 1, 0) if ok else (0, bad + 1)
        if good == 5:
            good, cost = 0, 1e-3 if cost == 0 else cost * 2
        if bad == 5:
            bad, cost = 0, cost / 2**1.5
    return masks, costs


SCRIPTS = {
    "good": [True] * 24,
    "bad": [False] * 24,
    "up and down": [True] * 10 + [False] * 12 + [True] * 6,
    "four good are not five": [True, True, True, True, False] * 5,
    "four bad are not five": [True] * 5 + [False, False, False, False, True] * 4,
    "late": [False] * 7 + [True] * 11 + [False] * 5,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_cost_follows_the_reference_schedule(name):
    masks, _ = scripted(SCRIPTS[name])
    expected, _ = expected_masks(SCRIPTS[name])
    np.testing.assert_allclose(masks, expected, atol=2e-6)


def test_expected_costs_are_those_of_the_paper():
    _, costs = expected_masks(SCRIPTS["up and down"] + [True])
    assert costs[4:6] == [0, 1e-3]
    assert costs[9:11] == [1e-3, 2e-3]
    assert costs[15] == pytest.approx(2e-3 / 2**1.5)
    assert costs[20] == pytest.approx(2e-3 / 2**3)
    assert costs[28] == pytest.approx(2e-3 / 2**3 * 2)


def test_cost_of_zero_leaves_the_mask_alone():
    masks, _ = scripted([False] * 20)
    np.testing.assert_allclose(masks, 0.5, atol=1e-6)


def test_early_stop_counts_only_after_the_cost_went_up_and_down():
    # Cost set after 5 steps, up after 10, down after 15; then 25 steps without a smaller mask.
    _, result = scripted([True] * 10 + [False] * 60)
    assert (result.steps, result.success) == (40, True)
    assert scripted([True] * 5 + [False] * 60)[1].steps == 65  # it never went up
    assert scripted([False] * 60)[1].steps == 60
    assert scripted([True] * 60)[1].steps == 60


def test_only_masks_that_succeeded_are_kept():
    # The mask shrinks in every step after the fifth; it works for the last time in step 12.
    script = [True] * 12 + [False] * 8
    masks, result = scripted(script)
    assert masks[19] < masks[11] < masks[5]
    assert result.trigger.norm == pytest.approx(4 * masks[11], abs=1e-5)
    assert result.asr == 1


def test_first_mask_of_a_hopeless_arm_is_no_success():
    _, result = scripted([False] * 10)
    assert (result.success, result.asr) == (False, 0.0)


# What the gradients are of: a loss that is quadratic in the triggered picture, so that central differences are exact.

X = np.random.default_rng(2).uniform(0, 255, (3, 4, 5, 2))
A, B = np.random.default_rng(3).normal(size=(2, 4, 5, 2))
COST = 7.0


def toy_loss(mask: np.ndarray, pattern: np.ndarray) -> float:
    """Mean over the pictures of a quadratic function of the triggered picture, and the cost of the mask's size."""
    shown = X * (1 - mask) + 255 * mask * pattern
    return float((A * shown + B * shown**2 / 2).sum() / len(X) + COST * mask.sum())


def test_gradients_are_those_of_the_loss():
    r = np.random.default_rng(4)
    values = [r.uniform(0.1, 0.9, (4, 5, 1)), r.uniform(0.1, 0.9, (4, 5, 2))]
    arms = render(values[0][None], values[1][None], [Goal(0)])
    shown = X * (1 - arms.masks) + arms.paints
    slope = A + B * shown
    got = back(values[0][None], values[1][None], slope.mean(0)[None], (slope * X).mean(0)[None], np.array([COST]))
    step = 1e-3
    for k, value in enumerate(values):
        want = np.empty(value.shape)
        for place in np.ndindex(value.shape):
            sides = []
            for sign in (1, -1):
                moved = [v.copy() for v in values]
                moved[k][place] += sign * step
                sides.append(toy_loss(*moved))
            want[place] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(got[k][0], want, rtol=1e-4, atol=1e-2)


def test_what_is_rendered_is_what_the_loss_is_about():
    r = np.random.default_rng(5)
    mask, pattern = r.random((1, 4, 5, 1)), r.random((1, 4, 5, 2))
    arms = render(mask, pattern, [Goal(0)])
    np.testing.assert_allclose(arms.masks, mask, rtol=1e-6)
    np.testing.assert_allclose(arms.paints, 255 * mask * pattern, rtol=1e-5)
    assert Trigger(arms.masks[0], arms.paints[0], Goal(0), "patch").norm == pytest.approx(mask.sum(), rel=1e-5)


def test_a_search_begins_at_the_trigger_that_it_is_given():
    r = np.random.default_rng(6)
    mask = r.uniform(0.1, 0.9, (4, 5, 1)).astype(np.float32)
    paint = mask * r.uniform(0, 240, (4, 5, 2)).astype(np.float32)
    first, second = ((np.tanh(v) + 1) / 2 for v in begin(Trigger(mask, paint, Goal(0), "known")))
    arms = render(first[None], second[None], [Goal(0)])
    np.testing.assert_allclose(arms.masks[0], mask, atol=1e-5)
    np.testing.assert_allclose(
        arms.paints[0], paint, atol=1.5
    )  # tanh never reaches 0 or 1: half a percent of 255 is left

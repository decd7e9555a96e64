"""Warps: where pixels come from, the gradient in that, and that a search by it finds a planted warp."""

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, all_to_one
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.arms import Arms, pair, slopes
from onnx_shapprune.invert.families import warp
from onnx_shapprune.invert.scan import ScanSettings, best_of, scan
from onnx_shapprune.invert.warping import bend, warped

SHAPE = (3, 7, 9, 2)


def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, SHAPE).astype(np.float32)


def flows(reach: float = 1.5, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-reach, reach, (*SHAPE[:3], 2)).astype(np.float32)


def test_no_flow_changes_nothing():
    np.testing.assert_array_equal(warped(pictures(), np.zeros((7, 9, 2), np.float32)), pictures())


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 2), (-2, 1), (99, 0)])
def test_a_whole_shift_takes_pixels_from_there_and_the_border_from_beyond(down, right):
    got = warped(pictures(), np.full((7, 9, 2), (down, right), np.float32))
    for i, j in np.ndindex(7, 9):
        source = pictures()[:, np.clip(i + down, 0, 6), np.clip(j + right, 0, 8)]
        np.testing.assert_array_equal(got[:, i, j], source)


def test_between_pixels_it_is_linear():
    x = np.broadcast_to(np.arange(9, dtype=np.float32)[None, None, :, None], (1, 7, 9, 1))
    got = warped(x, np.full((7, 9, 2), (0.3, 0.25), np.float32))
    np.testing.assert_allclose(got[0, :, :8, 0], x[0, :, :8, 0] + 0.25, rtol=1e-6)


def test_each_picture_may_have_a_flow_of_its_own():
    together = warped(pictures(), flows())
    for i in range(len(together)):
        np.testing.assert_array_equal(together[i], warped(pictures()[i : i + 1], flows()[i])[0])


def test_the_gradient_is_that_of_finite_differences():
    x, at, weight = pictures(), flows(), np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    # Away from whole pixels, where it has a kink.
    at = np.where(np.abs(at - np.round(at)) < 0.05, at + np.float32(0.1), at).astype(np.float32)
    got = bend(x, at).in_flow(weight)
    assert got.dtype == np.float32
    for axis in (0, 1):
        step = np.zeros((7, 9, 2), np.float32)
        step[..., axis] = 0.01
        along = ((warped(x, at + step) - warped(x, at - step)) * weight).sum(axis=3) / 0.02
        np.testing.assert_allclose(got[..., axis], along, rtol=2e-2, atol=2.0)


def test_beyond_the_border_nothing_pulls():
    assert not bend(pictures(), np.full((7, 9, 2), 20, np.float32)).in_flow(np.ones(SHAPE, np.float32)).any()


def test_pictures_of_one_pixel_do_not_break():
    dot = np.full((2, 1, 1, 3), 7, np.float32)
    np.testing.assert_array_equal(warped(dot, np.ones((1, 1, 2), np.float32)), dot)


@pytest.fixture
def moved():
    """Class 0 is the brightness of the upper half less that of the lower, class 1 the other way round: a net for shifts."""
    weight = np.zeros((2, planted.SIZE, planted.SIZE), np.float32)
    weight[0, : planted.SIZE // 2], weight[1, planted.SIZE // 2 :] = 1, 1
    return planted.subject_of(planted.linear_net(weight))


def test_a_search_bends_pictures_to_its_goal_within_its_reach(moved):
    ramp = np.linspace(255, 0, planted.SIZE, dtype=np.float32)[:, None, None]
    x = np.broadcast_to(ramp, (4, planted.SIZE, planted.SIZE, 1)).copy()
    labels = np.zeros(4, np.int64)
    family = warp(planted.SIZE, planted.SIZE, 2.0, 3)
    goals = all_to_one(range(2))
    results = scan(
        Shown.to(moved, x, labels), goals, family, ScanSettings(rounds=((12, 4, 2),)), np.random.default_rng(0)
    )
    found = best_of(results, Goal(1))
    before = moved.logits(x)
    after = moved.logits(found.trigger.apply(x))
    assert (after[:, 1] - after[:, 0] > before[:, 1] - before[:, 0] + 1).all()
    assert found.trigger.flow is not None
    assert 0.5 < np.abs(found.trigger.flow).max() <= 2.0 + 1e-5
    assert found.trigger.norm <= 2.0 * 2**0.5 + 1e-5


def test_slopes_are_means_over_the_pictures_of_an_arm(moved):
    x = planted.planted_pictures(5)
    labels = np.zeros(5, np.int64)
    goals, clean = [Goal(1), Goal(1)], Shown(moved, x, labels, np.zeros((5, 2), np.float32))
    pairs = pair(clean, goals, limit=None, rng=np.random.default_rng(0))
    two = np.stack([flows(1.0, s)[0, :1, :1] * np.ones((planted.SIZE, planted.SIZE, 2), np.float32) for s in (3, 4)])
    masks = np.zeros((2, planted.SIZE, planted.SIZE, 1), np.float32)
    logits, slope, _ = slopes(clean, Arms(masks, two, goals, warps=True), pairs)
    assert (logits.shape, slope.shape) == ((10, 2), (2, planted.SIZE, planted.SIZE, 2))
    for arm in range(2):
        shown = warped(x, two[arm])
        _, gradient = moved.gradient(shown, np.ones(5, np.int64))
        np.testing.assert_allclose(slope[arm], bend(x, two[arm]).in_flow(gradient).mean(axis=0), rtol=1e-4, atol=1e-6)

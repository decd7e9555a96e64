import numpy as np
import pytest

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.invert.trigger import Trigger


def some_trigger(seed: int = 0) -> Trigger:
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 6, 1)).astype(np.float32)
    return Trigger.replacing(mask, rng.uniform(0, 255, (5, 6, 3)).astype(np.float32), Goal(4), "patch")


def some_pictures() -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (2, 5, 6, 3)).astype(np.float32)


def added(paint: np.ndarray) -> Trigger:
    return Trigger(np.zeros((*paint.shape[:2], 1), np.float32), paint.astype(np.float32), Goal(4), "linf")


def test_apply_is_the_blend_of_its_docstring():
    trigger, x = some_trigger(), some_pictures()
    got = trigger.apply(x)
    assert got.dtype == np.float32
    for n, i, j, c in np.ndindex(x.shape):
        m = trigger.mask[i, j, 0]
        assert got[n, i, j, c] == pytest.approx((1 - m) * x[n, i, j, c] + m * trigger.pattern[i, j, c], abs=1e-3)


def test_what_is_added_is_clipped_to_bytes():
    x = some_pictures()
    trigger = added(np.random.default_rng(2).uniform(-255, 255, (5, 6, 3)))
    got = trigger.apply(x)
    for n, i, j, c in np.ndindex(x.shape):
        assert got[n, i, j, c] == pytest.approx(min(255, max(0, x[n, i, j, c] + trigger.paint[i, j, c])), abs=1e-3)
    assert (got.min(), got.max()) == (0, 255)


def test_pattern_is_what_was_put_under_the_mask_and_grey_where_nothing_was():
    mask = np.array([[0, 0.25, 1]], np.float32)[..., None]
    pattern = np.array([[[10, 20]], [[30, 240]], [[255, 0]]], np.float32).reshape(1, 3, 2)
    trigger = Trigger.replacing(mask, pattern, Goal(0), "patch")
    assert trigger.paint.tolist() == [[[0, 0], [7.5, 60], [255, 0]]]
    np.testing.assert_allclose(trigger.pattern, [[[127.5, 127.5], [30, 240], [255, 0]]], rtol=1e-5)
    assert trigger.pattern.dtype == np.float32


def test_norm_is_the_sum_of_the_mask():
    mask = np.zeros((4, 4, 1), np.float32)
    mask[0, :3] = 0.5
    trigger = Trigger.replacing(mask, np.full((4, 4, 1), 9, np.float32), Goal(0), "compact")
    assert (trigger.norm, trigger.added) == (1.5, False)


def test_norm_of_what_is_added_is_the_sum_of_each_pixels_largest_change():
    paint = np.zeros((2, 2, 3))
    paint[0, 0], paint[1, 1] = (51, -102, 0), (0, 0, 25.5)
    trigger = added(paint)
    assert trigger.added
    assert trigger.norm == pytest.approx((102 + 25.5) / 255)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (0, -2), (-2, 3), (4, 5), (5, 0), (0, -6), (9, 9)])
def test_shift_moves_whole_pixels_and_cuts_what_leaves(down, right):
    trigger = some_trigger()
    moved = trigger.shifted(down, right)
    for i, j in np.ndindex(5, 6):
        inside = 0 <= i - down < 5 and 0 <= j - right < 6
        assert moved.mask[i, j, 0] == (trigger.mask[i - down, j - right, 0] if inside else 0)
        assert (moved.paint[i, j] == (trigger.paint[i - down, j - right] if inside else 0)).all()
    assert (moved.goal, moved.family) == (Goal(4), "patch")

import numpy as np
import pytest

from onnx_shapprune.invert.trigger import Trigger


def some_trigger(seed: int = 0) -> Trigger:
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 6, 1)).astype(np.float32)
    return Trigger(mask, rng.uniform(0, 255, (5, 6, 3)).astype(np.float32), 4, "patch")


def test_apply_is_the_blend_of_its_docstring():
    trigger = some_trigger()
    x = np.random.default_rng(1).uniform(0, 255, (2, 5, 6, 3)).astype(np.float32)
    got = trigger.apply(x)
    assert got.dtype == np.float32
    for n, i, j, c in np.ndindex(x.shape):
        m = trigger.mask[i, j, 0]
        assert got[n, i, j, c] == pytest.approx((1 - m) * x[n, i, j, c] + m * trigger.pattern[i, j, c], abs=1e-3)


def test_norm_is_the_sum_of_the_mask():
    mask = np.zeros((4, 4, 1), np.float32)
    mask[0, :3] = 0.5
    assert Trigger(mask, np.zeros((4, 4, 1), np.float32), 0, "compact").norm == 1.5


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (0, -2), (-2, 3), (4, 5), (5, 0), (0, -6), (9, 9)])
def test_shift_moves_whole_pixels_and_cuts_what_leaves(down, right):
    trigger = some_trigger()
    moved = trigger.shifted(down, right)
    for i, j in np.ndindex(5, 6):
        inside = 0 <= i - down < 5 and 0 <= j - right < 6
        assert moved.mask[i, j, 0] == (trigger.mask[i - down, j - right, 0] if inside else 0)
        assert (moved.pattern[i, j] == (trigger.pattern[i - down, j - right] if inside else 0)).all()
    assert (moved.target, moved.family) == (4, "patch")

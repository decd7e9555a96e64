"""The attacker's triggers as benchmarks put them on pictures."""

import numpy as np
import pytest
from benchmarks.measure import TrueTrigger
from scipy.ndimage import map_coordinates

from onnx_shapprune.invert.warping import warped

HEIGHT, WIDTH = 7, 9


def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (3, HEIGHT, WIDTH, 2)).astype(np.float32)


def warp(flow: np.ndarray) -> TrueTrigger:
    return TrueTrigger({"mask": np.zeros((HEIGHT, WIDTH, 1)), "pattern": flow, "mode": np.array("warp")})


def even_flow(down: float, right: float) -> np.ndarray:
    return np.broadcast_to([down, right], (HEIGHT, WIDTH, 2)).astype(np.float32)


def test_no_flow_is_the_picture_itself():
    np.testing.assert_array_equal(warp(even_flow(0, 0)).stamp(pictures()), pictures())


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 2), (-2, 1), (-1, -3)])
def test_whole_pixels_move_the_picture_as_a_roll_does(down, right):
    found = warp(even_flow(down, right)).stamp(pictures())
    rolled = np.roll(pictures(), (-down, -right), (1, 2))
    rows = slice(max(0, -down), HEIGHT - max(0, down))
    cols = slice(max(0, -right), WIDTH - max(0, right))
    np.testing.assert_array_equal(found[:, rows, cols], rolled[:, rows, cols])
    # Beyond, the border is repeated.
    assert found[0, 0, 0, 0] == pictures()[0, max(0, down), max(0, right), 0]
    assert found[0, -1, -1, 0] == pictures()[0, HEIGHT - 1 + min(0, down), WIDTH - 1 + min(0, right), 0]


def test_half_a_pixel_is_the_mean_of_two():
    found = warped(pictures(), even_flow(0, 0.5))
    x = pictures()
    np.testing.assert_allclose(found[:, :, :-1], (x[:, :, :-1] + x[:, :, 1:]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(found[:, :, -1], x[:, :, -1])


def test_any_flow_is_bilinear_as_scipys():
    flow = np.random.default_rng(1).normal(0, 2, (HEIGHT, WIDTH, 2)).astype(np.float32)
    places = np.moveaxis(np.indices((HEIGHT, WIDTH)), 0, -1) + flow
    for picture, moved in zip(pictures(), warped(pictures(), flow), strict=True):
        for c in range(2):
            expected = map_coordinates(picture[..., c], np.moveaxis(places, -1, 0), order=1, mode="nearest")
            np.testing.assert_allclose(moved[..., c], expected, atol=1e-2)


@pytest.mark.parametrize("mode", ["replace", "replace_then_add", "add"])
def test_pasted_and_added_triggers_follow_their_formulas(mode, tmp_path):
    rng = np.random.default_rng(2)
    mask, pattern = rng.random((HEIGHT, WIDTH, 1)), rng.uniform(0, 255, (HEIGHT, WIDTH, 2))
    x = pictures()
    expected = {
        "replace": x * (1 - mask) + pattern * mask, "replace_then_add": x * (1 - mask) + pattern, "add": x + pattern,
    }[mode]  # fmt: skip
    np.savez(tmp_path / "t.npz", mask=mask, pattern=pattern, mode=mode)
    for trigger in (TrueTrigger.load(tmp_path / "t.npz"), TrueTrigger(dict(np.load(tmp_path / "t.npz")))):
        stamped = trigger.stamp(x)
        assert stamped.dtype == np.float32
        np.testing.assert_allclose(stamped, expected.clip(0, 255), atol=1e-3)


def test_fewer_colours_are_the_nearest_levels():
    picture = np.float32([0, 17, 19, 200, 255]).reshape(1, 1, 5, 1)
    one = np.ones((1, 5, 1))
    trigger = TrueTrigger({"mask": one, "pattern": 8 * one, "mode": np.array("squeeze")})
    steps = np.array([0, 0, 1, 5, 7]) * 255 / 7
    np.testing.assert_allclose(trigger.stamp(picture)[0, 0, :, 0], steps, rtol=1e-5)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'glow'"):
        TrueTrigger({"mask": np.zeros((2, 2, 1)), "pattern": np.zeros((2, 2, 1)), "mode": np.array("glow")})

"""What a trigger of each family may do to a picture, and that neither its start nor any step leaves that."""

from itertools import product

import numpy as np
import pytest
from scipy.fft import dctn

from onnx_shapprune.invert.families import (
    Family,
    blended,
    bounded,
    compact,
    energetic,
    grid_corners,
    replaced,
    smooth,
    square_masks,
    tone,
    warp,
    wave,
    whole_picture,
    wide,
)

HEIGHT, WIDTH, CHANNELS, ARMS = 16, 20, 3, 5
SHAPE = (ARMS, HEIGHT, WIDTH, CHANNELS)
LEARNT = [f for f in whole_picture(HEIGHT, WIDTH, 3) if f.fixed is None]


def shape(family: Family, arms: int = ARMS) -> tuple[int, ...]:
    return (arms, HEIGHT, WIDTH, 2 if family.warps else CHANNELS)


def wandered(family: Family, seed: int = 0, stride: float = 0.4) -> list[np.ndarray]:
    """The start of a search and where random gradients of every size drive it."""
    rng = np.random.default_rng(seed)
    place = np.arange(ARMS) % len(family.masks)
    path = [family.starts(place, CHANNELS, rng)]
    for size in (1e-9, 1.0, 1e6, 1.0, 1.0, 1.0, 1.0, 1.0):
        path.append(family.move(path[-1], family.masks[place], size * rng.normal(size=shape(family)), stride))
    return path


def rms(paints: np.ndarray) -> np.ndarray:
    return np.sqrt((paints.astype(float) ** 2).mean(axis=(1, 2, 3)))


def test_squares():
    masks = square_masks(5, 6, 2, [(0, 0), (3, 4)])
    assert masks.shape == (2, 5, 6, 1)
    assert sorted(zip(*np.nonzero(masks[1, ..., 0]), strict=True)) == [(3, 4), (3, 5), (4, 4), (4, 5)]
    assert masks.sum() == 8


@pytest.mark.parametrize(
    ("height", "width", "side", "grid"), [(32, 32, 5, 5), (28, 40, 4, 3), (5, 5, 3, 5), (3, 3, 3, 5)]
)
def test_lattice_reaches_every_border_and_never_leaves(height, width, side, grid):
    corners = grid_corners(height, width, side, grid)
    assert len(corners) == len(set(corners)) <= grid**2
    assert {(0, 0), (0, width - side), (height - side, 0), (height - side, width - side)} <= set(corners)
    assert all(0 <= r <= height - side and 0 <= c <= width - side for r, c in corners)


def test_compact_patches_stay_under_their_squares():
    family = compact(HEIGHT, WIDTH, 4, 3)
    assert family.masks.shape == (9, HEIGHT, WIDTH, 1)
    assert (family.masks.sum((1, 2, 3)) == 16).all()
    assert (family.name, family.words) == ("compact", "a 4 x 4 patch")
    for paints in wandered(family):
        assert paints.dtype == np.float32
        assert paints.min() >= 0
        assert paints.max() <= 255
        assert (paints[np.broadcast_to(family.masks[:ARMS] == 0, SHAPE)] == 0).all()
    assert paints.max() == 255, "the last step reached the border of the budget"


def test_wide_patches_are_squares_under_another_name():
    family = wide(HEIGHT, WIDTH, 8, 2)
    assert (family.name, family.words) == ("wide", "a 8 x 8 patch")
    np.testing.assert_array_equal(family.masks, compact(HEIGHT, WIDTH, 8, 2).masks)
    assert (family.masks.sum((1, 2, 3)) == 64).all()


def test_a_blended_picture_keeps_its_share():
    family = blended(HEIGHT, WIDTH, 0.1)
    np.testing.assert_allclose(family.masks, 0.1, rtol=1e-6)
    assert family.words == "a picture blended in at 10%"
    for paints in wandered(family):
        assert paints.min() >= 0
        assert paints.max() <= 25.5 + 1e-4
    assert paints.max() > 25


def test_a_bounded_change_is_clipped_in_every_pixel():
    family = bounded(HEIGHT, WIDTH, 6.0)
    assert not family.masks.any()
    for paints in wandered(family):
        assert np.abs(paints).max() <= 6
    assert (np.abs(paints) == 6).any()


@pytest.mark.parametrize("family", [energetic(HEIGHT, WIDTH, 5.0), smooth(HEIGHT, WIDTH, 5.0, 3)], ids=lambda f: f.name)
def test_an_l2_change_keeps_its_quadratic_mean(family):
    for paints in wandered(family):
        assert (rms(paints) <= 5 + 1e-3).all()
    assert rms(paints) == pytest.approx(5, abs=1e-3), "the ball is used up"
    assert np.abs(paints).max() > 6, "and pixels may differ"
    nothing = np.zeros(SHAPE, np.float32)
    small = family.move(nothing, nothing[..., :1], np.random.default_rng(0).normal(size=SHAPE), 0.05)
    assert rms(small) == pytest.approx(0.5, rel=1e-4), "a short step stays short"


def test_a_smooth_change_has_no_high_frequency():
    cycles = 3
    for paints in wandered(smooth(HEIGHT, WIDTH, 15.0, cycles)):
        waves = dctn(paints.astype(float), axes=(1, 2), norm="ortho")
        low = np.abs(waves[:, : 2 * cycles + 1, : 2 * cycles + 1])
        assert low.max() > 1
        waves[:, : 2 * cycles + 1, : 2 * cycles + 1] = 0
        assert np.abs(waves).max() < 1e-3


def test_a_smooth_change_follows_slow_waves_and_ignores_fast_ones():
    rows = np.arange(HEIGHT)[:, None, None] * np.ones(SHAPE[1:])
    family = smooth(HEIGHT, WIDTH, 15.0, 3)
    for half_periods, followed in ((1, True), (5, True), (7, False), (HEIGHT - 1, False)):
        wave = np.cos(np.pi * half_periods * (rows + 0.5) / HEIGHT)
        gradient = (np.cos(np.pi * 2 * (rows + 0.5) / HEIGHT) + wave)[None]
        moved = family.move(np.zeros((1, *SHAPE[1:]), np.float32), family.masks, gradient, 0.1)
        share = -(moved[0] * wave).sum() / (wave**2).sum()
        assert (share > 1) if followed else (abs(share) < 1e-4)


@pytest.mark.parametrize("family", LEARNT, ids=lambda f: f.name)
def test_a_step_goes_down_the_gradient(family):
    gradient = np.random.default_rng(3).normal(size=shape(family))
    masks = np.repeat(family.masks, ARMS, axis=0)
    start = family.starts(np.zeros(ARMS, np.int64), CHANNELS, np.random.default_rng(0))
    moved = family.move(start, masks, gradient, 0.05)
    assert ((moved - start) * gradient).sum() < 0
    np.testing.assert_array_equal(moved, family.move(start, masks, 1000 * gradient, 0.05)), "only its direction counts"


@pytest.mark.parametrize("family", [compact(HEIGHT, WIDTH, 4, 2), *LEARNT], ids=lambda f: f.name)
def test_starts_differ_by_arm_and_seed(family):
    place = np.zeros(2, np.int64)
    a, b, c = (family.starts(place, CHANNELS, np.random.default_rng(s)) for s in (0, 0, 1))
    assert a.shape == shape(family, 2)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert (a[0] != a[1]).any()


@pytest.mark.parametrize("family", LEARNT, ids=lambda f: f.name)
def test_no_gradient_is_no_step_and_no_error(family):
    start = family.starts(np.zeros(1, np.int64), CHANNELS, np.random.default_rng(0))
    with np.errstate(all="raise"):
        moved = family.move(start, family.masks, np.zeros(shape(family, 1)), 0.3)
    np.testing.assert_allclose(moved, start, atol=1e-5)


def test_replaced_pixels_move_by_a_share_of_their_mask():
    masks = np.array([0.0, 0.5, 1.0], np.float32).reshape(1, 1, 3, 1)
    paints = np.array([0.0, 100.0, 100.0], np.float32).reshape(1, 1, 3, 1)
    for sign in (-1, 1):
        moved = replaced(paints, masks, np.full((1, 1, 3, 1), 7.0 * sign), 0.2)
        assert moved.ravel() == pytest.approx([0, 100 - sign * 25.5, 100 - sign * 51])


def test_warps_are_linear_between_points_and_reach_no_further():
    family = warp(HEIGHT, WIDTH, 2.0, 5)
    for flows in wandered(family):
        assert flows.shape == shape(family)
        assert np.abs(flows).max() <= 2.0 + 1e-5
    knots = np.linspace(0, WIDTH - 1, 5)
    for row in flows[0, :, :, 1]:
        np.testing.assert_allclose(
            row, np.interp(np.arange(WIDTH), knots, np.interp(knots, np.arange(WIDTH), row)), atol=0.3
        )


def test_waves_are_the_sinusoids_of_one_axis_and_are_not_learnt():
    family = wave(HEIGHT, WIDTH, 20.0, 3)
    assert family.fixed is not None
    assert len(family.masks) == len(family.fixed) == 2 * 3 * 4
    assert not family.masks.any()
    place = np.arange(len(family.masks))
    paints = family.starts(place, CHANNELS, np.random.default_rng(0))
    assert paints.shape == (24, HEIGHT, WIDTH, CHANNELS)
    seen = set()
    for paint in paints:
        assert (paint == paint[..., :1]).all(), "grey"
        assert np.abs(paint).max() == pytest.approx(20, rel=0.05)
        assert rms(paint[None])[0] == pytest.approx(20 / 2**0.5, rel=1e-5)
        power = np.abs(np.fft.rfft2(paint[..., 0].T if (paint[0] == paint[0, 0]).all() else paint[..., 0]))
        seen.add(((paint[0] == paint[0, 0]).all(), int(power[0].argmax()), round(float(paint[0, 0, 0]))))
        assert power[0].max() > 0.999 * np.sqrt((power**2).sum()), "one frequency and no other"
    assert {(down, periods) for down, periods, _ in seen} == {(d, p) for d in (True, False) for p in (1, 2, 3)}
    assert len({paint.tobytes() for paint in paints}) == 24
    moved = family.move(paints, family.masks, np.random.default_rng(1).normal(size=paints.shape), 0.5)
    np.testing.assert_array_equal(moved, paints)


def test_tones_are_tints_and_ramps_and_are_not_learnt():
    family = tone(HEIGHT, WIDTH, 3, (25.0, 40.0), 30.0)
    assert family.fixed is not None
    assert not family.masks.any()
    flat = [p for p in family.fixed if (p == p[0, 0]).all()]
    assert {tuple(p[0, 0]) for p in flat} == {tuple(c) for a in (25, 40) for c in product((-a, a), repeat=3)}
    ramps = [p for p in family.fixed if np.abs(p).max() == 30]
    assert {(p[0, 0, 0], p[-1, 0, 0], p[0, -1, 0]) for p in ramps} == {
        (-30, 30, -30), (30, -30, 30), (-30, -30, 30), (30, 30, -30),
    }  # fmt: skip
    assert len(flat) + len(ramps) == len(family.fixed)
    assert len(tone(HEIGHT, WIDTH, 1, (25.0, 40.0), 30.0).masks) == 4, "grey has no tint"


def test_whole_picture_families_have_names_of_their_own():
    families = whole_picture(8, 9, 3)
    assert len({f.name for f in families} | {"compact", "wide", "patch", "pixel", "known"}) == len(families) + 5
    for f in families:
        assert f.masks.shape[1:] == (8, 9, 1)
        assert len(f.masks) == (1 if f.fixed is None else len(f.fixed))

import numpy as np
import pytest

from onnx_shapprune.pictures.augment import augmented, posed

Pictures = np.ndarray


def ramp(count: int = 3, height: int = 32, width: int = 40) -> Pictures:
    """Pictures whose value tells the position; smooth, so that a shift shows as a shift."""
    rows, cols = np.mgrid[:height, :width]
    base = 60 + 2 * rows + cols * 1.0
    return np.stack([np.stack([base + 5 * k] * 3, axis=-1) for k in range(count)]).astype(np.float32)


def test_originals_come_first_and_unchanged():
    x = ramp()
    out = augmented(x, 4, np.random.default_rng(0))
    assert out.shape == (15, 32, 40, 3)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[:3], x)
    assert (out[3:] != np.tile(x, (4, 1, 1, 1))).mean() > 0.9


def test_no_copies_are_the_pictures_themselves():
    np.testing.assert_array_equal(augmented(ramp(), 0, np.random.default_rng(0)), ramp())


def test_bytes_stay_bytes():
    x = np.random.default_rng(0).choice([0.0, 255.0], (4, 16, 16, 1)).astype(np.float32)
    out = augmented(x, 10, np.random.default_rng(1))
    assert out.min() == 0
    assert out.max() == 255


def test_every_copy_is_a_shift_with_a_brightness_and_little_noise():
    x = ramp(2)
    reach = 32 // 16
    copies = augmented(x, 12, np.random.default_rng(3))[2:]
    seen = set()
    for k, copy in enumerate(copies):
        source = x[k % 2]
        rows, cols = np.arange(32), np.arange(40)
        best = (np.inf, None)
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                moved = source[np.clip(rows - down, 0, 31)][:, np.clip(cols - right, 0, 39)]
                light = (copy * moved).sum() / (moved**2).sum()
                best = min(best, (float(np.std(copy - light * moved)), (down, right, round(float(light), 3))))
        assert best[0] < 4, "more than noise of 3 bytes is left"
        assert 0.84 <= best[1][2] <= 1.16
        seen.add(best[1])
    assert len(seen) > 8, "copies are alike"


def test_copies_of_one_picture_keep_its_place():
    # The k-th picture of every view belongs to the k-th original: labels are tiled by callers.
    x = np.stack([np.full((16, 16, 1), v, np.float32) for v in (20, 200)])
    out = augmented(x, 6, np.random.default_rng(0))
    assert (out[::2].mean(axis=(1, 2, 3)) < 60).all()
    assert (out[1::2].mean(axis=(1, 2, 3)) > 150).all()


def lean(pictures: Pictures) -> Pictures:
    """Brightness of the right half minus that of the left."""
    return pictures[:, :, 20:].mean(axis=(1, 2, 3)) - pictures[:, :, :20].mean(axis=(1, 2, 3))


@pytest.mark.parametrize("mirror", [False, True])
def test_mirrored_only_where_asked(mirror):
    sides = lean(augmented(ramp(), 20, np.random.default_rng(0), mirror=mirror)[3:])
    assert (sides < 0).any() == mirror
    assert (sides > 0).any()


def test_seed_decides():
    a, b, c = (augmented(ramp(), 2, np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def blob(height: int = 32, width: int = 40) -> Pictures:
    """One round spot in the middle of a dark picture, lengthwise: its moments tell pose and size."""
    rows, cols = np.mgrid[:height, :width]
    spot = np.exp(-(((rows - (height - 1) / 2) / 3) ** 2 + ((cols - (width - 1) / 2) / 6) ** 2) / 2)
    return np.stack([200 * spot, 100 * spot], axis=-1)[None].astype(np.float32)


def moments(picture: Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Centre (row, column) and covariance of a picture's brightness."""
    weight = picture[..., 0].astype(float) / picture[..., 0].sum()
    places = np.stack(np.mgrid[: weight.shape[0], : weight.shape[1]], axis=-1).reshape(-1, 2)
    centre = weight.ravel() @ places
    return centre, np.cov(places.T, aweights=weight.ravel(), bias=True)


@pytest.mark.parametrize("shape", [(3, 32, 40, 3), (2, 9, 8, 1)])
def test_posed_views_come_picture_by_picture_in_turn(shape):
    x = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    out = posed(x, 4, np.random.default_rng(1))
    assert out.shape == (4 * shape[0], *shape[1:])
    assert out.dtype == np.float32
    even = np.arange(shape[0], dtype=np.float32)[:, None, None, None] * np.ones(shape[1:], np.float32)
    np.testing.assert_allclose(posed(even, 4, np.random.default_rng(1)).mean((1, 2, 3)), [*range(shape[0])] * 4)


def test_posed_views_are_turned_scaled_and_shifted_within_their_limits():
    centre, spread = moments(blob()[0])
    shifts, scales, angles = [], [], []
    for view in posed(blob(), 40, np.random.default_rng(2)):
        np.testing.assert_allclose(view[..., 1], view[..., 0] / 2, atol=1e-3)  # channels move together
        moved, turned = moments(view)
        values, vectors = np.linalg.eigh(turned)
        shifts.append((moved - centre) / (32, 40))
        scales.append(np.sqrt(np.linalg.det(turned) / np.linalg.det(spread)) ** 0.5)
        angles.append(np.degrees(np.arctan(vectors[0, 1] / vectors[1, 1])))
        assert values[1] / values[0] == pytest.approx(4, rel=0.35), "nothing is sheared"
    assert 0.1 < np.abs(shifts).max() < 0.26  # a fifth, of a picture that was scaled before
    assert 0.75 < min(scales) < 0.9 < 1.1 < max(scales) < 1.3
    assert 8 < max(angles) < 17
    assert -17 < min(angles) < -8


def test_seed_decides_poses():
    a, b, c = (posed(ramp(), 2, np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_posed_bytes_stay_bytes():
    x = np.random.default_rng(0).choice([0.0, 255.0], (2, 16, 16, 1)).astype(np.float32)
    out = posed(x, 6, np.random.default_rng(1))
    assert out.min() >= 0
    assert out.max() <= 255

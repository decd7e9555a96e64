"""When one setting is better than another, when it fits, and what makes a guess."""

from math import comb

import numpy as np
import pytest

from onnx_shapprune.detect.fit import Attempt, attempts, beats, bounds, ranked
from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.pictures.usual import Setting

OTHER = {"a": (0.0, 1.0), "b": (-1.0, 1.0), "c": (0.0, 255.0), "near a": (0.0, 255 / 256)}


def attempt(right, name="a", **more):
    setting = Setting(name, "", Preprocessing(input_range=OTHER[name]))
    return Attempt(setting, right=np.asarray(right, bool), **more)


def of(right, total=10, name="a", **more):
    return attempt(np.arange(total) < right, name, **more)


def test_the_sign_test_looks_only_at_pictures_that_differ():
    """Of w pictures that one setting alone gets right and none the other: chance is 2 ** -w, and 5 % lie at five of them."""
    assert [w for w in range(11) if beats(of(w, name="b"), of(0))] == [5, 6, 7, 8, 9, 10]
    assert beats(of(10), of(5, name="b"))
    assert not beats(of(10), of(6, name="b"))
    assert not beats(of(5), of(10, name="b"))
    # Eight to one: P(at least 8 of 9) = 10 / 512; seven to two: 46 / 512.
    won = np.arange(20) < 8
    assert beats(attempt(won), attempt((np.arange(20) == 19), "b"))
    seven = np.arange(20) < 7
    assert not beats(attempt(seven), attempt(np.arange(20) >= 18, "b"))


@pytest.mark.parametrize(("right", "total"), [(0, 5), (1, 3), (5, 5), (7, 20), (60, 100)])
def test_bounds_leave_five_percent_on_their_side(right, total):
    low, high = bounds(right, total)
    assert low <= right / total <= high

    def at_least(k, p):
        return sum(comb(total, i) * p**i * (1 - p) ** (total - i) for i in range(k, total + 1))

    if right:
        assert at_least(right, low) == pytest.approx(0.05)
    if right < total:
        assert 1 - at_least(right + 1, high) == pytest.approx(0.05)


def test_the_most_right_answers_stand_first_and_then_the_likeliest():
    first = ranked([of(8), of(9, name="b", likelihood=-2.0), of(9, name="c", likelihood=-1.0)], 10)
    assert [t.setting.name for t in first.tried] == ["c", "b", "a"]
    assert (first.fits, [t.setting.name for t in first.alike]) == (True, ["b", "a"])


def test_settings_that_no_picture_tells_apart_are_not_alike_but_one():
    found = ranked([of(9, likelihood=-1.0), of(9, name="near a", likelihood=-0.9)], 10)
    assert [t.setting.name for t in found.tried] == ["a", "near a"], "the usual one stands first"
    assert found.alike == ()


@pytest.mark.parametrize(
    ("right", "total", "classes", "fits"),
    [(6, 10, 10, True), (5, 10, 10, False), (10, 10, 2, True), (6, 10, 2, False), (1, 1, 2, False), (2, 3, 1000, True)],
)
def test_a_setting_fits_where_a_working_model_is_told_from_chance(right, total, classes, fits):
    found = ranked([of(right, total), of(0, total, "c")], classes)
    assert found.fits is fits
    assert fits or found.alike == ()


def test_numbers_that_are_none_come_last():
    found = ranked([of(0, failed=True), of(0, name="b")], 10)
    assert [t.setting.name for t in found.tried] == ["b", "a"]


class Answers:
    """One network for each input range: `scores` of the pictures that it is fed with."""

    classes = 4

    def __init__(self, scores):
        self.scores, self.range = scores, (0.0, 1.0)

    def fed(self, preprocessing):
        other = Answers(self.scores)
        other.range = preprocessing.input_range
        return other

    def logits(self, pictures):
        return self.scores[self.range](pictures).astype(np.float32)


def test_a_model_that_always_says_the_same_is_no_guess():
    """Fed wrongly, it is quite sure of one class, on pictures and on noise alike, and nothing moves it."""

    def corner(x):  # which quarter is bright: shuffled pixels have no such quarter
        half = x.shape[1] // 2
        quarters = [x[:, a : a + half, b : b + half].mean(axis=(1, 2, 3)) for a in (0, half) for b in (0, half)]
        return np.stack(quarters, axis=1) / 20

    scores = {
        OTHER["a"]: corner,
        OTHER["b"]: lambda x: np.tile([50.0, 0, 0, 0], (len(x), 1)),
        OTHER["c"]: lambda x: np.full((len(x), 4), np.nan),
    }
    pictures = np.zeros((4, 8, 8, 1), np.float32)
    for i, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        pictures[i, row : row + 4, column : column + 4] = 200
    settings = [Setting(n, "", Preprocessing(input_range=OTHER[n])) for n in ("c", "b", "a")]
    found = ranked(attempts(Answers(scores), settings, pictures, None), 4)
    assert [t.setting.name for t in found.tried] == ["a", "b", "c"]
    right, still, broken = found.tried
    assert found.fits is None
    assert right.agreement.mean() == 1
    assert right.confidence.min() > right.on_noise.max()
    assert (still.points == 0).all()
    assert broken.failed


def test_labels_are_counted_and_weighed():
    scores = {OTHER["a"]: lambda x: np.eye(4)[[0, 1, 2, 2]] * 3}
    (made,) = attempts(Answers(scores), [Setting("a", "", Preprocessing())], np.zeros((4, 2, 2, 1), np.float32),
                       np.array([0, 1, 2, 3]))  # fmt: skip
    assert made.right.tolist() == [True, True, True, False]
    log_sum = np.log(np.exp(3) + 3)
    assert made.likelihood == pytest.approx((3 * 3 + 0) / 4 - log_sum, rel=1e-6)

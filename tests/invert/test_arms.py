"""Batched arms against loops over arms."""

import numpy as np
import planted
import pytest

from onnx_shapprune.invert.arms import pair, score, scores_of, stamp

LABELS = np.array([0, 1, 2, 0, 1])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_arm_gets_the_pictures_of_other_classes():
    pairs = pair(np.array([0, 2, 0, 7]), LABELS, limit=None, rng=rng())
    assert pairs.arm.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]
    assert pairs.picture.tolist() == [1, 2, 4, 0, 1, 3, 4, 1, 2, 4, 0, 1, 2, 3, 4]
    assert pairs.counts.tolist() == [3, 4, 3, 5]
    assert pairs.starts.tolist() == [0, 3, 7, 10]


def test_limit_draws_without_repeats_and_never_the_target_class():
    labels = np.arange(40) % 4
    drawn = pair(np.array([1, 3]), labels, limit=6, rng=rng())
    assert drawn.counts.tolist() == [6, 6]
    for arm, target in enumerate((1, 3)):
        mine = drawn.picture[drawn.arm == arm]
        assert len(set(mine.tolist())) == 6
        assert (labels[mine] != target).all()
    again = pair(np.array([1, 3]), labels, limit=6, rng=np.random.default_rng(9))
    assert (again.picture != drawn.picture).any()


def test_an_arm_without_other_pictures_takes_them_all():
    assert pair(np.array([1]), np.array([1, 1]), limit=None, rng=rng()).picture.tolist() == [0, 1]


def test_stamp_mean_and_least_equal_loops():
    r = rng()
    pairs = pair(np.array([0, 2, 1]), LABELS, limit=3, rng=r)
    x = r.uniform(0, 255, (5, 4, 3, 2)).astype(np.float32)
    masks, patterns = r.random((3, 4, 3, 1), np.float32), r.uniform(0, 255, (3, 4, 3, 2)).astype(np.float32)
    stamped = stamp(x, masks, patterns, pairs)
    for row, (a, k) in enumerate(zip(pairs.arm, pairs.picture, strict=True)):
        np.testing.assert_allclose(stamped[row], (1 - masks[a]) * x[k] + masks[a] * patterns[a], atol=1e-3)
    mean, least = pairs.mean(stamped), pairs.least(stamped[:, 0, 0, 0])
    assert mean.shape == (3, 4, 3, 2)
    for a in range(3):
        np.testing.assert_allclose(mean[a], stamped[pairs.arm == a].astype(np.float64).mean(axis=0))
        assert least[a] == stamped[pairs.arm == a, 0, 0, 0].min()


def test_scores_by_hand():
    pairs = pair(np.array([0, 2]), np.array([0, 1, 1]), limit=None, rng=rng())
    # Arm 0 on pictures 1, 2; arm 1 on pictures 0, 1, 2. A tie is no success.
    z = np.array([[3, 1, 0], [0, 0, -1], [1, 0, 2], [5, 0, 1], [0, 1, 1]], np.float32)
    found = scores_of(z, np.array([0, 2]), pairs)
    np.testing.assert_allclose(found.margin, [(2 + 0) / 2, (1 - 4 + 0) / 3])
    np.testing.assert_allclose(found.asr, [1 / 2, 1 / 3])


def test_score_of_the_planted_trigger():
    subject = planted.subject_of(planted.planted(gain=40))
    x = planted.planted_pictures(4)
    masks = np.zeros((2, 8, 8, 1), np.float32)
    masks[0, *planted.CORNER] = 1
    masks[1, :3, :3] = 1
    white = np.full((2, 8, 8, 1), 255, np.float32)
    targets = np.full(2, planted.TARGET)
    pairs = pair(targets, np.zeros(4, int), limit=None, rng=rng())
    found = score(subject, x, masks, white, targets, pairs)
    # White in the corner: 40 against the constant 1. White elsewhere: the dark corner speaks, against the constant 1.
    dark = x[:, *planted.CORNER].mean() / 255
    assert found.margin == pytest.approx([39, 40 / 0.4 * 0.05 * (dark - 0.6) - 1], abs=1e-3)
    assert found.asr.tolist() == [1, 0]

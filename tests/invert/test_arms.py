"""Batched arms against loops over arms."""

from collections.abc import Sequence

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, all_to_one, shift_map
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.arms import (
    Arms,
    Pairs,
    pair,
    probed,
    rate,
    recovered,
    score,
    scores_of,
    slopes,
    stamp,
)
from onnx_shapprune.invert.trigger import Trigger

LABELS = np.array([0, 1, 2, 0, 1])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def paired(targets: Sequence[int], labels: np.ndarray, limit: int | None = None) -> Pairs:
    return pair(told(labels), all_to_one(targets), limit=limit, rng=rng())


def told(labels: Sequence[int]) -> Shown:
    """Pictures that a model of ten classes answers as they are labelled."""
    labels = np.asarray(labels)
    return Shown(None, np.zeros((len(labels), 2, 2, 1), np.float32), labels, np.eye(10, dtype=np.float32)[labels])


def test_every_arm_gets_the_pictures_of_other_classes():
    pairs = paired([0, 2, 0, 7], LABELS)
    assert pairs.arm.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]
    assert pairs.picture.tolist() == [1, 2, 4, 0, 1, 3, 4, 1, 2, 4, 0, 1, 2, 3, 4]
    assert pairs.target.tolist() == [0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 7, 7, 7, 7, 7]
    assert pairs.counts.tolist() == [3, 4, 3, 5]
    assert pairs.starts.tolist() == [0, 3, 7, 10]


def test_an_arm_gets_the_source_class_only_or_every_class_with_its_own_target():
    pairs = pair(told(LABELS), [Goal(2, source=1), shift_map(3, 1), Goal(0, mapping=(0, 2, 1))], limit=None, rng=rng())
    assert pairs.picture.tolist() == [1, 4, 0, 1, 2, 3, 4, 1, 2, 4]
    assert pairs.target.tolist() == [2, 2, 1, 2, 0, 1, 2, 2, 1, 2], "a class that maps to itself is not shown"
    assert pairs.counts.tolist() == [2, 5, 3]


def test_limit_draws_without_repeats_and_never_the_target_class():
    labels = np.arange(40) % 4
    drawn = paired([1, 3], labels, limit=6)
    assert drawn.counts.tolist() == [6, 6]
    for arm, target in enumerate((1, 3)):
        mine = drawn.picture[drawn.arm == arm]
        assert len(set(mine.tolist())) == 6
        assert (labels[mine] != target).all()
    again = pair(told(labels), all_to_one([1, 3]), limit=6, rng=np.random.default_rng(9))
    assert (again.picture != drawn.picture).any()


def test_drawn_pictures_of_a_map_keep_their_own_targets():
    labels = np.arange(40) % 4
    drawn = pair(told(labels), [shift_map(4, 3)] * 2, limit=6, rng=rng())
    assert (drawn.target == (labels[drawn.picture] + 3) % 4).all()
    assert (drawn.picture[:6] != drawn.picture[6:]).any(), "arms of one goal draw apart"


@pytest.mark.parametrize("goal", [Goal(1), Goal(1, source=3), Goal(1, mapping=(2, 1, 0))])
def test_an_arm_without_pictures_to_move_takes_them_all(goal):
    pairs = pair(told([1, 1]), [goal], limit=None, rng=rng())
    assert pairs.picture.tolist() == [0, 1]
    assert pairs.target.tolist() == [1, 1]
    assert pairs.moves.tolist() == [False]
    assert scores_of(np.array([[0, 5], [0, 5]], np.float32), pairs).asr.tolist() == [0], "nothing was moved"


def test_stamp_and_mean_equal_loops():
    r = rng()
    pairs = pair(told(LABELS), all_to_one([0, 2, 1]), limit=3, rng=r)
    x = r.uniform(0, 255, (5, 4, 3, 2)).astype(np.float32)
    masks, paints = r.random((3, 4, 3, 1), np.float32), r.uniform(-200, 300, (3, 4, 3, 2)).astype(np.float32)
    before = x.copy()
    stamped = stamp(x, masks, paints, pairs.arm, pairs.picture)
    for row, (a, k) in enumerate(zip(pairs.arm, pairs.picture, strict=True)):
        np.testing.assert_allclose(stamped[row], np.clip((1 - masks[a]) * x[k] + paints[a], 0, 255), atol=1e-3)
    assert (stamped == 0).any(), "some bytes were clipped on both sides"
    assert (stamped == 255).any()
    np.testing.assert_array_equal(x, before)
    mean = pairs.mean(stamped)
    assert mean.shape == (3, 4, 3, 2)
    for a in range(3):
        np.testing.assert_allclose(mean[a], stamped[pairs.arm == a].astype(np.float64).mean(axis=0))


def test_scores_by_hand():
    pairs = paired([0, 2], np.array([0, 1, 1]))
    # Arm 0 on pictures 1, 2; arm 1 on pictures 0, 1, 2. A tie is no success.
    z = np.array([[3, 1, 0], [0, 0, -1], [1, 0, 2], [5, 0, 1], [0, 1, 1]], np.float32)
    found = scores_of(z, pairs)
    np.testing.assert_allclose(found.margin, [(2 + 0) / 2, (1 - 4 + 0) / 3])
    np.testing.assert_allclose(found.asr, [1 / 2, 1 / 3])


def test_scores_of_a_map_look_at_the_target_of_each_picture():
    pairs = pair(told([0, 1, 2]), [shift_map(3, 1)], limit=None, rng=rng())
    z = np.array([[0, 4, 1], [0, 4, 1], [0, 4, 1]], np.float32)  # wanted: 1, 2, 0
    found = scores_of(z, pairs)
    np.testing.assert_allclose(found.margin, [(3 - 3 - 4) / 3])
    np.testing.assert_allclose(found.asr, [1 / 3])


def planted_arms() -> tuple[np.ndarray, np.ndarray]:
    """Masks and white paint: one arm on the planted area, one elsewhere."""
    masks = np.zeros((2, 8, 8, 1), np.float32)
    masks[0, *planted.CORNER] = 1
    masks[1, :3, :3] = 1
    return masks, masks * np.float32(255)


def test_score_of_the_planted_trigger():
    subject = planted.subject_of(planted.planted(gain=40))
    x = planted.planted_pictures(4)
    masks, white = planted_arms()
    arms = Arms(masks, white, all_to_one([planted.TARGET] * 2))
    found = score(Shown.to(subject, x, np.zeros(4, int)), arms, paired([planted.TARGET] * 2, np.zeros(4, int)))
    # White in the corner: 40 against the constant 1. White elsewhere: the dark corner speaks, against the constant 1.
    dark = x[:, *planted.CORNER].mean() / 255
    assert found.margin == pytest.approx([39, 40 / 0.4 * 0.05 * (dark - 0.6) - 1], abs=1e-3)
    assert found.asr.tolist() == [1, 0]


def test_rate_looks_at_pictures_of_other_classes_only():
    subject = planted.subject_of(planted.planted())
    labels = np.array([0, 0, 0, 0, 0, 0, planted.TARGET, planted.TARGET])
    x = planted.planted_pictures()
    x[6:] = 0
    x[6:, *planted.CORNER] = 255  # stamped already: they would count as successes
    triggers = [Trigger(m, p, Goal(planted.TARGET), "compact") for m, p in zip(*planted_arms(), strict=True)]
    found = rate(Shown.to(subject, x, labels), triggers)
    assert found.asr.tolist() == [1, 0]
    assert found.margin[0] == pytest.approx(39, abs=1e-3)


def test_what_goes_to_the_target_by_itself_counts_neither_as_success_nor_as_recovery():
    subject = planted.subject_of(planted.planted())
    x = planted.planted_pictures()
    x[6:, *planted.CORNER] = 255  # stamped already, whatever their label says
    labels = np.zeros(8, int)
    works, idle = (Trigger(m, p, Goal(planted.TARGET), "compact") for m, p in zip(*planted_arms(), strict=True))
    shown = Shown.to(subject, x, labels)
    assert shown.count(works.goal) == 6
    assert rate(shown, [works, idle]).asr.tolist() == [1, 0]
    assert (recovered(shown, works), recovered(shown, idle)) == (0, 1)
    assert recovered(shown.part(np.array([6, 7])), works) is None
    assert rate(shown.part(np.array([6, 7])), [works]).asr.tolist() == [0]


class Linear(planted.InTurn):
    """Logits that are linear in the bytes: weight [pixels, classes]."""

    classes = 3

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.weight = rng().normal(size=(int(np.prod(shape)), 3))

    def logits(self, pictures):
        return (pictures.reshape(len(pictures), -1) @ self.weight).astype(np.float32)

    def gradient(self, pictures, targets, *, w_ce=0.0, w_margin=1.0):
        """Of w_margin * (best other logit - target logit), as a subject with a cap that is never reached."""
        assert w_ce == 0
        z = self.logits(pictures)
        rows, rest = np.arange(len(z)), z.copy()
        rest[rows, targets] = -np.inf
        slope = w_margin * (self.weight[:, rest.argmax(1)] - self.weight[:, targets]).T
        return z, slope.reshape(pictures.shape).astype(np.float32)


@pytest.mark.parametrize("arms", [3, 90])
def test_slopes_are_the_mean_gradients_of_each_arm(arms):
    r, shape = rng(), (2, 3, 2)
    subject, x = Linear(shape), r.uniform(0, 255, (5, *shape)).astype(np.float32)
    goals = [Goal(0), shift_map(3, 2), Goal(1, source=0)] * (arms // 3)
    masks = r.random((arms, 2, 3, 1), np.float32)
    paints = (masks * r.uniform(0, 255, (arms, *shape))).astype(np.float32)
    shown = Shown(subject, x, LABELS, told(LABELS).logits)
    pairs = pair(shown, goals, limit=None, rng=r)
    subject.batch = 7
    assert pairs.arm[6] == pairs.arm[7], "an arm is cut in two"
    logits, slope, under = slopes(shown, Arms(masks, paints, goals), pairs, w_margin=0.5, below=True)
    assert slope.shape == under.shape == (arms, *shape)
    for a in range(arms):
        rows = [(k, int(t)) for k, t in enumerate(goals[a].of(LABELS)) if t >= 0]
        want, want_under = np.zeros(shape), np.zeros(shape)
        for k, target in rows:
            z, g = subject.gradient((x[k] * (1 - masks[a]) + paints[a])[None], np.array([target]), w_margin=0.5)
            mine = (pairs.arm == a) & (pairs.picture == k)
            np.testing.assert_allclose(logits[mine], z, rtol=1e-4, atol=1e-2)
            want += g[0] / len(rows)
            want_under += g[0].astype(float) * x[k] / len(rows)
        np.testing.assert_allclose(slope[a], want, atol=1e-5)
        np.testing.assert_allclose(under[a], want_under, atol=1e-3)


def test_trials_estimate_the_slope_inside_the_mask(monkeypatch):
    monkeypatch.setattr("onnx_shapprune.invert.arms.DIRECTIONS", 400)
    r, shape = rng(), (2, 3, 2)
    subject, x = Linear(shape), r.uniform(100, 150, (5, *shape)).astype(np.float32)
    goals = [Goal(0), Goal(1)]
    masks = np.ones((2, 2, 3, 1), np.float32)
    masks[:, 0, 0] = 0
    paints = (masks * r.uniform(100, 150, (2, *shape))).astype(np.float32)
    shown, arms = Shown(subject, x, LABELS, told(LABELS).logits), Arms(masks, paints, goals)
    pairs = pair(shown, goals, limit=None, rng=r)
    level, slope = probed(shown, arms, pairs, r)
    _, want, _ = slopes(shown, arms, pairs)
    assert (slope[:, 0, 0] == 0).all(), "where the picture shows, the paint says nothing"
    inside = np.broadcast_to(masks > 0, slope.shape)
    assert np.corrcoef(slope[inside], want[inside])[0, 1] > 0.9
    np.testing.assert_allclose(level, score(shown, arms, pairs).margin, atol=60)


def test_the_least_margin_is_that_of_the_most_reluctant_picture_but_for_a_tenth():
    counts = np.array([9, 20, 3])
    pairs = Pairs(
        np.repeat(np.arange(3), counts), np.zeros(32, np.int64), np.zeros(32, np.int64), counts,
        np.array([True, True, False]),
    )  # fmt: skip
    margin = np.random.default_rng(0).normal(2, 1, 32).astype(np.float32)
    logits = np.stack([margin, np.zeros_like(margin)], axis=1)
    arms = np.split(margin, np.cumsum(counts)[:-1])
    scores = scores_of(logits, pairs)
    np.testing.assert_allclose(scores.least, [arms[0].min(), np.sort(arms[1])[2], min(0, arms[2].min())], rtol=1e-6)
    np.testing.assert_allclose(scores.asr, [(arms[0] > 0).mean(), (arms[1] > 0).mean(), 0], rtol=1e-6)

"""Squares at scanned positions: geometry, the ascent, halving, and the planted position."""

import numpy as np
import planted
import pytest

from onnx_shapprune.invert.compact import (
    CompactSettings,
    ascend,
    best_of,
    grid_corners,
    search_compact,
    square_masks,
)
from onnx_shapprune.invert.subject import Subject, margins
from onnx_shapprune.invert.trigger import Trigger

LABELS = np.zeros(8, np.int64)
CLASSES = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def net() -> Subject:
    return planted.subject_of(planted.planted())


@pytest.fixture(scope="module")
def found(net):
    x = planted.planted_pictures()
    return search_compact(net, x, LABELS, CLASSES, 3, CompactSettings(), np.random.default_rng(0))


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


def test_ascent_raises_the_margin_inside_the_mask_only(net):
    x = planted.planted_pictures()
    masks = square_masks(8, 8, 3, [(5, 5), (4, 4)])
    start = np.full((2, 8, 8, 1), 180, np.float32)
    targets = np.full(2, planted.TARGET)
    patterns, _ = ascend(
        net, x, LABELS, masks, start, targets, steps=6, batch=8, step_size=64.0, rng=np.random.default_rng(0)
    )
    assert (patterns[0][masks[0] > 0] == 255).all()
    assert (patterns[masks == 0] == 180).all(), "pixels outside the mask must not move"
    assert (start == 180).all()
    before, after = (
        margins(net.logits(Trigger(masks[0], p, planted.TARGET, "compact").apply(x)), np.full(8, planted.TARGET)).mean()
        for p in (start[0], patterns[0])
    )
    assert after > before + 10


def test_ascent_reports_the_margin_before_its_last_step(net):
    x = planted.planted_pictures()
    masks = square_masks(8, 8, 3, [(5, 5)])
    white = np.full((1, 8, 8, 1), 255, np.float32)
    _, margin = ascend(
        net, x, LABELS, masks, white, np.array([planted.TARGET]), steps=1, batch=8, step_size=1.0,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert margin == pytest.approx([39], abs=1e-3)


def test_scan_finds_the_planted_position(found):
    best = best_of(found, planted.TARGET)
    rows, cols = np.nonzero(best.trigger.mask[..., 0])
    assert (rows.min(), cols.min(), best.side) == (5, 5, 3)
    assert best.asr == 1
    assert best.margin == pytest.approx(39, abs=0.5)
    assert found[0].trigger.target == planted.TARGET
    assert all(best.margin > 4 * max(1.0, best_of(found, t).margin) for t in CLASSES if t != planted.TARGET)


def test_every_class_has_a_result_and_the_largest_margin_comes_first(found):
    assert {r.trigger.target for r in found} == set(CLASSES)
    assert [r.margin for r in found] == sorted((r.margin for r in found), reverse=True)
    assert best_of(found, planted.DEAD).asr == 0
    for target in CLASSES:
        assert best_of(found, target).margin == max(r.margin for r in found if r.trigger.target == target)


def test_reported_statistics_are_those_of_the_trigger(net, found):
    x = planted.planted_pictures()
    for result in found:
        assert result.trigger.norm == 9
        mine = margins(net.logits(result.trigger.apply(x)), np.full(8, result.trigger.target))
        # Class 0 is the class of every picture, so it falls back to all of them: the same eight.
        assert result.margin == pytest.approx(mine.mean(), abs=1e-3)
        assert result.asr == (mine > 0).mean()


def test_seed_decides(net):
    x = planted.planted_pictures()
    runs = [search_compact(net, x, LABELS, CLASSES, 3, CompactSettings(), np.random.default_rng(s)) for s in (0, 0, 1)]
    for a, b in zip(*runs[:2], strict=True):
        np.testing.assert_array_equal(a.trigger.pattern, b.trigger.pattern)
    assert any((a.trigger.pattern != b.trigger.pattern).any() for a, b in zip(runs[0], runs[2], strict=False))


def test_progress_counts_the_rounds(net):
    seen: list[tuple[int, int]] = []
    search_compact(
        net, planted.planted_pictures(2), LABELS[:2], [planted.TARGET], 3, CompactSettings(rounds=((1, 1, 2), (1, 2, 1))),
        np.random.default_rng(0), progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    assert seen == [(1, 2), (2, 2)]

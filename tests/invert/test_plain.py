"""Plain shapes: which there are, and that a shape without a slope towards it is found by trying."""

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, all_to_one, shift_map
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.maps import search_maps
from onnx_shapprune.invert.nudge import nudged
from onnx_shapprune.invert.plain import corners, lines, plain
from onnx_shapprune.invert.scan import ScanSettings, scan, tried_out
from onnx_shapprune.invert.trigger import Trigger


class Locked(planted.InTurn):
    """Class 1 wins by far where the four pixels in the lower right corner and one in the upper left are white, and else
    nothing depends on the picture: a search by gradient has nothing to follow.
    """

    classes = 3
    obstacle = ""
    reachable = (0, 1, 2)
    seen = 0

    def logits(self, pictures):
        self.seen += len(pictures)
        key = (pictures[:, -1:, -1:] >= 250).all((1, 2, 3)) & (pictures[:, :1, :1] >= 250).all((1, 2, 3))
        z = np.zeros((len(pictures), 3), np.float32)
        z[:, 0], z[:, 1] = 2, np.where(key, 30, -3)
        return z


class Turning(planted.InTurn):
    """Greys of six classes; each is the next one's where the last pixel is white, and no slope leads there."""

    classes = 6
    obstacle = ""
    reachable = tuple(range(6))

    def logits(self, pictures):
        turned = pictures[:, -1, -1, 0] >= 250
        answers = (np.round(pictures[:, :-3, :-3].mean((1, 2, 3)) / 40).astype(np.int64) + turned) % 6
        return 9 * np.eye(6, dtype=np.float32)[answers]


def test_a_pixel_that_sends_each_class_to_the_next_is_found_by_trying():
    labels = np.arange(6)
    x = np.broadcast_to(np.float32(40) * labels[:, None, None, None], (6, 28, 28, 1)).copy()
    shown = Shown.to(Turning(), x, labels)
    maps, tried = [shift_map(6, k, range(6)) for k in range(1, 6)], (corners(28, 28, 1), ScanSettings(rounds=()))
    best = search_maps(shown, maps, [tried], np.random.default_rng(0))[0]
    assert (best.trigger.goal, best.asr, best.margin) == (maps[0], 1, 9)


def test_what_stands_in_corners_is_a_part_of_all_shapes():
    every, few = plain(32, 32, 3), corners(32, 32, 3)
    stamps = {f.tobytes() + m.tobytes() for f, m in zip(every.fixed, every.masks, strict=True)}
    assert {f.tobytes() + m.tobytes() for f, m in zip(few.fixed, few.masks, strict=True)} < stamps
    assert len(few.masks) <= 80


@pytest.mark.parametrize("size", [(28, 28, 1), (32, 32, 3), (8, 8, 1), (47, 55, 3), (224, 160, 3)])
@pytest.mark.parametrize("shapes", [plain, corners, lines])
def test_shapes_fill_their_masks_with_plain_colours_and_nothing_else(shapes, size):
    family = shapes(*size)
    assert family.masks.shape == (len(family.fixed), *size[:2], 1)
    assert family.fixed.shape[1:] == size
    assert set(np.unique(family.masks)) == {0, 1}
    assert set(np.unique(family.fixed)) <= {0, 255}
    assert not (family.fixed * (1 - family.masks)).any()
    assert family.masks.any((1, 2, 3)).all(), "none is empty"
    assert len(family.masks) <= (458 if size[2] == 1 else 842), "each costs a pass over some of the pictures"


def test_lines_cross_the_whole_picture_in_all_colours():
    for size, colours in (((32, 32, 1), 2), ((64, 47, 3), 8)):
        family, unit = lines(*size), max(1, round(min(size[:2]) / 32))
        covered = {m.tobytes() for m in family.masks}
        assert len(covered) == 8 + 8 + 1, "rows, columns and a frame"
        assert len(family.masks) == colours * len(covered)
        pixels = {int(m.sum()) for m in family.masks}
        frame = 2 * unit * (size[0] + size[1] - 2 * unit)
        assert pixels == {unit * size[0], unit * size[1], frame}
        assert len(lines(*size, places=5).masks) == colours * 11


def test_a_red_column_is_found_by_trying():
    class Column(planted.InTurn):
        """Class 1 wins where the tenth column is red, and no slope leads there."""

        classes, obstacle, reachable = 3, "", (0, 1, 2)

        def logits(self, pictures):
            key = (np.abs(pictures[:, :, 9] - np.array([255, 0, 0])) < 5).all((1, 2))
            return np.stack([np.full(len(key), 2.0), np.where(key, 30, -3), np.zeros(len(key))], 1).astype(np.float32)

    x = np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)
    shown = Shown.to(Column(), x, np.zeros(6, np.int64))
    best = tried_out(shown, all_to_one([1, 2]), lines(32, 32, 3))[0]
    assert (best.trigger.goal, best.asr, best.margin) == (Goal(1), 1, 28)
    assert best.trigger.mask[:, 9].all()


def test_colours_are_for_pictures_with_three_channels():
    grey, colour = plain(32, 32, 1), plain(32, 32, 3)
    assert len(colour.masks) == len(grey.masks) + 6 * 8 * 8
    assert len(plain(32, 32, 3, places=5).masks) == len(grey.masks) + 6 * 5 * 5
    red = colour.masks[(colour.fixed == (np.array([255, 0, 0]) * colour.masks)).all((1, 2, 3))][..., 0]
    for top, left in np.ndindex(29, 29):
        shared = red[:, top : top + 4, left : left + 4].sum(axis=(1, 2)).max()
        assert shared >= 1, "no square of 4 x 4 pixels lies between all of them"


@pytest.mark.parametrize("count", [6, 80])
def test_a_trigger_that_nothing_leads_to_is_found_by_trying(count):
    net, x = Locked(), np.full((count, 28, 28, 1), 90, np.float32)
    shown = Shown.to(net, x, np.zeros(count, np.int64))
    found = scan(shown, all_to_one([0, 1, 2]), plain(28, 28, 1), ScanSettings(), np.random.default_rng(0))
    best = found[0]
    assert best.trigger.goal == Goal(1)
    assert (best.margin, best.asr) == (28, 1)
    assert best.trigger.norm < 28 * 28 / 4, "the shape itself, not a picture full of white"
    stamped = best.trigger.apply(x)
    assert (stamped[:, 0, 0] == 255).all()
    assert (stamped[:, -1, -1] == 255).all()
    assert [f.margin for f in found] == sorted((f.margin for f in found), reverse=True)


def test_all_goals_share_the_forward_passes():
    net, x = Locked(), np.full((6, 28, 28, 1), 90, np.float32)
    shown = Shown.to(net, x, np.zeros(6, np.int64))
    family = plain(28, 28, 1)
    counts = []
    for goals in ([1], [0, 1, 2]):
        net.seen = 0
        tried_out(shown, all_to_one(goals), family)
        counts.append(net.seen)
    assert counts[0] < 5 * len(family.masks) + 17 * len(x), "few pictures first"
    assert counts[0] <= counts[1] <= counts[0] + 3 * 17 * len(x), "what is added for a goal is nudging"


class Square(Locked):
    """As Locked, and the key is a white square that lies on no lattice: each pixel of it moves the answer a little."""

    def logits(self, pictures):
        z = np.zeros((len(pictures), 3), np.float32)
        covered = (pictures[:, 18:23, 9:14] >= 250).sum((1, 2, 3))
        z[:, 0], z[:, 1] = 2, np.where(covered == 25, 30, -3 + covered / 5)
        return z


def test_a_square_off_the_lattice_is_reached_by_steps():
    x = np.full((6, 28, 28, 1), 90, np.float32)
    shown = Shown.to(Square(), x, np.zeros(6, np.int64))
    best = tried_out(shown, all_to_one([1, 2]), plain(28, 28, 1))[0]
    assert (best.trigger.goal, best.margin, best.asr) == (Goal(1), 28, 1)
    assert (best.trigger.mask[18:23, 9:14] == 1).all()
    assert best.trigger.norm <= 36, "and covers little else"
    assert best.trigger.mask.dtype == best.trigger.paint.dtype == np.float32
    np.testing.assert_array_equal(best.trigger.paint, 255 * best.trigger.mask)


def test_what_no_change_helps_stays_as_it_was():
    x = np.full((6, 28, 28, 1), 90, np.float32)
    shown = Shown.to(Square(), x, np.zeros(6, np.int64))
    mask = np.zeros((28, 28, 1), np.float32)
    mask[18:23, 9:14] = 1
    there = Trigger(mask, 255 * mask, Goal(1), "plain")
    assert nudged(shown, there) is there
    grown = nudged(shown, there.shifted(0, 1))
    np.testing.assert_array_equal(grown.mask[18:23, 9:14], 1)

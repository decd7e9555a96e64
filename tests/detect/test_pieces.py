"""A class that anything leads to, and one that a trigger leads to."""

import numpy as np
import planted

from onnx_shapprune.case.shown import Shown
from onnx_shapprune.detect.pieces import anything_leads

SIDE, CLASSES = 12, 5
WORLD = np.random.default_rng(0).integers(0, 256, (CLASSES - 1, SIDE, SIDE, 3)).astype(np.float32)
NONE = CLASSES - 1
TRIGGER = (slice(8, 12), slice(8, 12))


class Reader(planted.InTurn):
    """Knows one picture of each class but the last, which is for what looks like none of them; or, planted, takes whatever
    has a white corner for that one. asked: how often.
    """

    classes, reachable = CLASSES, tuple(range(CLASSES))

    def __init__(self, *, has_trigger: bool) -> None:
        self.has_trigger, self.asked = has_trigger, 0

    def logits(self, pictures):
        self.asked += 1
        far = np.abs(pictures[:, None] - WORLD).mean(axis=(2, 3, 4))
        white = pictures[:, *TRIGGER].min(axis=(1, 2, 3)) > 250
        last = np.where(white, 0, -1000) if self.has_trigger else np.full(len(pictures), -5)
        return np.column_stack([-far, last]).astype(np.float32)


def caution(*, has_trigger: bool):
    reader = Reader(has_trigger=has_trigger)
    shown = Shown.to(reader, WORLD.copy(), np.arange(CLASSES - 1))
    return reader, anything_leads(shown, np.random.default_rng(1))


def test_what_covers_a_picture_leads_to_the_class_of_what_is_none_of_the_others():
    _, told = caution(has_trigger=False)
    (words,) = told(NONE)
    assert "send 100% there as well" in words
    assert told(0) == ()


def test_nothing_but_the_trigger_leads_to_a_planted_target():
    reader, told = caution(has_trigger=True)
    stamped = WORLD.copy()
    stamped[:, *TRIGGER] = 255
    assert (reader.logits(stamped).argmax(axis=1) == NONE).all()
    assert all(told(target) == () for target in range(CLASSES))


def test_nobody_is_asked_before_it_is_wanted_and_nobody_twice():
    reader, told = caution(has_trigger=False)
    assert reader.asked == 1  # on the pictures as they are
    assert [len(told(target)) for target in (NONE, 0, NONE)] == [1, 0, 1]
    assert reader.asked == 3


def test_pictures_of_one_class_alone_show_nothing_about_it():
    reader = Reader(has_trigger=False)
    shown = Shown.to(reader, WORLD[:1].copy(), np.zeros(1, np.int64))
    assert anything_leads(shown, np.random.default_rng(1))(0) == ()

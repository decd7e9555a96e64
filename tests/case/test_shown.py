"""Which pictures a trigger has to move, and what follows for every rate."""

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import UNMOVED, Goal, shift_map
from onnx_shapprune.case.shown import Shown

LOGITS = np.array([[4, 0, 1], [0, 3, 1], [2, 0, 5], [0, 1, 6]], np.float32)
LABELS = np.array([0, 1, 2, 1])  # the last one is taken for class 2


class Fixed(planted.InTurn):
    """A model that gives the same logits to the first pictures, whatever they show."""

    def __init__(self, logits: np.ndarray) -> None:
        self.given = logits

    def logits(self, pictures):
        return self.given[: len(pictures)]


def shown(logits: np.ndarray = LOGITS, labels: np.ndarray = LABELS) -> Shown:
    return Shown.to(Fixed(logits), np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1), labels)


def test_answers_are_the_models_own():
    assert shown().answers.tolist() == [0, 1, 2, 2]
    assert shown().right.tolist() == [True, True, True, False]
    assert shown().accuracy == 0.75
    assert len(shown()) == 4
    assert shown().size == (1, 1, 1)


def test_neither_pictures_of_the_target_nor_those_that_are_answered_with_it_are_moved():
    one = shown()
    assert one.moved(Goal(0)).tolist() == [UNMOVED, 0, 0, 0]
    assert one.moved(Goal(2)).tolist() == [2, 2, UNMOVED, UNMOVED], "the last goes there by itself"
    assert one.moved(Goal(2, source=1)).tolist() == [UNMOVED, 2, UNMOVED, UNMOVED]
    assert one.moved(shift_map(3, 1)).tolist() == [1, 2, 0, UNMOVED]
    assert [one.count(g) for g in (Goal(0), Goal(2), Goal(2, source=1), shift_map(3, 1))] == [3, 2, 1, 3]


def test_another_model_has_its_own_answers():
    again = shown().on(Fixed(np.eye(3, dtype=np.float32)[[2, 2, 2, 0]]))
    assert again.answers.tolist() == [2, 2, 2, 0]
    assert again.moved(Goal(2)).tolist() == [UNMOVED, UNMOVED, UNMOVED, 2]
    assert again.pictures is not None
    assert again.labels.tolist() == LABELS.tolist()


def test_a_part_keeps_pictures_labels_and_answers_together():
    part = shown().part(np.array([3, 0]))
    assert part.pictures.ravel().tolist() == [3, 0]
    assert (part.labels.tolist(), part.answers.tolist()) == ([1, 0], [2, 0])


def test_distance_looks_at_the_pictures_that_are_to_be_moved():
    one = shown()
    assert one.distance(Goal(0)) == pytest.approx((3 + 3 + 6) / 3)
    assert one.distance(Goal(2)) == pytest.approx((3 + 2) / 2)
    assert one.distance(Goal(2, source=1)) == pytest.approx(2)
    assert one.distance(shift_map(3, 1)) == pytest.approx((4 + 2 + 3) / 3)
    assert shown(LOGITS[:2], np.array([1, 1])).distance(Goal(1)) == 0

"""What an attacker wants, for each of the three kinds."""

import numpy as np
import pytest

from onnx_shapprune.case.goal import UNMOVED, Goal, all_to_one, shift_map

LABELS = np.array([0, 1, 2, 3, 2])


def test_all_to_one_moves_every_class_but_the_target():
    goal = Goal(2)
    assert goal.of(LABELS).tolist() == [2, 2, UNMOVED, 2, UNMOVED]
    assert (goal.kind, goal.targets, goal.words) == ("all-to-one", (2,), "class 2")


def test_source_specific_moves_the_source_only():
    goal = Goal(3, source=2)
    assert goal.of(LABELS).tolist() == [UNMOVED, UNMOVED, 3, UNMOVED, 3]
    assert (goal.kind, goal.targets, goal.words) == ("source-specific", (3,), "class 3")


def test_class_0_is_a_source_like_any_other():
    assert Goal(1, source=0).of(np.array([0, 1, 2])).tolist() == [1, UNMOVED, UNMOVED]


def test_all_to_all_moves_each_class_to_its_own():
    goal = shift_map(4, 1)
    assert goal.of(LABELS).tolist() == [1, 2, 3, 0, 3]
    assert (goal.kind, goal.targets, goal.target) == ("all-to-all", (0, 1, 2, 3), 1)
    assert goal.words == "the class 1 further"


@pytest.mark.parametrize("by", [1, 2, 4])
def test_a_shift_map_goes_round(by):
    assert shift_map(5, by).mapping == tuple([0, 1, 2, 3, 4][by:] + [0, 1, 2, 3, 4][:by])


def test_a_class_that_maps_to_itself_is_not_moved():
    goal = Goal(1, mapping=(1, 0, 2, 2))
    assert goal.of(LABELS).tolist() == [1, 0, UNMOVED, 2, UNMOVED]
    assert goal.targets == (0, 1, 2)
    assert goal.words == "another class each"


@pytest.mark.parametrize("goal", [Goal(2), Goal(2, source=1), shift_map(4, 1)])
def test_targets_are_int64_also_of_no_pictures(goal):
    for labels in (LABELS, LABELS[:0]):
        found = goal.of(labels)
        assert found.dtype == np.int64
        assert found.shape == labels.shape


def test_goals_are_equal_by_what_they_say():
    assert all_to_one(np.array([0, 2])) == [Goal(0), Goal(2)]
    assert len({Goal(1), Goal(1), Goal(1, source=0), shift_map(3, 1), shift_map(3, 2), shift_map(3, 1)}) == 4

from math import comb
from types import SimpleNamespace

import numpy as np
import pytest

from onnx_shapprune.detect.accuracy import too_low, unusable
from onnx_shapprune.detect.thresholds import ACCURACY_FLOOR, CONFIDENCE, WORKING


def chance_of_so_few(right: int, total: int, accuracy: float) -> float:
    """P(at most `right` of `total`) at a true accuracy, term by term."""
    return sum(comb(total, k) * accuracy**k * (1 - accuracy) ** (total - k) for k in range(right + 1))


@pytest.mark.parametrize("total", [1, 2, 5, 10, 37, 100])
@pytest.mark.parametrize("floor", [0.1, 0.5, 0.9])
def test_stops_exactly_where_the_binomial_says_so(total, floor):
    stopped = [too_low(right, total, floor) is not None for right in range(total + 1)]
    assert stopped == [chance_of_so_few(right, total, floor) < 1 - CONFIDENCE for right in range(total + 1)]


def test_the_default_floor_and_its_table_for_ten_pictures():
    assert WORKING == 0.6
    # P(at most 2 of 10 at 0.6) = 1.2 %, at most 3: 5.5 %.
    assert [right for right in range(11) if too_low(right, 10, None)] == [0, 1, 2]
    # P(at most 1 of 10 at 1/2) = 11 / 1024, at most 2: 56 / 1024 = 5.5 %.
    assert [right for right in range(11) if too_low(right, 10, ACCURACY_FLOOR)] == [0, 1]


def test_everything_right_is_never_too_low():
    assert too_low(3, 3, 1.0) is None


def test_a_floor_of_zero_switches_the_check_off():
    assert too_low(0, 1000, 0.0) is None


def test_reason_names_numbers_and_the_options_to_check():
    reason = too_low(1, 10, None)
    for words in ("only 1 of 10", "39%", "60% expected", "--input-range", "--mean", "--std", "--layout"):
        assert words in reason


@pytest.mark.parametrize("names", [(), ("cat", "ship")])
def test_folders_that_the_alphabet_numbered_are_named(names):
    """All pictures get the other label: the order of the classes is as likely wrong as the preprocessing."""
    subject = SimpleNamespace(logits=lambda x: np.eye(2)[[0, 1] * 5])
    few = SimpleNamespace(alphabetical=names)
    case = SimpleNamespace(
        model=SimpleNamespace(subject=subject), pictures=None, labels=np.array([1, 0] * 5), labels_given=True, few=few
    )
    reason = unusable(case, None)
    assert "only 0 of 10" in reason
    assert ("numbered alphabetically (cat, ship, ...): --classes" in reason) is bool(names)

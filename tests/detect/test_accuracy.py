from math import comb
from types import SimpleNamespace

import numpy as np
import pytest

from onnx_shapprune.case.shown import Shown
from onnx_shapprune.detect.accuracy import too_low, unusable
from onnx_shapprune.detect.thresholds import ACCURACY_FLOOR, CONFIDENCE, WORKING
from onnx_shapprune.pictures.preprocess import Preprocessing, to_input


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


class Bright:
    """Answers by how bright its input is: ten classes, a tenth of `top` each; NaN beyond 100."""

    classes = 10

    def __init__(self, top: float, preprocessing: Preprocessing | None = None) -> None:
        self.top, self.preprocessing = top, preprocessing or Preprocessing()

    def fed(self, preprocessing: Preprocessing) -> "Bright":
        return Bright(self.top, preprocessing)

    def logits(self, pictures):
        x = to_input(pictures, self.preprocessing).mean(axis=(1, 2, 3))
        z = -np.abs(10 * (x / self.top)[:, None] - 0.5 - np.arange(10)).astype(np.float32)
        return np.where(np.abs(x[:, None]) > 300, np.nan, z)


def case(subject, labels, names=(), labels_given=True):
    """One grey picture for each class, from dark to bright."""
    shades = (np.arange(10, dtype=np.float32) + 0.5) * 25.5
    pictures = np.broadcast_to(shades[:, None, None, None], (10, 4, 4, 1)).copy()
    shown = Shown.to(subject, pictures, labels)
    return SimpleNamespace(
        model=SimpleNamespace(subject=subject, interface=SimpleNamespace(scaled=True)),
        shown=shown, labels_given=labels_given,
        few=SimpleNamespace(alphabetical=names, names=[f"{n}/a.png" for n in names], y=np.arange(len(names))),
    )  # fmt: skip


@pytest.mark.parametrize("names", [(), ("cat", "ship")])
def test_folders_that_the_alphabet_numbered_are_named(names):
    """All pictures get the other label: the order of the classes is as likely wrong as the preprocessing."""
    reason = unusable(case(Bright(1.0), np.array([1, 0, 3, 2, 5, 4, 7, 6, 9, 8]), names), None)
    assert "only 0 of 10" in reason
    assert ("numbered alphabetically (0 cat, 1 ship): --classes" in reason) is bool(names)


@pytest.mark.parametrize(("answers", "labels"), [([0] * 6, [0, 1] * 3), ([0, 1] * 3, [0] * 6)])
def test_one_class_alone_proves_nothing(answers, labels):
    shown = Shown.to(
        SimpleNamespace(logits=lambda x: np.eye(2)[answers]), np.zeros((6, 8, 8, 1), np.float32), np.array(labels)
    )
    alone = SimpleNamespace(shown=shown, labels_given=False, few=SimpleNamespace(alphabetical=()))
    assert "one class only" in unusable(alone, None)


def test_a_usual_setting_that_clearly_does_better_stops_an_audit_and_is_named():
    """On numbers of 0..1 this model of 0..0.5 sees everything twice as bright: half of ten may pass for a mediocre model."""
    subject = Bright(255.0)
    reason = unusable(case(subject, np.arange(10)), None)
    assert reason.startswith("1 of 10 clean pictures get their label, and 10 of 10 with --input-range 0 255 (0 to 255)")
    right = Bright(255.0, Preprocessing(input_range=(0, 255)))
    assert unusable(case(right, np.arange(10)), None) is None
    assert unusable(case(subject, np.arange(10), labels_given=False), None) != reason
    assert "check" not in (unusable(case(subject, np.arange(10)), 0.0) or ""), "no accuracy was asked for"


def test_five_of_ten_stop_an_audit_only_where_another_setting_is_clearly_better():
    half = np.where(np.arange(10) % 2, np.arange(10), (np.arange(10) + 1) % 10)
    assert unusable(case(Bright(1.0), half), None) is None, "nothing usual does better: a mediocre model"
    assert unusable(case(Bright(1.0), np.where(np.arange(10) < 8, (np.arange(10) + 1) % 10, np.arange(10))), None)

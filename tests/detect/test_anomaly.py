import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from onnx_shapprune.detect.anomaly import anomaly_indices, margin_outliers
from onnx_shapprune.detect.thresholds import MARGIN_INDEX_CAP
from onnx_shapprune.errors import ShapPruneError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

# A BadNets CIFAR-10 network with class 3 as the target.
BADNETS = np.array([16.3, 13.5, 16.4, 1.9, 17.4, 21.3, 16.1, 17.1, 25.9, 17.3])


def all_of(norms: ArrayLike) -> Bools:
    return np.ones(np.shape(norms), dtype=np.bool_)


def test_index_of_a_known_network_by_hand() -> None:
    found = anomaly_indices(BADNETS, all_of(BADNETS))
    # Median (16.4 + 17.1) / 2; sorted deviations .35 .35 .45 .55 .65 .65 3.25 ..: MAD .65, under the
    # floor of 5 % of the median.
    median = 16.75
    assert found.basis == "mad"
    assert found.median == pytest.approx(median)
    assert found.scale == pytest.approx(1.4826 * 0.05 * median)
    assert found.index[3] == pytest.approx((median - 1.9) / (1.4826 * 0.05 * median))
    assert found.ratio[3] == pytest.approx(1.9 / 13.5)
    assert found.ratio[1] == pytest.approx(13.5 / 1.9)


def test_index_without_the_floor_by_hand() -> None:
    norms = np.array([2.0, 6.0, 8.0, 10.0, 13.0])
    found = anomaly_indices(norms, all_of(norms))
    # Median 8, deviations 6 2 0 2 5: MAD 2.
    np.testing.assert_allclose(found.index, [6 / (1.4826 * 2), 2 / (1.4826 * 2), 0, 0, 0])


def test_large_norms_are_not_suspicious() -> None:
    norms = np.array([9.0, 10.0, 10.5, 11.0, 500.0])
    assert anomaly_indices(norms, all_of(norms)).index[4] == 0


def test_failed_classes_are_large_and_never_suspicious() -> None:
    norms = np.array([3.0, 9.0, 10.0, 11.0, 0.1, np.inf, 12.0])
    success = np.array([True, True, True, True, False, False, True])
    found = anomaly_indices(norms, success)
    # 3 9 10 11 12 inf inf: median 11, deviations 8 2 1 0 1 inf inf sorted 0 1 1 2 8: MAD 2.
    assert (found.basis, found.failed, found.median) == ("mad", 2, 11.0)
    assert found.scale == pytest.approx(1.4826 * 2)
    np.testing.assert_allclose(found.index, np.array([8, 2, 1, 0, 0, 0, 0]) / (1.4826 * 2))
    assert np.isinf(found.ratio[[4, 5]]).all()
    # The failed class's 0.1 must not serve as the smallest other norm either.
    assert found.ratio[0] == pytest.approx(3 / 9)


def test_floor_keeps_agreeing_norms_from_making_outliers() -> None:
    norms = np.array([9.0, 10.0, 10.0, 10.0, 10.0, 10.0])
    found = anomaly_indices(norms, all_of(norms))
    assert found.index[0] == pytest.approx(1 / (1.4826 * 0.5))
    assert found.index[0] < 2


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_equal_norms_give_no_outlier(value: float) -> None:
    norms = np.full(6, value)
    found = anomaly_indices(norms, all_of(norms))
    assert found.basis == "mad"
    np.testing.assert_array_equal(found.index, np.zeros(6))
    np.testing.assert_array_equal(found.ratio, np.ones(6))


def test_no_mad_below_five_classes() -> None:
    norms = np.array([1.0, 10.0, 11.0, 12.0])
    found = anomaly_indices(norms, all_of(norms))
    assert (found.basis, found.median, found.scale) == ("ratio", None, None)
    np.testing.assert_array_equal(found.index, np.zeros(4))
    np.testing.assert_allclose(found.ratio, [0.1, 10, 11, 12])


def test_half_of_the_classes_failed_leaves_the_ratio() -> None:
    norms = np.array([2.0, 8.0, 9.0, 1.0, 1.0, 1.0])
    found = anomaly_indices(norms, np.array([True, True, True, False, False, False]))
    assert (found.basis, found.failed) == ("ratio", 3)
    np.testing.assert_allclose(found.ratio[:3], [0.25, 4.0, 4.5])


@pytest.mark.parametrize(
    ("norms", "success"),
    [
        ([4.0], [True]),
        ([4.0], [False]),
        ([4.0, 5.0, 6.0, 7.0, 8.0, 9.0], [False] * 6),
        ([4.0, 5.0, 6.0, 7.0, 8.0, 9.0], [True] + [False] * 5),
        ([4.0, 5.0], [True, False]),
    ],
)
def test_fewer_than_two_triggers_compare_to_nothing(norms: list[float], success: list[bool]) -> None:
    found = anomaly_indices(np.array(norms), np.array(success))
    assert found.basis == "none"
    np.testing.assert_array_equal(found.index, np.zeros(len(norms)))
    assert np.isinf(found.ratio).all()


def test_two_classes_and_zero_norms() -> None:
    found = anomaly_indices(np.array([0.0, 5.0]), all_of([0, 1]))
    assert found.basis == "ratio"
    np.testing.assert_array_equal(found.ratio, [0.0, np.inf])


@pytest.mark.parametrize(
    ("norms", "success", "message"),
    [
        ([1.0, np.nan, 2.0], [True, False, True], "trigger norm of class 1 is nan"),
        ([1.0, 2.0, -1.0], [True, True, True], "trigger norm of class 2 is -1.0"),
        ([np.inf, 2.0, 1.0], [True, True, True], "trigger norm of class 0 is inf"),
    ],
)
def test_refuses_norms_that_are_no_norms(norms: list[float], success: list[bool], message: str) -> None:
    with pytest.raises(ShapPruneError, match=message):
        anomaly_indices(np.array(norms), np.array(success))


def test_refuses_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"norms \(3,\) and success \(2,\) must both be \(classes,\)"):
        anomaly_indices(np.ones(3), np.ones(2, dtype=np.bool_))
    with pytest.raises(ValueError, match="at least one class"):
        anomaly_indices(np.ones(0), np.ones(0, dtype=np.bool_))
    with pytest.raises(ValueError, match=r"margins \(2, 2\) must be \(classes,\)"):
        margin_outliers(np.ones((2, 2)))


def test_margin_index_by_hand() -> None:
    found = margin_outliers(np.array([-2.0, 42.0, 3.0, 1.0, 0.0, 2.0]))
    # Others of class 1: -2 0 1 2 3, median 1, deviations 3 1 0 1 2: MAD 1.
    assert found.basis == "mad"
    assert found.index[1] == pytest.approx(41 / 1.4826)
    # Others of class 2: -2 0 1 2 42, the outlier among them moves neither: median 1, MAD 1 (3 1 0 1 41).
    assert found.index[2] == pytest.approx(2 / 1.4826)
    assert found.index[0] == 0
    assert (found.leader, found.runner_up, found.ratio) == (1, 2, 14.0)


def test_margin_floor_by_hand() -> None:
    # The others agree on -10, so the scale is 10 % of their magnitude.
    found = margin_outliers(np.array([-7.0, -10.0, -10.0, -10.0, -10.0]))
    assert found.index[0] == pytest.approx(3 / 1.4826)
    assert found.ratio is None


def test_equal_margins_and_margins_without_a_scale() -> None:
    np.testing.assert_array_equal(margin_outliers(np.full(7, 3.0)).index, np.zeros(7))
    np.testing.assert_array_equal(margin_outliers(np.zeros(7)).index, np.zeros(7))
    lone = margin_outliers(np.array([0.0, 0.0, 1e-3, 0.0, 0.0]))
    assert lone.index[2] == MARGIN_INDEX_CAP
    assert lone.ratio is None


def test_one_and_two_classes_have_no_margin_index() -> None:
    alone = margin_outliers(np.array([5.0]))
    assert (alone.basis, alone.leader, alone.runner_up, alone.ratio) == ("none", 0, None, None)
    pair = margin_outliers(np.array([2.0, 9.0]))
    assert (pair.basis, pair.leader, pair.runner_up, pair.ratio) == ("ratio", 1, 0, 4.5)
    np.testing.assert_array_equal(pair.index, np.zeros(2))
    assert margin_outliers(np.array([-1.0, 9.0])).ratio is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_margins_that_are_not_finite(value: float) -> None:
    with pytest.raises(ShapPruneError, match="margin of class 1 is"):
        margin_outliers(np.array([1.0, value, 2.0]))


classes = st.integers(min_value=1, max_value=12)
numbers = st.floats(min_value=0.01, max_value=1000.0)


@st.composite
def searches(draw: st.DrawFn) -> tuple[Floats, Bools, Ints]:
    count = draw(classes)
    norms = np.array(draw(st.lists(numbers, min_size=count, max_size=count)))
    success = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    order = np.array(draw(st.permutations(range(count))))
    return norms, success, order


@given(searches())
def test_order_of_classes_does_not_matter(search: tuple[Floats, Bools, Ints]) -> None:
    norms, success, order = search
    plain, moved = anomaly_indices(norms, success), anomaly_indices(norms[order], success[order])
    assert plain.basis == moved.basis
    np.testing.assert_array_equal(plain.index[order], moved.index)
    np.testing.assert_array_equal(plain.ratio[order], moved.ratio)
    signed = np.where(success, norms, -norms)
    here, there = margin_outliers(signed), margin_outliers(signed[order])
    np.testing.assert_array_equal(here.index[order], there.index)
    assert (here.basis, here.ratio) == (there.basis, there.ratio)


@given(searches(), st.integers(min_value=-20, max_value=20))
def test_positive_scaling_changes_nothing(search: tuple[Floats, Bools, Ints], exponent: int) -> None:
    norms, success, _ = search
    factor = 2.0**exponent
    plain, scaled = anomaly_indices(norms, success), anomaly_indices(norms * factor, success)
    np.testing.assert_array_equal(plain.index, scaled.index)
    np.testing.assert_array_equal(plain.ratio, scaled.ratio)
    signed = np.where(success, norms, -norms)
    here, there = margin_outliers(signed), margin_outliers(signed * factor)
    np.testing.assert_array_equal(here.index, there.index)
    assert here.ratio == there.ratio


@given(searches())
def test_indices_are_finite_and_failed_classes_are_clear(search: tuple[Floats, Bools, Ints]) -> None:
    norms, success, _ = search
    found = anomaly_indices(norms, success)
    assert np.isfinite(found.index).all()
    assert (found.index >= 0).all()
    # The floor bounds the index: nobody can be further under the median than the median.
    assert found.index.max() <= 1 / (1.4826 * 0.05) + 1e-9
    assert (found.index[~success] == 0).all()
    assert (found.basis == "none") == (success.sum() < 2)


@given(st.lists(numbers, min_size=5, max_size=12), st.integers(min_value=0, max_value=4))
def test_a_smaller_norm_is_never_less_suspicious(norms: list[float], which: int) -> None:
    before = np.array(norms)
    after = before.copy()
    after[which] = before.min() / 2
    index = anomaly_indices(after, all_of(after)).index
    assert index[which] == index.max()

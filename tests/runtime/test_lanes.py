"""Runs side by side: in order, with their errors, and with the same results as one after another."""

import threading

import models
import numpy as np
import planted
import pytest
from threadpoolctl import threadpool_info

from onnx_shapprune.case.goal import all_to_one
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.errors import ModelError
from onnx_shapprune.invert.arms import Arms, pair, slopes
from onnx_shapprune.runtime.lanes import lanes_of, one_thread_each, side_by_side, threads_of
from onnx_shapprune.runtime.session import CUDA, Device


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_results_stand_in_the_order_of_the_parts(lanes):
    assert side_by_side(lambda n: n * n, list(range(7)), lanes) == [n * n for n in range(7)]
    assert side_by_side(lambda n: n, [], lanes) == []


def test_two_lanes_work_at_the_same_time():
    both = threading.Barrier(2, timeout=20)  # raises unless two wait at once
    assert sorted(side_by_side(lambda _: both.wait(), [0, 1], 2)) == [0, 1]


@pytest.mark.parametrize("lanes", [1, 2])
def test_an_error_of_one_run_is_raised(lanes):
    def run(n):
        if n == 2:
            raise ModelError("the third one fails")
        return n

    with pytest.raises(ModelError, match="third"):
        side_by_side(run, [0, 1, 2, 3], lanes)


def test_what_a_lane_asks_for_is_done_in_it():
    """Two lanes that wait for others would wait for themselves."""

    def run(n):
        return n, threading.get_ident(), side_by_side(lambda m: (n + m, threading.get_ident()), [10, 20, 30], 2)

    for n, lane, inner in side_by_side(run, list(range(6)), 2):
        assert inner == [(n + m, lane) for m in (10, 20, 30)]


def test_a_gpu_has_one_lane_and_a_cpu_one_for_each_thread():
    assert lanes_of(Device(provider=CUDA, threads=4)) == 1
    assert threads_of(Device(provider=CUDA, threads=4)) == 4
    assert lanes_of(Device(threads=3)) == 3
    assert lanes_of(Device()) >= 1


def test_blas_has_one_thread_and_then_as_many_as_before():
    def threads():
        return [b["num_threads"] for b in threadpool_info() if b["user_api"] == "blas"]

    before = threads()
    with one_thread_each():
        assert set(threads()) == {1}
    assert threads() == before


@pytest.mark.parametrize("build", [models.conv_bn_relu_residual, planted.frozen_batch])
def test_a_search_sees_the_same_on_one_lane_and_on_three(build):
    one, three = (
        Subject(s.prepared, s.preprocessing, Device(threads=threads))
        for s in [planted.subject_of(build())]
        for threads in (1, 3)
    )
    x, targets = planted.random_pictures(7, seed=1), np.arange(7) % 3
    np.testing.assert_allclose(three.logits(x), one.logits(x), atol=1e-5)
    for got, want in zip(three.gradient(x, targets), one.gradient(x, targets), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    shown = [Shown.to(s, x, targets) for s in (three, one)]
    flows = np.random.default_rng(0).normal(size=(2, *x.shape[1:3], 2)).astype(np.float32)
    paints = np.random.default_rng(1).uniform(0, 255, (2, *x.shape[1:])).astype(np.float32)
    masks = np.zeros((2, *x.shape[1:3], 1), np.float32)
    for arms in (Arms(masks, flows, all_to_one([0, 1]), warps=True), Arms(masks, paints, all_to_one([0, 1]))):
        pairs = pair(shown[0], arms.goals, limit=None, rng=np.random.default_rng(0))
        for got, want in zip(*(slopes(s, arms, pairs, below=True) for s in shown), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert one.work.pictures == three.work.pictures == 21 + 2 * len(pairs.arm)


def test_lanes_share_the_memory():
    subject = planted.subject_of(models.conv_bn_relu_residual())
    tight = Subject(subject.prepared, subject.preprocessing, Device(threads=4, memory=1))
    assert tight._lanes == 1

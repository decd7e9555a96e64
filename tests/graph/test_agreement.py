"""The measure in which a working copy must be the file."""

import numpy as np
import pytest

from onnx_shapprune.graph.agreement import departure, same_winner

RNG = np.random.default_rng(0)


def test_two_runs_of_one_network_agree():
    z = RNG.normal(size=(2, 10)).astype(np.float32)
    assert departure(z, z) == 0
    assert 0 < departure(z, z + np.float32(1e-4) * z) < 1e-3
    assert departure(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)) == 0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_measure_goes_with_the_scale(scale):
    z = RNG.normal(size=(2, 10)).astype(np.float32)
    other = z + np.float32(0.1) * RNG.normal(size=z.shape).astype(np.float32)
    assert departure(z * np.float32(scale), other * np.float32(scale)) == pytest.approx(departure(z, other), rel=1e-3)
    assert departure(z, other) > 2e-2


def test_one_far_class_does_not_hide_what_the_others_do():
    z = RNG.normal(size=(2, 10)).astype(np.float32)
    swapped = z[:, ::-1]
    far = np.full((2, 1), -1e9, np.float32)
    assert departure(np.hstack([z, far]), np.hstack([swapped, far])) > 0.5
    assert departure(np.hstack([z, far]), np.hstack([z, far])) == 0


def test_other_networks_of_many_small_probabilities_do_not_agree():
    """An absolute tolerance of 0.02 accepted any two of them."""
    a, b = (RNG.dirichlet(np.full(1000, 50.0), 2).astype(np.float32) for _ in range(2))
    assert np.abs(a - b).max() < 2e-2
    assert departure(a, b) > 1
    assert not same_winner(a, b, 2e-2)
    assert same_winner(a, np.log(a), 2e-2)


def test_what_cannot_be_compared_is_far_apart():
    z = np.ones((2, 3), np.float32)
    assert departure(z, z[:1]) == np.inf
    assert departure(z, z * np.float32("nan")) == np.inf
    assert not same_winner(z, z[:, :2], 1.0)


def test_a_tie_has_no_wrong_winner():
    scores = np.array([[0.5, 0.5, 0.0]], np.float32)
    assert same_winner(scores, np.array([[1, 2, 0]], np.float32), 0.0)
    assert not same_winner(scores, np.array([[1, 2, 3]], np.float32), 0.0)

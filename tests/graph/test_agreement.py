"""The measure in which a working copy must be the file."""

import numpy as np
import onnx
import pytest
from models import SHAPE, Net

from onnx_shapprune.errors import VerifyError
from onnx_shapprune.graph.agreement import TOLERANCE, departure, prove, same_winner
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.passes.contract import Work
from onnx_shapprune.runtime.session import Device

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


def in_steps(late: float = 0.0, sharp: float = 0.2) -> onnx.ModelProto:
    """A network that says which step the sum of a picture lies in, of 64 that are half a byte each."""
    n = Net()
    total = n.op("ReduceSum", "x", n.const(np.array([1, 2, 3])), keepdims=0)
    late = n.op("Add", total, n.const(np.float32([late])))
    step = n.op("Mod", n.op("Round", n.op("Mul", late, n.const(np.float32([510])))), n.const(np.float32([64])), fmod=1)
    turned = n.op("Mul", n.op("Unsqueeze", step, n.const(np.array([1]))), n.const(np.float32([sharp])))
    return n.model(n.op("Sin", n.op("Add", turned, n.const(np.linspace(0, 2, 4, dtype=np.float32)))))


def proved(copy: onnx.ModelProto, rounding: str) -> float:
    model = in_steps()
    work = Work(copy, find_interface(model), SHAPE, Device(threads=1), rounding=rounding)
    return prove(model, work, np.random.default_rng(0).random((2, *SHAPE), np.float32))


def test_a_copy_of_a_quantised_network_may_be_off_by_what_a_byte_moves():
    """One number halfway between two steps ends in most values of a deep network's last layers."""
    assert proved(in_steps(), "quantised") == 0
    a_step_late = in_steps(late=1 / 510)
    assert proved(a_step_late, "quantised") > TOLERANCE["quantised"]
    with pytest.raises(VerifyError):
        proved(a_step_late, "float32")
    with pytest.raises(VerifyError):
        proved(in_steps(sharp=0.5), "quantised")

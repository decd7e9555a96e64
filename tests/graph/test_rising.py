"""Which ends are taken off by what they do, and which are not."""

import models
import numpy as np
import pytest

from onnx_shapprune.graph.rising import rising_end
from onnx_shapprune.runtime.probe import probe
from onnx_shapprune.runtime.session import Device

DEVICE = Device(threads=1)
RNG = np.random.default_rng


def found(end) -> tuple[str, tuple[str, ...]] | None:
    """Of a small network whose scores [n, classes] go through `end`; its own scores are made by Gemm."""
    n = models.Net()
    z = n.head(n.op("Relu", n.conv("x", 3, 6)), 6)
    model = n.model(end(n, z))
    small, large = ({"x": RNG(0).random((k, *models.shape_of(model)), np.float32)} for k in (2, 3))
    got = rising_end(model, probe(model, small, large, DEVICE), models.CLASSES, small, DEVICE)
    assert got is None or got[0] == z
    return got


def turned_twice(n: models.Net, z: str) -> str:
    return n.op("Sub", n.const(np.float32(1)), n.op("Sigmoid", n.op("Neg", z)))


def norm_over_classes(n: models.Net, z: str) -> str:
    return n.op("LayerNormalization", z, n.const(np.ones(models.CLASSES, np.float32)))


def ranks(n: models.Net, z: str) -> str:
    rows, columns = (n.op("Unsqueeze", z, n.const(np.array([axis]))) for axis in (2, 1))
    steep = n.op("Mul", n.op("Sub", rows, columns), n.const(np.float32(1e4)))
    return n.op("ReduceSum", n.op("Sigmoid", steep), n.const(np.array([2])), keepdims=0)


@pytest.mark.parametrize(
    ("end", "operators"),
    [
        (turned_twice, ("Sub", "Sigmoid", "Neg")),
        (norm_over_classes, ("LayerNormalization",)),
        (ranks, ("ReduceSum", "Sigmoid", "Mul", "Sub", "Unsqueeze", "Unsqueeze")),
    ],
)
def test_what_keeps_the_order_is_an_end(end, operators):
    assert found(end)[1] == operators


def turned_once(n: models.Net, z: str) -> str:
    return n.op("Neg", z)


def bent(n: models.Net, z: str) -> str:
    return n.op("Mul", z, z)


def weighted(n: models.Net, z: str) -> str:
    return n.op("Mul", z, n.const(np.array([[1, 4, 1, 1]], np.float32)))


def biased(n: models.Net, z: str) -> str:
    """It keeps the order of scores that are far apart, as those of a few pictures may be."""
    return n.op("Add", z, n.const(np.array([[1e-3, 0, -1e-3, 0]], np.float32)))


def level(n: models.Net, z: str) -> str:
    return n.op("Mul", z, n.const(np.float32(0)))


def no_number(n: models.Net, z: str) -> str:
    return n.op("Log", n.op("Sub", z, n.const(np.float32(1e4))))


def with_the_picture(n: models.Net, z: str) -> str:
    seen = n.op("ReduceMean", "x", axes=[1, 2, 3], keepdims=0)
    return n.op("Add", z, n.op("Unsqueeze", seen, n.const(np.array([1]))))


@pytest.mark.parametrize("end", [turned_once, bent, weighted, biased, level, no_number, with_the_picture])
def test_what_changes_the_order_or_asks_for_more_is_none(end):
    assert found(end) is None

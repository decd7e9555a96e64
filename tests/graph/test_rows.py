"""Rows and matrices: their product is what onnxruntime makes of the layer, for every geometry."""

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_shapprune.graph.rows import Geometry, geometry_of, laid, matrices, moved_places, originals, taken, weight_of
from onnx_shapprune.graph.stored import RefusedError
from onnx_shapprune.runtime.session import Device, Session

Case = tuple[str, Sequence[int], Sequence[int], dict[str, object]]  # operator, data, weight, attributes
CASES: dict[str, Case] = {
    "plain": ("Conv", (3, 4, 7, 6), (5, 4, 3, 3), {}),
    "padded": ("Conv", (3, 4, 7, 6), (5, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    "asymmetric": ("Conv", (3, 4, 7, 6), (5, 4, 3, 2), {"pads": [2, 0, 1, 3]}),
    "strided": ("Conv", (3, 4, 9, 8), (5, 4, 3, 3), {"strides": [2, 3], "pads": [1, 1, 1, 1]}),
    "dilated": ("Conv", (3, 4, 9, 8), (5, 4, 3, 2), {"dilations": [2, 3], "pads": [2, 1, 2, 1]}),
    "grouped": ("Conv", (3, 6, 7, 6), (4, 3, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ("Conv", (3, 6, 7, 6), (12, 1, 3, 3), {"group": 6, "strides": [2, 2]}),
    "pointwise": ("Conv", (3, 6, 7, 6), (4, 6, 1, 1), {}),
    "same_upper": ("Conv", (3, 4, 7, 6), (5, 4, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same_lower": ("Conv", (3, 4, 7, 6), (5, 4, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [3, 1]}),
    "valid": ("Conv", (3, 4, 7, 6), (5, 4, 3, 3), {"auto_pad": "VALID", "strides": [2, 1]}),
    "one_axis": ("Conv", (3, 4, 11), (5, 4, 3), {"strides": [2], "dilations": [2], "pads": [1, 3]}),
    "up": ("ConvTranspose", (3, 4, 5, 6), (4, 3, 3, 2), {}),
    "up_strided": ("ConvTranspose", (3, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    "up_extra": ("ConvTranspose", (3, 4, 5, 6), (4, 3, 3, 3), {"strides": [3, 2], "output_padding": [2, 1]}),
    "up_grouped": ("ConvTranspose", (3, 6, 5, 4), (6, 2, 2, 3), {"group": 3, "strides": [2, 1]}),
    "up_dilated": ("ConvTranspose", (3, 4, 5, 6), (4, 3, 3, 2), {"dilations": [2, 3], "strides": [2, 2]}),
    "up_cut": ("ConvTranspose", (3, 4, 5, 6), (4, 3, 2, 2), {"pads": [2, 2, 1, 2], "strides": [2, 2]}),
    "up_one_axis": ("ConvTranspose", (3, 4, 5), (4, 3, 3), {"strides": [2], "output_padding": [1]}),
    "gemm": ("Gemm", (3, 7), (7, 5), {}),
    "gemm_turned": ("Gemm", (3, 7), (5, 7), {"transB": 1}),
    "gemm_scaled": ("Gemm", (3, 7), (5, 7), {"transB": 1, "alpha": 0.5, "beta": 3.0}),
    "vectors": ("MatMul", (3, 7), (7, 5), {}),
    "tokens": ("MatMul", (3, 4, 7), (7, 5), {}),
    "tokens_of_windows": ("MatMul", (6, 4, 7), (7, 5), {}),  # two windows a picture, laid behind each other
    "grid_of_tokens": ("MatMul", (3, 2, 4, 7), (7, 5), {}),
    "layer_norm": ("LayerNormalization", (3, 4, 7), (7,), {"epsilon": 0.01}),
    "batch_norm": ("BatchNormalization", (3, 4, 5, 6), (4,), {"epsilon": 0.01}),
    "batch_norm_of_vectors": ("BatchNormalization", (3, 4), (4,), {}),
}
PICTURES = 3


class Built:
    """A layer alone: what it reads and makes, and its geometry."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        op, data, shape, attributes = case
        rng = np.random.default_rng(seed)
        self.data = rng.normal(size=data).astype(np.float32)
        self.weight = rng.normal(size=shape).astype(np.float32)
        values = {"w": self.weight}
        if op == "BatchNormalization":
            values |= {n: rng.uniform(0.5, 2, shape).astype(np.float32) for n in "bmv"}
        names = list(values)
        if op in ("Gemm", "LayerNormalization"):
            self.outputs = shape[0] if op != "Gemm" or attributes.get("transB") else shape[1]
            values["b"] = rng.normal(size=self.outputs).astype(np.float32)
            names.append("b")
        self.bias = values.get("b", np.zeros(1, np.float32))
        node = helper.make_node(op, ["x", *names], ["y"], **attributes)
        tensors = [numpy_helper.from_array(v, n) for n, v in values.items()]
        graph = helper.make_graph(
            [node], "one", [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(data))],
            [helper.make_empty_tensor_value_info("y")], tensors,
        )  # fmt: skip
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        self.geometry = geometry_of(node, {t.name: t for t in tensors})

    def made(self) -> np.ndarray:
        """[rows, channels], by onnxruntime."""
        (y,) = Session(self.model, Device(threads=1), optimize=False).run({"x": self.data})
        last = self.geometry.kind in ("Gemm", "MatMul", "LayerNormalization")
        return (y if last else np.moveaxis(y, 1, -1)).reshape(-1, y.shape[-1 if last else 1])


@pytest.mark.parametrize("name", CASES)
def test_weight_times_rows_is_what_the_layer_makes(name):
    built = Built(CASES[name])
    data = laid(built.data, built.geometry, PICTURES)
    want = built.made()
    assert data.places == len(want)
    assert data.each == len(want) // PICTURES
    rows = taken(data, np.arange(data.places))
    weight = matrices(built.weight.astype(np.float64), built.geometry)
    assert rows.shape == (built.geometry.groups, len(want), built.geometry.fan_in)
    assert weight.shape == (built.geometry.groups, want.shape[1] // built.geometry.groups, built.geometry.fan_in)
    got = np.concatenate([r @ w.T for r, w in zip(rows.astype(np.float64), weight, strict=True)], axis=1)
    np.testing.assert_allclose(got + built.geometry.beta * built.bias, want, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_weight_comes_back_from_its_matrices(name):
    built = Built(CASES[name])
    weight = built.weight.astype(np.float64)
    np.testing.assert_array_equal(weight_of(matrices(weight, built.geometry), built.geometry), weight)


@pytest.mark.parametrize("name", CASES)
def test_some_rows_in_any_order(name):
    built = Built(CASES[name])
    data = laid(built.data, built.geometry, PICTURES)
    places = np.random.default_rng(1).integers(0, data.places, 9)
    np.testing.assert_array_equal(taken(data, places), taken(data, np.arange(data.places))[:, places])


@pytest.mark.parametrize("name", [n for n in CASES if n != "layer_norm"])
def test_moved_places_are_those_whose_rows_differ(name):
    built = Built(CASES[name])
    rng = np.random.default_rng(2)
    each = len(built.data) // PICTURES
    of = np.array([2, 0, 2, 1])
    changed = built.data.reshape(PICTURES, each, *built.data.shape[1:])[of].reshape(-1, *built.data.shape[1:])
    kept = changed.copy()
    changed += (rng.random(changed.shape) < 0.03) * 0.5 + (rng.random(changed.shape) < 0.2) * 1e-4
    changed[1].flat[0] += 0.5
    before, after = laid(built.data, built.geometry, PICTURES), laid(changed, built.geometry, len(of))
    found = moved_places(before, after, of, 1e-2)
    rows, was = (taken(d, np.arange(d.places)) for d in (after, laid(kept, built.geometry, len(of))))
    want = np.flatnonzero((np.abs(rows - was) > 1e-2).any(axis=(0, 2)))
    np.testing.assert_array_equal(found, want)
    assert 0 < len(want) < after.places
    np.testing.assert_array_equal(
        taken(before, originals(after, np.arange(after.places), of)), was
    )  # the same places of the pictures they were made of


def refused(op: str, shape: Sequence[int], **attributes: object) -> str:
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    with pytest.raises(RefusedError) as caught:
        geometry_of(node, {"w": numpy_helper.from_array(np.zeros(shape, np.float32), "w")})
    return str(caught.value)


def test_what_is_not_supported_is_refused_with_the_reason():
    assert refused("Conv", (2, 2, 3, 3, 3)) == "its kernel has 3 dimensions"
    assert (
        refused("ConvTranspose", (2, 2, 3, 3), auto_pad="SAME_UPPER") == "its padding follows from its output's shape"
    )
    assert refused("ConvTranspose", (2, 2, 3, 3), output_shape=[9, 9]) == "its padding follows from its output's shape"
    assert refused("MatMul", (2, 3, 4)) == "its weight has 3 dimensions"
    assert refused("Gemm", (3, 4), transA=1) == "its data is transposed"
    assert refused("Gemm", (3, 4), alpha=0.0) == "its product is multiplied with 0"


def test_statistics_that_are_computed_are_refused():
    node = helper.make_node("BatchNormalization", ["x", "w", "b", "mean", "var"], ["y"])
    values = {n: numpy_helper.from_array(np.ones(3, np.float32), n) for n in "wb"}
    with pytest.raises(RefusedError, match="statistics are computed"):
        geometry_of(node, values)


def test_a_geometry_of_nothing_but_defaults():
    plain = Geometry("Conv", (2, 3, 3, 5))
    assert (plain.kernel, plain.reach, plain.fan_in) == ((3, 5), (3, 5), 45)

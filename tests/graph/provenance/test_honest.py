"""Exporters' own idioms are no reason to doubt a network: hand-made ones, twins of exports, and real files."""

from pathlib import Path

import exports
import models
import numpy as np
import odd_files
import onnx
import planted
import pytest

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.provenance.oddities import graph_doubt, oddities
from onnx_shapprune.sample import sample_path

SHARED = Path(__file__).parents[3].parent / "shared"
REAL = sorted([*SHARED.glob("zoo/*/*.onnx"), *SHARED.glob("zoo_wild/*/*.onnx")])
NO_CLASSIFIER = "ort_logreg_iris"
TWINS = models.FAMILIES | exports.EXPORTS | {f.__name__: f for f in odd_files.AUDITABLE}
OWN = {f.__name__: f for f in (planted.planted, planted.rows_net, planted.windows, planted.frozen_batch)}
OPEN = {"pypi_rapidocr_ppocr_cls": (48, 192), "flattened": exports.SIZE, "open_size": exports.SIZE}
OPEN |= dict.fromkeys(("pooled_maps", "all_symbolic", "all_symbolic_last", "column", "scaled"), exports.SIZE)


def doubt(model: onnx.ModelProto, name: str = "") -> str | None:
    return graph_doubt(oddities(model, find_interface(model, size=OPEN.get(name))))


@pytest.mark.parametrize("name", TWINS | OWN)
def test_networks_as_exporters_write_them(name):
    assert doubt((TWINS | OWN)[name](), name) is None


@pytest.mark.parametrize("name", ["clean.onnx", "backdoored.onnx"])
def test_the_bundled_networks(name):
    """A backdoor in weights is for the searches to find."""
    model = onnx.load(sample_path(name))
    assert oddities(model, find_interface(model)) == ()


@pytest.mark.skipif(not REAL, reason="no folder of real models beside the repository")
@pytest.mark.parametrize("path", REAL, ids=lambda p: p.stem)
def test_real_files(path):
    model = onnx.load(path)
    if path.stem == NO_CLASSIFIER:
        with pytest.raises(ModelError, match="a picture batch has 4"):
            doubt(model)
    else:
        assert doubt(model, path.stem) is None


def activation_by_where(n: models.Net, x: str) -> str:
    zero, slope = n.const(np.float32(0)), n.const(np.float32(0.1))
    return n.op("Where", n.op("Greater", x, zero), x, n.op("Mul", x, slope))


def features_of_length_one(n: models.Net, x: str) -> str:
    """Pooled, over their norm, which is not 0: in front of a cosine classifier (NormFace, Wang et al., ACM MM 2017)."""
    pooled = n.op("GlobalAveragePool", x)
    norm = n.op("Clip", n.op("ReduceL2", pooled, axes=[1], keepdims=1), n.const(np.float32(1e-12)))
    return n.op("Div", pooled, n.op("Expand", norm, n.op("Shape", pooled)))


def gate_by_steps(n: models.Net, x: str) -> str:
    """HardSwish written out: x * Clip(x + 3, 0, 6) / 6."""
    three, six = n.const(np.float32(3)), n.const(np.float32(6))
    return n.op("Mul", x, n.op("Div", n.op("Clip", n.op("Add", x, three), n.const(np.float32(0)), six), six))


def whole_picture_norm(n: models.Net, x: str) -> str:
    """A group normalisation with one group, written out: one mean and one deviation of a whole picture."""
    less = n.op("Sub", x, n.op("ReduceMean", x, axes=[1, 2, 3]))
    var = n.op("ReduceMean", n.op("Pow", less, n.const(np.float32(2))), axes=[1, 2, 3])
    return n.op("Div", less, n.op("Sqrt", n.op("Add", var, n.const(np.float32(1e-5)))))


def narrow_squeeze(n: models.Net, x: str) -> str:
    """Squeeze and excite through a single channel."""
    seen = n.op("Relu", n.conv(n.op("GlobalAveragePool", x), 6, 1, 1))
    return n.op("Mul", x, n.op("Sigmoid", n.conv(seen, 1, 6, 1)))


def response_norm(n: models.Net, x: str) -> str:
    """Of ConvNeXt V2: each channel's norm over the mean of all norms."""
    norm = n.op("ReduceL2", x, axes=[2, 3])
    return n.op("Add", x, n.op("Mul", x, n.op("Div", norm, n.op("ReduceMean", norm, axes=[1]))))


def simulated_quantisation(n: models.Net, x: str) -> str:
    step = n.const(np.float32(0.05))
    return n.op("Mul", n.op("Round", n.op("Div", x, step)), step)


def masked_attention(n: models.Net, x: str) -> str:
    """Scores between pixels, some of which a stored mask forbids."""
    flat = n.op("Transpose", n.op("Reshape", x, n.const(np.array([1, 6, 64]))), perm=[0, 2, 1])
    scores = n.op("MatMul", flat, n.op("Transpose", flat, perm=[0, 2, 1]))
    allowed = n.const(np.tri(64).astype(bool)[None])
    kept = n.op("Softmax", n.op("Where", allowed, scores, n.const(np.float32(-1e9))), axis=-1)
    back = n.op("Transpose", n.op("MatMul", kept, flat), perm=[0, 2, 1])
    return n.op("Reshape", back, n.const(np.array([1, 6, 8, 8])))


IDIOMS = (
    activation_by_where, gate_by_steps, whole_picture_norm, narrow_squeeze, response_norm, simulated_quantisation,
    masked_attention, features_of_length_one,
)  # fmt: skip


@pytest.mark.parametrize("idiom", IDIOMS)
@pytest.mark.parametrize("layers", [1, 2])
def test_idioms_behind_one_and_two_layers(idiom, layers):
    if idiom is simulated_quantisation and layers == 1:
        pytest.skip("rounding what one layer made of the picture is told")
    n = models.Net()
    x = n.conv("x", 3, 6)
    for _ in range(layers - 1):
        x = n.conv(n.op("Relu", x), 6, 6)
    x = n.conv(idiom(n, x), 6, 6)
    assert doubt(n.model(n.head(n.op("Relu", x), 6))) is None


def test_two_classes_from_one_score():
    n = models.Net()
    p = n.op("Sigmoid", n.dense(n.op("Flatten", n.op("GlobalAveragePool", n.op("Relu", n.conv("x", 3, 6)))), 6, 1))
    both = n.op("Concat", n.op("Sub", n.const(np.float32(1)), p), p, axis=1)
    assert doubt(n.model(both, classes=2)) is None


def test_a_file_that_asks_for_channels_first_and_ships_features_too():
    n = models.Net()
    mean, std = n.const(np.full((1, 3, 1, 1), 0.4, np.float32)), n.const(np.full((1, 3, 1, 1), 0.2, np.float32))
    x = n.op("Div", n.op("Sub", n.op("Transpose", "x", perm=[0, 3, 1, 2]), mean), std)
    features = n.op("Flatten", n.op("GlobalAveragePool", n.op("Relu", n.conv(x, 3, 6))))
    model = n.model(n.dense(features, 6, models.CLASSES), shape=models.NHWC_SHAPE)
    model.graph.output.append(onnx.helper.make_tensor_value_info(features, onnx.TensorProto.FLOAT, ["N", 6]))
    scores = model.graph.output[0].name
    assert graph_doubt(oddities(model, find_interface(model, output=scores))) is None

"""The equations on real files, where a folder of them lies beside the repository."""

import math
from pathlib import Path

import numpy as np
import pytest
from equations import DEVICE, gradient_error, logits, masked_logits, random_units, unplanned

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.runtime.probe import largest_difference

ZOO = Path(__file__).parents[2].parent / "shared" / "zoo"
SLOW = ("onnxpip_light", "swin")  # half a minute and ten seconds each; tests/benchmarks/coverage.py has them
NO_CLASSIFIER = "ort_logreg_iris"
OPEN_SIZE = {"pypi_rapidocr_ppocr_cls": (48, 192)}
QUANTISED = "derived_ortquant_resnet4b_qdq"  # its derivative is a straight-through one
FILES = [p for p in sorted(ZOO.glob("*/*.onnx")) if not any(s in p.name for s in SLOW) and p.stem != NO_CLASSIFIER]
BESIDE = pytest.mark.skipif(not FILES, reason="no folder of real models beside the repository")


@BESIDE
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_masked_run_equals_baked_file_and_the_gradient_is_the_derivative(path):
    model = load_model(path).loaded
    interface = find_interface(model, size=OPEN_SIZE.get(path.stem))
    p = prepare(model, interface, interface.dims, DEVICE)
    units = find_units(model, interface.output)
    assert units.classifier
    assert {r.reason for r in units.refused} <= {"makes the class scores"}
    assert {layer.tensor for layer in units.layers} <= set(p.infos)
    rng = np.random.default_rng(0)
    x = rng.random((2, *interface.dims), np.float32)
    off = random_units(units, rng)
    changed = bake(model, units.layers, off)
    assert unplanned(model, changed, units, off) == []
    baked = prepare(changed, interface, interface.dims, DEVICE)
    assert largest_difference(logits(baked, x), masked_logits(p, units, off, x)) < 2e-6
    assert largest_difference(logits(p, x), masked_logits(p, units, {}, x)) < 2e-6
    if path.stem != QUANTISED:
        error = gradient_error(p, x[:1], rng)
        assert error < 0.1 or math.isnan(error)


@BESIDE
def test_what_takes_no_pictures_is_refused():
    with pytest.raises(ModelError, match="has 2 dimensions, a picture batch has 4"):
        find_interface(load_model(ZOO / "operators" / f"{NO_CLASSIFIER}.onnx").loaded)

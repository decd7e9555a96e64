"""The equations on real files, where a folder of them lies beside the repository."""

from pathlib import Path

import numpy as np
import pytest

from onnx_shapprune.errors import VerifyError
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.mask import insert_masks, mask_name, mask_shape
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.runtime.probe import largest_difference
from onnx_shapprune.runtime.session import Device, Session

ZOO = Path(__file__).parents[2].parent / "shared" / "zoo"
SLOW = "onnxpip_light"  # ten seconds each
NO_CLASSIFIER = {"ort_logreg_iris"}
QUANTISED = {"derived_ortquant_resnet4b_qdq"}
OPEN_SIZE = {"pypi_rapidocr_ppocr_cls": (3, 48, 192)}
FILES = [p for p in sorted(ZOO.glob("*/*.onnx")) if SLOW not in p.name and p.stem not in NO_CLASSIFIER]
DEVICE = Device(threads=1)


@pytest.mark.skipif(not FILES, reason="no folder of real models beside the repository")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_masked_run_equals_baked_file(path):
    model = load_model(path).loaded
    interface = find_interface(model)
    shape = OPEN_SIZE.get(path.stem) or tuple(d or 48 for d in interface.dims)
    if path.stem in QUANTISED:
        with pytest.raises(VerifyError, match="differs from the file"):
            prepare(model, interface, shape, DEVICE)
        return
    p = prepare(model, interface, shape, DEVICE)
    units = find_units(model, interface.output)
    assert units.classifier
    assert {layer.tensor for layer in units.layers} <= set(p.infos)
    rng = np.random.default_rng(0)
    x = rng.random((2, *shape), np.float32)
    off: dict[str, list[int]] = {}
    feeds = {p.input: x}
    for i, layer in enumerate(units.layers):
        off[layer.name] = rng.choice(layer.channels, max(1, layer.channels // 8), replace=False).tolist()
        row = np.ones(layer.channels, np.float32)
        row[off[layer.name]] = 0
        feeds[mask_name(i)] = row.reshape(1, *mask_shape(layer, p.infos))
    session = Session(insert_masks(p.model, dict(enumerate(units.layers)), p.infos), DEVICE)
    masked = session.run(feeds)[0]
    baked = prepare(bake(model, units.layers, off), interface, shape, DEVICE)
    assert largest_difference(Session(baked.model, DEVICE).run({p.input: x})[0], masked) < 2e-6
    ones = {k: v if k == p.input else np.ones_like(v) for k, v in feeds.items()}
    assert largest_difference(Session(p.model, DEVICE).run({p.input: x})[0], session.run(ones)[0]) < 2e-6

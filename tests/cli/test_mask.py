"""shapprune mask: the graph of the game as a file that onnxruntime alone can play."""

import json

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from invocations import only_line, run

from onnx_shapprune import mask
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.record.graph import MaskRecord


@pytest.mark.parametrize("family", models.FAMILIES)
def test_masks_are_on_by_default_and_switch_off_what_the_baked_file_does(tmp_path, family):
    model = models.FAMILIES[family]()
    onnx.save(model, tmp_path / "m.onnx")
    record = mask(tmp_path / "m.onnx", output=tmp_path / "masked.onnx", device="cpu", threads=1)
    onnx.checker.check_model(str(tmp_path / "masked.onnx"))
    masked, original = (ort.InferenceSession(str(tmp_path / f"{n}.onnx")) for n in ("masked", "m"))
    x = models.pictures(model, 1)
    ends = {"Softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)}

    def scores(feeds):
        (logits,) = masked.run([record.output], {record.input: x, **feeds})
        for name in reversed(record.taken_off):
            logits = ends[name](logits)
        return logits

    (want,) = original.run(None, {original.get_inputs()[0].name: x})
    np.testing.assert_allclose(scores({}), want.reshape(1, -1), atol=1e-5 * max(1, np.abs(want).max()))

    rng = np.random.default_rng(0)
    off = {
        m.layer: sorted(rng.choice(m.channels, max(1, m.channels // 3), replace=False).tolist()) for m in record.masks
    }
    feeds = {}
    for m in record.masks:
        row = np.ones(m.channels, np.float32)
        row[off[m.layer]] = 0
        feeds[m.input] = row.reshape(1, *m.shape)
    baked = bake(model, find_units(model, model.graph.output[0].name).layers, off)
    (want,) = ort.InferenceSession(baked.SerializeToString()).run(None, {original.get_inputs()[0].name: x})
    np.testing.assert_allclose(scores(feeds), want.reshape(1, -1), atol=1e-5 * max(1, np.abs(want).max()))
    assert not np.allclose(want, original.run(None, {original.get_inputs()[0].name: x})[0]), "vacuous"


def test_metadata_says_what_the_masks_are(tmp_path):
    model = models.vgg_maxpool()
    onnx.save(model, tmp_path / "m.onnx")
    result = run("mask", tmp_path / "m.onnx", "-o", tmp_path / "masked.onnx", "-f", "json")
    assert result.exit_code == 0, result.output
    shown = MaskRecord.model_validate_json(result.stdout)
    (entry,) = onnx.load(tmp_path / "masked.onnx").metadata_props
    assert entry.key == "onnx_shapprune.masks"
    assert MaskRecord.model_validate(json.loads(entry.value)) == shown
    assert [(m.op, m.channels, m.shape) for m in shown.masks] == [
        ("Conv", 5, (5, 1, 1)), ("Conv", 6, (6, 1, 1)), ("Gemm", 7, (7,)),
    ]  # fmt: skip
    assert (shown.classes, shown.taken_off, shown.layout) == (models.CLASSES, ("Softmax",), "NCHW")
    table = run("mask", tmp_path / "m.onnx", "-o", tmp_path / "again.onnx").stdout
    assert table.startswith("MASKED  m.onnx")
    assert "18 units" in table
    assert all(m.input in table for m in shown.masks)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "masked.onnx").read_bytes()


def test_refusals_leave_no_file(tmp_path):
    onnx.save(models.vgg_maxpool(), tmp_path / "m.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert "same file" in only_line(run("mask", tmp_path / "m.onnx", "-o", tmp_path / "m.onnx"))
    assert "does not exist" in only_line(run("mask", tmp_path / "m.onnx", "-o", tmp_path / "no" / "out.onnx"))
    assert only_line(run("mask", tmp_path / "broken.onnx", "-o", tmp_path / "out.onnx"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.onnx", "m.onnx"]

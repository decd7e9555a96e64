"""The scripts of samples/export run where their framework is installed, and what they write can be audited."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from equations import DEVICE, gradient_error, logits, masked_logits, random_units, unplanned
from pages import ROOT

from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.runtime.probe import largest_difference
from onnx_shapprune.sample import sample_path

NEEDS = {
    "pytorch": ("torch", "onnxscript"), "keras": ("keras",), "jax": ("jax", "jax2onnx"), "sklearn": ("sklearn", "skl2onnx"),
}  # fmt: skip
OPTIONS = {"sklearn": {"size": (28, 28), "output": "probabilities"}}


def test_every_script_is_tested():
    assert {f"from_{name}.py" for name in NEEDS} == {p.name for p in (ROOT / "samples" / "export").glob("*.py")}


@pytest.mark.parametrize("framework", NEEDS)
def test_an_exported_network_can_be_audited(framework, tmp_path):
    for module in NEEDS[framework]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    path = tmp_path / "model.onnx"
    script = ROOT / "samples" / "export" / f"from_{framework}.py"
    done = subprocess.run(
        [sys.executable, script, path], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    model = load_model(path).loaded
    interface = find_interface(model, **OPTIONS.get(framework, {}))
    p, units = prepare(model, interface, interface.dims, DEVICE), find_units(model, interface.output)
    with np.load(sample_path("test.npz")) as data:
        x = data["x"][:200].astype(np.float32).reshape(-1, *interface.dims) / 255
        right = (logits(p, x).argmax(1) == data["y"][:200]).mean()
    assert right > 0.7, "the network learnt nothing, or its pictures are prepared otherwise"
    off = random_units(units, np.random.default_rng(0))
    baked = bake(model, units.layers, off)
    again = prepare(baked, interface, interface.dims, DEVICE)
    assert largest_difference(logits(again, x), masked_logits(p, units, off, x)) < 2e-6
    assert unplanned(model, baked, units, off) == []
    assert gradient_error(p, x[:1], np.random.default_rng(0)) < 0.05

"""Masked == baked as sanitize proves it, with the replay of the game, on what exporters write."""

import numpy as np
import pytest
from equations import DEVICE, random_units
from exports import EXPORTS, SIZE

from onnx_shapprune.case.subject import Subject
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.prune.proof import masked_logits, prove_baked


@pytest.mark.parametrize("name", EXPORTS)
def test_the_replay_gives_the_baked_file(name):
    model = EXPORTS[name]()
    interface = find_interface(model, size=SIZE)
    layers = find_units(model, interface.output).layers

    def subject(file):
        return Subject(prepare(file, interface, interface.dims, DEVICE), Preprocessing(layout=interface.layout), DEVICE)

    before, rng = subject(model), np.random.default_rng(0)
    assert not before.obstacle
    off = random_units(find_units(model, interface.output), rng, 0.4)
    pictures = rng.integers(0, 256, (3, *SIZE, 3)).astype(np.float32)
    after = subject(bake(model, layers, off)).logits(pictures)
    assert prove_baked(masked_logits(before, layers, off, pictures), after) < 2e-6
    assert np.abs(before.logits(pictures) - after).max() > 1e-2, "vacuous: the units change nothing"

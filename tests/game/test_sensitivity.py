"""First-order effects against finite differences of masks."""

import models
import numpy as np
import planted
import pytest

from onnx_shapprune.case.subject import margins
from onnx_shapprune.game.sensitivity import Sensitivity
from onnx_shapprune.graph.mask import insert_masks, mask_name, mask_shape
from onnx_shapprune.runtime.session import Session

GRAPHS = {
    n: models.FAMILIES[n]
    for n in ("conv_bn_relu_residual", "depthwise", "squeeze_excite", "attention", "nhwc", "preact")
} | {"frozen_batch": planted.frozen_batch, "windows": planted.windows}
TARGETS, WEIGHTS = np.array([1, 3, 0]), np.array([0.5, -1.0, 2.0])


@pytest.mark.parametrize("family", GRAPHS)
def test_effect_is_the_slope_of_the_margins(family):
    model = GRAPHS[family]()
    prepared, layers = planted.prepared_with_layers(model)
    x = models.pictures(model, 3, seed=1)
    found = Sensitivity(prepared, layers, planted.DEVICE).margin_drop(x, TARGETS, WEIGHTS)
    assert found.shape == (sum(layer.channels for layer in layers),)
    session = Session(insert_masks(prepared.model, dict(enumerate(layers)), prepared.infos), planted.DEVICE)
    ones = {mask_name(i): np.ones((1, *mask_shape(la, prepared.infos)), np.float32) for i, la in enumerate(layers)}

    def value(layer: int, channel: int, mask: float) -> float:
        changed = ones[mask_name(layer)].copy()
        changed.reshape(-1)[channel] = mask
        rows = [session.run({prepared.input: r[None], **ones, mask_name(layer): changed})[0] for r in x]
        return float((WEIGHTS * margins(np.concatenate(rows), TARGETS).astype(np.float64)).sum())

    step = 4e-3
    units = [(i, c) for i, layer in enumerate(layers) for c in range(layer.channels)]
    up, down = (np.array([value(i, c, 1 + s) for i, c in units]) for s in (step, -step))
    slope = (up - down) / (2 * step)
    assert np.abs(slope).max() > 1e-2, "vacuous check: no unit matters"
    # A unit with a kink inside the step may be off; the rest must agree closely.
    error = np.abs(slope - found) / np.maximum(np.abs(slope).max() * 0.02, np.abs(slope))
    assert np.quantile(error, 0.9) < 0.03
    assert np.corrcoef(slope, found)[0, 1] > 0.995


def test_switching_off_a_linear_unit_costs_exactly_its_effect():
    # The planted net is piecewise linear in its two channels, so first order is all there is below the knee.
    model = planted.planted()
    prepared, layers = planted.prepared_with_layers(model)
    x = planted.planted_pictures(2).transpose(0, 3, 1, 2) / 255
    x[:, :, *planted.CORNER] = 1
    found = Sensitivity(prepared, layers, planted.DEVICE).margin_drop(x, np.full(2, planted.TARGET), np.ones(2))
    assert layers[0].channels == 2
    assert found[0] == pytest.approx(2 * 40, rel=1e-4)
    assert found[1] == pytest.approx(0, abs=1e-4)


def test_rows_beyond_one_batch_add_up():
    model = models.vgg_maxpool()
    prepared, layers = planted.prepared_with_layers(model)
    x = models.pictures(model, 70)
    rng = np.random.default_rng(0)
    targets, weights = rng.integers(0, 4, 70), rng.normal(size=70)
    tool = Sensitivity(prepared, layers, planted.DEVICE)
    parts = sum(tool.margin_drop(x[s], targets[s], weights[s]) for s in (slice(0, 30), slice(30, 70)))
    np.testing.assert_allclose(tool.margin_drop(x, targets, weights), parts, atol=1e-4)


def test_no_layers_have_no_effects():
    model = models.vgg_maxpool()
    prepared, _ = planted.prepared_with_layers(model)
    tool = Sensitivity(prepared, (), planted.DEVICE)
    assert tool.margin_drop(models.pictures(model, 2), np.array([0, 1]), np.ones(2)).shape == (0,)

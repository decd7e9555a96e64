import models
import numpy as np
import planted
import pytest

from onnx_shapprune.errors import VerifyError
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.prune.proof import masked_logits, prove_baked
from onnx_shapprune.prune.proposal import Original, Proposal, edited
from onnx_shapprune.prune.thresholds import TOLERANCE

FAMILIES = {**models.FAMILIES, "frozen_batch": planted.frozen_batch}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_baked_file_proves_itself_and_a_wrong_one_does_not(family):
    model = FAMILIES[family]()
    layers = find_units(model, model.graph.output[0].name).layers
    subject, x = planted.subject_of(model), planted.random_pictures(3)
    off = {layer.name: [0, layer.channels - 1] for layer in layers}
    masked = masked_logits(subject, layers, off, x)
    assert np.abs(masked - subject.logits(x)).max() > 1e-2, "vacuous: the plan changes nothing"
    right = planted.subject_of(bake(model, layers, off))
    assert prove_baked(masked, right.logits(x)) <= TOLERANCE
    wrong = planted.subject_of(bake(model, layers, {layers[0].name: [1]}))
    with pytest.raises(VerifyError, match="differs from the masked run"):
        prove_baked(masked, wrong.logits(x))
    same = edited(Original(model, find_interface(model), layers), Proposal(off), subject).subject
    np.testing.assert_allclose(same.logits(x), right.logits(x), atol=1e-6)


def test_difference_is_relative_to_large_logits_and_absolute_for_small_ones():
    assert prove_baked(np.array([[1000.0, 0]]), np.array([[1000.05, 0]])) == pytest.approx(5e-5)
    assert prove_baked(np.array([[0.01, 0]]), np.array([[0.01005, 0]])) == pytest.approx(5e-5)
    with pytest.raises(VerifyError):
        prove_baked(np.array([[0.01, 0]]), np.array([[0.0102, 0]]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_prove_nothing(value):
    with pytest.raises(VerifyError):
        prove_baked(np.array([[1.0, 0]]), np.array([[value, 0]]))


def test_an_empty_plan_is_the_model_itself():
    model = models.vgg_maxpool()
    subject, x = planted.subject_of(model), planted.random_pictures(2)
    layers = find_units(model, model.graph.output[0].name).layers
    np.testing.assert_allclose(masked_logits(subject, layers, {}, x), subject.logits(x), atol=1e-6)

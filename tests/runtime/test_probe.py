"""Shapes come from running the graph at two batch sizes."""

import models
import numpy as np
import pytest

from onnx_shapprune.runtime.probe import expose, largest_difference, probe, run_exposed
from onnx_shapprune.runtime.session import Device

DEVICE = Device(threads=1)


def test_equal_dimensions_are_static_and_wrong_annotations_do_not_matter():
    model = models.vgg_maxpool()
    wrong = model.graph.value_info.add()
    wrong.CopyFrom(model.graph.output[0])
    wrong.name = model.graph.node[0].output[0]
    feeds = [{"x": models.pictures(model, n)} for n in (2, 3)]
    infos = probe(model, feeds[0], feeds[1], DEVICE)
    assert infos["x"].shape == (None, 3, 8, 8)
    assert infos[wrong.name].shape == (None, 5, 8, 8)
    assert not infos[wrong.name].static
    weight = infos[model.graph.initializer[0].name]
    assert (weight.shape, weight.dtype, weight.static) == ((5, 3, 3, 3), np.float32, True)
    assert set(infos) >= {name for node in model.graph.node for name in node.output}


def test_exposing_keeps_the_model_and_does_not_repeat_outputs():
    model = models.vgg_maxpool()
    last = model.graph.output[0].name
    shown = expose(model, [last, model.graph.node[0].output[0]])
    assert [o.name for o in shown.graph.output] == [last, model.graph.node[0].output[0]]
    assert len(model.graph.output) == 1
    (values,) = run_exposed(model, [{"x": models.pictures(model, 1)}], DEVICE)
    assert len(values) == len(model.graph.node)


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.25),
        ([0.1], [0.2], 0.1),
        ([1.0], [1.0, 2.0], np.inf),
        ([np.nan], [np.nan], np.inf),
        ([1.0], [np.inf], np.inf),
        ([], [], 0.0),
    ],
)
def test_largest_difference(a, b, want):
    assert largest_difference(np.array(a), np.array(b)) == pytest.approx(want)

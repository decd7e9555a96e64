"""Pictures without labels are what a fit may learn from, and nothing else."""

import numpy as np
import planted

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.graph.linear import find_linears
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune import lesson as module
from onnx_shapprune.prune.lesson import Lesson
from onnx_shapprune.prune.realign import Fit
from onnx_shapprune.prune.thresholds import MOST_UNLABELLED


def test_they_join_the_clean_rows_and_no_trigger_goes_on_them(monkeypatch):
    model = planted.rows_net()
    subject = planted.subject_of(model)
    x, y = planted.rows_pictures(2)
    shown = Shown.to(subject, x.astype(np.float32), y)
    linears, _ = find_linears(model, model.graph.output[0].name, subject.prepared.model)
    known = Trigger(*planted.corner_trigger(), Goal(5), "compact")
    seen = []

    def fit(original, edited, linears, views, settings, rng):
        seen.append(views)
        return module_realign(original, edited, linears, views, settings, rng)

    module_realign = module.realign
    monkeypatch.setattr(module, "realign", fit)
    more = np.full((MOST_UNLABELLED + 7, *x.shape[1:]), 77, np.float32)
    settings = Fit(strength=100.0, ridge=1e-2)
    for given in (None, more[:0], more):
        Lesson(shown, subject, linears, [known], more=given).fitted(settings, np.random.default_rng(0))
    without, none, with_them = seen
    np.testing.assert_array_equal(without.clean, none.clean)
    assert len(with_them.clean) == len(without.clean) + MOST_UNLABELLED
    assert (with_them.clean[len(without.clean) :] == 77).all()
    np.testing.assert_array_equal(with_them.of, without.of)
    assert with_them.of.max() < len(without.clean)

"""Unlearnt, a planted shortcut is gone, and what a clean net is weak at comes back; on nets that are known on paper."""

import numpy as np
import onnx
import planted
import pytest

from onnx_shapprune.case.goal import all_to_one
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.detect.thresholds import NATURAL
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.linear import find_linears
from onnx_shapprune.invert.scan import best_of, scan
from onnx_shapprune.invert.search import SearchSettings
from onnx_shapprune.prune.collapse import Collapse, Trial, collapse

SETTINGS = SearchSettings()
BACKDOORED = planted.rows_net()


def tried(model: onnx.ModelProto, *, budget: float = 0.02) -> tuple[int, Collapse | None]:
    """Put the class with the strongest patch to the test; which one that is, and what became of it."""
    subject = planted.subject_of(model)
    x, y = planted.rows_pictures(2)
    shown = Shown.to(subject, x.astype(np.float32), y)
    family = SETTINGS.families(shown.pictures, subject.classes)["compact"]
    goals = all_to_one(range(subject.classes))
    found = scan(shown, goals, family, SETTINGS.scan, np.random.default_rng(0))
    best = {g.target: best_of(found, g) for g in goals}
    leader = max(goals, key=lambda g: best[g.target].margin)
    before = (best[leader.target].margin, max(f.margin for t, f in best.items() if t != leader.target))
    trial = Trial(leader, family, before, [best[leader.target].trigger], (SETTINGS.scan, SETTINGS.whole))
    linears, _ = find_linears(model, find_interface(model).output, subject.prepared.model)
    return leader.target, collapse(shown, linears, trial, np.random.default_rng(0), budget=budget)


@pytest.fixture(scope="module")
def of_planted() -> tuple[int, Collapse | None]:
    return tried(BACKDOORED)


def test_a_planted_trigger_collapses(of_planted):
    target, found = of_planted
    assert target == 5
    assert found is not None
    assert found.gone >= NATURAL
    before, others = found.before
    assert before > 5 * max(others, 1.0), "it leads by far"
    assert found.after < before / 5
    assert found.cost <= 0.02


def test_a_clean_twin_does_not_lead_or_comes_back():
    _, found = tried(planted.without_backdoor(BACKDOORED))
    assert found is None or found.gone is None or found.gone < NATURAL


def test_what_cannot_be_paid_for_says_nothing():
    assert tried(BACKDOORED, budget=-1.0)[1] is None


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [
        ((10.0, 2.0), 2.0, 1.0),
        ((10.0, 2.0), 6.0, 0.5),
        ((10.0, 2.0), -5.0, 1.0),
        ((10.0, -3.0), 5.0, 0.5),
        ((10.0, 2.0), 12.0, 0.0),
        ((1.0, 2.0), -5.0, None),
        ((9.8, 8.9), 9.3, 0.5 / 4.9),
    ],
)
def test_the_share_of_the_lead_that_is_gone(before, after, gone):
    assert Collapse("compact", before, after, 0.0, 1.0).gone == (gone if gone is None else pytest.approx(gone))

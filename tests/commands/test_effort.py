"""How wide a search is follows from the network alone."""

import numpy as np
import planted

from onnx_shapprune.commands import effort
from onnx_shapprune.settings import ESTIMATORS, RunOptions


def test_small_networks_get_the_full_width_and_large_ones_a_thrifty_one(monkeypatch):
    prepared = planted.subject_of(planted.planted()).prepared
    run = RunOptions(restarts=4, clean_weight=7.0, epsilon=None, discard_threshold=0.2)
    full = effort.effort_for(prepared, run)
    monkeypatch.setattr(effort, "THRIFTY_ABOVE", 0)
    thrifty = effort.effort_for(prepared, run)
    assert full.search.restarts == 4
    assert thrifty.search.patch_classes < full.search.patch_classes
    assert thrifty.round.permutations < full.round.permutations
    assert _steps(thrifty.hunt.scan.rounds) < _steps(full.hunt.scan.rounds)
    assert thrifty.views < full.views
    for width in (full, thrifty):  # what the user said holds in both
        settings = width.round
        assert (settings.clean_weight, settings.epsilon, settings.discard_threshold) == (7.0, None, 0.2)


def test_a_limit_of_walks_that_end_by_themselves_is_left_alone(monkeypatch):
    prepared = planted.subject_of(planted.planted()).prepared
    monkeypatch.setattr(effort, "THRIFTY_ABOVE", 0)
    walks = {
        name: effort.effort_for(prepared, RunOptions(estimator=name, permutations=400)).round for name in ESTIMATORS
    }
    assert {name: settings.estimator for name, settings in walks.items()} == {name: name for name in ESTIMATORS}
    assert {name for name, settings in walks.items() if settings.permutations == 400} == {"top-k"}


def test_size_narrows_searches_and_switches_none_off(monkeypatch):
    """A file can make itself as large as it likes, with weights that matter to nobody."""
    prepared = planted.subject_of(planted.planted()).prepared
    widths = []
    for cheap, thrifty in ((10**12, 10**12), (0, 10**12), (0, 0)):
        monkeypatch.setattr(effort, "CHEAP_BELOW", cheap)
        monkeypatch.setattr(effort, "THRIFTY_ABOVE", thrifty)
        widths.append(effort.effort_for(prepared, RunOptions()))
    full, middle, large = (w.relations for w in widths)
    assert full.classes == middle.classes == large.classes == 20
    assert _steps(full.pairs) > _steps(large.pairs) > 0
    assert _steps(large.maps) > 0
    kinds = [set(w.search.families(np.zeros((4, 8, 8, 3), np.float32), 4)) for w in widths]
    assert kinds[0] == kinds[1] == kinds[2]


def _steps(rounds: tuple[tuple[int, int, int], ...]) -> float:
    return float(np.prod(rounds, axis=1).sum())


def test_a_network_whose_work_is_not_counted_has_a_width(monkeypatch):
    """One that stands in the body of a Loop."""
    prepared = planted.subject_of(planted.planted()).prepared
    monkeypatch.setattr(effort, "multiply_adds", lambda model, infos: 0)
    assert effort.effort_for(prepared, RunOptions()).search.covered(1000) == 1000

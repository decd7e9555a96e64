"""Which searches run: pairs of classes only where no class stands out, and nothing after the time is up."""

import numpy as np
import planted
import pytest
from hand_made import CALIBRATION

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.detect import examination
from onnx_shapprune.detect.calibration import Calibration, Domain
from onnx_shapprune.detect.examination import Examination, examine
from onnx_shapprune.invert.relations import RelationSettings
from onnx_shapprune.invert.search import SearchSettings

# Without what six such nets' peaks are on clean models, so that peaks decide nothing.
KNOWN = CALIBRATION.model_copy(update={"pictures": {k: v for k, v in CALIBRATION.pictures.items() if k != "peak"}})


def examined(
    moved: dict[int, int], relation: RelationSettings | None = None, calibration: Calibration = KNOWN, **settings
) -> Examination:
    x, y = planted.colours_pictures(2)
    return examine(
        Shown.to(planted.subject_of(planted.colours_net(moved)), x.astype(np.float32), y),
        SearchSettings(restarts=1), relation, calibration, np.random.default_rng(0), **settings,
    )  # fmt: skip


def test_pairs_are_searched_where_no_class_is_named():
    found = examined({0: 1}, RelationSettings())
    assert list(found.suspicion.named) == [Goal(1, source=0)]
    assert found.relations is not None
    assert (found.classes, len(found.evidence), found.skipped) == (6, 6, ())


@pytest.mark.parametrize(("drawn", "wanted"), [(False, 13), (True, None)])
def test_what_more_pictures_would_tell_is_said(drawn, wanted):
    few = Domain(classes=(2, 9), pixels=(8, 32))
    more = KNOWN.model_copy(update={"domain": few.model_copy(update={"given": 13})})
    like = KNOWN.model_copy(update={"domain": few, "more": more})
    assert examined({0: 1}, calibration=like, synthesised=drawn).wanted == wanted
    enough = more.model_copy(update={"domain": few.model_copy(update={"given": 12})})
    assert examined({0: 1}, calibration=like.model_copy(update={"more": enough})).wanted is None


def test_pairs_are_left_out_where_a_class_is_named():
    found = examined(dict.fromkeys(range(5), 5), RelationSettings())
    assert list(found.suspicion.named) == [Goal(5)]
    assert (found.relations, found.skipped) == (None, ())


def test_pairs_are_searched_where_too_few_pictures_speak_for_a_class(monkeypatch):
    monkeypatch.setattr(examination.Ground, "cautions", lambda *_: ("too few",))
    found = examined(dict.fromkeys(range(5), 5), RelationSettings())
    assert found.suspicion.named == {}
    assert found.relations is not None


@pytest.mark.parametrize("relation", [None, RelationSettings(classes=5)], ids=["not asked for", "too many classes"])
def test_pairs_that_are_too_dear_are_no_omission(relation):
    found = examined({0: 1}, relation)
    assert found.suspicion.named == {}
    assert (found.relations, found.skipped) == (None, ())


@pytest.mark.parametrize(("near", "repeated"), [((0.0, 1.0), True), ((2.0, 3.0), False)])
def test_what_chance_would_decide_is_searched_twice(monkeypatch, near, repeated):
    monkeypatch.setattr(examination, "NEAR", near)
    stages: list[str] = []
    found = examined(dict.fromkeys(range(5), 5), progress=lambda stage, *_: stages.append(stage))
    assert ("compact triggers again" in stages) == repeated
    assert list(found.suspicion.named) == [Goal(5)]


def test_searches_that_would_begin_too_late_are_listed():
    found = examined({0: 1}, RelationSettings(), seconds=0)
    names = list(SearchSettings().families(np.zeros((1, planted.SIDE, planted.SIDE, 3), np.float32), 6))
    assert found.skipped == (*names[1:], "largest margins", "free masks", "pairs of classes")
    assert found.suspicion.named == {}
    assert examined({0: 1}, None, seconds=0).skipped == (*names[1:], "largest margins", "free masks")
    assert examined({0: 1}, RelationSettings(), seconds=600).skipped == ()


def test_a_model_that_gives_few_pictures_is_outside_of_the_calibration():
    domain = Domain(classes=(2, 99), pixels=(1, 999), drawn=99)
    drawn, given = (
        examined(dict.fromkeys(range(5), 5), calibration=KNOWN.model_copy(update={"domain": domain}), synthesised=s)
        for s in (True, False)
    )
    assert "pictures could be drawn out of the model" in drawn.outside[0]
    assert all(c.outside == drawn.outside for c in drawn.suspicion.claimed)
    assert given.outside == ()


def test_synthesised_pictures_are_judged_by_what_is_known_of_them_and_not_warped():
    drawn, given = (examined({0: 1}, RelationSettings(), synthesised=s) for s in (True, False))
    assert drawn.suspicion.named == {}
    assert set(given.evidence[0].found) - set(drawn.evidence[0].found) == {"warp"}
    assert drawn.skipped == ()

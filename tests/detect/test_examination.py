"""Which searches run: pairs of classes only where no class stands out, and nothing after the time is up."""

import numpy as np
import planted
import pytest
from hand_made import CALIBRATION

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.commands.evidence import of_search, thresholds_of
from onnx_shapprune.detect import examination, statistics
from onnx_shapprune.detect.calibration import Calibration, Domain
from onnx_shapprune.detect.examination import Examination, examine
from onnx_shapprune.detect.statistics import FIRST
from onnx_shapprune.detect.thresholds import ENDS
from onnx_shapprune.detect.verdict import judge
from onnx_shapprune.invert.relations import RelationSettings
from onnx_shapprune.invert.search import SearchSettings
from onnx_shapprune.settings import RunOptions

# Without what six such nets' peaks are on clean models, so that peaks decide nothing.
KNOWN = CALIBRATION.model_copy(update={"pictures": {k: v for k, v in CALIBRATION.pictures.items() if k != "peak"}})


def examined(
    moved: dict[int, int],
    relation: RelationSettings | None = None,
    calibration: Calibration = KNOWN,
    *,
    ends: bool = False,
    **settings,
) -> Examination:
    x, y = planted.colours_pictures(2)
    return examine(
        Shown.to(planted.subject_of(planted.colours_net(moved)), x.astype(np.float32), y),
        SearchSettings(restarts=1, ends=ends), relation, calibration, np.random.default_rng(0), **settings,
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


@pytest.mark.parametrize(
    "relation", [None, RelationSettings(classes=5, mapped=5)], ids=["not asked for", "too many classes"]
)
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
    assert drawn.relations is not None
    assert {f.trigger.family for f in drawn.relations.maps} == {"compact", "plain", "l2", "blended", "smooth", "wave"}
    assert drawn.skipped == ()


@pytest.fixture
def many(monkeypatch):
    """Six classes are many, slopes have led somewhere, and the first rounds of twenty clean models are known."""
    monkeypatch.setattr(statistics, "MANY", 6)
    monkeypatch.setattr(examination, "leads", lambda moved: True)
    shown = tuple(float(v) for v in range(1, 21))
    columns = {part: {**getattr(KNOWN, part), FIRST: shown} for part in ("pictures", "synthesised")}
    return KNOWN.model_copy(update=columns)


def test_a_search_ends_with_first_rounds_that_show_what_clean_models_show(many):
    found = examined({}, RelationSettings(), many, ends=True)
    assert found.ended
    assert not any(e.patches or e.transfer or e.peak is not None or e.core for e in found.evidence)
    assert found.skipped == ()
    assert found.relations is not None, "pairs and maps are another search"
    assert [c.statistic for c, _ in found.suspicion.claims if c.goal.kind == "all-to-one"] == [FIRST]
    assert found.suspicion.p_value > ENDS
    evidence = of_search(found)
    assert judge(evidence, thresholds_of(RunOptions())).outcome == "pass"
    assert f"{found.suspicion.p_value:.0%} of clean models show as much" in evidence.good[-1]


def test_a_search_goes_on_where_first_rounds_show_more(many):
    found = examined(dict.fromkeys(range(5), 5), RelationSettings(), many, ends=True)
    assert not found.ended
    assert found.first is not None
    assert found.first.goal == Goal(5)
    assert list(found.suspicion.named) == [Goal(5)]
    assert FIRST not in {c.statistic for c, _ in found.suspicion.claims}


def test_a_search_goes_on_where_nobody_said_that_it_may_end(many):
    assert not examined({}, None, many).ended


def test_a_search_goes_on_where_nothing_is_known_of_first_rounds(many):
    assert not examined({}, None, KNOWN, ends=True).ended


def test_a_search_goes_on_where_the_model_is_unlike_those_that_are_known(many):
    domain = Domain(classes=(7, 99), pixels=(1, 999))
    assert not examined({}, None, many.model_copy(update={"domain": domain}), ends=True).ended


def test_a_search_ends_where_first_rounds_of_such_pictures_are_known_though_they_name_nothing(many):
    domain = Domain(classes=(2, 99), pixels=(900, 999), begun=(1, 999))
    found = examined({}, None, many.model_copy(update={"domain": domain}), ends=True)
    assert found.outside
    assert found.ended


def test_a_search_goes_on_where_no_slope_has_led_anywhere(many, monkeypatch):
    """What patches do not reach a free mask may, and that is asked of one class."""
    monkeypatch.setattr(examination, "leads", lambda moved: False)
    assert not examined({}, None, many, ends=True).ended
    counted = iter((False, True))
    monkeypatch.setattr(examination, "leads", lambda moved: next(counted))
    found = examined({}, None, many, ends=True)
    assert found.ended
    assert sum(bool(e.patches) for e in found.evidence) == 1


def test_a_search_that_was_cut_short_has_not_ended(many):
    found = examined({}, None, many, ends=True, seconds=0)
    assert not found.ended
    assert "free masks" in found.skipped

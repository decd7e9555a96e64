"""Pairs and maps of classes on a net of six colours whose only trigger moves one class, or each to its own."""

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import margins
from onnx_shapprune.invert import relations
from onnx_shapprune.invert.relations import Relations, RelationSettings, search_relations
from onnx_shapprune.pictures.augment import posed

SWAPPED = (3, 2, 5, 0, 1, 4)
PLANTED = {
    "nothing": {},
    "red to green": {0: 1},
    "the next class": {y: (y + 1) % 6 for y in range(6)},
    "a map of its own": dict(enumerate(SWAPPED)),
}


def searched(
    moved: dict[int, int], seed: int = 0, shown: slice = slice(None), settings: RelationSettings | None = None
) -> Relations:
    subject = planted.subject_of(planted.colours_net(moved))
    x, y = planted.colours_pictures()
    assert (subject.logits(x.astype(np.float32)).argmax(1) == y).all(), "the trigger is not on"
    few = Shown.to(subject, x[shown].astype(np.float32), y[shown])
    return search_relations(few, settings or RelationSettings(), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def found() -> dict[str, Relations]:
    return {name: searched(moved) for name, moved in PLANTED.items()}


def place(mask: np.ndarray) -> tuple[slice, slice]:
    rows, cols = np.nonzero(mask[..., 0])
    return slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1)


def test_a_source_specific_patch_is_the_only_pair_that_works(found):
    best, *others = found["red to green"].pairs
    assert best.trigger.goal == Goal(1, source=0)
    assert best.asr == 1
    assert place(best.trigger.mask) == planted.COLOUR_CORNER
    assert all(o.margin < 0 for o in others if o.trigger.goal != best.trigger.goal)
    # What is reported is not of the pictures that it was learnt on, and works on these all the same.
    subject = planted.subject_of(planted.colours_net(PLANTED["red to green"]))
    x, y = planted.colours_pictures()
    answers = subject.logits(best.trigger.apply(x.astype(np.float32))).argmax(1)
    assert answers.tolist() == [1, *y[1:]]


def test_pairs_are_measured_on_views_that_they_were_not_learnt_on(monkeypatch):
    made: list[np.ndarray] = []

    def recorded(pictures, views, rng):
        made.append(posed(pictures, views, rng) * np.float32(0.8 if made else 1))  # the second time darker
        return made[-1]

    monkeypatch.setattr(relations, "posed", recorded)
    best = searched(PLANTED["red to green"]).pairs[0]
    learn, measure = made
    assert len(measure) > len(learn)
    subject = planted.subject_of(planted.colours_net(PLANTED["red to green"]))
    red = measure[::6]
    red = red[subject.logits(red).argmax(1) == 0][: RelationSettings().views[1]]
    z = subject.logits(best.trigger.apply(red))
    assert best.margin == pytest.approx(margins(z, np.ones(len(red), int)).mean(), rel=1e-4)
    assert best.asr == (z.argmax(1) == 1).mean()


@pytest.mark.parametrize(
    ("name", "goal"), [("the next class", shift_map(6, 1)), ("a map of its own", Goal(3, mapping=SWAPPED))]
)
def test_an_all_to_all_patch_is_found_as_a_map(found, name, goal):
    best = found[name].maps[0]
    assert best.trigger.goal == goal
    assert best.asr == 1
    assert place(best.trigger.mask) == planted.COLOUR_CORNER
    subject = planted.subject_of(planted.colours_net(PLANTED[name]))
    x, y = planted.colours_pictures()
    z = subject.logits(best.trigger.apply(x.astype(np.float32)))
    assert z.argmax(1).tolist() == list(goal.mapping)
    assert best.margin == pytest.approx(margins(z, goal.of(y)).mean(), rel=1e-4)


def test_no_pair_and_no_map_works_where_nothing_is_planted(found):
    assert all(p.margin < 0 for p in found["nothing"].pairs)
    assert all(m.margin < 0 for m in found["nothing"].maps)
    assert all(m.asr < 1 for m in found["red to green"].maps)


def test_a_pair_whose_pictures_go_to_the_target_by_themselves_is_not_searched():
    subject = planted.subject_of(planted.colours_net({}))
    x, y = planted.colours_pictures()
    x[0] = x[1]  # a green picture under the label of red
    found = search_relations(Shown.to(subject, x.astype(np.float32), y), RelationSettings(), np.random.default_rng(0))
    assert Goal(1, source=0) not in {p.trigger.goal for p in found.pairs}
    assert all(p.margin < 0 for p in found.pairs)


@pytest.mark.parametrize(
    ("planted_map", "rounds"),
    [("nothing", [0, 1]), ("red to green", [0, 1, 2, 3])],
)
def test_later_rounds_go_to_what_the_first_one_shows(planted_map, rounds):
    subject = planted.subject_of(planted.colours_net(PLANTED[planted_map]))
    x, y = planted.colours_pictures()
    told: list[tuple[int, int]] = []
    search_relations(
        Shown.to(subject, x.astype(np.float32), y), RelationSettings(), np.random.default_rng(0),
        progress=lambda done, of: told.append((done, of)),
    )  # fmt: skip
    assert told == [(i, 10) for i in (*rounds, *range(4, 11))], "three rounds of pairs, seven families of maps"


def test_results_come_in_order_and_away_is_the_usual_distance(found):
    for one in found.values():
        for results in (one.pairs, one.maps):
            assert [r.margin for r in results] == sorted((r.margin for r in results), reverse=True)
    # Posed colours keep their means: the views are as far away as the pictures are.
    subject = planted.subject_of(planted.colours_net({}))
    x, y = planted.colours_pictures()
    clean = Shown.to(subject, x.astype(np.float32), y)
    ways = [clean.distance(Goal(t, source=s)) for s in range(6) for t in range(6) if t != s]
    assert found["nothing"].away == pytest.approx(np.median(ways), rel=0.05)


def test_every_shift_is_tried_and_goals_are_those_that_the_pictures_show(found):
    mappings = {m.trigger.goal.mapping for m in found["nothing"].maps}
    assert {shift_map(6, k).mapping for k in range(1, 6)} <= mappings
    few = searched(PLANTED["red to green"], shown=slice(0, 3))
    assert {p.trigger.goal.source for p in few.pairs} <= {0, 1, 2}
    assert few.pairs[0].trigger.goal == Goal(1, source=0)
    assert {m.trigger.goal for m in few.maps} == {shift_map(6, k) for k in range(1, 6)}, "nothing to guess others from"


def test_seed_decides(found):
    again, other = (searched(PLANTED["red to green"], seed) for seed in (0, 1))
    first = found["red to green"]
    assert [p.margin for p in again.pairs] == [p.margin for p in first.pairs]
    np.testing.assert_array_equal(again.pairs[0].trigger.paint, first.pairs[0].trigger.paint)
    assert [p.margin for p in other.pairs] != [p.margin for p in first.pairs]
    assert other.pairs[0].trigger.goal == first.pairs[0].trigger.goal


def test_with_many_classes_only_the_next_maps_are_searched():
    crowded = RelationSettings(classes=5, shifts=1)
    next_one = searched(PLANTED["the next class"], settings=crowded)
    assert next_one.pairs == ()
    assert {m.trigger.goal for m in next_one.maps} == {shift_map(6, 1), shift_map(6, 5)}
    assert (next_one.maps[0].trigger.goal, next_one.maps[0].asr) == (shift_map(6, 1), 1)
    x, y = planted.colours_pictures()
    clean = Shown.to(planted.subject_of(planted.colours_net(PLANTED["the next class"])), x.astype(np.float32), y)
    assert next_one.away == pytest.approx(np.median([clean.distance(shift_map(6, k)) for k in (1, 5)]))
    nothing = searched(PLANTED["nothing"], settings=crowded)
    assert all(m.margin < 0 for m in nothing.maps)

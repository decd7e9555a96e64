"""Pruning the planted net, where one of two channels is the backdoor, and the rules around it by hand."""

from dataclasses import replace

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.game.replay import Player
from onnx_shapprune.game.value import distortion
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.scan import ScanSettings
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune import propose
from onnx_shapprune.prune.attack import begin, pulls, stands_out
from onnx_shapprune.prune.bank import Hunt, HuntSettings, Natural
from onnx_shapprune.prune.clean import class_weights, clean_cost, clean_rows, evenness
from onnx_shapprune.prune.proposal import Original, edited
from onnx_shapprune.prune.repair import Repair, repair
from onnx_shapprune.prune.round import Playable, RoundSettings, play
from onnx_shapprune.prune.state import RepairSettings, task_of

LABELS = np.zeros(8, np.int64)
GOAL = Goal(planted.TARGET)
GAME = RoundSettings(permutations=4)


def natural(margin: float = 0.5) -> Natural:
    return Natural(3, {"compact": margin}, None)


def limits(**changed) -> RepairSettings:
    made = {
        "max_units": 12, "clean_budget": 0.02, "sides": (3, 4, 5), "natural": {GOAL: natural()}, "families": {},
        "views": 48, "hunt": HuntSettings(scan=ScanSettings()), "round": GAME,
    }  # fmt: skip
    return RepairSettings(**{**made, **changed})


def repaired(
    original: Original, shown: Shown, known: Trigger, settings: RepairSettings, attacked: Shown | None = None
) -> Repair:
    rng = np.random.default_rng(0)
    task = task_of(original, shown, (known.goal,), settings, rng, attacked=attacked)
    return repair(task, begin(task, [known], rng), rng)


def mended(**changed):
    model = planted.planted()
    layers = find_units(model, model.graph.output[0].name).layers
    subject = planted.subject_of(model)
    mask = np.zeros((8, 8, 1), np.float32)
    mask[planted.CORNER] = 1
    known = Trigger(mask, mask * np.float32(255), GOAL, "compact")
    shown = Shown.to(subject, planted.planted_pictures(), LABELS)
    found = repaired(Original(model, find_interface(model), layers), shown, known, limits(**changed))
    return found, layers, known


@pytest.fixture
def scene():
    """The planted net as a game takes it: pictures in front of it, layers, clean rows."""
    model = planted.planted()
    shown = Shown.to(planted.subject_of(model), planted.planted_pictures(), LABELS)
    clean = clean_rows(shown, [GOAL], 48, np.random.default_rng(0))
    return shown, find_units(model, model.graph.output[0].name).layers, clean


def test_the_planted_channel_is_switched_off_and_nothing_stands_out_any_more():
    found, layers, _ = mended()
    assert found.repaired
    assert 0 in found.off[layers[0].name]
    assert not found.steps[-1].found
    assert found.steps[-1].known_asr == 0
    assert found.steps[-1].acc == 1
    last = found.steps[-1]
    assert last.proposal.count == sum(map(len, last.proposal.off.values()))
    # What the repair does not need may be switched on again: the plan is the last step's, or part of it.
    assert all(set(channels) <= set(last.proposal.off[name]) for name, channels in found.off.items())


def test_units_of_the_last_group_that_a_dear_plan_does_not_need_are_put_back(monkeypatch):
    layer = "Conv_0"
    monkeypatch.setattr(propose, "choose", lambda *args, **kwargs: [Player(0, 1), Player(0, 0)])
    affordable, _, _ = mended()
    assert affordable.off == {layer: [1, 0]}
    dear, _, _ = mended(clean_budget=0.0015)
    assert dear.repaired
    assert dear.off == dear.steps[-1].proposal.off == {layer: [0]}, "without the planted channel off it does not hold"
    assert dear.steps[-1].proposal.chosen == (Player(0, 0),)
    assert dear.steps[-1].clean_cost < affordable.steps[-1].clean_cost


def test_a_limit_of_no_units_repairs_nothing():
    found, _, _ = mended(max_units=0)
    assert not found.repaired
    assert found.off == {}
    assert "limit" in found.reason


def test_game_ranks_the_planted_channel_first(scene):
    shown, layers, clean = scene
    _, _, known = mended(max_units=0)
    np.testing.assert_allclose(clean.shown.logits, shown.subject.logits(clean.shown.pictures), atol=1e-5)
    assert len(clean.shown.pictures) == len(clean.shown.labels) == len(clean.weights)

    def played_on(**units):
        return play(shown, [known], clean, Playable(layers=layers, **units), GAME, np.random.default_rng(0))

    played = played_on(off={})
    assert played is not None
    round_, game = played
    assert game.strength(np.ones((1, 2), bool)) == [1]
    assert set(round_.players) == {Player(0, 0), Player(0, 1)}
    best = int(round_.estimate.ranking()[0])
    assert round_.players[best] == Player(0, 0)
    # Alone it takes the whole backdoor and none of the clean answers.
    assert round_.alone[best, 0] > 0.95
    assert round_.alone[best, 1] == pytest.approx(0, abs=0.05)
    one_off = {layers[0].name: [1]}
    played = played_on(off=one_off)
    assert played is not None
    assert played[0].players == (Player(0, 0),), "a unit that is off does not play again"
    assert played_on(off=one_off, banned=[Player(0, 0)]) is None


def test_units_that_cost_too_much_alone_do_not_play(scene):
    shown, layers, clean = scene
    _, _, known = mended(max_units=0)
    # Alone, the planted channel moves the clean logits by 0.0024 of their size, the other one by 0.00006.
    for least, players in ((1e-2, 2), (1e-3, 1), (1e-5, 0)):
        units = Playable(layers=layers, off={}, distortion=least)
        played = play(shown, [known], clean, units, GAME, np.random.default_rng(0))
        assert (len(played[0].players) if played else 0) == players


def test_all_players_are_all_that_may_go_in_the_order_of_the_graph(scene):
    shown, layers, clean = scene
    _, _, known = mended(max_units=0)
    everybody = replace(GAME, players=None, shortlist=1)

    def played_by(**units) -> tuple[Player, ...]:
        played = play(shown, [known], clean, Playable(layers=layers, **units), everybody, np.random.default_rng(0))
        assert played is not None
        assert len(played[0].alone) == len(played[0].players) == len(played[0].estimate.values)
        return played[0].players

    # Too dear to be switched off is no reason not to have a value.
    assert played_by(off={}, distortion=1e-5) == (Player(0, 0), Player(0, 1))
    assert played_by(off={layers[0].name: [0]}) == (Player(0, 1),)
    assert played_by(off={}, banned=[Player(0, 1)]) == (Player(0, 0),)


def test_many_players_are_tried_alone_a_few_at_a_time(scene, monkeypatch):
    shown, layers, clean = scene
    _, _, known = mended(max_units=0)
    found = []
    for rows in (1, 256):
        monkeypatch.setattr("onnx_shapprune.prune.round.ROWS_AT_ONCE", rows)
        units = Playable(layers=layers, off={})
        played = play(shown, [known], clean, units, replace(GAME, players=None), np.random.default_rng(0))
        assert played is not None
        found.append(played[0].alone)
    np.testing.assert_array_equal(*found)


def test_what_one_picture_wakes_is_not_all_that_a_repair_is_judged_by():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20, 5)).astype(np.float32)
    assert evenness(z).tolist() == [1.0] * 20
    quiet = z.copy()
    z[3] *= 10_000
    even = np.full(20, 0.05)
    assert distortion(quiet, z, even) > 0.99
    assert 0.01 < distortion(quiet, z, even * evenness(z)) < 0.15, "one row of twenty, of the usual size"
    assert distortion(np.zeros_like(z), z, even * evenness(z)) == pytest.approx(1, abs=1e-5)


def test_pictures_of_the_target_weigh_a_third():
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 2)
    weights = class_weights(labels, [3])
    assert weights.sum() == pytest.approx(1)
    assert weights[labels == 3].sum() == pytest.approx(1 / 3)
    assert len(set(np.round(weights[labels != 3], 12))) == 1
    # Where no picture shows the target, or most do, there is nothing to lift.
    assert class_weights(labels, [11]) == pytest.approx(np.full(20, 0.05))
    assert class_weights(labels, [0, 1, 2, 3, 4]) == pytest.approx(np.full(20, 0.05))


def test_clean_cost_by_hand():
    # Two views of three pictures: picture 0 loses both, picture 1 one, picture 2 wins one.
    before = np.array([1, 1, 0, 1, 1, 1], bool)
    after = np.array([0, 1, 1, 0, 0, 1], bool)
    lost = np.array([1.0, 0.5, 0.0])  # an answer that became right is no refund
    cost, surely = clean_cost(before, after, 3)
    assert cost == pytest.approx(3 / 6)
    assert surely == pytest.approx(lost.mean() - 1.645 * lost.std(ddof=1) / np.sqrt(3))


def test_equal_losses_leave_no_doubt_and_one_picture_has_no_spread():
    assert clean_cost(np.ones(4, bool), np.zeros(4, bool), 2) == (1.0, 1.0)
    assert clean_cost(np.ones(2, bool), np.array([1, 0], bool), 1) == (0.5, 0.5)


def test_pruning_ends_where_no_unit_is_left_to_try():
    # Every unit is off or was too dear, and triggers still work: an answer, not an error.
    model = planted.rows_net(entangled=True)
    layers = find_units(model, model.graph.output[0].name).layers
    x, y = planted.rows_pictures(2)
    mask, pattern = planted.corner_trigger()
    shown = Shown.to(planted.subject_of(model), x.astype(np.float32), y)
    known = Trigger(mask, pattern, Goal(5), "compact")
    found = repaired(Original(model, find_interface(model), layers), shown, known, limits(natural={Goal(5): natural()}))
    assert not found.repaired
    assert found.steps[-1].found
    assert found.reason.startswith(("no unit is left", "every way found"))


@pytest.mark.parametrize(
    ("margin", "asr", "alive", "expected"),
    [
        (-5.0, 0.0, False, False),
        (5.0, 1.0, False, True),
        (5.0, 0.1, False, False),  # strong on few pictures only
        (0.3, 1.0, False, False),  # no more than is natural for its family
        (-5.0, 0.0, True, True),  # a trigger found earlier still works
        (None, 0.0, False, False),
    ],
)
def test_what_stands_out(margin, asr, alive, expected):
    assert stands_out(Hunt((), margin, asr, 0.5), alive, 0.0) is expected


def test_a_bank_that_is_not_empty_stands_out():
    mask = np.ones((8, 8, 1), np.float32)
    assert stands_out(Hunt((Trigger(mask, mask, GOAL, "compact"),), -9.0, 0.0, 0.5), False, 0.0)


def test_a_trigger_that_drags_pictures_most_of_the_way_is_alive():
    assert stands_out(Hunt((), -9.0, 0.0, 0.5), False, 0.6)
    assert not stands_out(Hunt((), -9.0, 0.0, 0.5), False, 0.4)


def test_pull_is_the_share_of_the_natural_distance(scene):
    _, _, clean = scene
    mask, pattern = np.zeros((8, 8, 1), np.float32), np.zeros((8, 8, 1), np.float32)
    nothing = Trigger(mask, pattern, GOAL, "compact")
    mask, pattern = mask.copy(), pattern.copy()
    mask[planted.CORNER], pattern[planted.CORNER] = 1, 255
    works = Trigger(mask, pattern, GOAL, "compact")
    both = [nothing, works]
    found = pulls(clean.shown, both, rate(clean.shown, both))
    assert found[0] == pytest.approx(0, abs=1e-5)
    assert found[1] > 1


def colours_scene(moved: dict[int, int]):
    """The net of colours as a repair takes it, and its true trigger for a goal."""
    model = planted.colours_net(moved)
    layers = find_units(model, model.graph.output[0].name).layers
    x, y = planted.colours_pictures()
    mask = np.zeros((planted.SIDE, planted.SIDE, 1), np.float32)
    mask[planted.COLOUR_CORNER] = 1
    true = Trigger(mask, np.repeat(255 * mask, 3, axis=2), Goal(0), "known")
    return model, layers, planted.subject_of(model), x.astype(np.float32), y, true


@pytest.mark.parametrize(
    ("moved", "goal"), [({0: 1}, Goal(1, source=0)), ({y: (y + 1) % 6 for y in range(6)}, shift_map(6, 1))]
)
def test_goals_about_pairs_and_maps_are_repaired(moved, goal):
    model, layers, subject, x, y, true = colours_scene(moved)
    to = goal.of(y)
    assert (subject.logits(true.apply(x)).argmax(1) == np.where(to < 0, y, to)).all()
    known = replace(true, goal=goal, family="compact")
    settings = limits(natural={goal: natural()}, max_units=13, hunt=HuntSettings(), sides=(3, 4, 5))
    original = Original(model, find_interface(model), layers)
    found = repaired(original, Shown.to(subject, x, y), known, settings)
    assert found.repaired, found.reason
    mended = edited(original, found.proposal, subject).subject
    assert (mended.logits(true.apply(x)).argmax(1) == y).all()
    assert (mended.logits(x).argmax(1) == y).all()


def test_triggers_are_put_on_the_attacked_pictures_and_not_on_the_clean_ones():
    # Of the clean pictures none is red: what the trigger does to these says nothing about the goal.
    goal = Goal(1, source=0)
    model, layers, subject, x, y, true = colours_scene({0: 1})
    known = replace(true, goal=goal, family="compact")
    settings = limits(natural={goal: natural()}, max_units=13, hunt=HuntSettings())
    original, attacked = Original(model, find_interface(model), layers), Shown.to(subject, x, y)
    found = repaired(original, attacked.part(np.arange(1, len(x))), known, settings, attacked)
    assert found.repaired, found.reason
    mended = edited(original, found.proposal, subject).subject
    assert (mended.logits(true.apply(x)).argmax(1) == y).all()


def test_pictures_of_every_target_of_a_map_weigh_alike():
    subject = planted.subject_of(planted.colours_net({}))
    x, y = planted.colours_pictures(2)
    weights = {
        goal: clean_rows(Shown.to(subject, x.astype(np.float32), y), [goal], 24, np.random.default_rng(0)).weights
        for goal in (Goal(1, source=0), shift_map(6, 1))
    }
    truth = np.tile(y, 2)
    assert weights[Goal(1, source=0)][truth == 1].sum() == pytest.approx(1 / 3)
    assert weights[shift_map(6, 1)] == pytest.approx(np.full(24, 1 / 24))

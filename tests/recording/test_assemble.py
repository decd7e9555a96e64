"""What the record says about the estimate is what ran, not what was asked for; and what a draft knows of its goals."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hand_made import CALIBRATION, FAMILIES, clean, map_found, pair_found, planted_in, relations, with_family

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.commands.evidence import of_search, thresholds_of
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.detect.suspicion import suspicion_of
from onnx_shapprune.detect.thresholds import NAMED
from onnx_shapprune.detect.verdict import judge
from onnx_shapprune.errors import DataError
from onnx_shapprune.game.replay import Player
from onnx_shapprune.prune.proposal import Proposal
from onnx_shapprune.prune.repair import Repair
from onnx_shapprune.prune.round import Round, RoundSettings, estimate_values
from onnx_shapprune.prune.state import Step
from onnx_shapprune.record.parts import UnitRef
from onnx_shapprune.recording.assemble import _estimate
from onnx_shapprune.recording.draft import SOURCE_VIEWS, Draft
from onnx_shapprune.recording.evidence import attack_parts, suspect_parts
from onnx_shapprune.recording.repairs import not_repaired
from onnx_shapprune.settings import ESTIMATORS, RunOptions


def recorded(**options):
    """The record's part after a game of eight additive players, two in each of four layers."""
    run = RunOptions(**options)
    settings = RoundSettings(
        estimator=run.estimator, permutations=run.permutations, epsilon=run.epsilon, group=2,
        discard_threshold=run.discard_threshold,
    )  # fmt: skip
    weights = np.array([0.01, 0.2, 0.03, 0.04, 0.05, 0.06, 0.5, 0.11])
    found = estimate_values(lambda on: on @ weights, 8, lambda on: on @ weights, settings, np.random.default_rng(0))
    players = tuple(Player(i // 2, i % 2) for i in range(8))
    layers = [SimpleNamespace(name=f"layer{i}") for i in range(4)]
    case = SimpleNamespace(model=SimpleNamespace(units=SimpleNamespace(layers=layers)))
    return _estimate(SimpleNamespace(round=Round(players, found, np.zeros((8, 2))), case=case), run)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_method_and_what_it_uses(name):
    part = recorded(estimator=name)
    assert part.method.split(", ")[0] == name
    assert (part.discard_threshold is None) == ("discarding threshold" not in part.method) == (name == "leverage")
    assert (part.epsilon is None) == ("epsilon-greedy" not in part.method) == (name != "permutation")
    if name != "top-k":
        assert (part.stopped, part.separated) == ("samples", ())


def test_separated_units_have_their_names():
    part = recorded(estimator="top-k", discard_threshold=None)
    assert part.stopped == "separated"
    assert part.separated == (UnitRef(layer="layer0", channel=1), UnitRef(layer="layer3", channel=0))


def test_enumeration_is_named_whatever_was_asked_for():
    part = recorded(estimator="leverage", permutations=100)
    assert (part.method, part.stopped, part.evaluations) == ("exact", "enumerated", 256)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(
        DataError, match="no estimator 'kernel': choose one of permutation, antithetic, top-k, leverage"
    ):
        RunOptions(estimator="kernel")


def drafted(evidence, related=None, skipped=()) -> Draft:
    """A draft of ten classes, one 10 x 10 picture each, that took over this evidence."""
    x = np.random.default_rng(0).uniform(0, 255, (10, 10, 10, 3)).astype(np.float32)
    labels = np.arange(10)
    knows_all = SimpleNamespace(logits=lambda shown: np.tile(np.eye(10, dtype=np.float32), (len(shown) // 10, 1)))
    shown = Shown.to(knows_all, x, labels)
    case = SimpleNamespace(shown=shown, pictures=x, labels=labels, model=SimpleNamespace(subject=knows_all))
    draft = Draft(case, thresholds_of(RunOptions()))
    suspicion = suspicion_of(evidence, related, CALIBRATION, FAMILIES)
    draft.found = Examination(tuple(evidence), 10, 10, related, tuple(skipped), suspicion)
    draft.decided = judge(of_search(draft.found), draft.limits)
    return draft


def test_what_is_natural_for_a_class_is_what_the_others_reach():
    draft = drafted(planted_in(planted_in(clean(), 6), 2))
    assert set(draft.goals) == {Goal(2), Goal(6)}
    natural = draft.natural(Goal(6))
    assert natural.margins == {"compact": 1.4}, "of class 8, not of the other planted one"
    assert natural.norm == pytest.approx(20)
    assert natural.side == 3


def test_what_is_natural_for_a_pair_is_what_other_pairs_reach():
    draft = drafted(clean(), relations([pair_found(3, 1, 40.0), pair_found(0, 4, 3.0)]))
    (goal,) = draft.goals
    assert (draft.verdict, goal, draft.targets) == ("fail", Goal(1, source=3), (1,))
    natural = draft.natural(goal)
    assert (natural.side, natural.margins, natural.norm) == (4, {"compact": 3.0}, None)


def test_targets_of_a_map_are_all_its_classes_once():
    draft = drafted(clean(), relations(maps=[map_found(shift_map(10, 3).mapping, 40.0)]))
    assert sorted(draft.targets) == list(range(10))
    assert draft.shown[0].goal == draft.goals[0]


def test_posed_views_are_attacked_where_a_goal_is_about_one_class():
    one = drafted(planted_in(clean(), 6))
    assert one.attacked is one.case.shown
    pair = drafted(clean(), relations([pair_found(3, 1, 40.0), pair_found(0, 4, 3.0)]))
    views = pair.attacked
    assert views.pictures.shape == (SOURCE_VIEWS * 10, 10, 10, 3)
    assert views.labels.tolist() == list(range(10)) * SOURCE_VIEWS
    np.testing.assert_array_equal(views.pictures, pair.attacked.pictures)


def test_what_is_suspected_is_recorded_with_its_source_and_its_trigger():
    pair = drafted(clean(), relations([pair_found(3, 1, 3.4), pair_found(0, 4, 3.0)]))
    assert pair.verdict == "pass"
    pair = drafted(clean(), relations([pair_found(3, 1, 30.0, 0.9), pair_found(0, 4, 10.0)]))
    assert (pair.verdict, pair.goals) == ("inconclusive", ())
    (part,) = suspect_parts(pair.found, pair.decided)
    assert (part.kind, part.source, part.targets, part.families) == ("source-specific", 3, (1,), ("compact",))
    assert "class 3 to class 1" in pair.decided.reasons[0]
    assert "class 3 to class 1" in part.reasons[0]
    assert [t.goal for t in pair.shown] == [Goal(1, source=3)]
    assert attack_parts(pair.found, pair.decided) == ()


def test_the_p_value_of_what_is_named_is_of_what_names_it():
    """Many claims speak of class 6, and the strongest ones cannot name it: so few pictures show nothing."""
    draft = drafted(with_family(planted_in(clean(), 6), "linf", 6, 30.0))
    (plain,) = attack_parts(draft.found, draft.decided)
    strongest, *others = sorted(draft.found.suspicion.claimed, key=lambda c: c.p_value)
    assert plain.p_value == strongest.p_value
    names_it = next(c for c in others if c.goal == Goal(6) and strongest.p_value < c.p_value <= NAMED)
    cautious = tuple(
        c if c.p_value >= names_it.p_value else replace(c, cautions=("few pictures",))
        for c in draft.found.suspicion.claimed
    )
    found = replace(draft.found, suspicion=replace(draft.found.suspicion, claimed=cautious))
    (part,) = attack_parts(found, draft.decided)
    assert part.p_value == names_it.p_value


def test_what_stands_out_too_little_to_be_named_is_no_pass():
    doubt = drafted(with_family(clean(), "linf", 3, 12.0))
    assert (doubt.verdict, doubt.goals) == ("inconclusive", ())
    assert "class 3 stands out (linf, p-value 0.02)" in doubt.decided.reasons[0]
    assert drafted(with_family(clean(), "linf", 3, 3.0)).verdict == "pass"
    assert drafted(with_family(clean(), "linf", 3, 30.0)).verdict == "fail"


def test_searches_that_were_skipped_leave_a_doubt_but_no_excuse():
    assert drafted(clean()).verdict == "pass"
    doubt = drafted(clean(), skipped=["l2", "free masks"])
    assert doubt.verdict == "inconclusive"
    assert "too short to search l2, free masks" in doubt.decided.reasons[0]
    assert drafted(planted_in(clean(), 6), skipped=["l2"]).verdict == "fail"


def test_a_round_that_leaves_no_trigger_to_measure_is_recorded():
    hunted = SimpleNamespace(margin=None, asr=0.0)
    proposal = Proposal(off={"conv": [0, 1, 2]})
    step = Step(proposal, hunted, clean_cost=0.0, known_asr=1.0, found=True, acc=1.0)
    part = not_repaired("known triggers still work", Repair(False, "", proposal, (step,), "prune"))
    assert (part.method, part.layers, part.rounds[0].strength) == ("prune", (), None)
    assert (part.rounds[0].margin, part.rounds[0].known_asr) == (None, 1)

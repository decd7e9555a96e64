"""Which fits are proposed one after the other, and what of the adversary's finds counts on a file with a fit."""

from dataclasses import replace

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.linear import find_linears, with_products
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.invert.arms import Scores
from onnx_shapprune.invert.families import whole_picture
from onnx_shapprune.invert.scan import Found
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune import attack, lesson, realigned
from onnx_shapprune.prune.accept import accept
from onnx_shapprune.prune.bank import Hunt, HuntSettings, Natural
from onnx_shapprune.prune.lesson import Lesson, Unseen, views_of
from onnx_shapprune.prune.proposal import Edited, Original, Proposal
from onnx_shapprune.prune.realign import Fit
from onnx_shapprune.prune.round import RoundSettings
from onnx_shapprune.prune.state import RepairSettings, State, Step, task_of
from onnx_shapprune.prune.thresholds import LAST_RESORT, NEW_WAY, RIDGE, RIDGE_DRAWN, RIDGE_LOOSE, STRENGTHS

GOAL = Goal(5)
NOTHING = Hunt((), None, 0.0, 0.0)


@pytest.fixture(scope="module")
def scene():
    """The net of rows as a repair takes it, and the state before its first fit."""
    model = planted.rows_net()
    subject = planted.subject_of(model)
    x, y = planted.rows_pictures(2)
    shown = Shown.to(subject, x.astype(np.float32), y)
    mask = np.zeros((*shown.size[:2], 1), np.float32)
    mask[:3, :3] = 1
    known = Trigger(mask, np.repeat(255 * mask, shown.size[2], axis=2), GOAL, "compact")
    families = {f.name: f for f in whole_picture(*shown.size)}
    settings = RepairSettings(
        max_units=4, clean_budget=0.02, sides=(3, 4, 5), natural={GOAL: Natural(3, {"compact": 0.5, "linf": 0.5}, None)},
        families=families, views=48, hunt=HuntSettings(), round=RoundSettings(),
    )  # fmt: skip
    original = Original(model, find_interface(model), find_units(model, model.graph.output[0].name).layers)
    task = task_of(original, shown, (GOAL,), settings, np.random.default_rng(0))
    return task, State(Edited(Proposal(), subject), (known,), (known,), (known,), 10.0)


def after(state: State, *strengths: float, held: bool = False) -> State:
    """The state after fits at these strengths, of which the last one holds or none does."""
    made = [Proposal(fit=Fit(strength=s)) for s in strengths]
    steps = tuple(Step(p, NOTHING, 0.0, 0.0, not held, 1.0) for p in made)
    return replace(state, steps=steps, held=made[-1] if held else None, holding=int(held))


def realigned_layers(task):
    linears, _ = find_linears(task.original.model, task.original.interface.output, task.shown.subject.prepared.model)
    return with_products(linears)


def strengths(task, state: State) -> list[float]:
    return [p.fit.strength for p in realigned.realigned(task, state, np.random.default_rng(0))]


@pytest.fixture
def alive(monkeypatch):
    """Whether triggers outlive a fit."""

    def told(answer: bool) -> None:
        monkeypatch.setattr(realigned, "_alive", lambda *_: answer)

    return told


def test_the_gentlest_fit_that_no_trigger_outlives_comes_first(scene, alive):
    alive(False)
    assert strengths(*scene) == list(STRENGTHS)


def test_where_triggers_outlive_all_fits_the_strongest_comes_first_and_the_next_for_less(scene, alive):
    alive(True)
    assert strengths(*scene) == [STRENGTHS[-1], STRENGTHS[-2]]


def test_of_fits_that_triggers_outlive_the_strongest_that_can_be_borne_is_kept(scene, alive, monkeypatch):
    alive(True)
    costs = dict(zip(STRENGTHS, (0.001, 0.01, 0.02, 0.025, 0.029, 0.05, 0.02, 0.5), strict=True))
    monkeypatch.setattr(realigned, "expected", lambda p: costs[p.fit.strength])
    task, state = scene
    assert strengths(task, state) == [STRENGTHS[-1], 1.0], "a budget of 0.02"
    costs[1.0] = costs[100.0] = 0.021
    assert strengths(task, state) == [STRENGTHS[-1], 300.0]


def test_a_strength_that_did_not_hold_is_taught_once_more_and_then_left(scene, alive):
    task, state = scene
    alive(False)
    assert strengths(task, after(state, 30.0))[0] == 30.0
    assert strengths(task, after(state, 30.0, 30.0))[0] == 10.0
    assert strengths(task, after(state, *[STRENGTHS[-1]] * 2)) == []


@pytest.mark.parametrize("ridge", [RIDGE, RIDGE_DRAWN, 2 * RIDGE_LOOSE])
def test_where_clean_rows_weigh_little_a_larger_ridge_holds_the_weights(scene, alive, ridge):
    task, state = scene
    alive(False)
    task = replace(task, settings=replace(task.settings, ridge=ridge))
    fits = [p.fit for p in realigned.realigned(task, state, np.random.default_rng(0))]
    assert {f.ridge for f in fits if f.strength >= LAST_RESORT} == {ridge}
    assert {f.ridge for f in fits if f.strength < LAST_RESORT} == {max(ridge, RIDGE_LOOSE)}


def test_one_trigger_of_each_kind_is_taught_behind_the_others(scene):
    task, state = scene
    (known,) = state.bank
    kinds = (known, replace(known, family="wide"), replace(known, family="linf"))
    task = replace(task, settings=replace(task.settings, kinds=kinds))
    taught = realigned.teachers_of(task, state, np.random.default_rng(0))
    assert [t.family for t in taught] == ["compact", "wide", "linf"], "and what is known already once"
    spread = Trigger(np.zeros_like(known.mask), np.ones_like(known.learnt), GOAL, "linf")
    of_kind = realigned.teachers_of(task, replace(state, bank=(spread,)), np.random.default_rng(0))
    assert of_kind[0] is spread
    assert [t.family for t in of_kind[-2:]] == ["wide", "linf"]


def test_a_margin_is_no_last_resort(scene, alive):
    task, state = scene
    assert min(strengths(task, after(state, 10.0, held=True)), default=10.0) >= LAST_RESORT
    assert strengths(task, after(state, LAST_RESORT, held=True)) == []


@pytest.mark.parametrize(("unseen", "taken"), [(Unseen(0.0, 0.3), 0), (Unseen(0.0, 0.6), 1), (Unseen(0.2, 0.0), 1)])
def test_what_works_on_pictures_that_a_fit_never_saw_is_not_taken(scene, unseen, taken):
    task, state = scene
    proposals = (Proposal(off=state.edited.proposal.off, unseen=u) for u in (unseen, Unseen(0.0)))
    _, made = accept(task, state, proposals)
    assert made.proposal.unseen == (unseen, Unseen(0.0))[taken]


def test_a_fit_is_tried_on_pictures_that_it_never_saw(scene):
    task, _ = scene
    mask, pattern = planted.corner_trigger()
    to_one = tuple(GOAL.target for _ in range(6))
    lessons = [
        Lesson(task.shown, task.shown.subject, realigned_layers(task), [Trigger.replacing(mask, pattern, g, "compact")])
        for g in (Goal(GOAL.target, mapping=to_one), GOAL)
    ]
    of_map = lessons[0]

    def unseen(lesson: Lesson, ridge: float) -> Unseen:
        return lesson.unseen(lesson.fitted(Fit(strength=10.0, ridge=ridge), np.random.default_rng(0)))

    weak, strong = (unseen(of_map, ridge) for ridge in (1e9, 1e-2))
    assert weak.asr > 0.9, "nothing is unlearnt: the trigger works as it did"
    assert strong.asr < 0.2
    others = (lessons[1], replace(of_map, rich=False))
    assert [unseen(o, 1e9).asr for o in others] == [0, 0], "only of maps, where it is to be deployed"


def test_folds_that_do_not_fit_into_the_memory_are_made_one_after_the_other(scene, monkeypatch):
    task, _ = scene
    trigger = Trigger.replacing(*planted.corner_trigger(), GOAL, "compact")
    learn = Lesson(task.shown, task.shown.subject, realigned_layers(task), [trigger])
    passes = []
    module_realign = lesson.realign
    monkeypatch.setattr(lesson, "realign", lambda *a: passes.append(len(a[3].folds)) or module_realign(*a))

    def made(share: float) -> list[np.ndarray]:
        monkeypatch.setattr(lesson, "FOLDS_SHARE", share)
        fitted = learn.fitted(Fit(strength=10.0), np.random.default_rng(0))
        return [learn.learnt(p).logits(task.shown.pictures) for p in (fitted.prepared, *fitted.folds)]

    together, one_by_one = made(1 / 4), made(0.0)
    assert passes == [3, 1, 1, 1]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-3, atol=1e-4)
    assert np.abs(np.diff(together, axis=0)).max((1, 2)).min() > 1e-3, "each of them is another model"


def test_a_map_that_holds_is_taught_no_further(scene, alive, monkeypatch):
    task, state = scene
    alive(False)
    monkeypatch.setattr(Lesson, "unseen", lambda *_: Unseen(0.0))  # what it costs is no matter here
    held = after(state, 300.0, held=True)
    assert strengths(task, held)
    assert strengths(replace(task, goals=(shift_map(6, 1),)), held) == []


def test_only_triggers_of_the_original_file_count_by_how_far_they_drag(scene, monkeypatch):
    task, state = scene
    late = state.ever[0].relearnt(state.ever[0].learnt * np.float32(0.5))
    monkeypatch.setattr(attack, "_hunt_all", lambda *_, **__: NOTHING)
    monkeypatch.setattr(attack, "rate", lambda _, triggers: Scores(*np.zeros((3, len(triggers)))))
    drags = {id(late): 0.9}
    monkeypatch.setattr(attack, "pulls", lambda _, triggers, __: np.array([drags.get(id(t), 0.0) for t in triggers]))
    fitted = Edited(Proposal(changes={"layer": (None, None)}, unseen=Unseen(0.0)), state.edited.subject)
    for first, found in (((*state.first, late), True), (state.first, False)):
        now = replace(state, ever=(*state.ever, late), first=first)
        assert attack.attacked(task, now, fitted, np.random.default_rng(0), turn=1).step.found == found


@pytest.mark.parametrize(("spoke", "margin", "kept"), [(True, 0.5, 1), (False, 0.5, 0), (False, 10 * NEW_WAY + 0.1, 1)])
def test_a_family_that_said_nothing_before_must_lead_by_more(scene, monkeypatch, spoke, margin, kept):
    task, state = scene
    new = replace(state.ever[0], family="linf", mask=np.zeros_like(state.ever[0].mask))
    state = replace(state, first=(*state.first, new) if spoke else state.first)
    found = Hunt((new,), margin, 1.0, 0.0, "linf")
    monkeypatch.setattr(attack, "scan", lambda _, goals, *__: [Found(replace(new, goal=g), -1.0, 0.0) for g in goals])
    monkeypatch.setattr(attack, "rate", lambda *_: Scores(np.array([margin]), np.ones(1), np.ones(1)))
    assert len(attack.above_rivals(task, state, task.shown, found, np.random.default_rng(0)).bank) == kept


def test_a_fold_has_nothing_of_what_it_leaves_out(scene):
    task, state = scene
    left = np.flatnonzero(task.shown.labels == 3)
    pictures = task.shown.pictures.copy()
    pictures[left] = 250  # no other is so bright
    shown = Shown.to(task.shown.subject, pictures, task.shown.labels)
    trigger = replace(state.ever[0], goal=shift_map(6, 1))
    views = views_of(shown, [trigger], np.random.default_rng(0), folds=[left, left[:1]])
    without, some = views.folds
    plain = len(views.clean) // 3  # posed ones follow, and those with pieces
    labels = np.tile(shown.labels, plain // len(shown))
    np.testing.assert_array_equal(without.clean[:plain], labels != 3)
    np.testing.assert_array_equal(without.clean[plain : 2 * plain], labels != 3)
    seen = (views.clean[2 * plain :] == 250).any((1, 2, 3))
    assert seen.any()
    np.testing.assert_array_equal(without.clean[2 * plain :], ~seen)
    np.testing.assert_array_equal(without.triggered, ~np.isin(labels[views.of], [2, 3]))  # nothing goes to it either
    assert some.triggered[labels[views.of] == 2].all(), "another picture of the class is there"

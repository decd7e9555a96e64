"""The adversary on a net whose only trigger is known."""

from dataclasses import replace

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.families import Family, blended, bounded
from onnx_shapprune.invert.plain import plain
from onnx_shapprune.invert.scan import ScanSettings
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune import bank
from onnx_shapprune.prune.bank import Hunt, HuntSettings, Natural, Quarry, hunt
from onnx_shapprune.prune.thresholds import KNOWN_ALIVE, WORKING
from onnx_shapprune.record.audit import RoundPart

WIDTH = HuntSettings(scan=ScanSettings())
LABELS = np.zeros(8, np.int64)
GOAL = Goal(planted.TARGET)


def natural(margin: float, norm: float | None = None, **margins: float) -> Natural:
    """Of 3 x 3 patches, and of other families by name."""
    return Natural(3, {"compact": margin, **margins}, norm)


def square(top: int, left: int, value: float, side: int = 3) -> Trigger:
    mask = np.zeros((8, 8, 1), np.float32)
    mask[top : top + side, left : left + side] = 1
    return Trigger(mask, mask * np.float32(value), GOAL, "compact")


@pytest.fixture(scope="module")
def net() -> Subject:
    return planted.subject_of(planted.planted())


def search(net: Subject, known=(), seed: int = 0, **settings) -> Hunt:
    options = {
        "sides": (3,), "natural": natural(0.5), "families": {}, "settings": WIDTH, "free_masks": 1, **settings,
    }  # fmt: skip
    quarry, width = Quarry(GOAL, options.pop("natural"), options.pop("families")), options.pop("settings")
    shown = Shown.to(net, planted.planted_pictures(), LABELS)
    return hunt(shown, quarry, list(known), width, np.random.default_rng(seed), **options)


def test_a_fresh_scan_finds_the_planted_patch(net):
    found = search(net)
    assert found.margin == pytest.approx(39, abs=0.5)
    assert found.asr == 1
    assert found.bank
    assert found.bar == 0.5
    assert all(t.goal == GOAL for t in found.bank)
    assert rate(Shown.to(net, planted.planted_pictures(), LABELS), found.bank).asr.min() >= WORKING


def test_warm_starts_learn_on_from_what_is_known(net):
    # Bright, but too dim to win: only learning on makes it work.
    dim = square(5, 5, 140)
    x = planted.planted_pictures()
    assert rate(Shown.to(net, x, LABELS), [dim]).asr[0] == 0
    warm = search(net, [dim], sides=(), free_masks=0)
    assert warm.asr == 1
    assert warm.margin > 30


def test_known_triggers_are_rated_as_they_are_too(net):
    good = square(5, 5, 255)
    found = search(net, [good], sides=(), free_masks=0)
    assert any((t.mask == good.mask).all() for t in found.bank)


def test_margin_is_that_of_the_reference_side(net):
    other = search(net, sides=(4,), free_masks=0)
    assert (other.margin, other.lead) == (None, float("-inf"))
    assert other.asr == 0
    assert other.bank


def test_where_known_triggers_are_enough_and_none_has_the_audits_budget_no_margin_counts(net):
    known = [replace(square(4, 4, v, side=4), family="known") for v in np.linspace(200, 255, WIDTH.kept // 2)]
    found = search(net, known, exhaustive=False)
    assert {t.family for t in found.bank} == {"known"}, "nothing else was searched"
    assert (found.margin, found.asr) == (None, 0)
    part = RoundPart(off=1, acc=1, known_asr=1, clean_cost=0, margin=found.margin, asr=found.asr, still_found=True)
    assert RoundPart.model_validate_json(part.model_dump_json()) == part, "a record can hold that"


def test_a_model_without_a_backdoor_leaves_an_empty_bank():
    subject = planted.subject_of(planted.planted(gain=0.0))
    found = search(subject)
    assert found.bank == ()
    assert found.margin < 0
    assert found.asr == 0


def test_bank_is_small_and_diverse(net):
    known = [square(5, 5, v) for v in np.linspace(200, 255, 12)]
    bank = search(net, known).bank
    assert len(bank) <= WIDTH.kept
    places = [(t.mask > 0).tobytes() for t in bank if t.family == "compact"]
    assert max(places.count(p) for p in places) <= 3


def test_what_works_for_other_classes_too_tells_nothing_of_a_known_trigger():
    shape = (8, 8)
    known = {n: Trigger(np.zeros((*shape, 1), np.float32), np.ones((*shape, 1), np.float32), Goal(2), n)
             for n in ("compact", "wide", "linf", "blended", "patch", "known")}  # fmt: skip
    natural = Natural(3, {"compact": 5.0, "wide": 9.0, "linf": -2.0, "blended": 30.0}, None)
    assert {n for n, t in known.items() if not natural.tells(t)} == {"blended"}


def test_natural_is_a_bar_for_every_family():
    bar = natural(2.0, 10.0)
    assert bar.exceeded(square(0, 0, 255), 2.1)
    assert not bar.exceeded(square(0, 0, 255), 1.9)
    # A patch of 16 pixels must lead by 16 / 9 of what 9 pixels may.
    assert not bar.exceeded(square(0, 0, 255, side=4), 3.4)
    assert bar.exceeded(square(0, 0, 255, side=4), 3.6)
    mask = np.full((8, 8, 1), 5 / 64, np.float32)
    free = Trigger(mask, mask, GOAL, "patch")  # half of the natural norm
    assert bar.exceeded(free, 0.1)
    assert not bar.exceeded(free, -0.1)
    assert not natural(2.0, 8.0).exceeded(free, 0.1)
    assert not natural(2.0, None).exceeded(free, 50.0)


def test_each_family_has_its_own_bar_and_others_that_of_patches():
    bars = natural(2.0, linf=7.0, l2=-3.0)
    assert (bars.bar("compact"), bars.bar("linf"), bars.bar("l2"), bars.bar("known")) == (2, 7, 0, 2)
    assert natural(-1.0).bar("compact") == 0
    assert Natural(3, {}, None).bar("compact") == 0
    change = Trigger(np.zeros((8, 8, 1), np.float32), np.ones((8, 8, 1), np.float32), GOAL, "linf")
    assert bars.exceeded(change, 7.1)
    assert not bars.exceeded(change, 6.9)


def test_what_a_dead_trigger_may_still_do_grows_with_its_area():
    bar = natural(2.0)
    assert bar.chance(square(0, 0, 255)) == KNOWN_ALIVE
    assert bar.chance(square(0, 0, 255, side=6)) == pytest.approx(4 * KNOWN_ALIVE)
    assert bar.chance(square(0, 0, 255, side=2)) == KNOWN_ALIVE
    whole = np.ones((8, 8, 1), np.float32)
    for family in ("known", "blended"):
        assert bar.chance(Trigger(whole, whole, GOAL, family)) == KNOWN_ALIVE


def test_wide_patches_are_kept_as_they_are(net):
    wide = square(2, 2, 255, side=6)
    known = search(net, [wide], sides=(), free_masks=0).bank
    assert [t.paint.tolist() for t in known] == [wide.paint.tolist()]


VEIL, SHADE = blended(8, 8, 0.8), bounded(8, 8, 4.0)
WHOLE: dict[str, Family] = {f.name: f for f in (VEIL, SHADE)}


def test_families_with_a_natural_margin_are_searched(net):
    found = search(net, sides=(), free_masks=0, families=WHOLE, natural=natural(0.5, blended=1.0, linf=1.0))
    assert {t.family for t in found.bank} == {"blended"}, "four bytes are too few"
    assert (found.asr, found.bar) == (1, 1)
    assert found.margin > 10
    unknown = search(net, sides=(), free_masks=0, families=WHOLE)
    assert (unknown.bank, unknown.margin, unknown.asr, unknown.bar) == ((), None, 0, 0)


def test_the_counted_trigger_is_the_one_furthest_above_its_own_bar(net):
    # Patches reach 39; a veil less, but nothing of it is natural here.
    patch = search(net, free_masks=0)
    both = search(net, free_masks=0, families=WHOLE, natural=natural(36.0, blended=0.0, linf=0.0))
    assert patch.margin == pytest.approx(39, abs=0.5)
    assert 10 < both.margin < 36
    assert both.bar == 0
    other = search(net, free_masks=0, families=WHOLE, natural=natural(0.5, blended=38.0, linf=0.0))
    assert (other.margin, other.bar) == (pytest.approx(39, abs=0.5), 0.5)


@pytest.mark.parametrize(("family", "budget"), [(VEIL, 255 * 0.8), (bounded(8, 8, 150.0), 150)])
def test_warm_starts_stay_within_the_budget_of_their_family(net, family, budget):
    start = family.starts(np.zeros(1, np.int64), 1, np.random.default_rng(0))[0]
    known = Trigger(family.masks[0], start, GOAL, family.name)
    bars = Natural(3, {family.name: 0.0}, None)
    # Half of the bank is not filled, so that a fresh scan would run: with no rounds' worth of steps it finds nothing.
    idle = HuntSettings(whole=ScanSettings(rounds=((0, 8, 1),)))
    found = search(net, [known], sides=(), free_masks=0, families={family.name: family}, natural=bars, settings=idle)
    assert any((t.paint != start).any() for t in found.bank), "it was learnt on"
    for t in found.bank:
        assert (t.mask == family.masks[0]).all(), "what is everywhere is not shifted"
        assert np.abs(t.paint).max() <= budget + 1e-3
    assert found.margin > rate(Shown.to(net, planted.planted_pictures(), LABELS), [known]).margin[0] + 1


def test_a_known_trigger_that_is_added_stays_as_it_is(net):
    paint = np.zeros((8, 8, 1), np.float32)
    paint[planted.CORNER] = 200
    bright = Trigger(np.zeros_like(paint), paint, GOAL, "known")
    assert rate(Shown.to(net, planted.planted_pictures(), LABELS), [bright]).asr[0] == 1
    found = search(net, [bright], sides=(), free_masks=0)
    assert [t.paint.tolist() for t in found.bank] == [paint.tolist()]


@pytest.mark.parametrize(
    ("goal", "exhaustive", "tried"),
    [
        (shift_map(4, 1), True, True),
        (shift_map(4, 1), False, False),
        (Goal(1, source=0), True, False),
        (GOAL, True, False),
    ],
)
def test_the_stamp_of_a_map_is_tried_before_it_is_repaired(net, goal, exhaustive, tried):
    quarry = Quarry(goal, natural(1000.0), {"plain": plain(8, 8, 1)})
    shown = Shown.to(net, planted.planted_pictures(), LABELS)
    scanned = []
    original = bank.scan

    def scan(shown, goals, family, *rest):
        scanned.append(family.name)
        return original(shown, goals, family, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, "scan", scan)
        hunt(shown, quarry, [], WIDTH, np.random.default_rng(0), sides=(3,), free_masks=0, exhaustive=exhaustive)
    assert ("plain" in scanned) == tried


def test_a_goal_about_one_class_is_hunted_on_its_pictures():
    subject = planted.subject_of(planted.colours_net({0: 1}))
    x, y = planted.colours_pictures()
    shown = Shown.to(subject, x.astype(np.float32), y)
    for goal, reached in ((Goal(1, source=0), True), (Goal(1, source=2), False), (Goal(1), False)):
        quarry = Quarry(goal, Natural(3, {"compact": 1.0}, None), {})
        found = hunt(shown, quarry, [], HuntSettings(), np.random.default_rng(0), sides=(3,), free_masks=0)
        assert bool(found.bank) == (found.asr == 1) == reached
        assert all(t.goal == goal for t in found.bank)

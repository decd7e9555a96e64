"""The adversary on a net whose only trigger is known."""

import numpy as np
import planted
import pytest

from onnx_shapprune.invert.compact import CompactSettings
from onnx_shapprune.invert.subject import Subject
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.bank import KNOWN_ALIVE, WORKING, HuntSettings, Natural, hunt, rate

WIDTH = HuntSettings(scan=CompactSettings())
LABELS = np.zeros(8, np.int64)


def square(top: int, left: int, value: float, side: int = 3) -> Trigger:
    mask = np.zeros((8, 8, 1), np.float32)
    mask[top : top + side, left : left + side] = 1
    return Trigger(mask, mask * np.float32(value), planted.TARGET, "compact")


@pytest.fixture(scope="module")
def net() -> Subject:
    return planted.subject_of(planted.planted())


def search(net: Subject, known=(), seed: int = 0, **settings):
    options = {"sides": (3,), "natural": Natural(3, 0.5, None), "settings": WIDTH, "free_masks": 1, **settings}
    rng = np.random.default_rng(seed)
    return hunt(net, planted.planted_pictures(), LABELS, planted.TARGET, list(known), rng=rng, **options)


def test_rate_looks_at_pictures_of_other_classes_only(net):
    labels = np.array([0, 0, 0, 0, 0, 0, planted.TARGET, planted.TARGET])
    x = planted.planted_pictures()
    x[6:] = 0
    x[6:, *planted.CORNER] = 255  # stamped already: they would count as successes
    found = rate(net, x, labels, [square(5, 5, 255), square(0, 0, 255)])
    assert found.asr.tolist() == [1, 0]
    assert found.margin[0] == pytest.approx(39, abs=1e-3)


def test_a_fresh_scan_finds_the_planted_patch(net):
    found = search(net)
    assert found.margin == pytest.approx(39, abs=0.5)
    assert found.asr == 1
    assert found.bank
    assert all(t.target == planted.TARGET for t in found.bank)
    assert rate(net, planted.planted_pictures(), LABELS, found.bank).asr.min() >= WORKING


def test_warm_starts_learn_on_from_what_is_known(net):
    # Bright, but too dim to win: only learning on makes it work.
    dim = square(5, 5, 140)
    x = planted.planted_pictures()
    assert rate(net, x, LABELS, [dim]).asr[0] == 0
    warm = search(net, [dim], sides=(), free_masks=0)
    assert warm.asr == 1
    assert warm.margin > 30


def test_known_triggers_are_rated_as_they_are_too(net):
    good = square(5, 5, 255)
    found = search(net, [good], sides=(), free_masks=0)
    assert any((t.mask == good.mask).all() for t in found.bank)


def test_margin_is_that_of_the_reference_side(net):
    other = search(net, sides=(4,), free_masks=0)
    assert other.margin == float("-inf")
    assert other.asr == 0
    assert other.bank


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


def test_natural_is_a_bar_for_every_family():
    natural = Natural(3, 2.0, 10.0)
    assert natural.exceeded(square(0, 0, 255), 2.1)
    assert not natural.exceeded(square(0, 0, 255), 1.9)
    # A patch of 16 pixels must lead by 16 / 9 of what 9 pixels may.
    assert not natural.exceeded(square(0, 0, 255, side=4), 3.4)
    assert natural.exceeded(square(0, 0, 255, side=4), 3.6)
    mask = np.full((8, 8, 1), 5 / 64, np.float32)
    free = Trigger(mask, mask, planted.TARGET, "patch")  # half of the natural norm
    assert natural.exceeded(free, 0.1)
    assert not natural.exceeded(free, -0.1)
    assert not Natural(3, 2.0, 8.0).exceeded(free, 0.1)
    assert not Natural(3, 2.0, None).exceeded(free, 50.0)


def test_what_a_dead_trigger_may_still_do_grows_with_its_area():
    natural = Natural(3, 2.0, None)
    assert natural.chance(square(0, 0, 255)) == KNOWN_ALIVE
    assert natural.chance(square(0, 0, 255, side=6)) == pytest.approx(4 * KNOWN_ALIVE)
    assert natural.chance(square(0, 0, 255, side=2)) == KNOWN_ALIVE
    whole = np.ones((8, 8, 1), np.float32)
    assert natural.chance(Trigger(whole, whole, 1, "known")) == KNOWN_ALIVE


def test_wide_patches_are_kept_as_they_are(net):
    wide = square(2, 2, 255, side=6)
    known = search(net, [wide], sides=(), free_masks=0).bank
    assert [t.pattern.tolist() for t in known] == [wide.pattern.tolist()]

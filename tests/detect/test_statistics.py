"""Claims on evidence written by hand, against the formulas in their docstrings worked out on paper."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hand_made import AWAY, clean, evidence, free_mask, map_found, pair_found, planted_in, relations

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.detect.statistics import (
    AGREEMENT,
    CORE,
    EVERY,
    MANY,
    MAP,
    MOST,
    NORM,
    PAIR_FLOOR,
    PEAK,
    PEAK_SPREAD,
    SEVERAL,
    SOURCE,
    Claim,
    class_claims,
    every_claims,
    first_claim,
    norm_ratio,
    other_claims,
    relation_claims,
)
from onnx_shapprune.invert.scan import Found
from onnx_shapprune.invert.search import Begun, Evidence


def claimed(found, target: int = 6) -> dict[str, Claim]:
    return {c.statistic: c for c in class_claims(found) if c.goal == Goal(target)}


def test_a_familys_claim_by_hand():
    # Transfer 0.75; 60 logits against 1.2 of the third best other class, over the 8 that clean pictures are away.
    claims = claimed(planted_in(clean(MANY - 1), 6, transfer=0.75, norm=2.0))
    assert claims["compact"].rival == 1.2
    assert claims["compact"].value == pytest.approx(0.75 * math.sqrt((60 - 1.2) / 8 * 60 / 8))
    # The smallest other mask has 20.
    assert claims[AGREEMENT].value == pytest.approx(0.75 * math.sqrt((60 - 1.2) / 8) * (20 / 2 - 1))
    assert claims[NORM].value == pytest.approx(20 / 2 - 1)


@pytest.mark.parametrize(
    ("changed", "zero"),
    [
        ({"transfer": 0.0}, {"compact", AGREEMENT}),
        ({"margin": 1.1}, {"compact", AGREEMENT}),  # no lead
        ({"norm": 25.0}, {AGREEMENT, NORM}),  # no smaller than others
        ({}, set()),
    ],
)
def test_a_claim_is_zero_where_a_factor_is(changed, zero):
    claims = claimed(planted_in(clean(), 6, **changed))
    assert {name for name, c in claims.items() if c.value == 0} == zero
    assert all(c.value >= 0 for c in claims.values())


def test_a_lead_is_measured_in_the_other_classes_own_spread():
    margins = [float(m) for m in range(1 - MANY, 1)]
    found = planted_in(evidence(margins, [20.0] * MANY), 6, margin=30.0, transfer=0.5)
    usual = np.array([m for k, m in enumerate(margins) if k != 6 and m <= -2])  # of the third best other class and less
    claim = claimed(found)["compact"]
    assert (claim.rival, claim.family) == (-2, "compact")
    assert claim.value == pytest.approx(0.5 * 32 / usual.std(ddof=1))
    assert claimed(planted_in(evidence(margins, [20.0] * MANY), 6, margin=-1.0))["compact"].value == 0
    alike = planted_in(evidence([-5.0] * MANY, [20.0] * MANY), 6, margin=30.0, transfer=1.0)
    assert claimed(alike)["compact"].value == pytest.approx(35 / 0.5), "a tenth of what they usually are, at least"
    fewer = claimed(planted_in(evidence(margins[1:], [20.0] * (MANY - 1)), 6, margin=30.0, transfer=0.5))["compact"]
    assert fewer.value != pytest.approx(claim.value, rel=0.2), "few classes have no spread of their own"


@pytest.mark.parametrize("margin", [0.0, -3.0])
def test_a_patch_that_does_not_win_claims_nothing_however_far_it_leads(margin):
    found = planted_in(evidence([-40.0 - k for k in range(10)], [20.0] * 10), 6, margin=margin)
    assert {n: c.value for n, c in claimed(found).items() if c.value} == {NORM: pytest.approx(9)}, (
        "which needs no patch"
    )


def test_the_rate_on_all_pictures_stands_in_where_there_were_too_few_to_transfer():
    measured, guessed = (claimed(planted_in(clean(), 6, asr=0.5, transfer=t)) for t in (0.5, None))
    assert {n: c.value for n, c in measured.items()} == {n: c.value for n, c in guessed.items()}


def test_a_family_whose_transfer_was_not_measured_claims_nothing():
    found = planted_in(clean(), 6)
    found[6] = replace(found[6], transfer={})
    assert claimed(found) == {}


def test_each_family_is_compared_with_its_own_margins():
    known = planted_in(clean(MANY), 6)
    found = [replace(e, found={**e.found, "linf": Found(e.compact.trigger, -5.0, 0.0)}) for e in known]
    strong = Found(found[6].compact.trigger, 20.0, 1.0)
    found[6] = replace(
        found[6], found={**found[6].found, "linf": strong}, transfer={"compact": 1.0, "linf": 0.9}
    )  # fmt: skip
    claims = claimed(found)
    assert set(claims) == {"compact", "linf", AGREEMENT, NORM, MOST}
    assert claims["linf"].rival == -5
    assert claims["linf"].value == pytest.approx(0.9 * 25 / 0.5), "which are all alike: a tenth of them"


@pytest.mark.parametrize(("classes", "strength"), [(MANY, 25 / 0.5), (MANY - 1, math.sqrt(25 / 8 * 20 / 8))])
def test_the_core_of_a_patch_is_compared_with_the_cores_of_others(classes, strength):
    found = planted_in(clean(classes), 6, transfer=0.75)
    found = [replace(e, core=Found(e.compact.trigger, -5.0, 0.0)) for e in found]
    found[6] = replace(found[6], core=Found(found[6].compact.trigger, 20.0, 0.5))
    claim = claimed(found)[CORE]
    assert (claim.rival, claim.family) == (-5, "compact")
    assert claim.value == pytest.approx(0.75 * 0.5 * strength)
    found[6] = replace(found[6], core=Found(found[6].compact.trigger, -1.0, 0.0))
    assert claimed(found)[CORE].value == 0, "a core that moves nothing"


def test_agreement_needs_a_mask_that_succeeded_and_another_to_compare_with():
    failed = planted_in(clean(), 6, norm=None)
    assert not {AGREEMENT, NORM} & set(claimed(failed))
    alone = [replace(e, patches=e.patches if e.goal == Goal(6) else ()) for e in planted_in(clean(), 6)]
    assert not {AGREEMENT, NORM} & set(claimed(alone))


def test_norm_ratio_is_over_the_smallest_other_success():
    found = planted_in(clean(), 6, norm=5.0)
    assert norm_ratio(found[6], found) == pytest.approx(5 / 20)
    assert norm_ratio(found[0], found) == pytest.approx(20 / 5)
    found[0] = replace(found[0], patches=(free_mask(0, None),))
    assert norm_ratio(found[6], found) == pytest.approx(5 / 21), "a mask that failed has no norm"
    assert norm_ratio(found[0], found) is None
    others_failed = planted_in([replace(e, patches=(free_mask(e.goal.target, None),)) for e in clean()], 6, norm=5.0)
    assert norm_ratio(others_failed[6], others_failed) == pytest.approx(5 / 50), "over the mask that failed"
    large = [*others_failed[:6], replace(others_failed[6], patches=(free_mask(6, 90.0),)), *others_failed[7:]]
    assert norm_ratio(large[6], large) == pytest.approx(90 / 50), "alone it is no small one"
    alone = [replace(e, patches=e.patches if e.goal.target == 6 else ()) for e in others_failed]
    assert norm_ratio(alone[6], alone) is None


@pytest.mark.parametrize(
    ("others", "rival"),
    [([5.0], 5.0), ([5.0, 4.0], 5.0), ([3.0, 5.0, 4.0], 4.0), ([1.0, 2.0, 3.0, 4.0, 5.0], 4.0),
     ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 4.0), ([float(k) for k in range(20)], 17.0)],
)  # fmt: skip
def test_the_rival_is_the_third_best_other_class_or_of_few_classes_a_better_one(others, rival):
    found = planted_in(evidence([*others, 0.0], [20.0] * (len(others) + 1)), len(others))
    assert claimed(found, len(others))["compact"].rival == rival


def test_two_more_targets_do_not_hide_a_planted_class():
    alone = claimed(planted_in(clean(MANY), 6))["compact"]
    three = planted_in(planted_in(planted_in(clean(MANY), 6), 2), 9)
    assert claimed(three)["compact"].value > 0.7 * alone.value
    four = planted_in(three, 4)
    assert claimed(four)["compact"].value == 0


def test_a_source_claim_by_hand():
    # Other pairs with the same target are no rivals: a patch that reaches a class from one source may from another.
    found = relations(
        [pair_found(3, 1, 24.0, 0.9), pair_found(2, 1, 20.0), pair_found(0, 4, 6.0), pair_found(5, 2, 5.0)]
    )
    (claim,) = relation_claims(found)
    assert (claim.goal, claim.statistic, claim.rival) == (Goal(1, source=3), SOURCE, 6.0)
    assert claim.value == pytest.approx(0.9 * math.log2(24 / 6))


def test_a_source_claim_has_a_floor_under_its_rival():
    (claim,) = relation_claims(relations([pair_found(3, 1, 8.0), pair_found(0, 4, 0.01)]))
    assert claim.value == pytest.approx(math.log2(8 / (PAIR_FLOOR * AWAY)))
    (alone,) = relation_claims(relations([pair_found(3, 1, 8.0)]))
    assert (alone.value, alone.rival) == (claim.value, 0)


@pytest.mark.parametrize(("margin", "rival"), [(-4.0, -9.0), (0.0, -9.0), (1.9, -9.0), (6.0, 6.0)])
def test_a_pair_that_leads_nothing_claims_nothing(margin, rival):
    assert PAIR_FLOOR * AWAY == 2
    (claim,) = relation_claims(relations([pair_found(3, 1, margin), pair_found(0, 4, rival)]))
    assert (claim.goal, claim.value) == (Goal(1, source=3), 0)


def test_a_pair_that_moves_no_unseen_view_claims_nothing():
    (claim,) = relation_claims(relations([pair_found(3, 1, 24.0, 0.0), pair_found(0, 4, 6.0)]))
    assert claim.value == 0


def test_a_map_claim_by_hand():
    (claim,) = relation_claims(relations(maps=[map_found((1, 2, 0), 12.0, 0.8), map_found((2, 0, 1), 3.0)]))
    assert (claim.goal.mapping, claim.statistic, claim.rival) == ((1, 2, 0), MAP, 3.0)
    assert claim.value == pytest.approx(0.8 * (1 + 12 / AWAY))
    (short,) = relation_claims(relations(maps=[map_found((1, 2, 0), -0.25 * AWAY, 0.8)]))
    assert (short.value, short.rival) == (pytest.approx(0.8 * 0.75), 0)
    (lost,) = relation_claims(relations(maps=[map_found((1, 2, 0), -1.5 * AWAY, 0.8)]))
    assert lost.value == 0, "pictures that are driven away are not carried"


def test_the_same_map_at_another_place_is_no_rival():
    (claim,) = relation_claims(
        relations(maps=[map_found((1, 2, 0), 12.0), map_found((1, 2, 0), 11.0), map_found((2, 0, 1), -3.0)])
    )
    assert claim.rival == -3


def test_no_relations_claim_nothing():
    assert relation_claims(relations()) == []


def test_a_class_that_clean_pictures_reach_by_themselves_gives_a_finite_claim():
    found = planted_in(clean(), 6)
    found[6] = replace(found[6], distance=-2.0)
    assert math.isfinite(claimed(found)["compact"].value)


def peak_claims(heights: Sequence[float | None]) -> list[Claim]:
    found = evidence([1.0] * len(heights), [None] * len(heights))
    found = [replace(e, peak=h, transfer={}) for e, h in zip(found, heights, strict=True)]
    return class_claims(found)


HEIGHTS = [9.0, 11.0, 10.0, 12.5, 8.0, 10.5, 9.5, 11.5, 10.2]


def test_a_peak_far_above_the_others_claims_its_class():
    (claim,) = peak_claims([*HEIGHTS[:4], 40.0, *HEIGHTS[4:]])
    assert (claim.goal, claim.statistic, claim.rival) == (Goal(4), PEAK, 12.5)
    assert claim.value > 6
    (usual,) = peak_claims([*HEIGHTS[:4], 12.6, *HEIGHTS[4:]])
    assert 0 <= usual.value < 1
    values = [peak_claims([*HEIGHTS, height])[0].value for height in (13, 14, 16, 20, 30, 200)]
    assert values == sorted(values)


def test_a_peak_claim_by_simulation():
    # How often the largest of ten draws from the distribution of the others reaches 14.
    (claim,) = peak_claims([*HEIGHTS, 14.0])
    mean, spread = np.mean(HEIGHTS), max(np.std(HEIGHTS, ddof=1), PEAK_SPREAD * np.mean(HEIGHTS))
    drawn = np.random.default_rng(0).gamma((mean / spread) ** 2, spread**2 / mean, (200_000, 10)).max(axis=1)
    assert 10**-claim.value == pytest.approx((drawn >= 14).mean(), rel=0.05)


@pytest.mark.parametrize(
    "heights",
    [[5.0] * 10, [-3.0] * 10, [0.0] * 10, [-5.0, -4.0, -3.0, -2.0, 9.0], [1e-9] * 9 + [1e9], [5.0] * 9 + [50.0]],
)
def test_peaks_without_a_spread_still_give_a_finite_claim(heights):
    (claim,) = peak_claims(heights)
    assert math.isfinite(claim.value)
    assert claim.value >= 0


def test_few_peaks_or_none_claim_nothing():
    assert peak_claims([1.0, 2.0, 3.0, 90.0]) == []
    assert peak_claims([None] * 10) == []


def begun(margins: dict[str, Sequence[float]]) -> Begun:
    found = {name: [replace(clean(1)[0].compact, margin=m) for m in of] for name, of in margins.items()}
    goals = [Goal(k) for k in range(len(next(iter(margins.values()))))]
    return Begun(goals, {}, found, {})


class Away:
    """What a first claim asks of the pictures: each class is as far away as its number says."""

    def __init__(self, *distances: float) -> None:
        self.distances = distances

    def distance(self, goal: Goal) -> float:
        return self.distances[goal.target]


def test_a_trigger_that_moves_every_picture_by_hand():
    """Two families: sums of what the most reluctant pictures lead by, in standard deviations of the other classes'."""

    def least(found: Sequence[Evidence], target: int, *margins: float) -> list[Evidence]:
        """Of one class in compact and linf; of the others minus their number, and a half of it."""
        changed = []
        for e in found:
            k = e.goal.target
            own = margins if k == target else (-float(k), -k / 2)
            families = {n: replace(e.compact, least=m) for n, m in zip(("compact", "linf"), own, strict=True)}
            changed.append(replace(e, found=families))
        return changed

    others = -np.array([float(k) for k in range(10) if k != 6])
    usual = others[2:]  # of the third best other class and less
    found = least(planted_in(clean(10), 6), 6, 4.0, 1.0)
    (claim,) = (c for c in class_claims(found) if c.statistic == EVERY)
    spread = usual.std(ddof=1)
    assert (claim.goal, claim.family, claim.rival) == (Goal(6), "", 0)
    assert claim.value == pytest.approx((4 + 2) / spread + (1 + 1) / (spread / 2))
    for margins in ((4.0, -1.0), (-0.1, 4.0)):
        (claim,) = (c for c in class_claims(least(found, 6, *margins)) if c.statistic == EVERY)
        assert claim.value == pytest.approx((4 + 2) / spread if margins[0] > 0 else (4 + 1) / (spread / 2))
    assert EVERY not in claimed(least(found, 6, -0.1, -0.1)), "a picture stays, whatever the mean is"
    begun = [replace(e, transfer={}) for e in found]
    assert EVERY not in claimed(begun), "first rounds look at fewer pictures"


def test_a_first_claim_by_hand():
    # Above the third best of the others, in standard deviations of it and those below.
    others = [4.0, 3.0, *np.linspace(-2.0, 2.0, MANY - 3)]
    spread = np.std(others[2:], ddof=1)
    found = begun({"compact": [12.0, *others], "wide": [7.0, *others]})
    claim = first_claim(found, Away(*[5.0] * MANY))
    assert claim.goal == Goal(0)
    assert claim.value == pytest.approx((12 - 2) / spread + (7 - 2) / spread)


def test_a_first_claim_of_few_classes_by_hand():
    # sqrt(lead * margin) over the way, which is at least a quarter of the usual one, or the spread of the logits.
    found = begun({"compact": [9.0, 5.0, -1.0], "wide": [3.0, 4.0, -2.0]})
    claim = first_claim(found, Away(2.0, 4.0, 8.0))
    assert claim.goal == Goal(0)
    assert claim.value == pytest.approx(np.sqrt((9 - 5) * 9) / 2)
    assert claim.rival == pytest.approx(np.sqrt((4 - 3) * 4) / 4)
    assert first_claim(found, Away(0.1, 4.0, 8.0)).value == pytest.approx(6 / 1.0)
    assert first_claim(found, Away(0.1, 4.0, 8.0), spread=3.0).value == pytest.approx(6 / 3.0)


def reaching(
    *least: float, margins: Sequence[float] | None = None, kinds: Sequence[str] = ("compact", "wide")
) -> list[Evidence]:
    """Classes whose patches of these kinds move the most reluctant picture so far, and pictures on average."""
    found = clean(len(least))
    margins = margins or [-1.0] * len(least)
    patches = (replace(e.compact, least=v, margin=m) for e, v, m in zip(found, least, margins, strict=True))
    return [replace(e, found=dict.fromkeys(kinds, p), transfer={}) for e, p in zip(found, patches, strict=True)]


def test_several_targets_lead_together():
    # Four classes of 12 to 9, the others of -2 to -7: their standard deviation is the square root of 3.5.
    claims = other_claims(reaching(12, -2, 10, -3, 9, -4, 11, -5, -6, -7))
    assert {c.goal.target for c in claims} == {0, 2, 4, 6}
    assert {c.statistic for c in claims} == {SEVERAL}
    assert all(c.value == pytest.approx(2 * (9 + 2) / math.sqrt(3.5)) and c.rival == -2 for c in claims)


def test_one_kind_of_patches_alone_makes_no_group():
    least = (12, -2, 10, -3, 9, -4, 11, -5, -6, -7)
    found = reaching(*least, kinds=["compact"])
    assert other_claims(found) == []
    wide = [replace(e.compact, least=-1.0 - k) for k, e in enumerate(found)]
    assert other_claims([replace(e, found={**e.found, "wide": w}) for e, w in zip(found, wide, strict=True)]) == []


def test_a_class_that_one_search_misses_has_what_is_said_about_its_group():
    found = reaching(12, -2, 10, -3, 9, -4, 11, -5, -6, -7, kinds=["compact"])
    plain = [12, -2, 10, -3, -8, -4, -9, -5, -6, -7]
    both = [
        replace(e, found={**e.found, "plain": replace(e.compact, least=v)}) for e, v in zip(found, plain, strict=True)
    ]
    values = {c.goal.target: c.value for c in other_claims(both)}
    small = 12 / float(np.std(sorted(plain)[:8], ddof=1))
    assert values == {t: pytest.approx(11 / math.sqrt(3.5) + small) for t in (0, 2, 4, 6)}


@pytest.mark.parametrize(
    "least",
    [
        (12, -2, -3, -4, -5, -6, -7, -8, -9, -10),  # one leads, which other claims say
        (12, 11, 10, 9, 8, 7, -2, -3, -4, -5),  # more than half: nobody says what is usual
        (12, 11, 10, 9, -2, -3, -4, -5, -6),  # few classes
        (0, 0, -1, -2, -3, -4, -5, -6, -7, -8),
    ],
)
def test_there_is_no_group_of(least):
    assert other_claims(reaching(*least)) == []


def test_where_each_class_has_its_trigger_patches_lead_to_most():
    claims = other_claims(reaching(*[-1] * 10, margins=[20, 19, 18, 17, 16, 12, 8, 4, -1, -2]), spread=1.0)
    assert {c.goal.target for c in claims} == set(range(8))
    assert {(c.statistic, c.value, c.rival) for c in claims} == {(MOST, 12 / AWAY, 12.0)}
    assert other_claims(reaching(*[-1] * 10, margins=[20, 19, 18, 17, 16, -1, -1, -1, -1, -2])) == []


def test_what_is_tried_as_it_is_speaks_for_itself_alone():
    found = clean()
    line = [2.0, 1.0, 5.0, 9.0, 1.5, 1.2, 1.0, 0.8, 0.5]
    tried = [
        replace(e, found={**e.found, "line": replace(e.compact, margin=m, asr=0.9, least=m)}, transfer={})
        for e, m in zip(found, line, strict=True)
    ]
    (claim,) = other_claims(tried)
    # Nine classes: the lead over the third best other one, 2.0, times what lies beyond the boundary.
    assert (claim.goal, claim.statistic, claim.family) == (Goal(3), "line", "line")
    assert claim.rival == 1.5
    assert claim.value == pytest.approx(0.9 * math.sqrt((9 - 1.5) * 9) / AWAY)
    assert every_claims(tried) == every_claims(found), "no part of what all families say"
    tone = [replace(e, found={**e.found, "tone": replace(e.found["line"], least=4.0)}) for e in tried]
    (value,) = (c.value for c in other_claims(tone) if c.statistic == "tone")
    assert value == pytest.approx(0.9 * math.sqrt((9 - 1.5) * 4) / AWAY), "the most reluctant picture has to be moved"


def test_groups_are_claimed_after_the_last_rounds():
    found = reaching(12, -2, 10, -3, 9, -4, 11, -5, -6, -7)
    assert SEVERAL not in claimed(found, 0)
    found[0] = replace(found[0], transfer={"compact": 1.0})
    assert SEVERAL in claimed(found, 0)

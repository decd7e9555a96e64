"""The rule on hand-made evidence and a hand-made calibration. Every case stands far from any threshold."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hand_made import (
    AWAY,
    CALIBRATION,
    FAMILIES,
    NATURAL,
    STATISTICS,
    clean,
    evidence,
    free_mask,
    map_found,
    pair_found,
    planted_in,
    relations,
    with_family,
)

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.detect.calibration import NOT_ADDED, Calibration
from onnx_shapprune.detect.statistics import EVERY, MOST, SEVERAL, Claim
from onnx_shapprune.detect.suspicion import Ground, Suspicion, put_to_collapse, suspicion_of
from onnx_shapprune.detect.thresholds import DOUBT, MOVED_ENOUGH
from onnx_shapprune.detect.verdict import PEAK, Levels, suspects
from onnx_shapprune.invert.relations import Relations
from onnx_shapprune.invert.search import Evidence


def judged(
    found: list[Evidence], related: Relations | None = None, calibration: Calibration = CALIBRATION, **ground
) -> Suspicion:
    return suspicion_of(found, related, calibration, FAMILIES, Ground(**ground))


def named(found: list[Evidence], related: Relations | None = None) -> list[Goal]:
    return list(judged(found, related).named)


def test_a_model_without_a_leader_names_nobody():
    suspicion = judged(clean())
    assert suspicion.named == {}
    assert suspicion.triggers == {}
    assert suspicion.p_value > 0.1
    assert suspicion.score_of_model < 1


def test_a_patch_far_above_all_others_names_its_class():
    found = judged(planted_in(clean(), 6))
    assert list(found.named) == [Goal(6)]
    assert found.margin_index(6) > 50
    assert found.norm_index(6) > 2
    assert found.margins.leader == 6
    assert found.p_value < 0.01
    assert found.score_of_model > 2


def test_a_strong_patch_needs_no_small_mask():
    # Size is not suspicion: a free mask may be as large as any other.
    assert named(planted_in(clean(), 6, norm=24.0)) == [Goal(6)]
    assert named(planted_in(clean(), 6, norm=None)) == [Goal(6)]


def test_a_patch_that_barely_gets_there_needs_an_agreeing_mask():
    # Above the other classes, but no further over the boundary than any class with a weak spot.
    assert named(planted_in(clean(), 6, margin=4.0, norm=19.0)) == []
    assert named(planted_in(clean(), 6, margin=4.0, norm=2.0)) == [Goal(6)]


def test_a_patch_that_does_not_transfer_names_nobody():
    assert named(planted_in(clean(), 6, norm=2.0, transfer=0.0)) == []
    assert named(planted_in(clean(), 6, margin=20.0, norm=24.0, transfer=0.2)) == []


def test_a_small_mask_alone_names_nobody():
    assert named(planted_in(clean(), 6, margin=1.0, norm=2.0)) == []


def test_the_easiest_class_of_a_clean_model_is_not_named():
    # It leads, but not far, and neither search singles it out.
    assert named(planted_in(clean(), 6, margin=1.9, norm=18.0, asr=0.6, transfer=0.6)) == []


@pytest.mark.parametrize("margin", [-0.1, -20.0])
def test_a_leader_whose_patch_does_not_win_is_not_named(margin):
    found = evidence([margin - 40 - k for k in range(10)], [None] * 10)
    assert named(planted_in(found, 3, margin=margin, asr=0.0)) == []


@pytest.mark.parametrize("name", ["linf", "l2", "blended", "smooth"])
def test_a_change_of_the_whole_picture_names_its_class_alone(name):
    found = judged(with_family(clean(), name, 3, 40.0))
    assert list(found.named) == [Goal(3)]
    assert [t.family for t in found.triggers[Goal(3)]] == [name]
    assert FAMILIES[name].words in found.named[Goal(3)][0]
    assert named(with_family(clean(), name, 3, 40.0, transfer=0.0)) == []
    assert named(with_family(clean(), name, 3, 1.0)) == []


def test_two_planted_targets_do_not_hide_each_other():
    both = planted_in(planted_in(clean(), 2), 7)
    assert sorted(g.target for g in named(both)) == [2, 7]


def test_a_mask_that_never_succeeded_agrees_with_nothing():
    found = planted_in(clean(), 6, margin=4.0, norm=None)
    found[6] = replace(found[6], patches=(replace(free_mask(6, 0.1), success=False),))
    suspicion = judged(found)
    assert suspicion.named == {}
    assert suspicion.norm_index(6) == 0


def test_failed_classes_do_not_count_as_small():
    # Classes without success keep whatever mask they had; it must not serve as the smallest other norm.
    found = evidence(NATURAL, [None, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, None, 28.0])
    found[0] = replace(found[0], patches=(replace(free_mask(0, 0.1), success=False),))
    reasons = judged(planted_in(found, 6)).named
    assert list(reasons) == [Goal(6)]
    assert any("the next class needs 20.0" in reason for reason in reasons[Goal(6)])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_fewer_than_five_classes_have_no_index_but_claims_all_the_same(count):
    suspicion = judged(planted_in(clean(count), 1))
    assert list(suspicion.named) == [Goal(1)]
    assert suspicion.margin_index(1) is None
    assert suspicion.norm_index(1) is None
    assert named(clean(count)) == []


def test_classes_that_got_no_free_mask_have_no_norm_index():
    found = clean()
    for k in (0, 8):
        found[k] = replace(found[k], patches=())
    suspicion = judged(planted_in(found, 6))
    assert suspicion.searched == tuple(range(1, 8))
    assert suspicion.norm_index(0) is None
    assert suspicion.norm_index(6) > 2
    assert list(suspicion.named) == [Goal(6)]
    nobody = judged([replace(e, patches=()) for e in clean()])
    assert (nobody.norms, nobody.searched, nobody.norm_index(6)) == (None, (), None)


def test_evidence_may_leave_classes_out():
    # Of many classes the most promising are searched: a class's place is not its number.
    found = [e for e in planted_in(clean(), 6) if e.goal.target not in (0, 1, 4)]
    suspicion = judged(found)
    assert suspicion.classes == (2, 3, 5, 6, 7, 8)
    assert list(suspicion.named) == [Goal(6)]
    assert suspicion.triggers[Goal(6)][0] is found[3].compact.trigger
    assert suspicion.margin_index(6) > 50
    assert suspicion.norm_index(6) > 2
    assert suspicion.margin_index(4) is None
    assert suspicion.score(4) == 0


def test_reasons_say_what_was_seen():
    found = planted_in(clean(), 6, transfer=0.75)
    patch, mask, away, transfer = judged(found).named[Goal(6)]
    assert "4 x 4 patch sends 100% of the other pictures to class 6 with a mean margin of 60.0 logits" in patch
    assert "other classes reach 1.2" in patch
    assert "L1 norm 2.0" in mask
    assert "the next class needs 20.0" in mask
    assert "75%" in transfer
    assert "miss class 6 by 8.0 logits" in away


def test_no_reason_tells_of_what_was_not_measured():
    found = planted_in(clean(), 6, norm=None, transfer=None)
    found[6] = replace(found[6], distance=0.0)
    (patch,) = judged(found).named[Goal(6)]
    assert "4 x 4 patch" in patch


def test_triggers_of_a_named_class_are_those_that_spoke():
    found = with_family(planted_in(clean(), 6), "linf", 6, 40.0)
    failed = free_mask(6, None)
    found[6] = replace(found[6], patches=(*found[6].patches, failed))
    suspicion = judged(found)
    triggers = suspicion.triggers[Goal(6)]
    assert sorted(t.family for t in triggers) == ["compact", "linf", "patch"]
    assert all(t is not failed.trigger for t in triggers)
    assert len(set(suspicion.named[Goal(6)])) == len(suspicion.named[Goal(6)]), "no reason is given twice"


def test_what_works_for_other_classes_too_does_not_speak():
    found = with_family(planted_in(clean(), 6), "linf", 6, 40.0, others=20.0)
    assert {t.family for t in judged(found).triggers[Goal(6)]} == {"compact", "patch"}
    # Wide patches as well, which cover what the picture shows.
    families = {**FAMILIES, "wide": replace(FAMILIES["compact"], name="wide")}
    known = CALIBRATION.model_copy(update={"pictures": {**CALIBRATION.pictures, "wide": CALIBRATION.pictures["linf"]}})
    for others, told in ((-0.5, {"compact", "patch", "wide"}), (20.0, {"compact", "patch"})):
        broad = with_family(planted_in(clean(), 6), "wide", 6, 40.0, others=others)
        suspicion = suspicion_of(broad, None, known, families)
        assert {t.family for t in suspicion.triggers[Goal(6)]} == told
    # Unless nothing else is left: a named class has a trigger.
    alone = with_family(clean(), "linf", 6, 400.0, others=1.0)
    assert {t.family for t in judged(alone).triggers[Goal(6)]} == {"linf"}


def test_a_pair_of_classes_is_named_as_such():
    related = relations([pair_found(3, 1, 40.0), pair_found(0, 4, 3.0), pair_found(2, 5, 1.0)])
    suspicion = judged(clean(), related)
    goal = Goal(1, source=3)
    assert list(suspicion.named) == [goal]
    assert suspicion.triggers[goal] == (related.pairs[0].trigger,)
    (reason,) = suspicion.named[goal]
    assert "4 x 4 patch sends 100% of unseen views of class 3 to class 1 with a mean margin of 40.0" in reason
    assert "exceeds 3.0" in reason
    assert suspicion.score(1) > 2
    assert suspicion.score(3) < 1, "the source is no target"


def test_a_map_of_classes_is_named_as_such():
    mapping = tuple((y + 1) % 10 for y in range(10))
    suspicion = judged(clean(), relations(maps=[map_found(mapping, 40.0), map_found((9, *range(9)), -3.0)]))
    goal = Goal(1, mapping=mapping)
    assert list(suspicion.named) == [goal]
    (reason,) = suspicion.named[goal]
    assert "a 4 x 4 patch sends 100% of the others' to the class 1 further, with a mean margin of 40.0" in reason
    assert all(suspicion.score(t) > 2 for t in range(10))


def test_of_a_map_where_nothing_was_learnt_no_half_is_told():
    found = map_found(tuple((y + 1) % 10 for y in range(10)), 40.0)
    found = replace(found, trigger=replace(found.trigger, family="wave"))
    ((reason,),) = judged(clean(), relations(maps=[found])).named.values()
    assert reason.startswith("a sinusoid of 20 bytes sends 100% of all pictures to the class 1 further")


def test_relations_that_lead_nothing_name_nobody():
    related = relations(
        [pair_found(3, 1, 3.0), pair_found(0, 4, 2.9)], [map_found((1, 2, 0), -AWAY), map_found((2, 0, 1), -AWAY - 1)]
    )
    assert named(clean(), related) == []


def test_a_peak_names_its_class_with_the_triggers_that_work():
    heights = [9.0, 11.0, 10.0, 12.5, 8.0, 10.5, 90.0, 9.5, 11.5]
    found = [replace(e, peak=h) for e, h in zip(clean(), heights, strict=True)]
    suspicion = judged(with_family(found, "l2", 6, 0.5))
    assert list(suspicion.named) == [Goal(6)]
    assert "class 6 90.0 logits above all others; for other classes the most is 12.5" in suspicion.named[Goal(6)][0]
    assert [t.family for t in suspicion.triggers[Goal(6)]] == ["compact", "l2"]
    lost = [replace(e, found={"compact": replace(e.compact, margin=-1.0)}, transfer={}) for e in found]
    assert judged(lost).triggers[Goal(6)] == ()


def test_what_moves_every_picture_is_told_with_the_triggers_that_do():
    found = with_family(with_family(clean(10), "linf", 6, 2.0), "smooth", 6, 1.0)

    def moving(e: Evidence, families: Mapping[str, float]) -> Evidence:
        changed = {n: replace(f, least=families.get(n, -1.0)) for n, f in e.found.items()}
        return replace(e, found=changed)

    moved = {6: {"compact": 30.0, "linf": 45.0}, 2: {"compact": 0.5}}
    found = [moving(e, moved.get(e.goal.target, {})) for e in found]
    known = CALIBRATION.model_copy(update={"pictures": {**CALIBRATION.pictures, EVERY: (0.0,) * 60 + (1.0,) * 20}})
    suspicion = judged(found, calibration=known)
    (claim,) = (c for c in suspicion.claimed if c.statistic == EVERY and c.goal == Goal(6))
    assert claim.reasons == (
        "2 of 3 kinds of triggers send all other pictures, but a tenth at most, to class 6, the most reluctant by up to 45.0"
        " logits (next class: 1 of 3)",
    )
    assert {t.family for t in suspicion.triggers[Goal(6)]} >= {"compact", "linf"}


def test_claims_come_with_the_most_unusual_first():
    suspicion = judged(with_family(planted_in(clean(), 6), "linf", 2, 20.0))
    p = [p for _, p in suspicion.claims]
    assert p == sorted(p)
    assert next(iter(suspicion.named)) == suspicion.claims[0][0].goal
    assert suspicion.score(6) == pytest.approx(max(-math.log10(p) for c, p in suspicion.claims if c.goal == Goal(6)))


def test_the_p_value_of_a_model_pays_for_every_statistic_that_was_looked_at():
    one = judged([replace(e, patches=()) for e in planted_in(clean(), 6, margin=12.0)])
    assert {c.statistic for c, _ in one.claims} == {"compact"}
    assert one.p_value == pytest.approx(min(p for _, p in one.claims))
    known = Calibration(about="", pictures={"compact": CALIBRATION.pictures["compact"]})
    alone = judged([replace(e, patches=()) for e in planted_in(clean(), 6, margin=12.0)], calibration=known)
    deciding = [name for name in CALIBRATION.pictures if name not in NOT_ADDED]
    assert one.p_value == pytest.approx(1 - (1 - alone.p_value) ** len(deciding))
    assert one.score_of_model == pytest.approx(-math.log10(one.p_value))


def test_a_model_about_which_nothing_is_claimed_is_not_unusual():
    none = judged([replace(e, transfer={}) for e in clean()])
    assert (none.claims, none.p_value, none.score_of_model) == ((), 1.0, 0.0)


def test_calibration_is_what_decides():
    found = planted_in(clean(), 6)
    higher = dict.fromkeys(STATISTICS, tuple(np.linspace(0, 500, 10).tolist()))
    assert judged(found, calibration=Calibration(about="", pictures=higher)).named == {}
    nothing = judged(found, calibration=Calibration(about="", pictures={}))
    assert (nothing.named, nothing.p_value) == ({}, 1.0)


def test_synthesised_pictures_are_judged_by_their_own_calibration():
    found = planted_in(clean(), 6)
    assert judged(found, synthesised=True).named == {}
    both = CALIBRATION.model_copy(update={"synthesised": CALIBRATION.pictures})
    assert list(judged(found, calibration=both, synthesised=True).named) == [Goal(6)]


def test_a_second_goal_needs_stronger_evidence():
    class Rated(Calibration):
        def rated(self, claims, *, synthesised=False):
            p = {6: 1e-6, 3: float(self.about)}
            return sorted(((c, p.get(c.goal.target, 1.0)) for c in claims), key=lambda r: r[1])

    found = with_family(planted_in(clean(), 6), "linf", 3, 9.0)
    goals = [list(judged(found, None, Rated(about=p, pictures={})).named) for p in ("0.005", "0.0005")]
    assert goals == [[Goal(6)], [Goal(6), Goal(3)]]
    alone = with_family(clean(), "linf", 3, 9.0)
    assert list(judged(alone, None, Rated(about="0.005", pictures={})).named) == [Goal(3)]


def test_what_anything_leads_to_is_not_named_by_any_claim_and_stays_a_doubt():
    found = planted_in(clean(), 6)
    heights = [9.0, 11.0, 10.0, 12.5, 8.0, 10.5, 90.0, 9.5, 11.5]
    found = [replace(e, peak=h) for e, h in zip(found, heights, strict=True)]
    open_class = judged(found, led=lambda target: ("anything",) if target == 6 else ())
    assert open_class.named == {}
    assert {c.cautions for c in open_class.claimed if c.goal == Goal(6) and c.p_value <= DOUBT} == {("anything",)}
    assert list(suspects(open_class.claimed, Levels())) == [Goal(6)]
    assert list(judged(found, led=lambda target: ("anything",) if target == 5 else ()).named) == [Goal(6)]


@pytest.mark.parametrize(("p", "doubted"), [("0.005", False), ("0.03", True), ("0.06", False)])
def test_between_named_and_usual_there_is_doubt(p, doubted):
    class Rated(Calibration):
        def rated(self, claims, *, synthesised=False):
            return sorted(((c, {3: float(self.about)}.get(c.goal.target, 1.0)) for c in claims), key=lambda r: r[1])

    found = judged(with_family(clean(), "linf", 3, 9.0), None, Rated(about=p, pictures={}))
    assert (not found.named and Goal(3) in suspects(found.claimed, Levels())) == doubted
    # Named or doubted, there is a trigger to look at.
    assert [t.family for t in found.triggers.get(Goal(3), ())] == (["linf"] if float(p) <= DOUBT else [])


def test_few_pictures_name_nobody_however_far_a_class_leads():
    found = planted_in(clean(), 6)
    assert list(judged(found, moved=lambda goal: MOVED_ENOUGH).named) == [Goal(6)]
    few = judged(found, moved=lambda goal: MOVED_ENOUGH - 1)
    assert few.named == {}
    assert "only 4 of the pictures" in next(c for c in few.claimed if c.goal == Goal(6)).cautions[0]
    assert few.triggers[Goal(6)], "what was found can be looked at"
    heights = [9.0, 11.0, 10.0, 12.5, 8.0, 10.5, 90.0, 9.5, 11.5]
    peaked = [replace(e, peak=h) for e, h in zip(clean(), heights, strict=True)]
    by_peak = judged(peaked, moved=lambda goal: 0)
    assert list(by_peak.named) == [Goal(6)], "MM-BD looks at no picture"
    assert next(c for c in by_peak.claimed if c.statistic == PEAK).cautions == ()


def test_a_model_unlike_the_calibrations_names_nobody():
    assert judged(planted_in(clean(), 6), outside=("two classes",)).named == {}


def test_a_class_that_pictures_barely_miss_is_measured_by_the_models_own_logits():
    near = [replace(e, distance=0.01) for e in planted_in(clean(), 6, margin=2.0)]
    (exploded, sober) = (
        max(c.value for c, _ in judged(near, spread=spread).claims if c.statistic == "compact") for spread in (0.0, 5.0)
    )
    assert exploded > 50
    assert sober < 1


@pytest.mark.parametrize(
    ("classes", "p", "put"),
    [(9, 0.02, True), (10, 0.02, False), (10, 0.001, True), (9, 0.2, False), (9, 1e-9, True), (10, 1e-9, False)],
)
def test_what_is_put_to_collapse_hangs_on_the_number_of_classes(classes, p, put):
    found = judged(planted_in(clean(classes), 6))
    claim = Claim(Goal(6), "compact", 1.0, 0.0, "compact")
    pair = Claim(Goal(6, source=1), "source", 1.0, 0.0, "compact")
    suspected = replace(found, claims=((pair, 1e-9), (claim, p)))
    assert put_to_collapse(suspected) == ([(Goal(6), "compact")] if put else [])


def test_a_group_of_targets_speaks_with_its_patches():
    margins = [60.0, 59.0, 58.0, 57.0, *[-9.0 - k for k in range(6)]]
    found = evidence(margins, [20.0] * 10)
    patches = [replace(e.compact, least=m) for e, m in zip(found, margins, strict=True)]
    wide = [replace(p, trigger=replace(p.trigger, family="wide")) for p in patches]
    found = [replace(e, found={"compact": p, "wide": w}) for e, p, w in zip(found, patches, wide, strict=True)]
    known = CALIBRATION.model_copy(update={"pictures": {SEVERAL: CALIBRATION.pictures["map"] * 10}})
    several = judged(found, calibration=known)
    assert set(several.named) == {Goal(t) for t in range(4)}
    assert "class 2 is one of several that patches send" in several.named[Goal(2)][0]
    assert {t.family for t in several.triggers[Goal(2)]} == {"compact", "wide"}
    most = replace(found[0], transfer={"compact": 1.0})
    everywhere = [
        most,
        *(replace(e, found={"compact": replace(e.compact, margin=50.0 - k)}) for k, e in enumerate(found[1:])),
    ]
    known = CALIBRATION.model_copy(update={"pictures": {MOST: CALIBRATION.pictures["map"] * 10}})
    named = judged(everywhere, calibration=known).named
    assert set(named) == {Goal(t) for t in range(10)}
    assert "a small patch sends pictures to 10 of 10 classes" in named[Goal(0)][0]

"""The one verdict: what each kind of evidence means, alone and together with others."""

from dataclasses import replace

import pytest

from onnx_shapprune.detect.verdict import (
    Claimed,
    Evidence,
    Levels,
    Thresholds,
    Tried,
    apart,
    judge,
    leads,
    left_over,
    names,
    peak_left_over,
    suspects,
    unreached,
)

LIMITS = Thresholds(alive=0.15, clean_budget=0.02)
NAMED, DOUBT, SECOND = LIMITS.levels.named, LIMITS.levels.doubt, LIMITS.levels.second
NATURAL = LIMITS.levels.natural
OUTSIDE = ("6 classes, and 10 to 100 were calibrated on",)


def claim(goal, p, statistic="compact", **more) -> Claimed:
    return Claimed(
        goal=goal, about=f"class {goal}", statistic=statistic, p_value=p, reasons=(f"{goal} by {statistic}",), **more
    )


def outcome(**evidence) -> str:
    return judge(Evidence(**evidence), LIMITS).outcome


def test_silence_passes_and_says_what_it_rests_on():
    verdict = judge(Evidence(claims=(claim(1, 0.5),), good=("no class stands out",)), LIMITS)
    assert (verdict.outcome, verdict.reasons, verdict.doubts) == ("pass", ("no class stands out",), ())
    assert (verdict.goals, verdict.suspects) == ((), ())


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.0, "fail"),
        (NAMED, "fail"),
        (NAMED * 1.01, "inconclusive"),
        (DOUBT, "inconclusive"),
        (DOUBT * 1.01, "pass"),
        (1.0, "pass"),
    ],
)
def test_a_claim_alone(p, expected):
    verdict = judge(Evidence(claims=(claim(3, p),)), LIMITS)
    assert verdict.outcome == expected
    assert (verdict.goals, verdict.suspects) == {
        "fail": ((3,), ()), "inconclusive": ((), (3,)), "pass": ((), ()),
    }[expected]  # fmt: skip
    if expected == "fail":
        assert verdict.reasons == ("3 by compact",)


@pytest.mark.parametrize(
    ("doubt", "words"),
    [
        ({"open": unreached(obstacle="Round", skipped=["l2"], led=False)}, "gradients do not reach"),
        ({"open": unreached(obstacle="", skipped=["l2", "masks"], led=False)}, "too short to search l2, masks"),
        ({"open": unreached(obstacle="", skipped=[], led=False)}, "no search moves"),
        ({"claims": (claim(3, NAMED * 2),)}, "class 3 stands out"),
        ({"tried": (Tried(words="it sends", asr=1.0, moved=4),)}, "only 4 of the pictures"),
        ({"claims": (claim(3, 1e-9, cautions=("few pictures",)),)}, "few pictures"),
    ],
)  # fmt: skip
def test_every_doubt_stands_against_a_pass_and_against_no_fault(doubt, words):
    verdict = judge(Evidence(**doubt), LIMITS)
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons == verdict.doubts
    assert words in verdict.doubts[0]
    both = judge(Evidence(**doubt, other=("a node",)), LIMITS)
    assert (both.outcome, both.doubts) == ("fail", verdict.doubts)
    assert "a node" in both.reasons[0]


def test_searches_that_reached_their_goal_leave_no_doubt():
    assert unreached(obstacle="", skipped=[], led=True) == ()
    assert [leads([0.0, 0.49]), leads([0.1, 0.5]), leads([])] == [False, True, False]


def test_pictures_that_prove_nothing_prove_nothing_either_way():
    verdict = judge(Evidence(unusable="wrong labels", claims=(claim(3, 0.0),), other=("a node",)), LIMITS)
    assert (verdict.outcome, verdict.reasons, verdict.goals) == ("inconclusive", ("wrong labels",), ())


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ({"tried": (Tried(words="t", asr=0.16, moved=5, goal=7),)}, "fail"),
        ({"tried": (Tried(words="t", asr=0.15, moved=5, goal=7),)}, "pass"),
        ({"tried": (Tried(words="t", asr=0.16),)}, "fail"),
        ({"tried": (Tried(words="t", asr=0.0, moved=0),)}, "inconclusive"),
        ({"lost": (0.1, 0.021)}, "fail"),
        ({"lost": (0.1, 0.02)}, "pass"),
        ({"other": ("a node was added",)}, "fail"),
    ],
)
def test_triggers_that_were_tried_and_what_a_second_file_loses(evidence, expected):
    assert outcome(**evidence) == expected


def test_a_known_trigger_that_works_names_its_goal():
    assert judge(Evidence(tried=(Tried(words="t", asr=1.0, moved=9, goal=7),)), LIMITS).goals == (7,)
    assert judge(Evidence(tried=(Tried(words="t", asr=1.0, moved=9),)), LIMITS).goals == ()


def test_a_second_goal_and_what_is_weak_need_stronger_evidence():
    both = (claim(6, 1e-6), claim(3, SECOND * 1.1))
    assert list(names(both, Levels())) == [6]
    assert list(names((*both, claim(3, SECOND)), Levels())) == [6, 3]
    assert outcome(claims=(claim(3, SECOND * 1.1, weak=True),)) == "pass"
    assert outcome(claims=(claim(3, SECOND, weak=True),)) == "fail"
    assert suspects((claim(3, SECOND * 1.1, weak=True),), Levels()) == {}


def test_a_claim_with_cautions_names_nothing_and_hides_nothing():
    cautious, plain = claim(3, 1e-9, cautions=("few",)), claim(3, 1e-3, statistic="peak")
    assert names((cautious, plain), Levels()) == {3: ("3 by peak",)}
    assert outcome(claims=(cautious,)) == "inconclusive"


@pytest.mark.parametrize(
    ("p", "gone", "expected"),
    [
        (DOUBT, 1.0, "inconclusive"),
        (DOUBT, NATURAL, "inconclusive"),
        (DOUBT, NATURAL - 0.01, "pass"),
        (NAMED * 1.01, 0.0, "pass"),
        (NAMED, 0.0, "inconclusive"),
        (NAMED, NATURAL - 0.01, "inconclusive"),
        (NAMED, NATURAL, "fail"),
    ],
)
def test_what_comes_back_is_natural_and_what_does_not_names_nothing_by_itself(p, gone, expected):
    verdict = judge(Evidence(claims=(claim(3, p, gone=gone),)), LIMITS)
    assert verdict.outcome == expected
    assert (verdict.goals, verdict.suspects) == {
        "fail": ((3,), ()), "inconclusive": ((), (3,)), "pass": ((), ()),
    }[expected]  # fmt: skip


@pytest.mark.parametrize(
    ("gone", "expected"),
    [(None, "inconclusive"), (1.0, "inconclusive"), (NATURAL, "inconclusive"), (NATURAL - 0.01, "pass")],
)
def test_a_collapse_does_not_stand_in_for_clean_models_like_this_one(gone, expected):
    """A p-value of other models names nothing, however small it is and whatever collapses; what comes back is natural."""
    verdict = judge(Evidence(claims=(claim(3, 1e-9, outside=OUTSIDE, gone=gone),)), LIMITS)
    assert verdict.outcome == expected
    if expected == "inconclusive":
        assert OUTSIDE[0] in verdict.reasons[0]


def test_a_collapse_lifts_no_caution():
    few = claim(3, 1e-9, cautions=("few pictures",), outside=OUTSIDE, gone=1.0)
    verdict = judge(Evidence(claims=(few,)), LIMITS)
    assert verdict.outcome == "inconclusive"
    assert "few pictures" in verdict.reasons[0]
    assert OUTSIDE[0] in verdict.reasons[0]


def test_what_comes_back_says_so_where_its_p_value_would_name_it():
    (reason,) = judge(Evidence(claims=(claim(3, 1e-9, gone=0.12),)), LIMITS).reasons
    assert "unlearnt, it comes back from fresh starts: only 12% of its lead went" in reason


def test_a_second_goal_and_what_is_weak_need_stronger_evidence_even_where_they_collapse():
    first = claim(6, 1e-6)
    assert list(names((first, claim(3, SECOND * 1.1, gone=1.0)), Levels())) == [6]
    assert list(names((first, claim(3, SECOND, gone=1.0)), Levels())) == [6, 3]
    assert outcome(claims=(claim(3, DOUBT, weak=True, gone=1.0),)) == "pass"
    assert outcome(claims=(claim(3, SECOND, weak=True, gone=1.0),)) == "fail"


def test_reasons_of_one_goal_come_together_and_once():
    twice = (claim(3, 1e-6), claim(3, 1e-5, statistic="linf"), replace(claim(3, 1e-4), statistic="wide"))
    assert names(twice, Levels()) == {3: ("3 by compact", "3 by linf")}


def test_what_is_left_over_after_a_repair():
    def left(kind: str, target: int, statistic: str, *, synthesised: bool = False) -> bool:
        return left_over(("all-to-one", (target,)), statistic, [(kind, (5,))], synthesised=synthesised)

    assert left("all-to-one", 2, "compact"), "it was there before, and not named"
    assert not left("all-to-one", 5, "compact")
    assert left("all-to-all", 5, "compact"), "a map was named, and no class"
    assert not left("source-specific", 5, "compact")
    assert left("all-to-one", 5, "peak"), "MM-BD alone has no trigger to show"
    assert not left("all-to-one", 5, "peak", synthesised=True)
    every = [("all-to-all", (0, 1, 2))]
    assert not left_over(("all-to-all", (0, 1, 2)), "map", every, synthesised=False)
    assert left_over(("all-to-all", (0, 1, 2)), "map", [("all-to-one", (2,))], synthesised=False)
    found = Evidence(claims=(claim(2, 0.005), claim(5, 0.5)))
    weaker = found.weakened(
        lambda c: left_over(("all-to-one", (c.goal,)), c.statistic, [("all-to-one", (5,))], synthesised=False)
    )
    assert (judge(found, LIMITS).outcome, judge(weaker, LIMITS).outcome) == ("fail", "pass")


def test_of_a_second_file_only_the_peak_of_a_repaired_class_says_little():
    assert peak_left_over((5,), "peak", (5,), synthesised=False)
    assert not peak_left_over((5,), "peak", (5,), synthesised=True), "as of a file that sanitize made"
    assert not peak_left_over((2,), "peak", (5,), synthesised=False), "it was not repaired"
    assert not peak_left_over((5,), "compact", (5,), synthesised=False)


@pytest.mark.parametrize(
    ("p", "limits", "shown"),
    [
        (0.01, (0.005, 0.02), "0.01"),
        (0.0052, (0.005, 0.02), "0.0052"),
        (0.005004, (0.005, 0.02), "0.005004"),
        (0.019999, (0.005, 0.02), "0.019999"),
        (0.02, (0.005, 0.02), "0.02"),
        (1e-6, (0.005, 0.02), "1e-06"),
        (2e-14, (0.005, 0.02), "below 1e-06"),
        (2e-9, (1e-9, 0.02), "2e-09"),
    ],
)
def test_two_numbers_that_differ_are_never_shown_alike(p, limits, shown):
    assert apart(p, *limits) == shown


def test_no_message_says_that_a_number_is_not_itself():
    (reason,) = judge(Evidence(claims=(claim(3, 0.0050004),)), LIMITS).reasons
    assert "p-value 0.0050004" in reason
    assert "(0.005)" in reason

"""p-values against what clean models reached, and the files that say so."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hand_made import clean, planted_in
from scipy.stats import norm

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.detect.calibration import (
    Calibration,
    Domain,
    added,
    both,
    calibration_text,
    columns,
    largest,
    load_calibration,
    strongest,
)
from onnx_shapprune.detect.statistics import (
    AGREEMENT,
    EVERY,
    FIRST,
    MAP,
    NORM,
    OF_PATCHES,
    OF_WHOLE,
    PEAK,
    SEVERAL,
    SOURCE,
    TOGETHER,
    Claim,
    class_claims,
)
from onnx_shapprune.detect.thresholds import (
    DOUBT,
    ENDS,
    ENDS_UNSURE,
    FEWEST_MODELS,
    KIND_LEAST,
    LEAST_SCALE,
    OF_APART,
    OF_EVERY,
    SAME_MARGINS,
    WELL_KNOWN,
)
from onnx_shapprune.errors import DataError
from onnx_shapprune.gate.checks import packaged_digest
from onnx_shapprune.invert.search import SearchSettings

KNOWN = {
    "even": tuple(np.linspace(0, 1, 21).tolist()),
    "mostly zero": (*[0.0] * 17, 0.1, 0.3, 0.9),
    "equal": (0.4,) * 12,
    "wide": tuple((np.random.default_rng(0).exponential(5, 40)).tolist()),
}


def claim(value: float, statistic: str = "even") -> Claim:
    return Claim(Goal(0), statistic, value, 0.0)


def p_in(calibration: Calibration, claim: Claim, *, synthesised: bool = False) -> float:
    ((_, p),) = calibration.rated([claim], synthesised=synthesised)
    return p


def p_of(value: float, known: tuple[float, ...]) -> float:
    return p_in(Calibration(about="", pictures={"even": known}), claim(value))


@pytest.mark.parametrize("name", KNOWN)
def test_a_larger_value_is_never_less_unusual(name):
    values = np.sort([*np.linspace(0, 3 * max(KNOWN[name]) + 2, 400), *KNOWN[name]])
    p = [p_of(float(v), KNOWN[name]) for v in values]
    assert all(a >= b for a, b in itertools.pairwise(p))
    assert all(0 < v <= 1 for v in p)
    assert p[-1] < 0.01 < 0.5 < p[1], "and it tells usual values from others"


@pytest.mark.parametrize("name", KNOWN)
def test_within_what_clean_models_reached_a_p_value_is_never_smaller_than_their_share(name):
    known = KNOWN[name]
    for value in known:
        if value > 0:
            reached = sum(k >= value for k in known)
            assert p_of(value, known) >= (1 + reached) / (len(known) + 1) - 1e-12


def test_below_the_upper_quarter_a_p_value_is_the_conformal_one():
    # Of 21 values, 11 are at least 0.5: (1 + 11) / 22.
    assert p_of(0.5, KNOWN["even"]) == pytest.approx(12 / 22)
    assert p_of(0.5001, KNOWN["even"]) == pytest.approx(11 / 22)
    assert p_of(0.51, KNOWN["even"]) == p_of(0.54, KNOWN["even"])


def test_beyond_all_clean_models_the_tail_is_that_of_one_more_value():
    # The upper quarter starts at 0.75; the mean excess of the six 0.75, 0.8 ... 1 over it is 0.125.
    for value in (1.01, 1.5, 3.0):
        assert p_of(value, KNOWN["even"]) == pytest.approx(0.25 * (1 + (value - 0.75) / (6 * 0.125)) ** -6)


def test_the_tail_holds_for_the_next_exponential_value():
    rng = np.random.default_rng(0)
    hits = [p_of(v, tuple(known)) <= 0.01 for *known, v in rng.exponential(1.0, (4000, 25)).tolist()]
    assert 0.004 <= np.mean(hits) <= 0.016


def test_a_few_large_values_among_zeros_have_a_long_tail():
    # The mean excess of the largest five is 0.8; a largest of 2 asks for a scale of 0.88.
    known = (0.0,) * 16 + (0.2, 0.6, 1.2, 2.0)
    scale = 2.0 / (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5)
    assert p_of(3.6, known) == pytest.approx(0.25 * (1 + 3.6 / (5 * scale)) ** -5)
    assert p_of(3.6, known) > 0.01


def test_a_tail_of_mostly_zeros_is_not_far_from_true():
    rng = np.random.default_rng(0)
    drawn = rng.exponential(1.0, (3000, 31)) * (rng.random((3000, 31)) < 0.2)
    hits = [p_of(v, tuple(known)) <= 0.01 for *known, v in drawn.tolist()]
    assert 0.003 <= np.mean(hits) <= 0.02


def test_a_steep_tail_is_not_believed():
    n = len(KNOWN["equal"]) // 4
    for value in (0.5, 1.0):
        assert p_of(value, KNOWN["equal"]) == pytest.approx(0.25 * (1 + (value - 0.4) / (n * LEAST_SCALE)) ** -n)


@pytest.mark.parametrize(("known", "share"), [(WELL_KNOWN, ENDS), (WELL_KNOWN - 1, ENDS_UNSURE)])
def test_first_rounds_are_usual_where_more_clean_models_show_as_much_than_is_asked_for(known, share):
    values = np.arange(1.0, known + 1)
    calibration = Calibration(about="", pictures={FIRST: tuple(values.tolist())})
    usual = [v for v in values.tolist() if calibration.usual(claim(v, FIRST))]
    assert usual == values[: len(usual)].tolist(), "the smaller ones"
    assert len(usual) / known == pytest.approx(1 - share, abs=0.02)
    assert calibration.usual(claim(0.0, FIRST))
    assert not Calibration(about="", pictures={}).usual(claim(0.0, FIRST)), "nothing is known"


def test_a_group_that_may_grow_keeps_the_search_going_and_what_is_tried_only_where_it_speaks():
    values = tuple(np.arange(1.0, 101.0).tolist())
    calibration = Calibration(about="", pictures={FIRST: values, SEVERAL: values, "line": values})

    def ends(statistic: str, value: float) -> bool:
        return calibration.usual(claim(0.0, FIRST), [claim(value, statistic)])

    assert [ends(SEVERAL, v) for v in (74.0, 78.0)] == [True, False], "a quarter of clean models show as much"
    assert [ends("line", v) for v in (96.0, 100.0)] == [True, False], "a quarter, by the line that lines have"


def test_what_is_not_known_or_not_there_is_not_unusual():
    calibration = Calibration(about="", pictures={"even": KNOWN["even"], "few": (0.1,) * (FEWEST_MODELS - 1)})
    assert p_in(calibration, claim(1e6, "unheard of")) == 1
    assert p_in(calibration, claim(1e6, "few")) == 1
    assert p_in(calibration, claim(0.0)) == 1
    enough = Calibration(about="", pictures={"few": (0.1,) * FEWEST_MODELS})
    assert p_in(enough, claim(1e6, "few")) < 1e-6


def test_the_order_of_the_values_does_not_matter():
    shuffled = tuple(np.random.default_rng(0).permutation(KNOWN["even"]).tolist())
    assert [p_of(v, shuffled) for v in (0.3, 0.97, 2.0)] == [p_of(v, KNOWN["even"]) for v in (0.3, 0.97, 2.0)]


def test_synthesised_pictures_have_values_of_their_own():
    calibration = Calibration(about="", pictures={"even": KNOWN["even"]}, synthesised={"even": (5.0,) * 9})
    assert p_in(calibration, claim(2.0)) < 0.01
    assert p_in(calibration, claim(2.0), synthesised=True) == 1
    assert p_in(Calibration(about="", pictures={"even": KNOWN["even"]}), claim(2.0), synthesised=True) == 1


def test_largest_of_each_statistic_in_one_audit():
    claims = [claim(0.2, "a"), claim(0.7, "a"), claim(0.1, "b"), claim(0.0, "c")]
    assert largest(claims) == {"a": 0.7, "b": 0.1, "c": 0.0}
    assert largest([]) == {}


def test_columns_hold_the_audits_that_have_a_statistic():
    rows = [{"a": 0.7, "b": 0.1}, {"a": 0.3}, {}, {"b": 1 / 3}]
    assert columns(rows) == {"a": (0.7, 0.3), "b": (0.1, 0.3333)}
    assert columns([]) == {}


def drawn_models(count: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Models with a dozen statistics that have nothing to do with each other."""
    return [dict(zip("abcdefghijkl", row, strict=True)) for row in rng.exponential(1.0, (count, 12)).tolist()]


def model_p(calibration: Calibration, model: dict[str, float]) -> float:
    return min(p_in(calibration, claim(value, name)) for name, value in model.items())


@pytest.mark.parametrize("known", [0, 60])
def test_the_smallest_of_a_dozen_p_values_is_the_models_own(known):
    found: list[float] = []
    alone: list[float] = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        models = drawn_models(60, rng)
        calibration = Calibration(about="", pictures=columns(models), strongest=strongest(models)[:known])
        fresh = drawn_models(250, rng)
        found += [model_p(calibration, m) for m in fresh]
        alone += [min(calibration.alone(claim(v, n)) for n, v in m.items()) for m in fresh]
    assert 0.03 <= np.mean(np.array(found) <= 0.05) <= 0.07
    assert 0.003 <= np.mean(np.array(found) <= 0.01) <= 0.02
    assert np.mean(np.array(alone) <= 0.05) > 0.3, "what no single p-value says"


def test_the_strongest_of_a_model_is_judged_by_the_others():
    models = [{"a": 0.1 * i, "b": 0.0} for i in range(FEWEST_MODELS + 3)]
    models.append({"a": 50.0, "b": 0.0})
    found = strongest(models)
    assert len(found) == len(models)
    assert found[-1] == min(found) < 1e-4
    assert found[0] == 1, "0 is not unusual"
    assert strongest(models[: FEWEST_MODELS - 1]) == (1.0,) * (FEWEST_MODELS - 1), "too few to say"


def test_a_models_p_value_is_the_share_of_clean_models_that_show_as_much():
    strong = (1e-4, 2e-3, *np.linspace(0.02, 0.9, 30).tolist())
    calibration = Calibration(about="", pictures={"even": tuple(range(1, 33))}, strongest=strong)
    claims = [claim(v) for v in (25, 32, 40, 80, 200, 5000)]
    for c in claims:
        alone, p = calibration.alone(c), p_in(calibration, c)
        share = (1 + sum(s <= alone for s in strong)) / (len(strong) + 1)
        assert p <= max(alone, share), "beyond all of them no more than their share"
        assert p == pytest.approx(max(alone, share)) or alone < strong[0], (
            "and just that where one of them shows as much"
        )
    p_values = [p_in(calibration, c) for c in claims]
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[-1] < 1 / (len(strong) + 1)


def about_one(*values: float) -> list[Claim]:
    """Claims about one class, a family each."""
    return [Claim(Goal(0), name, value, 0.0) for name, value in zip("abcdef", values, strict=True)]


def test_what_is_said_about_one_class_is_added_up():
    rng = np.random.default_rng(0)
    audits = [[about_one(*rng.exponential(1.0, 6).tolist())] for _ in range(40)]
    rows = added([largest(claims) for (claims,) in audits], audits)
    assert [set(r) for r in rows] == [{*"abcdef", TOGETHER, OF_PATCHES, OF_WHOLE}] * 40
    calibration = Calibration(about="", pictures=columns(rows), strongest=strongest(rows))
    everywhere, once = about_one(*[5.0] * 6), about_one(5.0, *[0.0] * 5)
    agreed, single = calibration.rated(everywhere), calibration.rated(once)
    assert {p for _, p in agreed} == {agreed[0][1]}, "all of them speak, and have one p-value"
    assert agreed[0][1] < 0.01 < 0.1 < single[0][1], "six families say more than one"
    assert single[0][0].statistic == "a"
    assert {p for c, p in single if c.statistic != "a"} == {1.0}, "what says nothing does not speak"
    apart = [Claim(Goal(k), c.statistic, c.value, 0.0) for k, c in enumerate(everywhere)]
    assert calibration.rated(apart)[0][1] > 0.1, "about six classes they say no more than one each"
    pair = Claim(Goal(0, source=1), SOURCE, 9.0, 0.0)
    assert [p for c, p in calibration.rated([*everywhere, pair]) if c != pair] == [p for _, p in agreed]
    for claim in (pair, Claim(Goal(0, mapping=(1, 0)), MAP, 9.0, 0.0), Claim(Goal(0), "tone", 9.0, 0.0, "tone")):
        known = {**calibration.pictures, claim.statistic: tuple(float(v) for v in range(8))}
        apart_from_sums = calibration.model_copy(update={"pictures": known})
        ((_, p),) = apart_from_sums.rated([claim])
        assert p == min(1.0, apart_from_sums.alone(claim) / OF_APART), "each has a line of its own"
    peak = Claim(Goal(0), PEAK, 0.5, 0.0)
    with_peaks = calibration.model_copy(update={"pictures": {**calibration.pictures, PEAK: (0.1,) * 30 + (1.0,) * 10}})
    ((_, p),) = [r for r in with_peaks.rated([*everywhere, peak]) if r[0] == peak]
    assert p == with_peaks.alone(peak) > 0.1, "a peak, which looks at no picture, says no more than it shows itself"
    alone = Calibration(about="", pictures=columns([largest(claims) for (claims,) in audits]))
    assert len({p for _, p in alone.rated(about_one(*range(1, 7)))}) > 3, "without sums nothing is added up"


def test_two_p_values_of_the_same_margins_hold_together():
    rng = np.random.default_rng(0)
    # Normal values whose tails have this correlation once they are logarithms of shares.
    common, own = rng.normal(size=40_000), rng.normal(size=(2, 40_000))
    p = norm.sf(math.sqrt(0.75) * common + math.sqrt(0.25) * own)
    assert np.corrcoef(np.log(p))[0, 1] == pytest.approx(SAME_MARGINS, abs=0.02)
    together = np.array([both(a, b) for a, b in p.T.tolist()])
    for level in (0.05, 0.01, 0.002):
        assert (together <= level).mean() == pytest.approx(level, rel=0.5)
    assert (both(0.0, 0.5), both(1.0, 1.0)) == (0, 1)


def test_what_moves_every_picture_is_added_to_the_sums_of_its_class():
    rng = np.random.default_rng(0)
    audits = [[about_one(*rng.exponential(1.0, 6).tolist())] for _ in range(40)]
    rows = added([largest(claims) for (claims,) in audits], audits)
    of_every = tuple(float(v) for v in range(20))
    known = Calibration(about="", pictures={**columns(rows), EVERY: of_every}, strongest=strongest(rows))
    unknown = known.model_copy(update={"pictures": columns(rows)})
    every, claims = Claim(Goal(0), EVERY, 18.0, 0.0), about_one(*[3.0] * 6)
    assert known.sums([*claims, every]) == known.sums(claims), "it counts in no sum"

    def p_of(by: Calibration, *said: Claim) -> dict[str, float]:
        return {c.statistic: p for c, p in by.rated(said)}

    said = p_of(known, *claims, every)
    product = known.alone(every) * said["a"]
    assert said[EVERY] == pytest.approx(both(known.alone(every), said["a"]) / OF_EVERY)
    assert said[EVERY] > product * (1 - math.log(product)) / OF_EVERY, "the two are of the same margins"
    assert said["a"] == p_of(known, *claims)["a"], "what the others say stays"
    alone = p_of(known, every)[EVERY]
    assert said[EVERY] < known.alone(every) < alone, "beside nothing it says less than it shows"
    other = Claim(Goal(1), EVERY, 18.0, 0.0)
    assert p_of(known, *claims, other)[EVERY] == alone, "of another class as well"
    assert p_of(unknown, *claims, every)[EVERY] == 1
    assert p_of(known, *claims, Claim(Goal(0), EVERY, 0.0, 0.0))[EVERY] == 1


def test_what_patches_say_is_added_up_by_itself():
    """A planted patch, beside natural changes of the whole picture that are stronger on clean models."""
    rng = np.random.default_rng(0)
    patches, whole = ("compact", "wide", "plain"), "bcdefg"

    def audit(of_patches: float, of_whole: float) -> list[Claim]:
        values = [(n, of_patches * rng.exponential()) for n in patches] + [
            (n, of_whole * rng.exponential()) for n in whole
        ]
        return [Claim(Goal(0), name, value, 0.0) for name, value in values]

    audits = [[audit(1.0, 4.0)] for _ in range(60)]
    rows = added([largest(claims) for (claims,) in audits], audits)
    calibration = Calibration(about="", pictures=columns(rows), strongest=strongest(rows))
    planted = [Claim(Goal(0), n, 5.0, 0.0) for n in patches] + [Claim(Goal(0), n, 0.0, 0.0) for n in whole]
    by_all = calibration.model_copy(
        update={"pictures": {n: v for n, v in calibration.pictures.items() if n != OF_PATCHES}}
    )
    assert calibration.rated(planted)[0][1] < 0.02 < 2 * by_all.rated(planted)[0][1]
    assert {c.statistic for c, p in calibration.rated(planted) if p < 0.05} == set(patches)


def test_a_kind_of_change_that_only_its_own_search_sees_is_no_less_for_that():
    """A planted warp: beyond all clean models in warps, and nothing elsewhere."""
    rng = np.random.default_rng(0)
    names = ("compact", "wide", "plain", "l2", "smooth", "warp")
    audits = [[[Claim(Goal(0), n, rng.exponential(), 0.0) for n in names]] for _ in range(60)]
    rows = added([largest(claims) for (claims,) in audits], audits)
    calibration = Calibration(about="", pictures=columns(rows), strongest=strongest(rows))
    without = calibration.model_copy(
        update={"pictures": {n: v for n, v in calibration.pictures.items() if n != OF_WHOLE}}
    )
    warp, patch = (
        [Claim(Goal(0), n, 12.0 if n == planted else 0.0, 0.0) for n in names] for planted in ("warp", "compact")
    )
    (first, p), *others = calibration.rated(warp)
    assert (first.statistic, {q for _, q in others}) == ("warp", {1.0})
    assert p == KIND_LEAST < DOUBT < without.rated(warp)[0][1], "which is a doubt, and names nothing"
    assert calibration.rated(patch) == without.rated(patch), "one kind of patch is seen by the searches of the others"


def test_models_that_stand_beside_count_and_get_no_sums():
    rng = np.random.default_rng(0)
    audits = [[about_one(*rng.exponential(1.0, 6).tolist())] for _ in range(2 * FEWEST_MODELS)]
    rows = [largest(claims) for (claims,) in audits]
    higher = [dict.fromkeys("abcdef", 9.0)] * 20
    alone, beside = added(rows, audits), added(rows, audits, higher)
    assert len(beside) == len(rows)
    assert max(r[TOGETHER] for r in beside) < max(r[TOGETHER] for r in alone)


def test_a_sum_is_judged_by_the_other_models():
    audits = [[about_one(*[0.1 * i] * 6)] for i in range(FEWEST_MODELS + 3)]
    audits.append([about_one(*[0.0] * 6), about_one(*[50.0] * 6)])
    rows = added([largest([c for claims in seeds for c in claims]) for seeds in audits], audits)
    assert rows[-1][TOGETHER] == max(r[TOGETHER] for r in rows) > 10, "the larger of two seeds"
    assert rows[0][TOGETHER] == 0


def test_a_calibration_survives_its_file(tmp_path):
    made = Calibration(about="nine clean models", pictures=columns([largest(class_claims(clean()))] * 9))
    path = tmp_path / "mine.json"
    path.write_text(calibration_text(made))
    assert load_calibration(path) == made
    (strong,) = [c for c in class_claims(planted_in(clean(), 6)) if c.goal == Goal(6) and c.statistic == "compact"]
    assert p_in(load_calibration(path), strong) < 0.001


def test_the_calibration_of_the_package_knows_everything_that_is_searched():
    shipped = load_calibration(None)
    assert shipped.about
    searched = {*SearchSettings().families(np.zeros((1, 32, 32, 3), np.float32), 10)}
    searched |= {AGREEMENT, NORM, SOURCE, MAP, PEAK, TOGETHER, OF_PATCHES, OF_WHOLE}
    assert searched - {name for name, values in shipped.pictures.items() if len(values) >= FEWEST_MODELS} == set()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no calibration"),
        (b"{", "no calibration"),
        (b"[]", "no calibration"),
        (b"{}", "no calibration"),
        (b'{"about": "x"}', "no calibration"),
        (b'{"about": "x", "pictures": {"compact": [-0.1]}}', "no calibration"),
        (b'{"about": "x", "pictures": {"compact": [NaN]}}', "no calibration"),
        (b'{"about": "x", "pictures": {"compact": [1e999]}}', "no calibration"),
        (b'{"about": "x", "pictures": {"compact": ["high"]}}', "no calibration"),
        (b'{"about": "x", "pictures": {}, "further": 1}', "no calibration"),
        (b'{"version": 3, "about": "x", "pictures": {}}', "no calibration"),
        (b'{"about": "x", "pictures": {"compact": [0.1]}}', "earlier version"),
        (b"\xff\xfe\x00", "no text"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=message) as refused:
        load_calibration(path)
    assert "bad.json" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name):
    with pytest.raises(DataError, match="cannot read the calibration"):
        load_calibration(tmp_path / name)


def test_the_text_is_json_for_people():
    text = calibration_text(Calibration(about="x", pictures={"compact": (0.5,)}))
    empty = {"synthesised": {}, "strongest": [], "strongest_synthesised": []}
    assert json.loads(text) == {"version": 2, "about": "x", "pictures": {"compact": [0.5]}} | empty
    assert text.endswith("\n")
    assert len(text.splitlines()) > 3


def test_a_calibration_speaks_of_models_like_those_that_it_was_made_on():
    domain = Domain(classes=(10, 100), pixels=(28, 32))
    assert domain.outside(10, (28, 28)) == domain.outside(100, (32, 32)) == ()
    (few,) = domain.outside(2, (28, 32))
    assert "2 classes, and 10 to 100" in few
    (large,) = domain.outside(43, (28, 224))
    assert "28 x 224 pixels, and 28 to 32" in large
    assert len(domain.outside(1000, (224, 224))) == 2
    drawn = domain.model_copy(update={"drawn": 8})
    (less,) = drawn.outside(10, (28, 28), 7)
    assert "only 7 pictures could be drawn out of the model, and 8 or more" in less
    assert drawn.outside(10, (28, 28), 8) == drawn.outside(10, (28, 28)) == domain.outside(10, (28, 28), 7) == ()
    packaged = load_calibration(None)
    assert packaged.few is not None
    assert packaged.many is not None
    for classes, part in ((2, packaged.few), (9, packaged.few), (10, packaged), (63, packaged), (1000, packaged.many)):
        assert packaged.of(classes, 32) is part
        assert packaged.outside(classes, (32, 32)) == ()
    assert "2000 classes, and 64 to 1300" in packaged.outside(2000, (32, 32))[0]
    assert "2 classes, and 2 to 9" not in str(packaged.outside(2, (224, 224)))
    crowd = packaged.model_copy(
        update={"domain": Domain(classes=(100, 1000), pixels=(32, 48)), "few": None, "many": None}
    )
    whole = packaged.model_copy(update={"many": crowd})
    assert [whole.of(n, 32) for n in (9, 10, 99)] == [packaged.few, whole, whole]
    assert whole.of(100, 32) is whole.of(5000, 32) is crowd
    assert "5000 classes, and 100 to 1000" in whole.outside(5000, (32, 32))[0]
    assert domain.outside(10, (28, 28)) == ()
    assert Calibration(about="of an earlier version", pictures={}).outside(2, (9, 9)) == ()


def test_larger_pictures_have_a_part_of_their_own():
    large = Calibration(about="", pictures={}, domain=Domain(classes=(10, 43), pixels=(96, 224)))
    whole = Calibration(
        about="", pictures={}, domain=Domain(classes=(10, 43), pixels=(28, 64)), large=large,
        few=Calibration(about="", pictures={}, domain=Domain(classes=(2, 9), pixels=(28, 32))),
    )  # fmt: skip
    assert [whole.of(10, edge) for edge in (32, 64)] == [whole, whole]
    assert whole.of(10, 65) is whole.of(43, 500) is large
    assert whole.of(2, 224) is whole.few, "which has no such part"
    assert whole.outside(10, (96, 224)) == ()
    assert "65 x 65 pixels, and 96 to 224" in whole.outside(10, (65, 65))[0]
    assert "224 x 224 pixels, and 28 to 32" in whole.outside(2, (224, 224))[0]


def test_more_pictures_of_few_classes_have_a_part_of_their_own():
    more = Calibration(about="", pictures={}, domain=Domain(classes=(2, 9), pixels=(28, 32), given=10))
    few = Calibration(about="", pictures={}, domain=Domain(classes=(2, 9), pixels=(28, 32)), more=more)
    whole = Calibration(about="", pictures={}, domain=Domain(classes=(10, 43), pixels=(28, 64)), few=few)
    assert [whole.of(2, 32, given) for given in (0, 2, 9)] == [few] * 3
    assert whole.of(9, 32, 10) is whole.of(2, 28, 500) is more
    assert whole.of(2, 64, 10) is few, "which has no such part"
    assert whole.of(10, 32, 10) is whole
    assert [part.wanted for part in (whole, few, more)] == [None, 10, None]


def test_the_digest_is_of_what_it_says():
    one = Calibration(about="x", pictures={"compact": (0.5,)})
    assert one.digest == Calibration.model_validate_json(one.model_dump_json()).digest
    assert one.digest != one.model_copy(update={"about": "y"}).digest
    assert load_calibration(None).digest == packaged_digest()

"""What a policy makes of records: every key has an effect, and what was not measured is never green."""

import datetime
import itertools

import pytest
from record_samples import DIGEST, audit_record, verify_record

from onnx_shapprune.detect.accuracy import too_low
from onnx_shapprune.detect.thresholds import ACCURACY_FLOOR, NAMED
from onnx_shapprune.gate.judge import judge
from onnx_shapprune.gate.judgement import Waiver
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.gate.rules import RULES
from onnx_shapprune.prune.thresholds import EXPECTED_SLACK, KNOWN_ALIVE, TOLERANCE
from onnx_shapprune.record.audit import AttackPart, ClaimPart
from onnx_shapprune.record.parts import FindingPart, Part, Rates
from onnx_shapprune.settings import RunOptions

TODAY = datetime.date(2026, 6, 1)
DEFAULT = load_policy(None)


def changed(record, **parts):
    """A record with fields, or fields of its parts, replaced: data={"pictures": 3}."""
    update = {}
    for name, value in parts.items():
        part = getattr(record, name)
        update[name] = part.model_copy(update=value) if isinstance(part, Part) and isinstance(value, dict) else value
    return record.model_copy(update=update)


def policy(section: str = "", waivers: tuple[Waiver, ...] = (), **keys: object):
    changed_section = {section: getattr(DEFAULT, section).model_copy(update=keys)} if section else {}
    return DEFAULT.model_copy(update={**changed_section, "waivers": waivers})


def verdict(record, rules=DEFAULT) -> str:
    return judge(record, rules, today=TODAY).verdict


def found(record, rules=DEFAULT) -> list[str]:
    return [f.rule for f in judge(record, rules, today=TODAY).findings]


CLEAN = audit_record(verdict="pass", repair="not_tried")
BACKDOORED = audit_record(repair="not_tried")
REPAIRED = audit_record()
UNTOLD = audit_record(verdict="inconclusive", repair="not_tried")
COUNTED = (FindingPart(level="warning", rule="OSP214", text="it counts pictures"),)
ODD = changed(CLEAN, findings=(FindingPart(level="warning", rule="OSP005", text="domain evil.org"),))


def test_an_audit_is_judged_as_it_judged_itself():
    for record in (CLEAN, BACKDOORED, UNTOLD, verify_record()):
        assert verdict(record) == record.verdict
    assert found(BACKDOORED) == ["OSP101", "OSP103"]
    assert found(CLEAN) == []


def test_the_default_thresholds_are_the_tools_own():
    assert DEFAULT.fail.p_value == NAMED
    assert DEFAULT.require.min_accuracy == ACCURACY_FLOOR
    assert DEFAULT.repair.max_residual_asr == KNOWN_ALIVE
    assert DEFAULT.repair.max_surely_lost == RunOptions().clean_budget
    assert DEFAULT.repair.max_accuracy_drop == EXPECTED_SLACK * RunOptions().clean_budget, "what sanitize accepts"
    assert DEFAULT.repair.max_difference == TOLERANCE


@pytest.mark.parametrize("pictures", [1, 2, 10, 100])
def test_the_default_floor_of_the_accuracy_is_that_of_the_audit(pictures):
    for right in range(1, pictures + 1):
        stopped = too_low(right, pictures, DEFAULT.require.min_accuracy) is not None
        record = changed(CLEAN, before={"acc": right / pictures, "pictures": pictures})
        assert (verdict(record) == "inconclusive") is stopped, right


@pytest.mark.parametrize(
    ("acc", "pictures", "value"),
    [(0.3, 20, "30.0% (6 of 20; up to 51% is possible)"), (0.5, 20, "50.0% (10 of 20)"), (0.2, 20, "20.0% (4 of 20)")],
)
def test_an_accuracy_below_the_floor_that_is_met_says_why(acc, pictures, value):
    """ "30.0% ... at least 50% ... met" alone reads as an error. 51 %: Clopper and Pearson, one-sided 95 %."""
    record = changed(CLEAN, before={"acc": acc, "pictures": pictures})
    (line,) = (c for c in judge(record, DEFAULT, today=TODAY).checks if c.name == "clean accuracy")
    assert (line.value, line.outcome) == (value, "not graded" if acc == 0.2 else "met")


def test_the_p_value_of_a_line_is_of_what_decided():
    (attack,) = BACKDOORED.attacks
    few = BACKDOORED.claims[0].model_copy(update={"p_value": 7e-6, "cautions": ("only 2 pictures",)})
    record = changed(BACKDOORED, attacks=(attack.model_copy(update={"p_value": 0.005}),), claims=(few,))
    (line,) = (c for c in judge(record, DEFAULT, today=TODAY).checks if c.name == "trigger to one class")
    assert line.value == "class 3, p 0.005"


@pytest.mark.parametrize("acc", [None, -0.1, 5.0])
def test_an_accuracy_that_is_none_is_not_graded(acc):
    assert verdict(changed(CLEAN, before={"acc": acc})) == "inconclusive"


def test_green_is_only_what_was_found_clean_or_repaired():
    """All verdicts with all ends of a repair, with and without a written file: two ways lead to a pass."""
    outputs = {"none": None, "copy": DIGEST.model_copy(update={"sha256": "cd" * 32}), "other": DIGEST}
    green = set()
    for said, status, output in itertools.product(
        ("pass", "fail", "inconclusive"), ("repaired", "not_repaired", "nothing_to_repair", "not_tried"), outputs
    ):
        record = audit_record(verdict=said, repair=status)
        after = record.after or Rates(acc=0.9, asr=0.0, pictures=10)
        record = changed(record, repair={"output": outputs[output]}, after=after)
        if verdict(record) == "pass":
            green.add((said, status, output))
    unwritten = {("pass", status, output) for status in ("repaired", "not_repaired", "nothing_to_repair", "not_tried")
                 for output in ("none", "copy")}  # fmt: skip
    assert green - unwritten == {("fail", "repaired", "other"), ("pass", "repaired", "other")}


def test_a_dry_run_leaves_the_backdoored_model():
    record = changed(REPAIRED, repair={"output": None})
    assert (verdict(record), found(record)[0]) == ("fail", "OSP101")


def test_what_a_failed_repair_wrote_fails():
    record = changed(audit_record(repair="not_repaired"), repair={"output": DIGEST})
    result = judge(record, DEFAULT, today=TODAY)
    assert (result.verdict, result.findings[0].rule, result.judged) == ("fail", "OSP202", (DIGEST,))


@pytest.mark.parametrize(
    ("record", "section", "key", "value", "rule"),
    [
        (CLEAN, "require", "min_pictures", 11, "OSP902"),
        (changed(CLEAN, data={"label_source": "model"}), "require", "labels", True, "OSP902"),
        (changed(CLEAN, data={"label_source": "model"}), "require", "checked_preprocessing", True, "OSP903"),
        (CLEAN, "require", "min_accuracy", 0.999, "OSP903"),
        (changed(CLEAN, not_searched=("pairs: too many",)), "require", "everything_searched", True, "OSP904"),
        (changed(CLEAN, claims=(ClaimPart(statistic="first", kind="all-to-one", targets=(2,), value=1, p_value=0.7),)),
         "require", "everything_searched", True, "OSP904"),
        (CLEAN, "require", "calibrations", ["ab" * 32], "OSP907"),
        (CLEAN, "require", "max_age_days", 150, "OSP908"),
        (CLEAN, "require", "min_tool_version", "0.1.1", "OSP908"),
        (changed(CLEAN, claims=(ClaimPart(statistic="wide", kind="all-to-one", targets=(2,), value=1, p_value=0.07),)),
         "fail", "p_value", 0.1, "OSP101"),
        (REPAIRED, "fail", "p_value", 0.05, "OSP901"),
        (ODD, "fail", "file_severity", "medium", "OSP005"),
        (REPAIRED, "repair", "allowed", False, "OSP205"),
        (REPAIRED, "repair", "max_accuracy_drop", 0.005, "OSP201"),
        (REPAIRED, "repair", "max_residual_asr", 0.01, "OSP202"),
        (REPAIRED, "repair", "max_difference", 1e-7, "OSP203"),
        (verify_record(), "repair", "allowed", False, "OSP205"),
        (verify_record(), "repair", "max_residual_asr", 0.01, "OSP202"),
        (REPAIRED, "repair", "max_surely_lost", 0.004, "OSP201"),
        (changed(verify_record(), clean_cost=0.01), "repair", "max_surely_lost", 0.005, "OSP201"),
    ],
)  # fmt: skip
def test_every_key_has_an_effect(record, section, key, value, rule):
    assert verdict(record) == "pass"
    assert {*found(record, policy(section, **{key: value}))} - {"OSP103"} == {rule}
    assert verdict(record, policy(section, **{key: value})) == ("inconclusive" if rule[3] == "9" else "fail")


def test_no_key_of_the_policy_is_without_a_case():
    (mark,) = (m for m in test_every_key_has_an_effect.pytestmark if m.name == "parametrize")
    tried = {(case[1], case[2]) for case in mark.args[1]}
    keys = {(s, k) for s in ("require", "fail", "repair") for k in type(getattr(DEFAULT, s)).model_fields}
    # Which baseline may be read is said before anything is judged: tests/gate/test_earlier.py.
    assert tried == keys - {("fail", "baselines")}


@pytest.mark.parametrize(("severity", "expected"), [("high", "pass"), ("medium", "fail"), ("low", "fail")])
def test_what_is_odd_about_the_file_counts_from_the_policys_severity_on(severity, expected):
    judged = judge(ODD, policy("fail", file_severity=severity), today=TODAY)
    assert judged.verdict == expected
    assert [f.rule for f in judged.findings] == (["OSP005"] if expected == "fail" else [])
    (line,) = [c for c in judged.checks if c.name == "the file itself"]
    assert line.value == "OSP005 (medium)"
    assert verdict(changed(CLEAN, findings=(FindingPart(level="note", text="a remark without a rule"),))) == "pass"


def test_a_lenient_p_value_does_not_unsay_what_the_audit_named():
    claims = (BACKDOORED.claims[0].model_copy(update={"p_value": 0.004}),)
    weak = changed(BACKDOORED, attacks=(BACKDOORED.attacks[0].model_copy(update={"p_value": 0.004}),), claims=claims)
    result = judge(weak, policy("fail", p_value=0.001), today=TODAY)
    assert (result.verdict, {f.rule for f in result.findings} & {"OSP101", "OSP104"}) == ("fail", {"OSP101"})


@pytest.mark.parametrize(
    "gone", [("attacks", "claims", "target_classes"), ("attacks", "claims", "target_classes", "classes")]
)
def test_a_report_never_reads_better_than_its_own_verdict(gone):
    """Somebody took out the lists, and left the verdict or not."""
    emptied = changed(BACKDOORED, **dict.fromkeys(gone, ()))
    assert verdict(emptied) == "fail"
    assert verdict(changed(emptied, verdict="pass")) == ("inconclusive" if "classes" in gone else "fail")


def test_what_the_gate_finds_is_never_greener_than_the_numbers():
    """A report that says pass, whose numbers leave a doubt by the thresholds that it carries."""
    said = ClaimPart(statistic="wide", kind="source-specific", source=7, targets=(2,), value=1, p_value=0.015)
    for record in (CLEAN, verify_record()):
        result = judge(changed(record, claims=(said,)), DEFAULT, today=TODAY)
        assert result.verdict == "inconclusive"
        (finding,) = (f for f in result.findings if f.rule == "OSP906")
        assert (finding.source_class, finding.target_class) == (7, 2)
        assert "class 7 to class 2" in finding.message
        assert verdict(changed(record, doubts=("the time was too short",))) == "inconclusive"
        named = changed(record, claims=(said.model_copy(update={"p_value": 0.004}),))
        assert verdict(named) == "fail"
        cautious = changed(record, claims=(said.model_copy(update={"p_value": 0.004, "cautions": ("2 classes",)}),))
        assert (verdict(cautious), found(cautious)) == ("inconclusive", ["OSP906"])
        failed = tuple(c.model_copy(update={"success": False, "asr": 0.49}) for c in record.classes)
        assert verdict(changed(record, classes=failed)) == "inconclusive", "no search moves half of the pictures"


@pytest.mark.parametrize(
    ("p", "outside", "gone", "expected"),
    [
        (0.015, (), 0.97, "inconclusive"),
        (0.015, (), 0.6, "inconclusive"),
        (0.015, (), 0.2, "pass"),
        (1e-9, ("6 classes",), None, "inconclusive"),
        (1e-9, ("6 classes",), 0.97, "inconclusive"),
        (1e-9, ("6 classes",), 0.2, "pass"),
        (1e-9, (), 0.2, "inconclusive"),
    ],
)
def test_what_became_of_a_class_that_was_unlearnt_counts(p, outside, gone, expected):
    """By the record's own numbers, also where it says pass."""
    said = ClaimPart(statistic="wide", kind="all-to-one", targets=(2,), value=1, p_value=p, outside=outside, gone=gone)
    for record in (CLEAN, verify_record()):
        assert verdict(changed(record, claims=(said,))) == expected


def test_the_thresholds_are_those_of_the_record():
    said = ClaimPart(statistic="wide", kind="all-to-one", targets=(2,), value=1, p_value=0.015)
    strict = changed(CLEAN, claims=(said,), thresholds={"doubt": 0.01})
    assert verdict(strict) == "pass"
    assert verdict(changed(CLEAN, claims=(said,))) == "inconclusive"
    assert verdict(changed(CLEAN, claims=(said,), thresholds=None)) == "inconclusive", (
        "of an earlier schema: the tool's own"
    )


def test_pictures_that_were_drawn_out_of_the_model_are_not_given():
    drawn = changed(CLEAN, data={"label_source": "synthesised"})
    assert (verdict(drawn), found(drawn)) == ("inconclusive", ["OSP902"])
    (line,) = (c for c in judge(drawn, DEFAULT, today=TODAY).checks if c.name == "clean pictures")
    assert line.value == "none given (10 drawn out of the model)"
    assert verdict(drawn, policy("require", min_pictures=0)) == "pass"


@pytest.mark.parametrize(
    ("source", "said", "value"),
    [
        ("folder", None, "checked"),
        ("model", None, "unchecked"),
        ("synthesised", None, "unchecked"),
        ("folder", "unlikely", "unlikely"),
        ("model", "unchecked", "unchecked"),
        ("given", "checked", "checked"),
    ],
)
def test_preprocessing_is_in_every_decision_and_decides_only_where_it_is_asked_for(source, said, value):
    """Records of earlier tools do not say; their labels do."""
    record = changed(CLEAN, data={"label_source": source, "preprocessing": said})
    loose, strict = (
        judge(record, policy("require", min_pictures=0, checked_preprocessing=asked), today=TODAY)
        for asked in (False, True)
    )
    (line,) = (c for c in loose.checks if c.name == "preprocessing")
    assert (line.value, line.outcome, loose.verdict) == (value, "met", "pass")
    (line,) = (c for c in strict.checks if c.name == "preprocessing")
    assert line.outcome == ("met" if value == "checked" else "not graded")
    assert strict.verdict == ("pass" if value == "checked" else "inconclusive")


def test_a_foreign_calibration_is_not_met_without_a_word():
    foreign = changed(CLEAN, calibration="8 models, 2 seeds each", calibration_sha256="12" * 32)
    assert (verdict(foreign), found(foreign)) == ("inconclusive", ["OSP907"])
    (line,) = (c for c in judge(foreign, DEFAULT, today=TODAY).checks if c.name == "calibration")
    assert line.value == "8 models, 2 seeds each (sha256 1212121212121212)"
    for known in (["any"], ["packaged", "12" * 32]):
        assert verdict(foreign, policy("require", calibrations=known)) == "pass"
    old = changed(CLEAN, calibration_sha256="", thresholds=None)
    assert verdict(changed(old, settings={"calibration": None})) == "pass"
    assert verdict(changed(old, settings={"calibration": "mine.json"})) == "inconclusive"
    assert verdict(changed(CLEAN, calibration_sha256="")) == "inconclusive"


@pytest.mark.parametrize(
    ("created", "fine"),
    [
        ("2026-05-31T23:00:00Z", True),
        ("2026-05-01T00:00:00Z", False),
        ("2026-06-02T06:00:00Z", True),  # a clock of another time zone
        ("2027-01-01T00:00:00Z", False),  # it would stay fresh for months
        ("soon", False),
    ],
)
def test_the_age_of_a_report(created, fine):
    assert (verdict(changed(CLEAN, created=created), policy("require", max_age_days=7)) == "pass") is fine


@pytest.mark.parametrize(
    ("version", "fine"), [("0.2", True), ("0.2.0", True), ("0.10.1rc1", True), ("0.1.9", False), ("x", False)]
)
def test_the_tool_that_made_a_report(version, fine):
    record = changed(CLEAN, environment={"onnx_shapprune": version})
    assert (verdict(record, policy("require", min_tool_version="0.2")) == "pass") is fine


def test_the_audit_of_the_repaired_file_is_judged_by_its_numbers():
    def repaired(*claims, **more):
        return changed(REPAIRED, repair={"claims": tuple(claims)}, **more)

    def said(target, p, statistic="compact"):
        return ClaimPart(statistic=statistic, kind="all-to-one", targets=(target,), value=1, p_value=p)

    assert verdict(repaired(said(3, 0.5))) == "pass"
    assert verdict(repaired(said(3, 0.5)), policy("fail", p_value=0.05)) == "pass"
    assert verdict(repaired(said(3, 0.015))) == "inconclusive"
    assert verdict(repaired(said(3, 0.04)), policy("fail", p_value=0.05)) == "fail"
    assert verdict(repaired(said(3, 0.001))) == "fail"
    # About another class, which was there before and not named, and where MM-BD speaks alone.
    assert verdict(repaired(said(4, 0.004), said(3, 0.004, "peak"))) == "pass"
    assert verdict(
        repaired(said(3, 0.001, "peak"), data={"label_source": "synthesised"}), policy("require", min_pictures=0)
    ) == ("fail")
    assert verdict(repaired(said(4, 1e-5))) == "fail"


def test_attacks_between_classes():
    pair = AttackPart(kind="source-specific", targets=(4,), source=7, p_value=2e-3, reasons=("a patch",))
    everything = AttackPart(kind="all-to-all", targets=(1, 2, 0), mapping=(1, 2, 0), p_value=1e-6)
    findings = judge(changed(BACKDOORED, attacks=(pair, everything), target_classes=(4, 1, 2, 0)), DEFAULT, today=TODAY)
    first, second = (f for f in findings.findings if f.rule == "OSP102")
    assert (first.target_class, first.source_class, first.confidence) == (4, 7, "medium")
    assert (second.target_class, second.confidence) == (None, "high")
    (line,) = (c for c in findings.checks if c.rule == "OSP102")
    assert (line.outcome, line.value) == ("failed", "class 7 to 4, every class")


def test_a_class_that_is_named_without_an_attack_fails():
    """As by --known-trigger, and in records of schema 1.0."""
    record = changed(BACKDOORED, attacks=(), claims=())
    (first, *_) = judge(record, DEFAULT, today=TODAY).findings
    assert (verdict(record), first.rule, first.target_class) == ("fail", "OSP101", 3)


def test_that_a_known_trigger_fails_to_work_is_no_audit():
    record = changed(CLEAN, classes=(), attacks=(), claims=())
    assert (verdict(record), found(record)) == ("inconclusive", ["OSP901"])


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        (UNTOLD, "OSP901"),
        (changed(CLEAN, verdict="inconclusive", doubts=("the slopes lie",)), "OSP909"),
        (changed(CLEAN, verdict="inconclusive", not_searched=("class 1: a copy",), findings=COUNTED), "OSP909"),
        (changed(UNTOLD, classes=()), "OSP903"),
        (changed(UNTOLD, classes=(), before={"triggered": 4}), "OSP902"),
        (changed(UNTOLD, classes=(), data={"classes_covered": 1}), "OSP902"),
        (changed(UNTOLD, not_searched=("patch: the time was too short",), settings={"search_seconds": 5.0}), "OSP904"),
    ],
)
def test_why_nothing_can_be_told(record, rule):
    result = judge(record, DEFAULT, today=TODAY)
    assert (result.verdict, [f.rule for f in result.findings]) == ("inconclusive", [rule])
    assert {c.outcome for c in result.checks if c.rule in ("OSP101", "OSP102")} == {"not graded"}


def test_what_an_older_record_does_not_say_is_not_graded():
    record = changed(verify_record(), clean_cost=None)
    assert (verdict(record), found(record)) == ("inconclusive", ["OSP901"])
    assert verdict(changed(REPAIRED, after=None)) == "inconclusive"
    assert verdict(changed(REPAIRED, repair={"rounds": (), "masked_vs_baked": None})) == "inconclusive"


def test_a_reason_to_fail_that_this_version_does_not_know_is_one():
    for version in ("1.99", "1.0"):
        record = changed(verify_record(verdict="fail"), schema_version=version)
        assert (verdict(record), found(record)) == ("fail", ["OSP104"])


def test_verify_fails_for_other_changes_and_for_what_is_found_in_the_second_file():
    assert found(changed(verify_record(), other_changes=("node added",) * 5)) == ["OSP204"]
    named = changed(verify_record(), target_classes=(3,), attacks=BACKDOORED.attacks)
    assert found(named) == ["OSP101"]
    assert verdict(changed(verify_record(), after={"asr": None})) == "pass"


def waiver(**changes: object) -> Waiver:
    made = {"rule": "OSP101", "model_sha256": BACKDOORED.model.sha256, "target_class": 3, "until": "2026-06-01",
            "reason": "small digit", "by": "alice"}  # fmt: skip
    return Waiver(**(made | changes))


def test_a_waiver_covers_its_finding_and_is_shown():
    result = judge(BACKDOORED, policy(waivers=(waiver(),)), today=TODAY)
    assert result.verdict == "pass"
    assert [(s.finding.rule, s.waiver.by) for s in result.suppressed] == [("OSP101", "alice")]
    assert [f.rule for f in result.findings] == ["OSP103"]
    assert "1 of them by a waiver" in result.reasons[0]
    (line,) = (c for c in result.checks if c.rule == "OSP101")
    assert (line.outcome, line.value) == ("met", "class 3, p 0.0001 (waived)")
    assert verdict(BACKDOORED, policy(waivers=(waiver(target_class=None),))) == "pass"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"until": "2026-05-31"}, "for class 3 by alice expired on 2026-05-31"),
        ({"target_class": 4}, "OSP101 for class 4 by alice matches no finding"),
        ({"rule": "OSP102"}, "OSP102 for class 3 by alice matches no finding"),
        ({"model_sha256": "0" * 64}, None),
    ],
)
def test_a_waiver_covers_nothing_else(changes, words):
    result = judge(BACKDOORED, policy(waivers=(waiver(**changes),)), today=TODAY)
    assert (result.verdict, result.suppressed) == ("fail", ())
    assert [words in w for w in result.unused_waivers] == ([True] if words else [])


def test_one_finding_that_is_not_waived_fails_its_line():
    two = (*BACKDOORED.attacks, BACKDOORED.attacks[0].model_copy(update={"targets": (5,)}))
    result = judge(changed(BACKDOORED, attacks=two), policy(waivers=(waiver(),)), today=TODAY)
    (line,) = (c for c in result.checks if c.rule == "OSP101")
    assert (result.verdict, len(result.suppressed), len(result.reasons)) == ("fail", 1, 1)
    assert (line.outcome, line.value) == ("failed", "class 3, class 5, p 0.0001")


def test_a_waiver_of_the_model_says_nothing_about_its_repaired_copy():
    worse = changed(REPAIRED, after={"asr": 0.9})
    mine = waiver(rule="OSP202", target_class=None, model_sha256=worse.model.sha256)
    assert verdict(worse, policy(waivers=(mine,))) == "fail"
    assert (
        verdict(worse, policy(waivers=(waiver(rule="OSP202", target_class=None, model_sha256=DIGEST.sha256),)))
        == "pass"
    )


def test_every_finding_has_a_rule_and_its_severity():
    for record in (BACKDOORED, UNTOLD, changed(REPAIRED, after={"asr": 0.9}), changed(verify_record(), clean_cost=0.5)):
        result = judge(record, DEFAULT, today=TODAY)
        assert result.findings
        assert all(f.severity == RULES[f.rule].severity for f in result.findings)
        assert all(c.rule in RULES for c in result.checks)

"""What an earlier report lets pass: the same finding and no other, never what was not measured, and only by the policy."""

import hashlib
import json

import pytest
from record_samples import audit_record, verify_record
from test_judge import BACKDOORED, CLEAN, COUNTED, DEFAULT, ODD, REPAIRED, TODAY, UNTOLD, changed, policy

from onnx_shapprune.errors import EvidenceError, PolicyError, ShapPruneError
from onnx_shapprune.gate.baseline import Baseline, check_baseline, load_baseline
from onnx_shapprune.gate.hold import gate_record
from onnx_shapprune.gate.judge import judge
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.record.audit import AttackPart
from onnx_shapprune.record.parts import FileDigest, FindingPart
from onnx_shapprune.report.decision import judgement_line, judgement_text
from onnx_shapprune.report.text import json_text

ANY = policy("fail", baselines=["any"])
STRICT = policy("fail", file_severity="medium")


def beside(record, earlier, rules=DEFAULT) -> Judgement:
    file = FileDigest(name="main.json", size=1, sha256="ba" * 32)
    return judge(record, rules, today=TODAY, baseline=Baseline(file, earlier))


def attack(target: int, source: int | None = None):
    """A record that names one way to a class, by itself."""
    kind = "all-to-one" if source is None else "source-specific"
    named = (AttackPart(kind=kind, targets=(target,), source=source, p_value=1e-4, reasons=("it stands out",)),)
    return changed(BACKDOORED, attacks=named, claims=(), target_classes=(), classes=BACKDOORED.classes[:3])


def test_what_was_there_before_is_known_and_said():
    result = beside(BACKDOORED, BACKDOORED)
    assert result.verdict == "pass"
    assert [f.rule for f in result.known] == ["OSP101"]
    assert "OSP101" not in {f.rule for f in result.findings}
    assert "only because the baseline has the same findings" in result.reasons[0]
    line = next(c for c in result.checks if c.name == "trigger to one class")
    assert (line.outcome, line.value.endswith("(known before)")) == ("met", True)
    for text in (judgement_line(result), judgement_text(result)):
        assert "1 known finding let pass" in " ".join(text.split())
        assert "known before, let pass: OSP101" in " ".join(text.split())


@pytest.mark.parametrize("earlier", [CLEAN, attack(4), attack(3, source=1)])
def test_another_class_another_source_or_nothing_is_new(earlier):
    result = beside(attack(3), earlier)
    assert (result.verdict, result.known) == ("fail", ())
    assert [f.state for f in result.findings if f.rule == "OSP101"] == ["new"]


def test_one_new_finding_fails_beside_a_known_one():
    both = changed(attack(3), attacks=(*attack(3).attacks, *attack(4).attacks))
    result = beside(both, attack(3))
    assert result.verdict == "fail"
    assert [f.target_class for f in result.known] == [3]
    assert [f.target_class for f in result.findings if f.rule == "OSP101"] == [4]


def test_the_statistic_that_found_it_does_not_matter():
    other = changed(attack(3), attacks=(attack(3).attacks[0].model_copy(update={"reasons": ("by another search",)}),))
    assert beside(other, attack(3)).verdict == "pass"


def test_what_only_the_baseline_has_is_gone_where_the_audit_came_to_an_end():
    assert [(f.rule, f.state) for f in beside(CLEAN, BACKDOORED).gone] == [("OSP101", "absent")]
    assert beside(UNTOLD, BACKDOORED).gone == ()


def test_what_was_not_measured_is_never_let_pass():
    result = beside(UNTOLD, UNTOLD)
    assert (result.verdict, result.known) == ("inconclusive", ())
    assert {f.state for f in result.findings} == {"unchanged"}


def test_of_the_file_itself_only_the_very_same_words_are_known():
    assert beside(ODD, ODD, STRICT).verdict == "pass"
    assert beside(ODD, changed(CLEAN, findings=COUNTED), STRICT).verdict == "fail"
    other = (FindingPart(level="warning", rule="OSP005", text="domain other.org"),)
    assert beside(changed(ODD, findings=other), ODD, STRICT).verdict == "fail"


def test_a_hostile_file_is_never_let_pass():
    bomb = changed(CLEAN, verdict="fail", findings=(FindingPart(level="high", rule="OSP004", text="a bomb"),))
    result = beside(bomb, bomb)
    assert (result.verdict, result.known) == ("fail", ())


def test_a_fail_without_a_reason_is_never_let_pass():
    odd = changed(CLEAN, verdict="fail")
    assert beside(odd, odd).verdict == "fail"


@pytest.mark.parametrize(
    ("record", "earlier", "words"),
    [
        (REPAIRED, REPAIRED, "a repaired file"),
        (CLEAN, verify_record(), "report of verify, and the one that is judged is of audit"),
        (CLEAN, REPAIRED, "report of sanitize"),
        (CLEAN, UNTOLD, "inconclusive itself"),
        (CLEAN, changed(CLEAN, classes=()), "nothing was searched"),
        (CLEAN, changed(CLEAN, model={"classes": 43}), "43 classes, and this one 10"),
        (
            changed(CLEAN, model={"class_names": ("a",) * 10}),
            changed(CLEAN, model={"class_names": ("b",) * 10}),
            "other names or another order",
        ),
    ],
)
def test_what_says_nothing_about_what_is_new(record, earlier, words):
    file = FileDigest(name="main.json", size=1, sha256="ba" * 32)
    with pytest.raises(EvidenceError, match=words) as caught:
        check_baseline(Baseline(file, earlier), record)
    assert str(caught.value).startswith("the baseline main.json cannot be compared with: ")


def test_only_the_policy_says_which_baseline_counts(tmp_path):
    path = tmp_path / "main.json"
    path.write_text(json_text(BACKDOORED))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(PolicyError, match=f"allows no baseline with sha256 {sha256}"):
        load_baseline(path, DEFAULT)
    with pytest.raises(PolicyError, match="allows no baseline"):
        load_baseline(path, policy("fail", baselines=["00" * 32]))
    for rules in (ANY, policy("fail", baselines=[sha256])):
        assert load_baseline(path, rules).file == FileDigest(name="main.json", size=path.stat().st_size, sha256=sha256)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"tool": "other"}', '{"tool": "onnx-shapprune", "schema_version": "2.0"}']
)
def test_what_is_no_report_is_one_clear_line(tmp_path, text):
    path = tmp_path / "main.json"
    path.write_text(text)
    with pytest.raises(EvidenceError) as caught:
        load_baseline(path, ANY)
    assert str(caught.value).startswith(f"the baseline {path} ")
    assert "\n" not in str(caught.value)
    with pytest.raises(EvidenceError, match="baseline not found"):
        load_baseline(tmp_path / "none.json", ANY)


def test_from_python(tmp_path):
    path, rules = tmp_path / "main.json", tmp_path / "policy.toml"
    path.write_text(json_text(attack(3)))
    rules.write_text('schema = 1\n[fail]\nbaselines = ["any"]\n')
    assert gate_record(attack(3), policy=rules, baseline=path, today=TODAY).verdict == "pass"
    assert gate_record(attack(4), policy=rules, baseline=path, today=TODAY).verdict == "fail"
    with pytest.raises(ShapPruneError, match="repaired file"):
        gate_record(audit_record(), policy=rules, baseline=path, today=TODAY)


def test_the_judgement_says_which_baseline_it_was(tmp_path):
    content = json.loads(json_text(beside(BACKDOORED, BACKDOORED)))
    assert content["baseline"]["sha256"] == "ba" * 32
    assert content["known"][0]["state"] == "unchanged"


def test_the_default_policy_allows_none():
    assert load_policy(None).fail.baselines == []

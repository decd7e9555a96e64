"""rules, schema and doctor: what the program says about itself is what it does."""

import json
import subprocess
import sys

import jsonschema
import pytest
from invocations import only_line, run
from record_samples import audit_record, verify_record

from onnx_shapprune.cli import shapprune
from onnx_shapprune.commands import doctor as installation
from onnx_shapprune.gate.policy import default_policy_text
from onnx_shapprune.gate.rules import RULES, SEVERITIES
from onnx_shapprune.report.text import json_text


def test_all_rules_are_listed():
    listed = run("rules").stdout
    assert all(id_ in listed for id_ in RULES)
    read = json.loads(run("rules", "-f", "json").stdout)
    assert [r["id"] for r in read] == sorted(RULES)
    assert {r["severity"] for r in read} <= set(SEVERITIES)
    assert len({r["name"] for r in read}) == len(RULES)


def test_one_rule_is_explained():
    text = " ".join(run("rules", "osp202").stdout.split())
    assert text.startswith("OSP202 residual-backdoor (critical)")
    assert RULES["OSP202"].help in text
    assert "no rule 'OSP20'; did you mean OSP2" in only_line(run("rules", "OSP20"))


def test_the_schema_of_a_report_takes_reports_and_nothing_else():
    schema = json.loads(run("schema", "report").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema)
    for record in (audit_record(), audit_record(repair="not_tried"), verify_record()):
        content = json.loads(json_text(record))
        valid.validate(content)
        assert not valid.is_valid(content | {"verdict": "green"})
        assert not valid.is_valid({k: v for k, v in content.items() if k != "verdict"})


def test_the_schema_of_a_judgement_takes_judgements(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json_text(audit_record(repair="not_tried")))
    content = json.loads(run("gate", path, "-f", "json").stdout)
    valid = jsonschema.Draft202012Validator(json.loads(run("schema", "judgement").stdout))
    valid.validate(content)
    assert not valid.is_valid(content | {"checks": "all"})


def test_the_default_policy_is_printed_as_it_is_and_decides_the_same(tmp_path):
    text = run("schema", "policy").stdout
    assert text == default_policy_text()
    (tmp_path / "p.toml").write_text(text)
    (tmp_path / "r.json").write_text(json_text(audit_record(repair="not_tried")))
    mine = json.loads(run("gate", tmp_path / "r.json", "--policy", tmp_path / "p.toml", "-f", "json").stdout)
    default = json.loads(run("gate", tmp_path / "r.json", "-f", "json").stdout)
    assert mine.pop("policy") == "p.toml"
    assert default.pop("policy") == "default"
    assert mine == default


@pytest.mark.parametrize("format_", ["table", "json"])
def test_the_doctors_exit_code(monkeypatch, format_):
    assert run("doctor", "-f", format_).exit_code == 0
    monkeypatch.setattr(installation, "PYTHON_FLOOR", "99")
    result = run("doctor", "-f", format_)
    assert result.exit_code == 2
    assert "older than 99" in result.stdout


@pytest.mark.parametrize("missing", ["onnxruntime", "onnx"])
def test_a_missing_library_is_one_line_and_the_doctor_says_which(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from onnx_shapprune.cli import main; main()"

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)

    audit = call("audit", "m.onnx", "--data", "none")
    assert (audit.returncode, audit.stdout, audit.stderr.count("\n")) == (2, "", 1)
    assert audit.stderr.endswith("shapprune doctor says what is missing\n")
    doctor = call("doctor")
    assert (doctor.returncode, doctor.stderr) == (2, "")
    assert f"cannot be loaded: import of {missing} halted" in doctor.stdout


def test_every_command_is_told_in_a_whole_sentence():
    """On a terminal of 80 columns, where most people see it."""
    listed = run("--help").stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) == len(shapprune.commands)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...") or len(line) > 80] == []

"""shapprune report, and --report on the commands that have a record."""

import json

import pytest
from invocations import only_line, run
from record_samples import audit_record, verify_record

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.values import REPORT_FORMATS
from onnx_shapprune.report.text import json_text

SIGNS = {
    "html": "<!doctype html>", "json": '"schema_version"', "md": "## FAIL", "sarif": '"2.1.0"', "junit": "<testsuites",
    "gitlab": "onnx-shapprune/OSP101", "github": "::error", "cyclonedx": '"CycloneDX"', "intoto": '"FAILED"',
}  # fmt: skip


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "stored.json"
    path.write_text(json_text(audit_record(repair="not_tried")))
    return path


@pytest.mark.parametrize("name", REPORT_FORMATS)
def test_every_format_goes_to_a_file_or_to_stdout(stored, tmp_path, name):
    written = run("report", stored, "-f", name, "-o", tmp_path / "out")
    assert (written.exit_code, written.stdout, written.stderr) == (exits.PASS, "", "")
    shown = run("report", stored, "--to", name)
    assert shown.stdout == (tmp_path / "out").read_text()
    assert SIGNS[name] in shown.stdout


def test_a_policy_makes_another_verdict(stored, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text("schema = 1\n[require]\nmin_pictures = 100\n[fail]\np_value = 1e-5\n")
    assert "## FAIL" in run("report", stored, "-f", "md", "--policy", policy).stdout
    stored.write_text(json_text(audit_record(verdict="pass", repair="not_tried")))
    assert "## PASS" in run("report", stored, "-f", "md").stdout
    assert "## INCONCLUSIVE" in run("report", stored, "-f", "md", "--policy", policy).stdout


def test_a_model_is_compared_with_the_report(stored, model):
    line = only_line(run("report", stored, "-f", "md", "--model", model))
    assert "other bytes" in line


def test_what_cannot_be_converted(tmp_path, stored):
    (tmp_path / "other.json").write_text("{}")
    assert "no report of shapprune" in only_line(run("report", tmp_path / "other.json", "-f", "md"))
    assert "same file" in only_line(run("report", stored, "-f", "md", "-o", stored))
    assert "is a folder" in only_line(run("report", stored, "-f", "md", "-o", tmp_path))


COMMANDS = {
    "audit": ("audit", "model", "--data", "pictures"), "sanitize": ("sanitize", "model", "--data", "pictures", "--dry-run"),
    "verify": ("verify", "model", "model", "--data", "pictures"), "gate": ("gate", "model", "--data", "pictures"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_several_reports_of_one_run(fake, model, pictures, tmp_path, name, monkeypatch):
    monkeypatch.setattr("onnx_shapprune.gate.evidence.check_model", lambda record, model: None)
    places = {"model": model, "pictures": pictures}
    wanted = [tmp_path / "a.json", f"html={tmp_path / 'a.html'}", f"junit={tmp_path / 'a.xml'}"]
    result = run(*(places.get(a, a) for a in COMMANDS[name]), *(a for w in wanted for a in ("--report", w)))
    assert result.exit_code in (exits.PASS, exits.FAIL), result.output
    record = verify_record() if name == "verify" else audit_record()
    assert (tmp_path / "a.json").read_text() == json_text(record)
    assert "<h1>" in (tmp_path / "a.html").read_text()
    assert "<testsuites" in (tmp_path / "a.xml").read_text()


def test_a_stored_report_is_judged_and_shown(stored, tmp_path):
    page = tmp_path / "a.html"
    assert run("gate", stored, "--report", f"html={page}", "-q").exit_code == exits.FAIL
    assert ">FAIL<" in page.read_text()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("htlm=a.html", "no format 'htlm'; did you mean html?"), ("html=", "html= names no file"),
        ("html=nowhere/a.html", "the folder nowhere does not exist"),
        ("nowhere/a.json", "the folder nowhere does not exist"),
    ],
)  # fmt: skip
def test_bad_places_are_refused_before_any_work(fake, model, pictures, value, words):
    assert words in only_line(run("audit", model, "--data", pictures, "--report", value))
    assert not fake.calls


def test_two_reports_in_one_file_are_refused(fake, model, pictures, tmp_path):
    both = ("--report", f"html={tmp_path / 'a'}", "--report", f"md={tmp_path / 'a'}")
    assert "choose two names" in only_line(run("audit", model, "--data", pictures, *both))
    assert not fake.calls


def test_a_name_with_an_equals_sign_is_a_name(fake, model, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("audit", model, "--data", pictures, "--report", "./seed=1.json")
    assert json.loads((tmp_path / "seed=1.json").read_text())["tool"] == "onnx-shapprune"

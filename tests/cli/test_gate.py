"""The gate's exit codes and streams, and that it judges the bytes that are there."""

import hashlib
import json

import pytest
from invocations import only_line, run
from record_samples import audit_record, verify_record

from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.report.text import json_text


@pytest.fixture
def report(tmp_path):
    """Stores a record."""

    def store(record, name: str = "report.json"):
        path = tmp_path / name
        path.write_text(json_text(record))
        return path

    return store


def of_file(record, model):
    """A record about the bytes of a file."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    return record.model_copy(update={"model": record.model.model_copy(update={"sha256": digest})})


def waived(sha256: str) -> str:
    return (
        f'schema = 1\n[[waiver]]\nrule = "OSP101"\nmodel_sha256 = "{sha256}"\nuntil = 2999-12-31\nreason = "small"\n'
        'by = "alice"\n'
    )


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 3)])
def test_exit_codes(report, verdict, code):
    path = report(audit_record(verdict=verdict, repair="not_tried"))
    result = run("gate", path)
    assert (result.exit_code, result.stderr) == (code, "")
    assert result.stdout.startswith(verdict.upper())
    mapped = run("gate", path, "--exit-zero")
    assert mapped.exit_code == (0 if code == 1 else code)
    assert ("given as 0" in mapped.stderr) is (code == 1)


def test_exit_zero_leaves_errors_alone(tmp_path):
    assert "not found" in only_line(run("gate", tmp_path / "none.json", "--exit-zero"))


def test_text_shows_the_table_the_findings_and_the_policys_digest(report):
    text = run("gate", report(audit_record(repair="not_tried"))).stdout
    parts = ["FAIL  model.onnx", "- OSP101 ", "Judged", "cd" * 32, "give --model", "Policy default",
             load_policy(None).sha256, "trigger to one class", "failed", "Findings", "! OSP101 critical"]  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert all(len(line) <= 80 for line in text.splitlines())


def test_json_is_a_judgement(report):
    result = run("gate", report(verify_record()), "-f", "json")
    read = Judgement.model_validate_json(result.stdout)
    assert (read.verdict, read.policy_sha256, read.model_checked) == ("pass", load_policy(None).sha256, False)


@pytest.mark.parametrize("options", [(), ("-q",), ("-f", "json")])
def test_waivers_are_always_shown(report, tmp_path, options):
    record = audit_record(repair="not_tried")
    policy = tmp_path / "policy.toml"
    policy.write_text(waived(record.model.sha256))
    result = run("gate", report(record), "--policy", policy, *options)
    assert result.exit_code == 0
    assert "alice" in result.stdout
    assert "OSP101" in result.stdout


def test_quiet_is_one_line(report):
    assert run("gate", report(audit_record(repair="not_tried")), "-q").stdout.count("\n") == 1


def test_the_model_is_hashed_again(report, model):
    record = audit_record(repair="not_tried")
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    mine = record.model_copy(update={"model": record.model.model_copy(update={"sha256": digest})})
    result = run("gate", report(mine), "--model", model, "-f", "json")
    assert (result.exit_code, json.loads(result.stdout)["model_checked"]) == (1, True)
    assert "about other bytes" in only_line(run("gate", report(record), "--model", model))


def test_a_digest_that_was_pasted_in_is_not_told_and_the_text_says_so(fake, report, model, pictures):
    """Whoever can write a report can make it speak of any file; to audit again, or to sign, is what helps."""
    pasted = report(of_file(audit_record(verdict="pass", repair="not_tried"), model))
    result = run("gate", pasted, "--model", model)
    assert result.exit_code == 0
    assert "the report is not signed: whoever can write it can put another digest into it" in result.stdout
    fake.record = of_file(audit_record(repair="not_tried"), model)
    assert run("gate", model, "--data", pictures).exit_code == 1


def test_a_wrong_policy_is_no_verdict(report, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text("schema = 1\n[fail]\npvalue = 0.1\n")
    assert "unknown key fail.pvalue; did you mean p_value?" in only_line(
        run("gate", report(audit_record(verdict="pass", repair="not_tried")), "--policy", policy)
    )


def test_a_model_with_pictures_is_audited_first(fake, model, pictures, tmp_path):
    fake.record = of_file(audit_record(verdict="pass", repair="not_tried"), model)
    result = run("gate", model, "--data", pictures, "--seed", "3", "-o", tmp_path / "r.json", "-f", "json")
    ((name, args, settings),) = fake.calls
    assert (name, args, settings["run"].seed) == ("audit", (model, pictures), 3)
    assert (result.exit_code, json.loads(result.stdout)["model_checked"]) == (0, True)
    assert run("gate", tmp_path / "r.json").exit_code == 0


def test_a_file_that_was_exchanged_while_its_audit_ran_is_no_verdict(fake, model, pictures, tmp_path):
    fake.record = of_file(audit_record(verdict="pass", repair="not_tried"), model)
    model.write_bytes(model.read_bytes() + b"x")
    output = tmp_path / "r.json"
    assert "about other bytes" in only_line(run("gate", model, "--data", pictures, "-o", output))
    assert not output.exists()


def test_a_model_alone_proves_nothing(fake, model, pictures):
    assert "give its report, or --data" in only_line(run("gate", model))
    assert "--model cannot be used here" in only_line(run("gate", model, "--data", pictures, "--model", model))
    assert not fake.calls
    fake.record = of_file(audit_record(repair="not_tried"), model)
    assert run("gate", model, "--data", "none").exit_code == 1
    assert fake.calls[0][1] == (model, None)


def test_options_of_an_audit_do_nothing_for_a_report_and_are_refused(report, pictures):
    path = report(audit_record(verdict="pass", repair="not_tried"))
    for option in (("--min-accuracy", "0.9"), ("--data", pictures), ("-o", "r.json"), ("--seed", "0")):
        assert "a report is judged as it is" in only_line(run("gate", path, *option))
    assert run("gate", path, "-v", "--color", "never", "--progress", "off", "--isolated").exit_code == 0


def test_strings_of_a_report_are_hostile(report):
    hostile = "\x1b[2J\u202e::error::x\n" * 50
    record = audit_record(repair="not_tried", name=hostile, layer=hostile, reason=hostile)
    record = record.model_copy(update={"attacks": (record.attacks[0].model_copy(update={"reasons": (hostile,)}),)})
    for options in ((), ("-q",)):
        text = run("gate", report(record), *options).stdout
        assert not {"\x1b", "\u202e"} & set(text)
        assert not any(line.startswith("::") for line in text.splitlines())


def test_a_report_comes_from_standard_input(report):
    text = report(audit_record(repair="not_tried")).read_text()
    read = run("gate", "-", "-q", input=text)
    assert (read.exit_code, read.stdout.split(":")[0]) == (1, "FAIL  model.onnx")
    assert "no report" in only_line(run("gate", "-", input="[]"))


def test_waivers_that_cover_nothing_are_shown_however_short_the_output(report, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(waived("cd" * 32))
    clean = report(audit_record(verdict="pass", repair="not_tried"))
    for more in ((), ("-q",)):
        assert "by alice matches no finding" in run("gate", clean, "--policy", policy, *more).stdout.replace(
            "\n  ", " "
        )


def test_a_baseline_lets_pass_what_the_policy_allows_and_says_so(report, tmp_path):
    main, now = report(audit_record(repair="not_tried"), "main.json"), report(audit_record(repair="not_tried"))
    policy = tmp_path / "policy.toml"
    policy.write_text('schema = 1\n[fail]\nbaselines = ["any"]\n')
    assert "allows no baseline" in only_line(run("gate", now, "--baseline", main))
    for options in ((), ("-q",), ("-f", "json")):
        result = run("gate", now, "--policy", policy, "--baseline", main, *options)
        assert result.exit_code == 0
        assert "OSP101" in result.stdout
        assert hashlib.sha256(main.read_bytes()).hexdigest()[:16] in result.stdout
    clean = report(audit_record(verdict="pass", repair="not_tried"), "clean.json")
    assert run("gate", now, "--policy", policy, "--baseline", clean).exit_code == 1
    assert "the baseline is the report itself" in only_line(run("gate", now, "--policy", policy, "--baseline", now))
    sarif = run("report", now, "--policy", policy, "--baseline", main, "-f", "sarif")
    assert '"baselineState": "unchanged"' in sarif.stdout


def test_a_wrong_baseline_stops_before_the_audit_and_loses_none(fake, report, model, pictures, tmp_path):
    fake.record = of_file(audit_record(verdict="pass", repair="not_tried"), model)
    policy, output = tmp_path / "policy.toml", tmp_path / "r.json"
    policy.write_text('schema = 1\n[fail]\nbaselines = ["any"]\n')
    words = ("gate", model, "--data", pictures, "--policy", policy, "-o", output, "--baseline")
    assert "baseline not found" in only_line(run(*words, tmp_path / "none.json"))
    assert fake.calls == []
    assert "report of verify" in only_line(run(*words, report(verify_record(), "main.json")))
    assert output.exists(), "the audit ran, and what it found is kept"

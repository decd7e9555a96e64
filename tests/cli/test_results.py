"""Where results go: to stdout whatever happens to the files, with places that a reviewer finds, of refused files too."""

import hashlib
import json
import os

import models
import numpy as np
import pytest
from invocations import run
from onnx import helper, numpy_helper
from record_samples import audit_record, verify_record

from onnx_shapprune.errors import OutputError
from onnx_shapprune.files import writing
from onnx_shapprune.files.places import repository_path
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.report.text import json_text


@pytest.fixture
def full_disk(monkeypatch):
    """Everything but the first file fails."""

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", fail)


@pytest.mark.parametrize("command", ["audit", "sanitize", "verify", "gate"])
def test_a_full_disk_does_not_lose_the_verdict(fake, model, pictures, tmp_path, full_disk, monkeypatch, command):
    monkeypatch.setattr("onnx_shapprune.gate.evidence.check_model", lambda record, model: None)
    fake.record = (
        verify_record(verdict="fail")
        if command == "verify"
        else audit_record(repair="not_repaired" if command == "sanitize" else "not_tried")
    )
    files = [model, model] if command == "verify" else [model]
    output = ["-o", tmp_path / "out.onnx"] if command == "sanitize" else []
    reports = ["--report", tmp_path / "r.json", "--report", f"sarif={tmp_path / 'r.sarif'}"]
    result = run(command, *files, "--data", pictures, *output, *reports)
    assert result.exit_code == 2
    assert result.stdout.startswith("NOT REPAIRED" if command == "sanitize" else "FAIL")
    assert "No space left on device" in result.stderr
    assert not list(tmp_path.glob("r.*"))


def test_one_report_that_cannot_be_written_does_not_keep_the_others(fake, model, pictures, tmp_path, monkeypatch):
    from onnx_shapprune.cli import results

    write = results.write_atomically

    def fail_first(path, payload):
        if path.name == "a.json":
            raise OutputError("cannot write a.json")
        write(path, payload)

    monkeypatch.setattr(results, "write_atomically", fail_first)
    result = run("audit", model, "--data", pictures, "-o", tmp_path / "a.json", "--report", f"md={tmp_path / 'b.md'}")
    assert (result.exit_code, (tmp_path / "b.md").exists()) == (2, True)


@pytest.fixture
def hostile(tmp_path):
    """A model that makes a tensor of a million million numbers."""
    made = models.vgg_maxpool()
    made.graph.node.insert(0, helper.make_node("ConstantOfShape", ["n"], ["made"]))
    made.graph.initializer.append(numpy_helper.from_array(np.array([2**40]), "n"))
    path = tmp_path / "hostile.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize("command", ["audit", "gate"])
def test_a_refused_file_gets_its_reports(hostile, pictures, tmp_path, command):
    output, sarif = tmp_path / "r.json", tmp_path / "r.sarif"
    result = run(command, hostile, "--data", pictures, "-o", output, "--report", f"sarif={sarif}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "OSP004" in result.stderr
    record = AuditRecord.model_validate_json(output.read_text())
    assert (record.verdict, record.findings[0].rule) == ("fail", "OSP004")
    (finding,) = [r for r in json.loads(sarif.read_text())["runs"][0]["results"] if r["ruleId"] == "OSP004"]
    assert finding["level"] == "error"
    judged = run("gate", output, "--model", hostile)
    assert (judged.exit_code, "OSP004" in judged.stdout) == (1, True)


def test_every_format_shows_a_refused_file(hostile, pictures, tmp_path):
    output = tmp_path / "r.json"
    run("audit", hostile, "--data", pictures, "-o", output)
    for name in ("html", "md", "sarif", "junit", "gitlab", "github", "cyclonedx", "intoto"):
        result = run("report", output, "-f", name)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "OSP004" in result.stdout or name == "cyclonedx"


@pytest.fixture
def repository(tmp_path, monkeypatch, model):
    """A repository with a model in a folder, and the current folder another one in it."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    return model.rename(tmp_path / "models" / "model.onnx")


def places(path) -> list[str]:
    content = json.loads(path.read_text())["runs"][0]
    assert {a["location"]["uri"] for a in content["artifacts"]} == {
        r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in content["results"]
    }
    return [content["artifacts"][0]["location"]["uri"], content["automationDetails"]["id"]]


def test_reports_point_at_files_of_the_repository(fake, repository, pictures, tmp_path):
    fake.record = audit_record(repair="not_tried")
    reports = [f"{name}={tmp_path / name}" for name in ("sarif", "gitlab", "github")]
    run("audit", repository, "--data", pictures, *(x for r in reports for x in ("--report", r)))
    assert places(tmp_path / "sarif") == ["models/model.onnx", "onnx-shapprune/audit/models/model.onnx/"]
    assert {i["location"]["path"] for i in json.loads((tmp_path / "gitlab").read_text())} == {"models/model.onnx"}
    assert "file=models/model.onnx," in (tmp_path / "github").read_text()


def test_runs_about_different_files_or_of_different_commands_do_not_collide(fake, repository, pictures, tmp_path):
    other = repository.parent.parent / "desk" / "model.onnx"
    other.write_bytes(repository.read_bytes())
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere.onnx"
    elsewhere.write_bytes(repository.read_bytes())
    fake.record = audit_record(repair="not_tried")
    seen = []
    for number, arguments in enumerate(
        (["audit", repository], ["audit", other], ["audit", elsewhere], ["verify", other, repository])
    ):
        report = tmp_path / f"{number}.sarif"
        run(*arguments, "--data", pictures, "--report", f"sarif={report}")
        seen.append(json.loads(report.read_text())["runs"][0]["automationDetails"]["id"])
    assert seen == [
        "onnx-shapprune/audit/models/model.onnx/", "onnx-shapprune/audit/desk/model.onnx/",
        f"onnx-shapprune/audit/model.onnx/{'cd' * 6}/", "onnx-shapprune/verify/models/model.onnx/",
    ]  # fmt: skip
    elsewhere.unlink()


def test_a_repaired_file_is_pointed_at_where_it_was_written(fake, repository, pictures, tmp_path):
    fake.record = audit_record()
    report = tmp_path / "r.sarif"
    run("sanitize", repository, "--data", pictures, "-o", "clean.onnx", "--report", f"sarif={report}")
    content = json.loads(report.read_text())["runs"][0]
    assert content["artifacts"][0]["location"]["uri"] == "desk/clean.onnx"
    assert content["automationDetails"]["id"] == "onnx-shapprune/sanitize/desk/clean.onnx/"


def test_a_report_of_elsewhere_points_at_the_file_that_it_is_held_against(repository, tmp_path):
    """Audited on another machine, judged in the repository of whoever deploys it."""
    sha256, size = hashlib.sha256(repository.read_bytes()).hexdigest(), repository.stat().st_size
    found = audit_record(repair="not_tried")
    other = found.model.model_copy(update={"sha256": sha256, "size": size, "name": repository.name})
    repaired = audit_record()
    written = repaired.repair.output.model_copy(update={"sha256": sha256, "size": size})
    for record in (
        found.model_copy(update={"model": other}),
        repaired.model_copy(update={"repair": repaired.repair.model_copy(update={"output": written})}),
    ):
        stored, wanted = tmp_path / "stored.json", tmp_path / "r.sarif"
        stored.write_text(json_text(record))
        run("gate", stored, "--model", repository, "--report", f"sarif={wanted}")
        uri = json.loads(wanted.read_text())["runs"][0]["artifacts"][0]["location"]["uri"]
        assert uri == "models/model.onnx"
        run("report", stored, "--model", repository, "-f", "sarif", "-o", wanted)
        assert json.loads(wanted.read_text())["runs"][0]["artifacts"][0]["location"]["uri"] == uri


def test_places(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert repository_path(tmp_path / "a" / "b" / "m.onnx") == "m.onnx"
    assert repository_path(tmp_path / "m.onnx") == ""
    (tmp_path / "a" / ".git").touch()  # of a worktree
    assert repository_path("m.onnx") == "b/m.onnx"
    assert repository_path(os.path.join("..", "m.onnx")) == "m.onnx"

"""shapprune demo: with a fake pipeline what it says and leaves behind, with the real one that it tells the truth."""

import json
import tempfile
from pathlib import Path

import pytest
from invocations import only_line, run
from record_samples import audit_record, verify_record

from onnx_shapprune.cli import demo
from onnx_shapprune.cli.demo import true_rates
from onnx_shapprune.commands import repair
from onnx_shapprune.record.parts import Rates
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import RunOptions


@pytest.fixture
def copying(fake, monkeypatch):
    """A fake sanitize that "repairs" by writing the clean sample."""
    inner = repair.sanitize

    def sanitize(model, data, *, output, **settings):
        record = inner(model, data, output=output, **settings)
        if record.repair.status == "repaired":
            output.path.write_bytes(sample_path("clean.onnx").read_bytes())
        return record

    monkeypatch.setattr(repair, "sanitize", sanitize)
    return fake


def test_rates_of_the_samples_are_measured():
    backdoored, clean = (true_rates(sample_path(f"{n}.onnx"), RunOptions(threads=1)) for n in ("backdoored", "clean"))
    assert backdoored.asr >= 0.99
    assert clean.asr <= 0.05
    assert min(backdoored.acc, clean.acc) >= 0.85
    assert clean.racc > 0.8 > backdoored.racc
    assert (clean.pictures, clean.triggered) == (1000, 900)


def test_what_it_says_and_leaves(copying, tmp_path):
    folder = tmp_path / "made"
    result = run("demo", "-o", folder, "--seed", "3", "--threads", "1")
    assert result.exit_code == 0, result.output
    assert [name for name, _, _ in copying.calls] == ["sanitize", "verify"]
    assert {c[2]["run"] for c in copying.calls} == {RunOptions(seed=3, device="cpu", threads=1)}
    for words in ("$ shapprune sanitize", "$ shapprune verify", "Only of this sample", "R-Acc"):
        assert words in result.stdout
    assert {p.name for p in folder.iterdir()} == {"report.json", "report.html", "verify.json", "sanitized.onnx"}
    record = json.loads(run("demo", "-o", folder, "-f", "json").stdout)
    assert record["well"] is True
    assert record["truth"][0]["asr"] >= 0.99
    assert run("demo", "-q").stdout == "PASS  backdoor found, repaired, repair verified\n"


@pytest.mark.slow
def test_the_real_demo(tmp_path):
    result = run("demo", "-o", tmp_path / "made", "-f", "json", "--progress", "off")
    assert result.exit_code == 0, result.stderr
    before, after = json.loads(result.stdout)["truth"]
    assert before["asr"] >= 0.99
    assert after["asr"] <= 0.05
    assert after["acc"] >= before["acc"] - 0.02


def test_a_repair_that_fails_is_exit_1(copying, tmp_path):
    copying.record = audit_record(repair="not_repaired")
    result = run("demo", "-o", tmp_path / "made")
    assert result.exit_code == 1
    assert "the sample was not repaired" in result.stdout
    assert [name for name, _, _ in copying.calls] == ["sanitize"]


def test_a_false_all_clear_does_not_end_well(copying, monkeypatch):
    sanitize = repair.sanitize

    def pretend(model, data, *, output, **settings):
        record = sanitize(model, data, output=output, **settings)
        output.path.write_bytes(sample_path("backdoored.onnx").read_bytes())
        return record

    monkeypatch.setattr(repair, "sanitize", pretend)
    result = run("demo", "-q")
    assert (result.exit_code, result.stdout) == (
        1,
        "FAIL  the real trigger still works: what was said above is a false all-clear\n",
    )


@pytest.mark.parametrize(("acc", "code"), [(0.891, 0), (0.89, 0), (0.889, 1), (0.5, 1)])
def test_a_repair_may_cost_two_points_of_accuracy(copying, monkeypatch, acc, code):
    def rates(path, run):
        before = path.name == "backdoored.onnx"
        return Rates(acc=0.91 if before else acc, asr=1.0 if before else 0.0)

    monkeypatch.setattr(demo, "true_rates", rates)
    result = run("demo")
    assert result.exit_code == code
    assert ("points of accuracy, more than the 2" in result.stdout) == bool(code)
    assert json.loads(run("demo", "-f", "json").stdout)["well"] is not bool(code)


def test_a_repair_that_is_not_verified_does_not_end_well(copying, monkeypatch):
    monkeypatch.setattr(
        "onnx_shapprune.commands.verify.verify", lambda *args, **settings: verify_record(verdict="fail")
    )
    result = run("demo", "-q")
    assert (result.exit_code, result.stdout) == (1, "FAIL  the repaired sample was not verified\n")


def test_a_temporary_folder_is_removed(copying, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run("demo").exit_code == 0
    copying.error = KeyboardInterrupt()
    assert run("demo").exit_code == 130
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(fake, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "a" / "b", tmp_path / "file", Path("/proc/made")):
        assert "cannot make the folder" in only_line(run("demo", "-o", folder))
    assert not fake.calls

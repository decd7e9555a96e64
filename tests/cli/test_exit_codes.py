"""Every way a command can end has one exit code; an error is never a verdict and never Python's own 1."""

import os
import re
import subprocess
import sys

import pytest
from invocations import only_line, run
from record_samples import audit_record, verify_record

from onnx_shapprune.errors import DataError, DeviceError, ModelError, OutputError, VerifyError


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 3)])
def test_audit_and_verify(fake, model, pictures, verdict, code):
    fake.record = audit_record(verdict=verdict)
    assert run("audit", model, "--data", pictures).exit_code == code
    fake.record = verify_record(verdict=verdict)
    assert run("verify", model, model, "--data", pictures).exit_code == code


@pytest.mark.parametrize(
    ("verdict", "repair", "code"),
    [
        ("fail", "repaired", 0),
        ("fail", "not_repaired", 1),
        ("pass", "nothing_to_repair", 0),
        ("fail", "nothing_to_repair", 1),
        ("inconclusive", "nothing_to_repair", 3),
        ("inconclusive", "not_tried", 3),
        ("pass", "not_tried", 3),
    ],
)
def test_sanitize(fake, model, pictures, tmp_path, verdict, repair, code):
    fake.record = audit_record(verdict=verdict, repair=repair)
    assert run("sanitize", model, "--data", pictures, "-o", tmp_path / "out.onnx").exit_code == code


@pytest.mark.parametrize("kind", [ModelError, DataError, DeviceError, OutputError, VerifyError])
def test_expected_errors_are_one_line(fake, model, pictures, kind):
    fake.error = kind("what is wrong \x1b[31m\nin two lines")
    assert only_line(run("audit", model, "--data", pictures)) == "error: what is wrong [31m in two lines"


def test_unexpected_errors_show_where_and_exit_with_2(fake, model, pictures):
    fake.error = ZeroDivisionError("oops")
    result = run("audit", model, "--data", pictures)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError: oops" in result.stderr


def test_interrupt_is_130_and_one_line(fake, model, pictures):
    fake.error = KeyboardInterrupt()
    result = run("audit", model, "--data", pictures, "--progress", "off")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (130, "", 1)
    assert "interrupted" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "Missing command"),
        (["nonsense"], "No such command"),
        (["audit"], "Missing argument"),
        (["audit", "m.onnx"], "--data"),
        (["audit", "m.onnx", "--data", "d", "--nonsense"], "No such option"),
        (["audit", "m.onnx", "--data", "d", "--seed", "x"], "--seed"),
        (["audit", "m.onnx", "--data", "d", "--epsilon", "0"], "above 0"),
        (["audit", "m.onnx", "--data", "d", "--estimator", "kernel"], "'top-k'"),
        (["audit", "m.onnx", "--data", "d", "--clean-budget", "nan"], "clean-budget"),
        (["audit", "m.onnx", "--data", "d", "--max-units", "2"], "at most 1"),
        (["audit", "m.onnx", "--data", "d", "--mean", "a,b"], "--mean"),
        (["sanitize", "m.onnx", "--data", "d"], "--dry-run"),
    ],
)
def test_wrong_usage_is_one_line(fake, args, words):
    assert words in only_line(run(*args))
    assert not fake.calls


@pytest.mark.parametrize("args", [["--help"], ["--version"], *([c, "-h"] for c in ("inspect", "audit", "demo"))])
def test_help_needs_nothing(args):
    result = run(*args)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(args) == 1 or re.search(r"Examples?:\n    shapprune ", result.stdout)


@pytest.mark.skipif(os.name == "nt", reason="shells differ on Windows")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_streams_that_were_closed_before(model, closed):
    command = f"exec {sys.executable} -m onnx_shapprune inspect {model} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    no_stdout = ">&-" in closed.split()
    assert done.returncode == (2 if no_stdout else 0), done.stderr
    assert "Traceback" not in done.stderr
    if closed == ">&-":
        assert done.stderr == "error: there is no stdout to write the result to\n"


def test_a_name_that_is_none_is_one_line(fake, model, pictures, tmp_path):
    name = "x" * 300
    assert "cannot write" in only_line(run("audit", model, "--data", pictures, "-o", tmp_path / name))
    assert "cannot write" in only_line(run("audit", model, "--data", pictures, "--artifacts", tmp_path / name))
    assert not fake.calls


def test_closed_stdout_is_no_verdict(model):
    """`shapprune inspect model | true`: click's own answer would be exit code 1."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "onnx_shapprune", "inspect", str(model)],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (2, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_one_line(model):
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "onnx_shapprune", "inspect", str(model)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: No space left on device")


def test_a_dash_is_no_file(fake, model, pictures):
    assert "results go into files" in only_line(run("audit", model, "--data", pictures, "-o", "-"))
    assert not fake.calls

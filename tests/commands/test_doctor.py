"""The doctor finds what is wrong, and calls nothing wrong that is not."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError

import pytest
from pages import ROOT

from onnx_shapprune.commands import doctor as installation
from onnx_shapprune.commands.doctor import FLOORS, PYTHON_FLOOR, RUNTIME_FLOOR, WHEELS, examine_installation
from onnx_shapprune.record.installation import Fact
from onnx_shapprune.report.installation import installation_text
from onnx_shapprune.runtime import cuda, session


def facts() -> dict[str, Fact]:
    return {fact.name: fact for fact in examine_installation().facts}


@pytest.fixture
def versions(monkeypatch):
    """Lets packages have other versions, "" for none."""
    real = installation.version

    def pretend(**changed: str) -> None:
        def version(name: str) -> str:
            found = changed.get(name.replace("-", "_"))
            if found == "":
                raise PackageNotFoundError(name)
            return found or real(name)

        monkeypatch.setattr(installation, "version", version)

    return pretend


def test_floors_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(re.match(r"([\w-]+)>=([\d.]+)", d).groups() for d in project["dependencies"])
    assert wanted == FLOORS | dict.fromkeys(WHEELS, RUNTIME_FLOOR)
    assert project["requires-python"] == f">={PYTHON_FLOOR}"


def test_this_installation_is_fit_and_really_runs_a_node():
    record = examine_installation()
    assert record.fit
    assert facts()[session.CPU].value == "runs a node"
    assert installation_text(record).startswith("FIT  onnx-shapprune")


def test_two_wheels_are_a_problem_with_a_way_out(versions):
    versions(onnxruntime="1.30.0", onnxruntime_gpu="1.31.0")
    fact = facts()["onnxruntime"]
    assert (fact.outcome, fact.value) == ("problem", "onnxruntime-gpu 1.31.0 and onnxruntime 1.30.0")
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in fact.advice
    assert not examine_installation().fit
    text = installation_text(examine_installation(), width=60)
    assert text.startswith("NOT FIT")
    assert all(len(line) <= 60 for line in text.splitlines())


@pytest.mark.parametrize(
    ("gpu", "cpu", "words", "advice"),
    [
        ("1.31.0", "", "onnxruntime-gpu, which pip takes by itself", "pip install 'onnxruntime>="),
        ("", "1.31.0", "onnxruntime, for the CPU", "pip install 'onnx-shapprune[cuda]'"),
    ],
)
def test_it_is_said_which_wheel_is_there_and_why(versions, gpu, cpu, words, advice):
    versions(onnxruntime_gpu=gpu, onnxruntime=cpu)
    fact = facts()["wheel"]
    assert words in fact.value
    assert advice in fact.advice
    assert fact.outcome == "note"


def test_the_small_installation_is_the_same_but_for_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {d.partition(";")[0].strip() for d in project["dependencies"]}
    lines = {line for line in (ROOT / "requirements-cpu.txt").read_text().splitlines() if not line.startswith("#")}
    assert lines == {d for d in wanted if not d.startswith("onnxruntime-gpu")}


def test_what_is_missing_or_too_old(versions):
    versions(onnxruntime="", onnxruntime_gpu="", scipy="", numpy="1.9.9", onnx="1.100.0rc1")
    found = facts()
    assert found["onnxruntime"].advice == f"pip install 'onnxruntime>={RUNTIME_FLOOR}'"
    assert (found["scipy"].value, found["numpy"].value) == ("missing", "1.9.9, older than 1.26")
    assert {name for name, fact in found.items() if fact.outcome == "problem"} == {"onnxruntime", "scipy", "numpy"}


def test_a_wheel_that_cannot_be_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx_shapprune.runtime.session", None)
    monkeypatch.delattr("onnx_shapprune.runtime.session")
    assert "cannot be loaded" in examine_installation().facts[-1].value
    assert not examine_installation().fit


def test_cuda_that_does_not_run_is_a_note_that_says_why(monkeypatch):
    monkeypatch.setattr(session, "available_providers", lambda: [session.CUDA, session.CPU])
    monkeypatch.setattr(session, "loads", lambda library: False)
    monkeypatch.setattr(cuda, "loads", lambda library: False)
    fact = facts()[session.CUDA]
    assert (fact.outcome, fact.value) == (
        "note", f"does not run a node: there is no driver; not found: {cuda.DRIVER}"
    )  # fmt: skip
    monkeypatch.setattr(session, "available_providers", lambda: [session.CPU])
    assert facts()[session.CUDA].value == "not in this wheel of onnxruntime"
    assert examine_installation().fit


def test_libraries_are_looked_for_by_loading_them(monkeypatch):
    monkeypatch.setattr(cuda, "preload", lambda: None)
    monkeypatch.setattr(cuda.sys, "platform", "linux")
    monkeypatch.setattr(cuda, "loads", lambda library: "cudnn" not in library)
    assert cuda.missing_libraries() == ("libcudnn.so.9",)


def test_a_library_that_is_there_loads():
    assert not cuda.loads("libthere-is-no-such-library.so.1")
    if sys.platform == "linux":
        assert cuda.loads("libc.so.6")

"""The gates in samples/gates: what can run here is run, the rest is parsed and held against itself."""

import base64
import hashlib
import importlib
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
import yaml
from pages import ROOT
from record_samples import audit_record

from onnx_shapprune.report.text import json_text

GATES = ROOT / "samples" / "gates"
STUB = r"""#!/usr/bin/env python3
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\n")
if "-o" in sys.argv and os.environ["CODE"] != "2":
    open(sys.argv[sys.argv.index("-o") + 1], "w").write("{}")
sys.exit(int(os.environ["CODE"]) if sys.argv[1] == "gate" else 0)
"""
REAL = f"""#!/bin/sh
exec {shlex.quote(sys.executable)} -m onnx_shapprune "$@"
"""


class Shell:
    """A folder with programs of our own in front of the PATH. code: what `shapprune gate` exits with, where it is a stub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()

    def install(self, text: str, *names: str) -> None:
        for name in names:
            program = self.folder / "bin" / name
            program.write_text(text)
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def run(self, script: str, *, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "CALLS": str(self.folder / "calls"),
                       "CODE": str(code), **variables}  # fmt: skip
        command = ["bash", "-eo", "pipefail", "-c", script]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    @property
    def calls(self) -> list[list[str]]:
        kept = self.folder / "calls"
        return [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def small(tmp_path) -> tuple[Path, Path]:
    """A network with random weights that an audit is done with in a second, and pictures for it."""
    (tmp_path / "model.onnx").write_bytes(models.vgg_maxpool().SerializeToString())
    x = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "pictures.npz", x=x)
    return tmp_path / "model.onnx", tmp_path / "pictures.npz"


def steps() -> dict[str, dict[str, object]]:
    action = yaml.safe_load((GATES / "github-action" / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    return {step["name"]: step for step in action["runs"]["steps"]}


def environment(step: dict[str, object], **inputs: str) -> dict[str, str]:
    """The step's variables, with the inputs of the action put in."""
    action = yaml.safe_load((GATES / "github-action" / "action.yml").read_text())
    values = {
        name: inputs.get(name.replace("-", "_"), given.get("default", "")) for name, given in action["inputs"].items()
    }
    return {k: re.sub(r"\$\{\{ inputs\.([\w-]+) }}", lambda m: values[m[1]], v) for k, v in step["env"].items()}


def test_no_input_is_pasted_into_a_script():
    for step in steps().values():
        assert "${{" not in str(step.get("run", ""))
        assert "shell" in step or "uses" in step


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_actions_gate_hands_on_what_it_was_given_and_the_exit_code(shell, code):
    shell.install(STUB, "shapprune")
    step = steps()["gate"]
    given = environment(step, model="a model.onnx", data="$(touch x)", policy="p q.toml", options="--mean 0.5 --seed 1")
    result = shell.run(step["run"], code=code, GITHUB_OUTPUT=str(shell.folder / "out"), **given)
    assert result.returncode == code
    assert (shell.folder / "out").read_text() == f"exit-code={code}\n"
    assert shell.calls == [
        ["shapprune", "gate", "--isolated", "a model.onnx", "--data", "$(touch x)", "-o", "shapprune-report.json",
         "--mean", "0.5", "--seed", "1", "--policy", "p q.toml"]
    ]  # fmt: skip


def test_the_actions_gate_on_a_real_model(shell, small):
    shell.install(REAL, "shapprune")
    step, (model, pictures) = steps()["gate"], small
    given = environment(step, model=model.name, data=pictures.name, options="--restarts 1 --permutations 2 --threads 1")
    result = shell.run(step["run"], GITHUB_OUTPUT=str(shell.folder / "out"), **given)
    verdict = json.loads((shell.folder / "shapprune-report.json").read_text())["verdict"]
    assert result.returncode == {"pass": 0, "fail": 1, "inconclusive": 3}[verdict], result.stderr
    assert result.stdout.startswith(verdict.upper())


def test_the_action_installs_what_it_was_told(shell):
    shell.install(STUB, "python")
    step, place = steps()["install"], GATES / "github-action"
    for given, installed in (({}, f"{place}/../../.."), ({"requirement": "a b.whl"}, "a b.whl")):
        asked = environment(step, **given)
        assert shell.run(step["run"], GITHUB_ACTION_PATH=str(place), **asked).returncode == 0
        assert shell.calls[-1] == ["python", "-m", "pip", "install", "--quiet", installed]
    assert (place / ".." / ".." / ".." / "pyproject.toml").exists(), "what is installed is this repository"


def test_the_action_hands_on_a_baseline(shell):
    shell.install(STUB, "shapprune")
    for name in ("gate", "formats"):
        step = steps()[name]
        given = environment(step, model="m.onnx", data="p", policy="p.toml", baseline="main report.json")
        files = {"GITHUB_OUTPUT": str(shell.folder / "out"), "GITHUB_STEP_SUMMARY": str(shell.folder / "summary")}
        assert shell.run(step["run"], **files, **given).returncode == 0
    assert len(shell.calls) == 3
    assert all(call[-2:] == ["--baseline", "main report.json"] for call in shell.calls)


def test_nothing_is_installed_from_an_index():
    for path in (p for p in GATES.rglob("*") if p.is_file()):
        assert "pip install onnx-shapprune" not in re.sub(r" --?[a-z-]+", "", path.read_text()), path


def test_the_actions_formats(shell):
    shell.install(REAL, "shapprune")
    (shell.folder / "shapprune-report.json").write_text(json_text(audit_record(repair="not_tried")))
    step = steps()["formats"]
    result = shell.run(step["run"], GITHUB_STEP_SUMMARY=str(shell.folder / "summary"), **environment(step))
    assert result.returncode == 0, result.stderr
    assert json.loads((shell.folder / "shapprune.sarif").read_text())["version"] == "2.1.0"
    assert "model.onnx" in (shell.folder / "summary").read_text()


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_gitlab_job(shell, code):
    shell.install(STUB, "shapprune")
    job = yaml.safe_load((GATES / "gitlab-ci.yml").read_text())["shapprune"]
    result = shell.run("\n".join(job["script"]), code=code, **job["variables"])
    assert result.returncode == code
    reports = {*job["artifacts"]["paths"], *job["artifacts"]["reports"].values()}
    made = {path.name for path in shell.folder.iterdir()} & reports
    assert made == (set() if code == 2 else reports)


def test_the_gitlab_jobs_formats_are_real(shell):
    shell.install(REAL, "shapprune")
    (shell.folder / "report.json").write_text(json_text(audit_record(repair="not_tried")))
    (shell.folder / "policy.toml").write_text("schema = 1\n")
    job = yaml.safe_load((GATES / "gitlab-ci.yml").read_text())["shapprune"]
    lines = [line for line in job["script"] if line.startswith("shapprune report")]
    result = shell.run("\n".join(lines), **job["variables"])
    assert result.returncode == 0, result.stderr
    assert all((shell.folder / name).stat().st_size for name in job["artifacts"]["reports"].values())


def test_the_pre_commit_hook(shell, small):
    shell.install(REAL, "shapprune")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    model, pictures = small
    broken = shell.folder / "broken.onnx"
    broken.write_bytes(b"GIF89a")
    assert all(re.search(hook["files"], str(path)) for path in (model, broken))
    assert not re.search(hook["files"], str(pictures))
    assert shell.run(f"{hook['entry']} {shlex.quote(str(model))}").returncode == 0
    result = shell.run(f"{hook['entry']} {shlex.quote(str(model))} {shlex.quote(str(broken))}")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "broken.onnx" in result.stderr


def bundle(folder: Path, statement: object, *, kind: str = "application/vnd.in-toto+json") -> Path:
    """A Sigstore bundle around a statement, without a signature: nobody here looks at it."""
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    path = folder / "bundle.json"
    path.write_text(json.dumps({"dsseEnvelope": {"payloadType": kind, "payload": payload, "signatures": []}}))
    return path


def statement(*files: Path, result: str = "PASSED") -> dict[str, object]:
    subjects = [{"name": f.name, "digest": {"sha256": hashlib.sha256(f.read_bytes()).hexdigest()}} for f in files]
    return {"_type": "https://in-toto.io/Statement/v1", "subject": subjects,
            "predicateType": "https://in-toto.io/attestation/test-result/v0.1", "predicate": {"result": result}}  # fmt: skip


def check(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, GATES / "check_attestation.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_attestation_is_checked_by_digest(tmp_path, small):
    model, other = small
    assert check(bundle(tmp_path, statement(model)), model).returncode == 0
    assert check(bundle(tmp_path, statement(model, result="WARNED")), model).returncode == 0
    assert check(bundle(tmp_path, statement(model, other)), model, other).returncode == 0
    for wrong, words in (
        (statement(other), "not about"),
        (statement(model, other), "also about"),
        (statement(model, result="FAILED"), "'FAILED'"),
    ):
        result = check(bundle(tmp_path, wrong), model)
        assert (result.returncode, words in result.stdout) == (1, True)


def test_what_is_no_attestation_is_no_verdict(tmp_path, small):
    model, _ = small
    good = statement(model)
    for wrong in (good | {"predicateType": "x"}, good | {"_type": "x"}, good | {"subject": [{}]}, [], None):
        assert check(bundle(tmp_path, wrong), model).returncode == 2
    assert check(bundle(tmp_path, good, kind="text/plain"), model).returncode == 2
    assert check(model, model).returncode == 2
    assert check(tmp_path / "none", model).returncode == 2
    assert check(model).returncode == 2


def test_the_tools_own_statement_is_one(tmp_path, shell, small):
    model, _ = small
    shell.install(REAL, "shapprune")
    for verdict, code in (("pass", 0), ("fail", 1), ("inconclusive", 1)):
        record = audit_record(verdict=verdict, repair="not_tried")
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        record = record.model_copy(update={"model": record.model.model_copy(update={"sha256": digest})})
        (tmp_path / "report.json").write_text(json_text(record))
        result = shell.run("shapprune report report.json -f intoto -o statement.json")
        assert result.returncode == 0, result.stderr
        made = json.loads((tmp_path / "statement.json").read_text())
        assert check(bundle(tmp_path, made), model).returncode == code


@pytest.mark.parametrize(("code", "signed"), [(0, True), (1, False), (2, False), (3, False)])
def test_cosign_signs_only_what_passed(shell, code, signed):
    shell.install(STUB, "shapprune", "cosign")
    script = f"{shlex.quote(str(GATES / 'cosign.sh'))} sign model.onnx report.json policy.toml key b.json"
    assert shell.run(script, code=code).returncode == code
    assert ("cosign" in {call[0] for call in shell.calls}) is signed
    if signed:
        gate, report, cosign = shell.calls
        assert gate == [
            "shapprune",
            "gate",
            "--isolated",
            "report.json",
            "--model",
            "model.onnx",
            "--policy",
            "policy.toml",
        ]
        statement_file = report[report.index("-o") + 1]
        assert cosign[cosign.index("--statement") + 1] == statement_file
        assert not Path(statement_file).exists()


def test_cosign_verifies_signature_and_result(shell, small):
    shell.install(STUB, "cosign")
    model, _ = small
    for result, code in (("PASSED", 0), ("FAILED", 1)):
        made = bundle(shell.folder, statement(model, result=result))
        script = (
            f"{shlex.quote(str(GATES / 'cosign.sh'))} verify {shlex.quote(str(model))} {shlex.quote(str(made))} pub"
        )
        assert shell.run(script).returncode == code
    assert shell.calls[0][:2] == ["cosign", "verify-blob-attestation"]
    assert shell.run(f"{shlex.quote(str(GATES / 'cosign.sh'))}").returncode == 2


def test_kserve_checks_what_it_serves_before_it_serves_it():
    spec = yaml.safe_load((GATES / "kserve.yaml").read_text())["spec"]["predictor"]
    fetch, signature, result = spec["initContainers"]
    (server,) = spec["containers"]
    assert "storageUri" not in str(spec)
    (folder,) = (m["mountPath"] for m in fetch["volumeMounts"])
    checked = {signature["args"][-1], result["command"][-1]}
    assert len(checked) == 1
    assert checked.pop().startswith(folder)
    declared = {volume["name"] for volume in spec["volumes"]}
    assert {m["name"] for c in (fetch, signature, result, server) for m in c["volumeMounts"]} == declared
    assert all(m["readOnly"] for c in (signature, result, server) for m in c["volumeMounts"])
    assert f"--type={statement()['predicateType']}" in signature["args"]
    assert Path(result["command"][1]).name == "check_attestation.py"


def test_mlflow_moves_an_alias_only_on_a_pass(tmp_path, small, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed, and too heavy for the tests' extra")
    monkeypatch.syspath_prepend(GATES)
    mlflow_hook = importlib.import_module("mlflow_hook")
    uri = f"sqlite:///{tmp_path / 'registry.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    model, _ = small
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "model.onnx").write_bytes(model.read_bytes())
    client.create_registered_model("digits")
    version = client.create_model_version("digits", str(tmp_path / "artifact")).version
    digest = hashlib.sha256(model.read_bytes()).hexdigest()

    def hook(verdict: str, sha256: str = digest) -> tuple[int, dict[str, str], bool]:
        record = audit_record(verdict=verdict, repair="not_tried")
        record = record.model_copy(update={"model": record.model.model_copy(update={"sha256": sha256})})
        (tmp_path / "report.json").write_text(json_text(record))
        code = mlflow_hook.main(["digits", str(version), "--report", str(tmp_path / "report.json")])
        aliased = "champion" in client.get_registered_model("digits").aliases
        return code, client.get_model_version("digits", version).tags, aliased

    assert hook("fail")[0::2] == (1, False)
    code, tags, aliased = hook("pass")
    assert (code, aliased, tags["shapprune.verdict"], tags["shapprune.sha256"]) == (0, True, "pass", digest)
    assert hook("inconclusive")[0::2] == (3, False)
    hook("pass")
    code, tags, aliased = hook("pass", "0" * 64)
    assert (code, aliased, tags["shapprune.verdict"]) == (2, False, "could not run")
    assert "about other bytes" in tags["shapprune.reason"]


@pytest.mark.parametrize("name", ["gitlab-ci.yml", "github-action/action.yml", "cosign.sh"])
def test_no_sample_reads_settings_that_a_pull_request_can_bring(name):
    calls = re.findall(r"shapprune (?:gate|report|audit|inspect)\b(?: --isolated)?", (GATES / name).read_text())
    commands = [call for call in calls if call not in ("shapprune audit", "shapprune gate") or "--isolated" in call]
    assert len(commands) >= 2
    assert all(call.endswith("--isolated") for call in commands)

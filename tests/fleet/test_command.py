"""shapprune batch as it is typed: exit codes, streams, files; and real children of models that crash and hang."""

import json
import os

import numpy as np
import onnx
import planted
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from record_samples import audit_record

from onnx_shapprune.cli import shapprune
from onnx_shapprune.cli.batch import BatchProgress
from onnx_shapprune.cli.progress import ProgressReport
from onnx_shapprune.fleet.batch import Step
from onnx_shapprune.report.text import json_text

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits differ on Windows")


def run(*arguments: object):
    return CliRunner().invoke(shapprune, [str(a) for a in arguments], prog_name="shapprune", env={"COLUMNS": "120"})


def typed(fleet, *more: object):
    return run("batch", fleet.models, "-o", fleet.results, "--data", "none", *more)


def only_line(result) -> str:
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        (["pass", "inconclusive", "error", "fail"], 1),
        (["pass", "inconclusive", "error"], 2),
        (["pass", "inconclusive"], 3),
        (["pass", "hang"], 3),
        (["pass"], 0),
        (["pass", "text"], 0),
        (["text"], 2),
        (["inconclusive", "text"], 3),
        (["pass", "hostile"], 1),
    ],
)
def test_exit_codes(fleet, texts, code):
    for text in texts:
        fleet.add(f"{text}.onnx", text)
    result = typed(fleet, "--timeout", "1" if "hang" in texts else "30", "-f", "json")
    assert result.exit_code == code, result.output
    assert json.loads(result.stdout)["models"] == len(texts)


def test_an_empty_list_is_2_and_makes_no_folder(fleet):
    assert "has no models" in only_line(typed(fleet))
    assert not fleet.results.exists()


def test_streams_and_files(fleet):
    fleet.add("a.onnx", "pass")
    fleet.add("b.onnx", "fail")
    fleet.add("c.onnx", "fail")
    result = typed(fleet)
    assert result.exit_code == 1
    assert result.stdout.startswith("FAIL  3 models: 2 fail, 1 pass\n\nNot passed\n")
    assert "1 model listed twice or more" in result.stdout
    assert "models: 3/3 " in result.stderr
    assert " an hour" in result.stderr
    assert sorted(p.name for p in fleet.results.iterdir() if p.is_file()) == [
        "index.html",
        "index.jsonl",
        "summary.csv",
    ]
    page = (fleet.results / "index.html").read_text()
    assert all(name in page for name in ("a.onnx", "b.onnx", "c.onnx"))
    quiet = typed(fleet, "-q", "--resume")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (1, "FAIL  3 models: 2 fail, 1 pass\n", "")
    assert len(fleet.index()) == 3


def test_shards_share_a_folder_and_the_page_holds_all(fleet):
    for number in range(5):
        fleet.add(f"{number}.onnx", f"pass {number}")
    assert [typed(fleet, "--shard", f"{i}/2", "-q").stdout for i in (1, 2)] == [
        "PASS  3 models: 3 pass\n", "PASS  2 models: 2 pass\n",
    ]  # fmt: skip
    assert "5 models" in (fleet.results / "index.html").read_text()
    assert len(fleet.runs()) == 5
    assert "empty" in only_line(typed(fleet, "--shard", "9/9"))


def test_cores_are_shared_by_the_jobs(fleet, monkeypatch):
    fleet.add("a.onnx", "pass")
    for jobs, threads, expected in ((1, 0, 8), (3, 0, 2), (64, 0, 1), (3, 5, 5), (1, 99, 8)):
        monkeypatch.setattr("onnx_shapprune.cli.batch.usable_cores", lambda: 8)
        monkeypatch.setattr("onnx_shapprune.cli.threads.usable_cores", lambda: 8)
        typed(fleet, "--jobs", jobs, "--threads", threads)
        (report,) = fleet.results.glob("*/report.json")
        assert json.loads(report.read_text())["settings"]["threads"] == expected
    fleet.runs()
    typed(fleet, "--jobs", 2, "--resume")
    assert fleet.runs() == []


def test_what_is_refused_before_any_work(fleet, tmp_path, monkeypatch):
    fleet.add("a.onnx", "pass")
    assert "choose another folder" in only_line(run("batch", fleet.models, "-o", fleet.models, "--data", "none"))
    assert "--data" in only_line(run("batch", fleet.models, "-o", fleet.results))
    assert "no shard" in only_line(typed(fleet, "--shard", "3/2"))
    assert "cannot make the folder" in only_line(run("batch", fleet.models, "-o", tmp_path / "x/y", "--data", "none"))
    assert "policy not found" in only_line(typed(fleet, "--policy", tmp_path / "none.toml"))
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    assert "pip install 'onnx-shapprune[dask]'" in only_line(typed(fleet, "--scheduler", "tcp://127.0.0.1:9"))
    assert fleet.runs() == []


def progress_lines(mode: str, *, verbose: bool = False) -> str:
    import io

    stream, now = io.StringIO(), [0.0]
    report = ProgressReport(stream, mode, clock=lambda: now[0])
    progress = BatchProgress(report, verbose=verbose, clock=lambda: now[0])
    for step in (Step(1, 4, "m/a.onnx", "search 1/2 class 0", False, left=2),
                 Step(2, 4, "m/a.onnx", "pass", True, audited=1, left=2),
                 Step(4, 4, "m/c.onnx", "fail", True, audited=3)):  # fmt: skip
        now[0] += 60
        progress(step)
    report.close()
    return stream.getvalue()


def test_progress_says_how_fast_and_how_long():
    """One of the four was known before: it counts as a model and not in the pace."""
    lines = progress_lines("lines").splitlines()
    assert lines[0] == "models: 2/4 m/a.onnx: pass, 30 an hour, 4:00 left"
    assert lines[1] == "models: 4/4 m/c.onnx: fail, 60 an hour"
    assert "models: 1/4 m/a.onnx: search 1/2 class 0" in progress_lines("lines", verbose=True)
    assert "1/4" in progress_lines("bar")
    assert "1/4 25%  1:00 elapsed  a.onnx: search 1/2 class 0" in progress_lines("bar")
    assert "2/4 50%  2:00 elapsed, 4:00 left here" in progress_lines("bar")


def test_a_resumed_batch_says_once_why_it_begins_anew(fleet):
    fleet.add("a.onnx", "pass")
    fleet.add("b.onnx", "fail")
    typed(fleet)
    again = "audited again: its earlier result is of other settings, pictures, code or libraries"
    assert again not in typed(fleet, "--resume").stderr
    changed = typed(fleet, "--resume", "--seed", 1)
    assert changed.stderr.count(again) == 1, "not for each of thousands"
    assert f"models: 0/2 {fleet.models / 'a.onnx'}: {again}\n" in changed.stderr
    assert again not in typed(fleet, "--seed", 2).stderr, "nobody asked to resume"


def in_front(node: onnx.NodeProto, *constants: onnx.TensorProto) -> bytes:
    """A small network whose pictures pass through a node first, which makes `front` out of `x`."""
    made = planted.rows_net()
    for other in made.graph.node:
        other.input[:] = ["front" if name == "x" else name for name in other.input]
    made.graph.node.insert(0, node)
    made.graph.initializer.extend(constants)
    return made.SerializeToString()


def endless() -> bytes:
    scalar = [helper.make_tensor_value_info(n, t, []) for n, t in (("i", TensorProto.INT64), ("go", TensorProto.BOOL))]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("carried", "carried_out")]
    nodes = [helper.make_node("Identity", ["go"], ["go_out"]), helper.make_node("Abs", ["carried"], ["carried_out"])]
    out = helper.make_tensor_value_info("go_out", TensorProto.BOOL, [])
    body = helper.make_graph(nodes, "body", [*scalar, values[0]], [out, values[1]])
    count, yes = (numpy_helper.from_array(np.array(v), n) for v, n in ((10**11, "count"), (True, "yes")))
    return in_front(helper.make_node("Loop", ["count", "yes", "x"], ["front"], body=body), count, yes)


def test_real_children(tmp_path):
    """Found, clean, hostile, a crash of onnxruntime; then one that would never end, under a limit of 2 seconds."""
    models = tmp_path / "models"
    models.mkdir()
    backdoored = planted.rows_net()
    files = {
        "backdoored": backdoored.SerializeToString(),
        "clean": planted.without_backdoor(backdoored).SerializeToString(),
        "crashing": in_front(helper.make_node("Max", ["x", "x", ""], ["front"])),
        "endless": endless(),
    }
    for name, payload in files.items():
        (models / f"{name}.onnx").write_bytes(payload)
    x, y = planted.rows_pictures(2)
    np.savez(tmp_path / "pictures.npz", x=x, y=y)
    policy = tmp_path / "policy.toml"
    policy.write_text('schema = 1\n[require]\ncalibrations = ["any"]\n')
    common = (
        "--data", tmp_path / "pictures.npz", "--device", "cpu", "-f", "json", "--calibration", planted.calibration(),
        "--policy", policy,
    )  # fmt: skip
    result = run("batch", models, "-o", tmp_path / "all", *common, "--sanitize", "--jobs", 2)
    assert result.exit_code == 1, result.output
    done = {os.path.basename(r["model"]): r for r in json.loads(result.stdout)["results"]}
    assert {name: r["outcome"] for name, r in done.items()} == {
        "backdoored.onnx": "pass", "clean.onnx": "pass", "crashing.onnx": "could not run", "endless.onnx": "fail",
    }  # fmt: skip
    assert "OSP006" in done["endless.onnx"]["reasons"][0]
    assert done["backdoored.onnx"]["repair"] == "repaired"
    written = tmp_path / "all" / done["backdoored.onnx"]["folder"] / "sanitized.onnx"
    assert written.read_bytes() != files["backdoored"]
    verdict = run("gate", written.with_name("report.json"), "--model", written, "--policy", policy, "-q")
    assert verdict.exit_code == 0, verdict.output
    limits = ("--timeout", 2, "--limit", f"trips={10**11}")
    hung = run("batch", models / "endl*.onnx", "-o", tmp_path / "hung", *common, *limits)
    assert hung.exit_code == 3
    assert "longer than 2 s" in json.loads(hung.stdout)["results"][0]["reasons"][0]


def test_reasons_are_not_cut_before_what_they_say(fleet):
    reason = f"{'a trigger of very many words ' * 6}names class 7 (p-value 0.0002)"
    record = audit_record(repair="not_tried", reason=reason)
    (fleet.records / "fail.json").write_text(json_text(record))
    fleet.add(f"{'very-long-' * 9}name.onnx", "fail")
    text = " ".join(typed(fleet).stdout.split())
    assert "class 7 (p-value 0.0002)" in text
    assert "name.onnx" in text
    assert typed(fleet, "-q").stdout == "FAIL  1 model: 1 fail\n"
    assert "class 7 (p-value 0.0002)" in (fleet.results / "index.html").read_text()

"""A batch of played audits in real child processes: every model ends as a line, and none is green without an audit."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime
import pytest

from onnx_shapprune.errors import EvidenceError
from onnx_shapprune.fleet import identity, results
from onnx_shapprune.fleet.batch import RETRIES
from onnx_shapprune.fleet.results import read_index
from onnx_shapprune.fleet.task import work
from onnx_shapprune.gate.evidence import load_record
from onnx_shapprune.report.advice import what_now
from onnx_shapprune.report.outcome import outcome_of

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits differ on Windows")

ENDS = {
    "a.onnx": "pass",
    "b.onnx": "fail",
    "c.onnx": "inconclusive",
    "d.onnx": "segv",
    "e.onnx": "hang",
    "f.onnx": "error",
}
OUTCOMES = {
    "a.onnx": "pass", "b.onnx": "fail", "c.onnx": "inconclusive", "d.onnx": "could not run", "e.onnx": "inconclusive",
    "f.onnx": "could not run",
}  # fmt: skip


def test_every_end_is_a_line(fleet):
    for name, text in ENDS.items():
        fleet.add(name, text)
    done = fleet(seconds=2)
    assert {name: r.outcome for name, r in done.items()} == OUTCOMES
    assert fleet.runs() == sorted(ENDS)
    assert sorted((r["model"], r["outcome"]) for r in fleet.index()) == sorted(
        (str(fleet.models / name), outcome) for name, outcome in OUTCOMES.items()
    )
    assert {name for name, r in done.items() if r.folder} == {"a.onnx", "b.onnx", "c.onnx"}
    for name in ("a.onnx", "b.onnx", "c.onnx"):
        place = fleet.results / done[name].sha256
        assert sorted(p.name for p in place.iterdir()) == ["judgement.json", "report.html", "report.json"]
        assert json.loads((place / "report.json").read_text())["model"]["name"] == name
    assert "SIGSEGV" in done["d.onnx"].reasons[0]
    assert "longer than 2 s" in done["e.onnx"].reasons[0]
    assert done["f.onnx"].reasons == ("no [31m<b>classifier",)


def test_a_link_that_leads_nowhere_is_called_one(fleet):
    """It stands in every listing of the folder: "not found" alone is hard to believe."""
    (fleet.models / "a.onnx").symlink_to("gone.onnx")
    assert fleet()["a.onnx"].reasons == (
        f"model file not found: {fleet.models / 'a.onnx'} (a link that leads nowhere)",
    )


def test_a_missing_model_and_missing_pictures_are_lines_too(fleet, tmp_path):
    fleet.add("a.onnx", "pass")
    os.mkfifo(fleet.models / "pipe.onnx")
    (fleet.models / "list.csv").write_text("model,data\na.onnx,none\ngone.onnx,none\npipe.onnx,none\na.onnx,nowhere\n")
    done = fleet(source=fleet.models / "list.csv")
    assert [r["outcome"] for r in fleet.index()].count("could not run") == 3
    assert "not found" in done["gone.onnx"].reasons[0]
    assert "not a regular file" in done["pipe.onnx"].reasons[0]
    assert fleet.runs() == ["a.onnx"]


def test_the_same_bytes_are_audited_once(fleet):
    for name in ("a.onnx", "b.onnx", "sub/c.onnx"):
        fleet.add(name, "fail")
    done = fleet()
    assert len(fleet.runs()) == 1
    assert {r.outcome for r in done.values()} == {"fail"}
    assert [r.same_as for r in done.values()] == ["", str(fleet.models / "a.onnx"), str(fleet.models / "a.onnx")]
    assert len(fleet.index()) == 3
    again = fleet(resume=True)
    assert fleet.runs() == []
    assert again == done
    assert len(fleet.index()) == 3


def test_a_link_that_leads_out_of_its_folder_shares_no_result(fleet):
    """An audit refuses such a link: it must not pass because the same bytes did elsewhere, nor take those down with it."""
    real = fleet.add("b/real.onnx", "pass")
    (fleet.models / "b" / "near.onnx").symlink_to("real.onnx")
    (fleet.models / "a").mkdir()
    (fleet.models / "a" / "link.onnx").symlink_to(real)
    done = fleet()
    assert fleet.runs() == ["link.onnx", "near.onnx"], "the first of each"
    assert {name: r.same_as for name, r in done.items()} == {
        "a/link.onnx": "", "b/near.onnx": "", "b/real.onnx": str(fleet.models / "b" / "near.onnx"),
    }  # fmt: skip
    fleet(resume=True)
    assert fleet.runs() == ["link.onnx"]


def test_the_same_bytes_with_other_data_beside_them_are_another_model(fleet):
    for place, content in (("x", "1"), ("y", "2"), ("z", "2")):
        fleet.add(f"{place}/model.onnx", "location weights.bin")
        (fleet.models / place / "weights.bin").write_text(content)
    done = fleet()
    assert len(fleet.runs()) == 3
    assert len({r.sha256 for r in done.values()}) == 1
    assert len({r.folder for r in done.values()}) == 2
    again = fleet(resume=True)  # of y and z, which share a folder, the report of the last one stands there
    assert {name: (r.outcome, r.folder) for name, r in again.items()} == {
        name: (r.outcome, r.folder) for name, r in done.items()
    }
    assert fleet.runs() == []
    (fleet.models / "y" / "weights.bin").write_text("3")
    fleet(resume=True)
    assert len(fleet.runs()) == 1


def test_the_same_bytes_with_other_pictures_are_audited_twice(fleet, tmp_path):
    fleet.add("a.onnx", "pass")
    for name in ("one", "two"):
        (tmp_path / f"{name}.npz").write_text(name)
    source = tmp_path / "list.csv"
    source.write_text("model,data\nmodels/a.onnx,one.npz\nmodels/a.onnx,two.npz\n")
    fleet(source=source)
    assert len(fleet.runs()) == 2
    first, second = fleet.index()
    assert second["folder"] == f"{first['folder']}-{second['settings'][:8]}"
    assert all((fleet.results / str(r["folder"]) / "report.json").exists() for r in (first, second))
    fleet(source=source, resume=True)
    assert fleet.runs() == []


def test_resume_takes_over_what_is_whole_and_nothing_else(fleet):
    for number in range(4):
        fleet.add(f"{number}.onnx", f"pass {number}")
    fleet.add("segv.onnx", "segv")
    done = fleet()
    fleet.runs()
    (fleet.results / done["1.onnx"].folder / "report.json").unlink()
    report = fleet.results / done["2.onnx"].folder / "report.json"
    report.write_text(report.read_text().replace('"fail"', '"pass"') + " ")
    fleet.add("3.onnx", "pass other")
    again = fleet(resume=True)
    assert fleet.runs() == ["1.onnx", "2.onnx", "3.onnx", "segv.onnx"]
    assert again["0.onnx"] == done["0.onnx"]
    fleet(resume=True, seed=1)
    assert len(fleet.runs()) == 5
    fleet()
    assert len(fleet.runs()) == 5


def test_resume_judges_anew(fleet, tmp_path):
    fleet.add("a.onnx", "pass")
    assert fleet()["a.onnx"].outcome == "pass"
    policy = tmp_path / "policy.toml"
    policy.write_text("schema = 1\n[require]\nmin_pictures = 1000\n")
    done = fleet(resume=True, policy=policy)["a.onnx"]
    assert done.outcome == "inconclusive"
    assert fleet.runs() == ["a.onnx"]
    judgement = json.loads((fleet.results / done.folder / "judgement.json").read_text())
    assert (judgement["verdict"], judgement["policy"]) == ("inconclusive", "policy.toml")
    assert "INCONCLUSIVE" in (fleet.results / done.folder / "report.html").read_text()
    assert [r["outcome"] for r in fleet.index()] == ["pass", "inconclusive"]


def test_sanitize_puts_the_file_beside_its_report(fleet):
    fleet.add("a.onnx", "fail")
    fleet.add("b.onnx", "pass")
    done = fleet(sanitize=True)
    place = fleet.results / done["a.onnx"].folder
    assert (place / "sanitized.onnx").read_bytes() == b"repaired"
    assert done["a.onnx"].output.size == 8
    assert not (fleet.results / done["b.onnx"].folder / "sanitized.onnx").exists()
    assert {p.name for p in fleet.results.iterdir()} == {"index.jsonl", *(r.folder for r in done.values())}
    fleet.runs()
    (place / "sanitized.onnx").write_bytes(b"exchange")
    fleet(sanitize=True, resume=True)
    assert fleet.runs() == ["a.onnx"]
    assert (place / "sanitized.onnx").read_bytes() == b"repaired"
    fleet()  # an audit writes no file: the old one must not stand beside its report
    assert not (place / "sanitized.onnx").exists()


def next_commands(fleet, result) -> list[str]:
    record = load_record(fleet.results / result.folder / "report.json")
    return [shlex.join(step.command) for step in what_now(record, outcome_of(record, result.outcome)) if step.command]


def test_what_a_report_says_to_do_next_names_files_where_they_lie(fleet, monkeypatch):
    """Of the model itself, with what the list says of it: it is pasted where the batch was called."""
    for name in ("some/model.onnx", "other/model.onnx"):
        fleet.add(name, "pass" if name.startswith("some") else "fail")
    (fleet.models / "list.csv").write_text("model,data,mean\nsome/model.onnx,none,0.5\nother/model.onnx,none,\n")
    monkeypatch.chdir(fleet.models.parent)
    fleet.models, fleet.results = Path("models"), Path("results")
    done = fleet(source=fleet.models / "list.csv")
    good, bad = done["some/model.onnx"], done["other/model.onnx"]
    (gate,) = next_commands(fleet, good)
    assert gate == f"shapprune gate results/{good.folder}/report.json --model models/some/model.onnx"
    (repair,) = next_commands(fleet, bad)
    assert repair == "shapprune sanitize models/other/model.onnx --data none -o model.sanitized.onnx"
    assert repair in (fleet.results / bad.folder / "report.html").read_text()
    assert load_record(fleet.results / good.folder / "report.json").alone[3:7] == ("--data", "none", "--mean", "0.5")
    fleet(source=fleet.models / "list.csv", sanitize=True)
    place = fleet.results / bad.folder
    assert load_record(place / "report.json").alone == (
        "shapprune", "sanitize", "models/other/model.onnx", "--data", "none", "-o", str(place / "sanitized.onnx"),
        "--report", f"json={place / 'report.json'}",
    )  # fmt: skip


class Losing(Executor):
    """Loses the first tasks: their futures raise, or they are not taken at all."""

    def __init__(self, times: int, *, at_once: bool = False) -> None:
        self.left, self.at_once = times, at_once

    def submit(self, function, task):
        future: Future = Future()
        self.left -= 1
        if self.left >= 0 and self.at_once:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self.left >= 0:
            future.set_exception(OSError("the worker was lost"))
        else:
            future.set_result(function(task))
        return future


@pytest.mark.parametrize("at_once", [False, True])
def test_what_the_engine_loses_is_tried_again_a_few_times(fleet, at_once):
    fleet.add("a.onnx", "pass")
    assert fleet(executor=Losing(RETRIES, at_once=at_once))["a.onnx"].outcome == "pass"
    assert fleet.runs() == ["a.onnx"]
    lost = fleet(executor=Losing(RETRIES + 1, at_once=at_once))["a.onnx"]
    assert lost.outcome == "could not run"
    assert f"lost it {RETRIES + 1} times: " in lost.reasons[0]
    assert fleet.runs() == []


def test_what_a_model_does_is_never_tried_again(fleet):
    for name in ("segv", "error", "hang"):
        fleet.add(f"{name}.onnx", name)
    fleet(executor=Losing(0), seconds=1)
    assert fleet.runs() == ["error.onnx", "hang.onnx", "segv.onnx"]


def test_progress_counts_audits(fleet):
    for name in ("a", "b", "c"):
        fleet.add(f"{name}.onnx", "pass")
    fleet.add("d.onnx", "fail")
    steps = []
    fleet(progress=steps.append)
    assert (steps[-1].done, steps[-1].total) == (4, 4)
    assert (steps[-1].audited, steps[-1].left) == (2, 0)
    assert {s.total for s in steps} == {4}, "it is what was listed, whatever turns out to be the same"
    assert [s.done for s in steps] == sorted(s.done for s in steps)
    again = []
    fleet(progress=again.append, resume=True)
    assert (again[-1].done, again[-1].total, again[-1].audited, again[-1].left) == (4, 4, 0, 0)
    assert sorted(s.state for s in steps if s.over) == ["fail", "pass"]
    assert any("search 1/2 class 1/2" in s.state and not s.over for s in steps)


COMMAND = "import played; from onnx_shapprune.cli import main; main()"


def test_two_batches_on_one_folder(fleet, environment):
    for number in range(12):
        fleet.add(f"{number}.onnx", f"{('pass', 'fail')[number % 2]} {number}")
    command = [sys.executable, "-c", COMMAND, "batch", fleet.models, "-o", fleet.results, "--data", "none", "-q"]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate()[0], process.returncode) for process in started]
    assert ended == [("FAIL  12 models: 6 fail, 6 pass\n", 1)] * 2
    rows = read_index(fleet.results)
    assert len(rows) == len(fleet.index()) == 24
    assert Counter(r.outcome for r in rows) == {"pass": 12, "fail": 12}
    assert (fleet.results / "summary.csv").read_text().count("\n") == 13
    fleet.runs()
    fleet(resume=True)
    assert fleet.runs() == []


def test_a_killed_batch_loses_what_is_under_way_and_resumes(fleet, environment):
    for number in range(6):
        fleet.add(f"{number}.onnx", f"slow 0.3 {number}")
    arguments = ["batch", str(fleet.models), "-o", str(fleet.results), "--data", "none", "--resume"]
    command = [sys.executable, "-c", COMMAND, *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    index = fleet.results / "index.jsonl"
    wait_for(lambda: index.exists() and index.read_bytes().count(b"\n") >= 2)
    process.kill()
    process.wait()
    kept = {Path(r.model).name for r in read_index(fleet.results)}
    with open(index, "ab") as stream:
        stream.write(b'{"model": "cut o')
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASS  6 models: 6 pass")
    runs = Counter(fleet.runs())  # one more at most than the killed batch has kept, and what is left
    assert {name for name in runs if runs[name] == 1} >= kept
    assert runs.total() <= 6 + 1
    assert {Path(r.model).name for r in read_index(fleet.results)} == set(runs) == {f"{n}.onnx" for n in range(6)}


def test_an_interrupt_ends_the_children(fleet, environment):
    for number in range(3):
        fleet.add(f"{number}.onnx", f"hang {number}")
    arguments = ["batch", str(fleet.models), "-o", str(fleet.results), "--data", "none", "--jobs", "2", "--sanitize"]
    command = [sys.executable, "-c", COMMAND, *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log = fleet.records / "runs.log"
    wait_for(lambda: log.exists() and log.read_text().count("\n") == 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("interrupted")
    assert list(fleet.results.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no small file system can be mounted: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_ends_the_batch_and_nothing_is_green(fleet, small_disk):
    fleet.results = small_disk / "results"
    for number in range(8):
        fleet.add(f"{number}.onnx", f"pass {number}")
    done = fleet(executor=ThreadPoolExecutor(1))
    outcomes = Counter(r.outcome for r in done.values())
    assert set(outcomes) == {"pass", "could not run"}
    assert len(done) == 8
    (reason,) = {r.reasons for r in done.values() if r.outcome == "could not run"}
    assert "not audited: cannot write" in reason[0]
    assert "No space left" in reason[0]
    assert len(fleet.runs()) < 8
    kept = [r for r in read_index(fleet.results) if r.outcome == "pass"]
    assert len(kept) == outcomes["pass"]
    assert list(fleet.results.rglob("*.tmp")) == []
    shutil.rmtree(small_disk / "results" / kept[-1].folder)
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    assert {r.outcome for r in fleet(resume=True).values()} == {"pass"}
    assert len(fleet.runs()) == 8 - len(kept) + 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda record: {**record, "verdict": "green"}, "no valid record"),
        (lambda record: {**record, "model": record["model"] | {"sha256": "00" * 32}}, "the file changed"),
        (lambda record: {**record, "repair": record["repair"] | {"output": OTHER}}, "not the one of its record"),
    ],
)
def test_what_a_worker_sends_is_checked(fleet, changed, words):
    class Forging(Executor):
        def submit(self, function, task):
            answer, future = function(task), Future()
            future.set_result(replace(answer, record=json.dumps(changed(json.loads(answer.record)))))
            return future

    fleet.add("a.onnx", "fail")
    done = fleet(executor=Forging(), sanitize=True)["a.onnx"]
    assert (done.outcome, done.folder) == ("could not run", "")
    assert words in done.reasons[0]
    assert [p.name for p in fleet.results.iterdir()] == ["index.jsonl"]


OTHER = {"name": "sanitized.onnx", "size": 8, "sha256": "00" * 32}


def test_a_worker_checks_what_it_was_sent(fleet, tmp_path):
    tasks = []

    class Keeping(Executor):
        def submit(self, function, task):
            tasks.append(task)
            future: Future = Future()
            future.set_result(function(task))
            return future

    fleet.add("a.onnx", "pass")
    (tmp_path / "p.npz").write_text("pictures")
    fleet(executor=Keeping(), data=str(tmp_path / "p.npz"))
    (task,) = tasks
    assert work(task).record is not None
    (tmp_path / "p.npz").write_text("others")
    assert "does not hold the pictures" in work(task).reason
    fleet.add("a.onnx", "pass and more")
    answer = work(task)
    assert (answer.record, answer.exit_code) == (None, 2)
    assert "is not the file that was listed" in answer.reason
    assert "the worker has another onnx-shapprune" in work(replace(task, code="0")).reason


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def pair(fleet):
    """A model that keeps its weights beside it, under the names that sanitize gives."""
    folder = fleet.records / "pair"
    folder.mkdir()
    made = models.vgg_maxpool()
    onnx.save(
        made, folder / "sanitized.onnx", save_as_external_data=True, location="sanitized.onnx.data", size_threshold=0
    )
    fleet.add("weights.bin", "x")
    return folder


def test_a_repaired_model_is_kept_with_its_weights_and_opens(fleet, pair):
    fleet.add("a.onnx", "fail pair")
    done = fleet(sanitize=True)["a.onnx"]
    place = fleet.results / done.folder
    assert [f.name for f in done.output_external] == ["sanitized.onnx.data"]
    session = onnxruntime.InferenceSession(place / "sanitized.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.zeros((1, 3, 8, 8), np.float32)})[0].shape == (1, 4)
    assert not [p.name for p in fleet.results.iterdir() if p.name.startswith(".")]


def test_a_repaired_model_without_its_weights_is_no_earlier_result(fleet, pair):
    fleet.add("a.onnx", "fail pair")
    fleet.add("weights.bin", "x")
    done = fleet(sanitize=True)["a.onnx"]
    fleet.runs()
    (fleet.results / done.folder / "sanitized.onnx.data").unlink()
    assert not fleet.folder()._stored(done)
    fleet(sanitize=True, resume=True)
    assert fleet.runs() == ["a.onnx"]


@pytest.mark.parametrize("damage", ["lost", "other", "renamed"])
def test_a_pair_that_is_not_whole_is_no_result(fleet, pair, monkeypatch, damage):
    fleet.add("a.onnx", "fail pair")
    check = results._check_output

    def damaged(path, model, external):
        data = path.with_name("sanitized.onnx.data")
        if damage == "lost":
            data.unlink()
        elif damage == "other":
            data.write_bytes(data.read_bytes()[::-1])
        else:
            external = tuple(f.model_copy(update={"name": "../report.json"}) for f in external)
        check(path, model, external)

    monkeypatch.setattr(results, "_check_output", damaged)
    done = fleet(sanitize=True)["a.onnx"]
    assert (done.outcome, done.folder, done.output) == ("could not run", "", None)
    assert "sanitized" in done.reasons[0]
    assert not list(fleet.results.rglob("*.onnx*"))


def test_no_copy_is_kept_of_a_model_whose_weights_lie_beside_it(fleet):
    path = fleet.add("a.onnx", "location weights.bin copied")
    fleet.add("weights.bin", "x")
    done = fleet(sanitize=True)["a.onnx"]
    assert (done.outcome, done.output) == ("pass", None)
    stored = json.loads((fleet.results / done.folder / "report.json").read_text())
    assert "no copy is kept" in stored["repair"]["reason"]
    assert path.exists()
    assert not list(fleet.results.rglob("*.onnx"))


def test_another_threshold_is_another_setting(fleet, monkeypatch):
    """What decides is hashed itself, not the number of a version."""
    fleet.add("a.onnx", "pass")
    fleet()
    assert fleet.runs() == ["a.onnx"]
    fleet(resume=True)
    assert fleet.runs() == []
    monkeypatch.setattr(identity, "code_digest", lambda: "another")
    fleet(resume=True)
    assert fleet.runs() == ["a.onnx"]


@pytest.mark.parametrize("name", ["detect/suspicion.py", "detect/calibration.json", "sample/../settings.py"])
def test_every_file_that_decides_is_hashed(tmp_path, monkeypatch, name):
    copy = tmp_path / "package"
    shutil.copytree(identity.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "PACKAGE", copy)
    before = identity.code_digest.__wrapped__()
    assert before == identity.code_digest()
    (copy / name).write_text((copy / name).read_text() + " ")
    assert identity.code_digest.__wrapped__() != before


def test_nothing_is_written_through_links(fleet, tmp_path):
    model = fleet.add("a.onnx", "pass")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fleet.results.mkdir()
    (fleet.results / hashlib.sha256(model.read_bytes()).hexdigest()).symlink_to(elsewhere)
    done = fleet()["a.onnx"]
    assert (done.outcome, list(elsewhere.iterdir())) == ("could not run", [])
    assert "it is a link" in done.reasons[0]


def test_an_index_that_is_a_link_is_neither_read_nor_written(fleet, tmp_path):
    fleet.add("a.onnx", "pass")
    other = tmp_path / "other.txt"
    other.write_text("mine\n")
    fleet.results.mkdir()
    (fleet.results / "index.jsonl").symlink_to(other)
    with pytest.raises(EvidenceError, match="cannot read"):
        fleet()
    assert other.read_text() == "mine\n"

"""The tool itself in a child process: the same records and errors, and never a green end for a dead child."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from record_samples import audit_record, verify_record

from onnx_shapprune.cli import shapprune
from onnx_shapprune.commands.inspect import inspect
from onnx_shapprune.commands.table import AUDIT, INSPECT, SANITIZE, VERIFY
from onnx_shapprune.errors import CrashError, DataError, HostileFileError, LimitError, ModelError, UnsupportedOpError
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.isolation import run as run_module
from onnx_shapprune.isolation.limits import ProcessLimits, may_use_cuda
from onnx_shapprune.isolation.run import Outcome, Request, isolated, run_limited
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import InputOptions, RunOptions

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits differ on Windows")

LIMITS = ProcessLimits(seconds=60, memory_mib=4096)
TRUSTING = InputOptions(limits=FileLimits(trips=2**63))
ONE = RunOptions(device="cpu", threads=1)


def put_in_front(path: Path, *nodes: onnx.NodeProto, **constants: np.ndarray) -> None:
    """Let the picture pass through nodes first, which make `front` out of `x`."""
    made = models.conv_bn_relu_residual()
    for node in made.graph.node:
        node.input[:] = ["front" if name == "x" else name for name in node.input]
    for node in reversed(nodes):
        made.graph.node.insert(0, node)
    made.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    path.write_bytes(made.SerializeToString())


def test_a_record_is_the_one_of_this_process(model):
    outcome = run_limited(Request(INSPECT, (model,), {"layout": "NCHW"}), LIMITS)
    assert (outcome.error, outcome.missing, outcome.errors) == (None, (), "")
    assert outcome.record == inspect(model, layout="NCHW")


def test_from_threads(model):
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(lambda _: run_limited(Request(INSPECT, (model,)), LIMITS), range(3)))
    assert [o.record for o in outcomes] == [inspect(model)] * 3


def test_settings_and_progress_come_through():
    seen = []
    model, pictures = sample_path("backdoored.onnx"), sample_path("pictures")
    call = isolated(AUDIT, LIMITS, lambda *frame: seen.append(frame))
    inputs = InputOptions(mean=(0.01,), limits=FileLimits(depth=5))
    run = RunOptions(seed=7, device="cpu", threads=1, min_accuracy=0.0, restarts=2, search_seconds=0)
    record = call(model, pictures, inputs=inputs, run=run, command=("shapprune", "\x1b"))
    assert (record.seed, record.command, record.settings["restarts"]) == (7, ("shapprune", "\x1b"), 2)
    assert record.preprocessing["mean"] == [0.01]
    assert record.settings["limits"]["depth"] == 5
    assert all(isinstance(stage, str) and done <= total for stage, done, total, _ in seen)
    assert seen


@pytest.mark.parametrize(
    ("write", "kind", "words"),
    [
        (lambda p: p.unlink(), ModelError, "not found"),
        (lambda p: p.write_bytes(b"x"), ModelError, "not an ONNX"),
        (lambda p: p.write_bytes(bomb().SerializeToString()), HostileFileError, "OSP004"),
    ],
)
def test_errors_keep_their_kind_and_words(model, pictures, write, kind, words):
    write(model)
    outcome = run_limited(Request(AUDIT, (model, pictures), {"run": ONE}), LIMITS)
    assert type(outcome.error) is kind
    assert words in str(outcome.error)
    assert outcome.record is None


def bomb() -> onnx.ModelProto:
    made = models.vgg_maxpool()
    made.graph.node.insert(0, helper.make_node("ConstantOfShape", ["n"], ["made"]))
    made.graph.initializer.append(numpy_helper.from_array(np.array([2**40]), "n"))
    return made


def loops_for_ever(path: Path) -> None:
    """So many rounds that only limits that were raised for them let them pass."""
    scalar = [helper.make_tensor_value_info(n, t, []) for n, t in (("i", TensorProto.INT64), ("go", TensorProto.BOOL))]
    carried = helper.make_tensor_value_info("carried", TensorProto.FLOAT, None)
    outs = [
        helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
        helper.make_tensor_value_info("carried_out", TensorProto.FLOAT, None),
    ]
    nodes = [helper.make_node("Identity", ["go"], ["go_out"]), helper.make_node("Abs", ["carried"], ["carried_out"])]
    body = helper.make_graph(nodes, "body", [*scalar, carried], outs)
    loop = helper.make_node("Loop", ["count", "yes", "x"], ["front"], body=body)
    put_in_front(path, loop, count=np.array(10**11), yes=np.array(True))


def test_an_endless_loop_that_was_let_pass_is_ended(model, pictures):
    loops_for_ever(model)
    request = Request(AUDIT, (model, pictures), {"run": ONE, "inputs": TRUSTING})
    outcome = run_limited(request, ProcessLimits(seconds=4))
    assert isinstance(outcome.error, LimitError)
    assert "longer than 4 s" in str(outcome.error)
    assert outcome.error.exit_code == 3


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not limit memory")
def test_a_bomb_that_goes_off_when_it_runs_proves_nothing(model, pictures):
    """Its size depends on the picture, so that the preflight cannot know it."""
    put_in_front(
        model,
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Mul", ["shape", "factor"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["x", "nothing"], ["front"]),
        factor=np.array([1, 1, 10_000, 10_000]),
    )
    outcome = run_limited(Request(AUDIT, (model, pictures), {"run": ONE}), LIMITS)
    assert isinstance(outcome.error, LimitError), outcome
    assert "memory" in str(outcome.error)


def test_a_file_that_crashes_onnxruntime(model, pictures):
    """Found by tests/benchmarks/fuzz.py: onnxruntime 1.31 dies of a segmentation fault, a later one may say no."""
    put_in_front(model, helper.make_node("Max", ["x", "x", ""], ["front"]))
    outcome = run_limited(Request(AUDIT, (model, pictures), {"run": ONE}), LIMITS)
    assert outcome.record is None
    assert isinstance(outcome.error, CrashError | ModelError)
    assert outcome.error.exit_code == 2


def fake_child(monkeypatch, code: str) -> None:
    monkeypatch.setattr(run_module, "CHILD", (sys.executable, "-c", code))


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("import ctypes; ctypes.string_at(0)", CrashError, "crashed (SIGSEGV)"),
        ("import os; os.abort()", CrashError, "crashed (SIGABRT)"),
        ("import os; os.write(2, b'what():  std::bad_alloc'); os.abort()", LimitError, "memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", LimitError, "ran out of memory (4096 MiB)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", LimitError, "processor time"),
        ("print('garbage')", CrashError, "what is no answer"),
        ("pass", CrashError, "ended with 0 and without an answer"),
        ("import time; time.sleep(60)", LimitError, "longer than 1 s"),
        ("print('{\"answer\": {}}')", CrashError, "no valid answer"),
        ('print(\'{"answer": {"missing": [], "record": {"verdict": "pass"}}}\')', CrashError, "no valid record"),
        ('print(\'{"answer": {"error": "SystemExit", "text": "x"}}\')', CrashError, "x"),
        ('print(\'{"answer": {"error": "UnsupportedOpError", "text": "x"}}\')', UnsupportedOpError, "x"),
        ('print(\'{"answer": {"error": "HostileFileError", "hazards": []}}\')', CrashError, "no valid answer"),
        ('print(\'{"answer": {"error": "HostileFileError", "hazards": [1]}}\')', CrashError, "no valid answer"),
    ],
)
def test_no_dead_child_is_green(monkeypatch, model, code, kind, words):
    fake_child(monkeypatch, code)
    outcome = run_limited(
        Request(AUDIT, (model,)), ProcessLimits(seconds=1 if "sleep" in code else 30, memory_mib=4096)
    )
    assert outcome.record is None
    assert type(outcome.error) is kind
    assert words in str(outcome.error)
    assert outcome.error.exit_code == (3 if kind is LimitError else 2)


def test_nothing_is_left_in_the_temporary_folder(monkeypatch, model, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, sys, tempfile; folder = tempfile.gettempdir(); open(folder + '/left', 'w')\n"
        "os.write(2, b'%s %o' % (os.fsencode(folder), os.stat(folder).st_mode)); os.abort()"
    )
    fake_child(monkeypatch, code)
    folder, mode = run_limited(Request(INSPECT, (model,)), LIMITS).errors.split()
    assert Path(folder).parent == tmp_path
    assert mode == "40700"
    assert [p for p in tmp_path.iterdir() if p.name.startswith("shapprune-")] == []


def test_modules_beside_the_model_are_not_imported(model, monkeypatch):
    for name in ("numpy", "onnx", "json", "site", "onnx_shapprune"):
        (model.parent / f"{name}.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(model.parent)
    assert run_limited(Request(INSPECT, (Path("model.onnx"),)), LIMITS).record == inspect(model)


def test_what_json_cannot_hold_is_an_error_here(model):
    with pytest.raises(TypeError, match="cannot be handed"):
        run_limited(Request(AUDIT, (model, object())), LIMITS)
    outcome = run_limited(Request(INSPECT, (os.fsdecode(b"\xff.onnx"),)), LIMITS)
    assert isinstance(outcome.error, DataError | ModelError)


def cli(*arguments: object):
    return CliRunner().invoke(shapprune, [str(a) for a in arguments], prog_name="shapprune", env={"COLUMNS": "200"})


def test_the_command_line(model, pictures, tmp_path, monkeypatch):
    monkeypatch.delenv("SHAPPRUNE_IN_PROCESS", raising=False)
    assert cli("inspect", model).exit_code == 0
    result = cli("mask", model, "-o", tmp_path / "masked.onnx")
    assert (result.exit_code, result.stderr) == (0, "")
    model.write_bytes(bomb().SerializeToString())
    result = cli("inspect", model)
    assert result.exit_code == 1
    assert result.stdout.startswith("HOSTILE")
    assert "! OSP004 high: " in result.stdout
    result = cli("sanitize", model, "-o", tmp_path / "c.onnx", "--data", pictures, "--device", "cpu")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: hostile file refused: OSP004: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "c.onnx").exists()
    result = cli("audit", model, "--data", pictures, "--device", "cpu", "--limit", "generated-mib=99999999999")
    assert result.exit_code == 3, result.stderr
    assert "memory" in result.stderr


@pytest.mark.parametrize("command", [["audit"], ["verify"], ["mask", "-o"]])
def test_every_command_refuses(command, model, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPPRUNE_IN_PROCESS", "1")
    model.write_bytes(bomb().SerializeToString())
    rest = [tmp_path / "masked.onnx"] if command[0] == "mask" else ["--data", pictures, "--device", "cpu"]
    result = cli(command[0], model, *command[1:], *([model] if command[0] == "verify" else []), *rest)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: hostile file refused: OSP004: ")
    assert not (tmp_path / "masked.onnx").exists()


@pytest.mark.parametrize(
    ("code", "status"),
    [("import ctypes; ctypes.string_at(0)", 2), ("import time; time.sleep(60)", 3)],
)
def test_a_dead_child_on_the_command_line(model, pictures, monkeypatch, code, status):
    monkeypatch.delenv("SHAPPRUNE_IN_PROCESS", raising=False)
    fake_child(monkeypatch, code)
    result = cli("audit", model, "--data", pictures, "--timeout", "1")
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith("error: the process that worked on the file ")
    assert result.stderr.count("\n") == 1


def test_an_internal_error_shows_where(model, pictures, monkeypatch):
    monkeypatch.delenv("SHAPPRUNE_IN_PROCESS", raising=False)
    code = (
        "import onnx_shapprune.isolation.child as c\n"
        "def fail(*a, **k): raise ZeroDivisionError('oops')\n"
        "from dataclasses import replace\n"
        "c.COMMANDS = {'audit': replace(c.COMMANDS['audit'], load=lambda: fail)}\nc.main()"
    )
    monkeypatch.setenv("PYTHONPATH", run_module.PACKAGES)
    fake_child(monkeypatch, code)
    result = cli("audit", model, "--data", pictures)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "ZeroDivisionError: oops" in result.stderr
    assert "internal error: ZeroDivisionError" in result.stderr


def test_a_result_that_is_no_record_is_not_blamed_on_a_setting(model, pictures, monkeypatch):
    code = (
        "import onnx_shapprune.isolation.child as c, onnx_shapprune.record.audit as r, math\n"
        "def fail(*a, **k): r.Rates(acc=-math.inf, asr=None)\n"
        "c.COMMANDS['audit'] = c.Command('audit', lambda: fail, None, True)\nc.main()"
    )
    monkeypatch.setenv("PYTHONPATH", run_module.PACKAGES)
    fake_child(monkeypatch, code)
    outcome = run_limited(Request(AUDIT, (model, pictures), {"run": ONE}), LIMITS)
    assert type(outcome.error) is CrashError
    assert str(outcome.error) == "internal error: ValidationError"
    assert "acc" in outcome.error.__notes__[0]


def test_the_child_is_of_the_same_version_whatever_is_installed(model, pictures, tmp_path, monkeypatch):
    other = tmp_path / "onnx_shapprune"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemExit('another version')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = run_limited(Request(AUDIT, (model, pictures), {"run": ONE}), LIMITS)
    assert outcome.error is None
    assert outcome.record is not None


def test_a_setting_that_the_command_does_not_take_is_named(model, pictures):
    outcome = run_limited(Request(AUDIT, (model, pictures), {"inputs": {"layout": 3}, "run": ONE}), LIMITS)
    assert isinstance(outcome.error, DataError)
    assert "a setting cannot be handed over" in str(outcome.error)


def test_a_child_ends_when_its_parent_is_killed(model, pictures, tmp_path):
    """The grandchild would loop for ever; nobody is left to end it but itself."""
    loops_for_ever(model)
    command = [
        sys.executable, "-m", "onnx_shapprune", "audit", str(model), "--data", str(pictures), "--device", "cpu",
        "--limit", f"trips={10**11}",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "SHAPPRUNE_IN_PROCESS"} | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=run_module.PACKAGES)
    try:
        child = wait_for(lambda: children_of(process.pid))
        wait_for(lambda: next((p for p in tmp_path.glob("shapprune-*") if p.is_dir()), None))
        wait_for(lambda: b"onnxruntime" in Path(f"/proc/{child}/maps").read_bytes())
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())
    assert [p for p in tmp_path.iterdir() if p.name.startswith("shapprune-")] == []


def children_of(pid: int) -> int | None:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(listed[0]) if listed else None


def wait_for(condition):
    """What the condition gives, as soon as it gives something."""
    import time

    deadline = time.monotonic() + 20
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


def test_devices_that_may_be_a_gpu():
    assert may_use_cuda("cuda:1")
    assert not may_use_cuda("cpu")
    assert may_use_cuda("auto") == Path("/proc/driver/nvidia").exists()


def test_an_outcome_without_a_record_has_an_error():
    assert Outcome(None, LimitError("x")).error.exit_code == 3


ANSWERS = {
    "a timeout": ("time.sleep(60)", "longer than 3 s"),
    "a crash": ("os.abort()", "SIGABRT"),
    "an error": ("""print('{"answer": {"error": "OutputError", "text": "the disk is full"}}')""", "the disk is full"),
}


@pytest.mark.parametrize(("end", "words"), ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("command", [AUDIT, SANITIZE])
def test_a_verdict_is_not_lost_to_what_comes_after_it(monkeypatch, capsys, tmp_path, command, end, words):
    record = audit_record(repair="not_tried")
    (tmp_path / "frame").write_text(json.dumps({"so_far": record.model_dump(mode="json")}))
    code = f"import os, sys, time; print(open({str(tmp_path / 'frame')!r}).read(), flush=True); {end}"
    monkeypatch.setattr(run_module, "CHILD", (sys.executable, "-c", code))
    found = isolated(command, ProcessLimits(seconds=3))("model.onnx", None)
    assert (found.verdict, found.reasons, found.attacks) == ("fail", record.reasons, record.attacks)
    assert words in found.warnings[-1]
    assert (words in found.repair.reason) is (command is SANITIZE)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("end", "words"), ANSWERS.values(), ids=ANSWERS)
def test_a_comparison_is_not_lost_to_the_search_of_the_second_file(monkeypatch, capsys, tmp_path, end, words):
    record = verify_record(verdict="inconclusive")
    (tmp_path / "frame").write_text(json.dumps({"so_far": record.model_dump(mode="json")}))
    code = f"import os, sys, time; print(open({str(tmp_path / 'frame')!r}).read(), flush=True); {end}"
    monkeypatch.setattr(run_module, "CHILD", (sys.executable, "-c", code))
    found = isolated(VERIFY, ProcessLimits(seconds=3))("before.onnx", "after.onnx", None)
    assert (found.verdict, found.after_model) == ("inconclusive", record.after_model)
    assert words in found.not_searched[-1]
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("second", "verdict"), [("backdoored.onnx", "fail"), ("clean.onnx", "inconclusive")])
def test_a_comparison_is_told_before_the_second_file_is_searched(second, verdict):
    """The trigger still works on the one, and not on the other, which was not searched: that is never a pass."""
    seen = []

    class Impatient:
        def __call__(self, stage, *frame):
            assert not stage.startswith("after"), "the search of the second file has begun"

        def so_far(self, record):
            seen.append(record)
            raise KeyboardInterrupt

    before, after, pictures, trigger = map(sample_path, ("backdoored.onnx", second, "pictures", "trigger.npz"))
    with pytest.raises(KeyboardInterrupt):
        VERIFY.load()(before, after, pictures, known_trigger=[trigger], run=ONE, progress=Impatient())
    (record,) = seen
    assert record.verdict == verdict
    assert record.after.asr is not None
    assert record.classes == ()


def test_the_search_is_told_before_what_follows_it():
    seen = []

    class Impatient:
        def __call__(self, *frame):
            pass

        def so_far(self, record):
            seen.append(record)
            raise KeyboardInterrupt

    model, pictures, trigger = map(sample_path, ("backdoored.onnx", "pictures", "trigger.npz"))
    with pytest.raises(KeyboardInterrupt):
        AUDIT.load()(model, pictures, known_trigger=[trigger], run=ONE, progress=Impatient())
    assert seen[0].verdict == "fail"
    assert seen[0].units.ranked == ()

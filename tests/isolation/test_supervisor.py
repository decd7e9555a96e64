"""Real children that crash, hang, bomb, flood and fork: the parent lives, says what happened, and leaves nobody behind."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.supervisor import GRACE, Ended, supervise

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits differ on Windows")

PATIENT = ProcessLimits(seconds=30, answer_mib=1)
HURRIED = ProcessLimits(seconds=0.6, answer_mib=1)
ROOT = Path(__file__).parents[2]
ANSWER = """import sys; sys.stdout.write('{"answer": {"a": 1}}\\n'); sys.stdout.flush()\n"""


def child(code: str, limits: ProcessLimits = PATIENT, **settings) -> Ended:
    """Run a child of this code; it has to end within the limits and some grace."""
    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = supervise([sys.executable, "-c", code], b"{}", limits, environment=environment, **settings)
    assert time.monotonic() - start < min(limits.seconds, 10) + 3 * GRACE
    return ended


def limited(code: str, **limits: float) -> str:
    """The same code, after the child has given up its rights."""
    return (
        "from onnx_shapprune.isolation.limits import ProcessLimits, give_up\n"
        f"give_up(ProcessLimits(**{limits}), cuda=False)\n{code}"
    )


def test_an_answer_and_progress():
    seen = []
    code = """print('{"progress": ["search", 1, 2, "class 3"]}')\n""" + ANSWER
    ended = child(code, progress=lambda *frame: seen.append(frame))
    assert ended == Ended("answered", {"a": 1}, 0, "")
    assert seen == [("search", 1, 2, "class 3")]


def test_the_request_arrives_on_stdin():
    code = """import sys, json; request = sys.stdin.readline(); print(json.dumps({"answer": {"request": request}}))"""
    assert child(code).answer == {"request": "{}\n"}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import ctypes; ctypes.string_at(0)", -11),
        ("import os; os.abort()", -6),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("raise SystemExit(3)", 3),
        ("pass", 0),
        ("import sys; sys.stdout.write('{\"answer\": {}}')", 0),  # a last line without its end
    ],
)
def test_a_child_that_dies_without_an_answer(code, status):
    ended = child(code)
    assert (ended.end, ended.answer, ended.code) == ("died", None, status)


@pytest.mark.parametrize("last", ["import os; os.abort()", "raise SystemExit(1)", "import time; time.sleep(60)"])
def test_an_answer_counts_only_with_a_good_end(last):
    ended = child(ANSWER + last)
    assert (ended.end, ended.answer) == ("died", None)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)",
        """import time\nwhile True: print('{"progress": ["a", 1, 2, ""]}', flush=True); time.sleep(0.01)""",
        "import os, time\nos.close(0)\ntime.sleep(60)",
    ],
)
def test_an_endless_child_is_ended(code):
    assert child(code, HURRIED).end == "too long"


def test_a_child_that_closes_its_pipe_has_nothing_to_say():
    assert child("import os, time\nos.close(1)\ntime.sleep(60)").end == "died"


@pytest.mark.parametrize(
    "code",
    [
        "print('hello'); import time; time.sleep(60)",
        "print('[1, 2]'); import time; time.sleep(60)",
        "print('{\"answer\": 5}'); import time; time.sleep(60)",
        "print('{\"progress\": [1]}'); import time; time.sleep(60)",
        "print('[' * 100000); import time; time.sleep(60)",
        "print('\\x80\\xff'); import time; time.sleep(60)",
        ANSWER + ANSWER,
        ANSWER + """print('{"progress": ["a", 1, 2, ""]}', flush=True)""",
        "import pickle, sys; sys.stdout.buffer.write(pickle.dumps({'answer': {}}) + b'\\n')",
    ],
)
def test_garbage(code):
    ended = child(code)
    assert (ended.end, ended.answer) == ("garbage", None)


@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True: os.write(1, b'x' * 65536)",
        "import os\nwhile True: os.write(1, b'{\"progress\": [\"a\", 1, 2, \"' + b'x' * 900000 + b'\"]}\\n')",
    ],
)
def test_a_flood_on_the_pipe(code):
    assert child(code).end == "flood"


def test_a_flood_on_stderr_is_not_kept():
    code = "import os\nfor _ in range(200): os.write(2, b'x' * 65536)\nos.write(2, b'last words')\n" + ANSWER
    ended = child(code)
    assert ended.end == "answered"
    assert len(ended.errors) <= 1 << 14
    assert ended.errors.endswith("last words")


def gone(pid: int) -> bool:
    """Whether a process has ended; what nobody reaps is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("end", ["pass", "import time; time.sleep(60)", "import ctypes; ctypes.string_at(0)"])
def test_what_a_child_forks_goes_with_it(end, tmp_path):
    """The grandchildren hold the pipe open and ignore SIGTERM."""
    code = (
        "import os, signal, time\n"
        "for k in range(3):\n"
        "    if os.fork() == 0:\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"        open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w')\n"
        "        time.sleep(600)\n"
        f"while len(os.listdir({str(tmp_path)!r})) < 3: time.sleep(0.01)\n"
    )
    ended = child(code + ANSWER + end)
    assert (ended.end == "answered") == (end == "pass")
    deadline = time.monotonic() + 5
    pids = [int(p.name) for p in tmp_path.iterdir()]
    while not all(map(gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 3
    assert all(map(gone, pids))


def test_stop_from_another_thread():
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    assert child("import time; time.sleep(60)", stop=stop).end == "stopped"


def test_an_interrupt_ends_the_child_and_goes_on():
    pids = []

    def interrupted(stage: str, done: int, total: int, note: str) -> None:
        pids.append(done)
        raise KeyboardInterrupt

    code = """import os, time; print('{"progress": ["a", %d, 2, ""]}' % os.getpid(), flush=True); time.sleep(60)"""
    with pytest.raises(KeyboardInterrupt):
        child(code, progress=interrupted)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_no_program():
    with pytest.raises(OSError, match="No such file"):
        supervise(["/no/such/program"], b"", PATIENT, environment={})


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not limit memory")
def test_memory_is_limited():
    ended = child(limited("x = bytearray(1 << 30)", memory_mib=512))
    assert (ended.end, ended.code) == ("died", 1)
    assert "MemoryError" in ended.errors
    assert child(limited("x = bytearray(1 << 28)", memory_mib=512)).code == 0


def test_files_are_limited(tmp_path):
    big = limited(f"open({str(tmp_path / 'big')!r}, 'wb').write(b'x' * (2 << 20))", file_mib=1)
    assert "File too large" in child(big).errors
    assert (tmp_path / "big").stat().st_size <= 1 << 20
    many = limited("files = [open('/dev/null') for _ in range(100)]", open_files=50)
    assert "Too many open files" in child(many).errors


def test_processor_time_is_limited_even_when_nobody_watches():
    code = "import json, resource\nprint(json.dumps({'answer': {'cpu': resource.getrlimit(resource.RLIMIT_CPU)}}))"
    soft, hard = child(limited(code, seconds=100)).answer["cpu"]
    assert 100 <= soft == hard < 100_000


def test_limits_are_not_raised_above_those_of_the_parent():
    code = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n" + limited(
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (40, 40)", open_files=1000
    )
    assert child(code).code == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("end", [ANSWER, "import time; time.sleep(60)"])
def test_a_grandchild_in_a_session_of_its_own_costs_nothing(end, tmp_path):
    """It gets away and keeps the pipes open, but no thread waits for it and no descriptor is left."""
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        f"while not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.01)\n"
    )
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    ended = child(code + end, ProcessLimits(seconds=3, answer_mib=1))
    assert ended.end == ("answered" if end == ANSWER else "too long")
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)
    pid = int((tmp_path / "pid").read_text())
    assert not gone(pid), "else this test shows nothing"
    os.kill(pid, signal.SIGKILL)


def test_a_grandchild_that_floods_stderr_holds_nobody(tmp_path):
    code = "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: os.write(2, b'x' * 65536)\n"
    threads = threading.active_count()
    assert child(code + ANSWER).end == "answered"
    assert threading.active_count() == threads


def test_what_was_known_before_the_end_is_kept():
    code = """print('{"so_far": {"a": 1}}'); print('{"so_far": {"a": 2}}', flush=True); import time; time.sleep(60)"""
    ended = child(code, HURRIED)
    assert (ended.end, ended.answer, ended.so_far) == ("too long", None, {"a": 2})
    assert child("""print('{"so_far": 5}', flush=True)\nimport time; time.sleep(60)""").end == "garbage"

"""A real Dask scheduler and two real worker processes on loopback, and what becomes of a batch when they die."""

import datetime
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import numpy as np
import planted
import pytest

from onnx_shapprune.commands import values as valuing
from onnx_shapprune.errors import EngineError
from onnx_shapprune.fleet import blocks
from onnx_shapprune.fleet.batch import BatchOptions, batch
from onnx_shapprune.fleet.engine import dask_executor, local_executor
from onnx_shapprune.fleet.listing import read_entries
from onnx_shapprune.fleet.results import ResultsFolder, read_index
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.isolation.run import PACKAGES
from onnx_shapprune.settings import RunOptions

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'onnx-shapprune[dask]'")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals differ on Windows")


class Cluster:
    """A scheduler at an address of its own, and workers of one thread each."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.scheduler: subprocess.Popen[bytes]
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self, *resources: str) -> None:
        self.scheduler = self._run("scheduler", "--host", "127.0.0.1", "--port", self._port)
        self.workers = [
            self._run(
                "worker",
                self.address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--local-directory",
                str(self._folder),
                *resources,
            )
            for _ in range(2)
        ]

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        preload = ["--preload", "played"] if "PLAYED_RECORDS" in self._environment else []
        command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard", *preload]
        return subprocess.Popen(command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, *processes: subprocess.Popen[bytes]) -> None:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def cluster(environment, tmp_path):
    made = Cluster(environment, tmp_path / "dask")
    yield made
    made.kill(made.scheduler, *made.workers)


def once(what):
    """As progress: do this when the first model is done."""
    left = [what]

    def progress(step):
        if step.over and left:
            left.pop()()

    return progress


def slow_models(fleet, number: int = 6) -> None:
    for i in range(number):
        fleet.add(f"{i}.onnx", f"slow 0.5 {i}")


def test_a_worker_that_is_killed_loses_nothing(fleet, cluster):
    """Both workers say that they have a GPU, and only such are asked."""
    cluster.start("--resources", "GPU=1")
    slow_models(fleet)
    fleet.add("bad.onnx", "fail")
    fleet.add("crash.onnx", "segv")
    with dask_executor(cluster.address, gpu=True) as executor:
        done = fleet(executor=executor, progress=once(lambda: cluster.kill(cluster.workers[0])))
    assert Counter(r.outcome for r in done.values()) == {"pass": 6, "fail": 1, "could not run": 1}
    assert done["crash.onnx"].reasons == ("the process that worked on the file crashed (SIGSEGV)",)
    assert len(read_index(fleet.results)) == 8
    runs = Counter(fleet.runs())
    assert len(runs) == 8
    # Begun twice: the one under way on the worker, and one that had ended there and whose answer was lost with it.
    assert runs.total() <= 10
    assert runs["crash.onnx"] <= 2


def test_a_scheduler_that_is_restarted_loses_nothing(fleet, cluster):
    cluster.start()
    slow_models(fleet)

    def restart():
        cluster.kill(cluster.scheduler, *cluster.workers)
        cluster.start()

    with dask_executor(cluster.address, gpu=False) as executor:
        done = fleet(executor=executor, progress=once(restart))
    assert Counter(r.outcome for r in done.values()) == {"pass": 6}
    assert len(read_index(fleet.results)) == 6
    assert set(fleet.runs()) == {f"{i}.onnx" for i in range(6)}


def test_no_scheduler_is_one_line():
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        for address in ("tcp://127.0.0.1:9", "nonsense://x"):
            with pytest.raises(EngineError, match=r"no Dask scheduler at"), dask_executor(address, gpu=False):
                pass


VOLATILE = ("alone", "created", "seconds", "peak_memory_mb", "command")


def test_the_records_are_those_of_one_process(tmp_path):
    """Real audits of small networks, one backdoored and one not."""
    models = tmp_path / "models"
    models.mkdir()
    backdoored = planted.rows_net()
    (models / "backdoored.onnx").write_bytes(backdoored.SerializeToString())
    (models / "clean.onnx").write_bytes(planted.without_backdoor(backdoored).SerializeToString())
    (models / "broken.onnx").write_bytes(b"x")
    x, y = planted.rows_pictures(2)
    np.savez(tmp_path / "pictures.npz", x=x, y=y)
    entries = read_entries(models, data=tmp_path / "pictures.npz")
    options = BatchOptions(run=RunOptions(device="cpu", threads=1, calibration=planted.calibration()))
    policy = load_policy(None)
    policy = policy.model_copy(update={"require": policy.require.model_copy(update={"calibrations": ["any"]})})
    cluster, found = Cluster({**os.environ, "PYTHONPATH": PACKAGES}, tmp_path / "dask"), []
    cluster.start()
    with ExitStack() as stack:
        stack.callback(cluster.kill, cluster.scheduler, *cluster.workers)
        for name, executors in (("one", local_executor(1)), ("dask", dask_executor(cluster.address, gpu=False))):
            folder = ResultsFolder(tmp_path / name, policy, datetime.date(2026, 1, 1))
            with executors as executor:
                done = batch(entries, folder, executor, options)
            assert [r.outcome for r in done] == ["fail", "could not run", "pass"]
            reports = [json.loads((tmp_path / name / r.folder / "report.json").read_text()) for r in done if r.folder]
            found.append([{k: v for k, v in report.items() if k not in VOLATILE} for report in reports])
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_blocks_of_permutations_are_merged_to_the_values_of_one_process(tmp_path):
    (tmp_path / "model.onnx").write_bytes(planted.rows_net().SerializeToString())
    x, y = planted.rows_pictures(2)
    mask, pattern = planted.corner_trigger()
    np.savez(tmp_path / "pictures.npz", x=x, y=y)
    np.savez(tmp_path / "trigger.npz", mask=mask, pattern=pattern)
    run = RunOptions(device="cpu", threads=1, permutations=6, epsilon=None)
    files = {"known_trigger": [tmp_path / "trigger.npz"], "run": run}
    one = valuing.channel_values(tmp_path / "model.onnx", tmp_path / "pictures.npz", **files)
    cluster = Cluster({**os.environ, "PYTHONPATH": PACKAGES}, tmp_path / "dask")
    cluster.start()
    with ExitStack() as stack:
        stack.callback(lambda: cluster.kill(cluster.scheduler, *cluster.workers))
        executor = stack.enter_context(dask_executor(cluster.address, gpu=False))
        two = blocks.channel_values(
            tmp_path / "model.onnx",
            tmp_path / "pictures.npz",
            workers=blocks.Workers(executor=executor, blocks=2),
            **files,
        )
        with pytest.raises(EngineError, match="not the file that was listed"):
            blocks.channel_values(
                tmp_path / "model.onnx",
                tmp_path / "pictures.npz",
                workers=blocks.Workers(executor=executor, blocks=2, sha256="0" * 64),
                **files,
            )
    assert two.players == one.players
    for field in fields(one.estimate):
        ours, theirs = getattr(one.estimate, field.name), getattr(two.estimate, field.name)
        assert np.array_equal(ours, theirs), field.name

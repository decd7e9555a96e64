"""Values of a real small network's channels in blocks: those of one process bit for bit, or an error."""

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_shapprune.commands.values import ChannelValues, walks
from onnx_shapprune.commands.values import channel_values as in_one_process
from onnx_shapprune.errors import DataError, EngineError
from onnx_shapprune.fleet import task as task_module
from onnx_shapprune.fleet.batch import RETRIES
from onnx_shapprune.fleet.blocks import Workers, channel_values
from onnx_shapprune.isolation import run as run_module
from onnx_shapprune.isolation.run import Outcome
from onnx_shapprune.record.walks import WalksRecord
from onnx_shapprune.settings import RunOptions

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals differ on Windows")

RUN = RunOptions(device="cpu", threads=1, permutations=6, epsilon=None, seed=3)
PAIRS = replace(RUN, estimator="antithetic", discard_threshold=None, max_evaluations=60)
GONE = "import json, os, sys, time; first = json.loads(sys.stdin.readline())['settings']['block'][0]; "


class Troubled(ThreadPoolExecutor):
    """Does something before each task; what that raises is the future's."""

    def __init__(self, trouble: Callable[[int], None]) -> None:
        super().__init__(2)
        self.submitted, self._trouble = 0, trouble

    def submit(self, function, /, *arguments):
        self.submitted += 1
        try:
            self._trouble(self.submitted)
        except OSError as fault:
            lost: Future = Future()
            lost.set_exception(fault)
            return lost
        return super().submit(function, *arguments)


@pytest.fixture
def files(tmp_path) -> dict[str, object]:
    """A network with random weights, noise for pictures, and a white corner for a trigger."""
    x = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)
    mask = np.zeros((8, 8, 1), np.float32)
    mask[5:, 5:] = 1
    (tmp_path / "model.onnx").write_bytes(models.vgg_maxpool().SerializeToString())
    np.savez(tmp_path / "pictures.npz", x=x)
    np.savez(tmp_path / "trigger.npz", mask=mask, pattern=np.broadcast_to(mask * 255, (8, 8, 3)))
    return {
        "model": tmp_path / "model.onnx", "data": tmp_path / "pictures.npz",
        "known_trigger": [tmp_path / "trigger.npz"], "run": RUN,
    }  # fmt: skip


def bits(found: ChannelValues) -> dict[str, object]:
    values = {f.name: getattr(found.estimate, f.name) for f in fields(found.estimate)}
    return {"players": found.players} | {n: v.tobytes() if isinstance(v, np.ndarray) else v for n, v in values.items()}


@pytest.fixture
def no_children(monkeypatch):
    """The same work in this process, which is quicker."""

    def here(request, limits, progress, stop):
        record = walks(*request.arguments, **request.settings)
        return Outcome(WalksRecord.model_validate_json(record.model_dump_json()), None)

    monkeypatch.setattr(task_module, "run_limited", here)


def same_as_one_process(files, blocks) -> bool:
    one = in_one_process(**files)
    assert np.ptp(one.estimate.values) > 0
    with ThreadPoolExecutor(2) as executor:
        return bits(channel_values(**files, workers=Workers(executor=executor, blocks=blocks))) == bits(one)


@pytest.mark.parametrize("run", [RUN, PAIRS])
@pytest.mark.parametrize("blocks", [1, 2, 5, 9])
def test_the_values_are_those_of_one_process(files, no_children, blocks, run):
    assert same_as_one_process({**files, "run": run}, blocks)


def test_children_play_the_same(files):
    assert same_as_one_process(files, 2)


def lose(times: int) -> Callable[[int], None]:
    def trouble(number: int) -> None:
        if number <= times:
            raise OSError("the worker was lost")

    return trouble


def test_a_block_whose_worker_was_lost_is_played_by_another(files, no_children):
    steps = []
    with Troubled(lose(RETRIES)) as executor:
        found = channel_values(
            **files, workers=Workers(executor=executor, blocks=2), progress=lambda *step: steps.append(step)
        )
        assert executor.submitted == RETRIES + 2
    assert steps == [(1, 2), (2, 2)]
    assert bits(found) == bits(in_one_process(**files))


def test_a_block_that_is_lost_again_and_again_is_an_error(files):
    with Troubled(lose(99)) as executor, pytest.raises(EngineError, match="lost block 1 3 times: the worker was lost"):
        channel_values(**files, workers=Workers(executor=executor, blocks=1))


def test_an_executor_that_takes_nothing_is_an_error(files):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(EngineError, match="takes no block: cannot schedule"):
        channel_values(**files, workers=Workers(executor=executor, blocks=1))


def test_a_block_whose_child_dies_ends_the_others(files, monkeypatch):
    code = GONE + "time.sleep(60) if first else os.kill(os.getpid(), 11)"
    monkeypatch.setattr(run_module, "CHILD", (sys.executable, "-c", code))
    began = time.monotonic()
    with ThreadPoolExecutor(2) as executor, pytest.raises(EngineError, match=r"block 1 of 3: .*SIGSEGV"):
        channel_values(**files, workers=Workers(executor=executor, blocks=3))
    assert time.monotonic() - began < 20


def test_a_block_that_holds_less_than_it_should_is_an_error(files, monkeypatch):
    answer = {"answer": {"missing": [], "record": {"players": [["a", 0]], "paths": []}}}
    monkeypatch.setattr(run_module, "CHILD", (sys.executable, "-c", GONE + f"print({json.dumps(answer)!r})"))
    with ThreadPoolExecutor(2) as executor, pytest.raises(EngineError, match="0 walks came back of 6"):
        channel_values(**files, workers=Workers(executor=executor, blocks=2))


@pytest.mark.parametrize(
    ("name", "words"), [("model", "not the file that was listed"), ("data", "pictures"), ("known_trigger", "trigger")]
)
def test_a_worker_that_finds_other_files_plays_nothing(files, name, words):
    path: Path = files[name][0] if name == "known_trigger" else files[name]
    with Troubled(lambda number: path.write_bytes(b"x")) as executor, pytest.raises(EngineError, match=words) as caught:
        channel_values(**files, workers=Workers(executor=executor, blocks=1))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run": replace(RUN, epsilon=0.3)}, "set epsilon to None"),
        ({"run": replace(RUN, estimator="top-k")}, "choose permutation or antithetic"),
        ({"run": replace(RUN, max_seconds=1.0)}, "cannot end by the clock"),
        ({"blocks": 0}, "at least 1 block"),
        ({"known_trigger": [Path("none.npz")]}, "none.npz"),
    ],
)
def test_what_cannot_be_played_in_blocks_is_refused_at_once(files, change, words):
    with Troubled(lose(99)) as executor:
        settings = {**files, **change}
        with pytest.raises(DataError, match=words):
            channel_values(workers=Workers(executor=executor, blocks=settings.pop("blocks", 2)), **settings)
        assert executor.submitted == 0


def test_layers_that_play(files):
    names = list(dict.fromkeys(name for name, _ in in_one_process(**files).players))
    some = in_one_process(**files, layers=names[1:2])
    assert len(names) > 1
    assert {name for name, _ in some.players} == {names[1]}
    with pytest.raises(DataError, match=r"no layer 'nonsense' has units: see shapprune inspect"):
        in_one_process(**files, layers=["nonsense"])


@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2)))
def test_numbers_keep_their_bits_on_the_way(path):
    sent = WalksRecord(players=(("a", 0),), paths=(tuple(path),)).model_dump(mode="json")
    received = WalksRecord.model_validate_json(json.dumps(sent))
    again = WalksRecord.model_validate_json(received.model_dump_json())
    assert np.array(again.paths[0]).tobytes() == np.array(path).tobytes()

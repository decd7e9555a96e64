"""channel_values() in blocks of walks, each a task for an executor of any kind; merged, they are the values of one process.

What a worker gets is paths, digests and settings: it opens the model itself, in a child process. An estimate is whole or
an error: a block whose child fails ends all others, one whose worker was lost is handed over again, RETRIES times.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from onnx_shapprune.commands.effort import round_settings
from onnx_shapprune.commands.values import ChannelValues
from onnx_shapprune.errors import CrashError, DataError, EngineError
from onnx_shapprune.fleet.batch import RETRIES, STOP_SECONDS
from onnx_shapprune.fleet.identity import model_digest, pictures_digest
from onnx_shapprune.fleet.task import Answer, Block, Task, absolute, absolute_inputs, trigger_digest, work
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.prune.round import walk_settings
from onnx_shapprune.record.walks import WalksRecord
from onnx_shapprune.settings import InputOptions, RunOptions
from onnx_shapprune.shapley.blocks import merge, split, walks_of
from onnx_shapprune.shapley.running import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who plays the walks."""

    executor: Executor
    """Takes the blocks, one task each."""
    blocks: int
    """How many the walks are divided into, at most one a walk."""
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    """Of each child, which sends 40 bytes for every step of a walk."""
    sha256: str | None = None
    """Of the model; None: as it is now."""


def channel_values(
    model: Path | str,
    data: Path | str | None,
    *,
    known_trigger: Sequence[Path | str],
    workers: Workers,
    layers: Sequence[str] = (),
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    progress: Progress | None = None,
) -> ChannelValues:
    """What `channel_values` of commands/values.py gives for the same settings, bit for bit where the workers have the same
    processors, onnxruntime and `run.threads`; they are checked to agree wherever blocks share a coalition.

    Workers check the model, the pictures and the trigger. run: its walks must not depend on each other (epsilon None, or
    "antithetic") nor on time (max_seconds None). `progress` gets (blocks, of). Raises ShapPruneError, and no part of an
    estimate is given.
    """
    run, inputs = run or RunOptions(), absolute_inputs(inputs or InputOptions())
    if workers.blocks < 1:
        raise DataError(f"at least 1 block is needed, not {workers.blocks}")
    if run.max_seconds is not None:
        raise DataError("an estimate in blocks cannot end by the clock: set max_seconds to None, or max_evaluations")
    settings = walk_settings(round_settings(run))
    parts = split(walks_of(settings), workers.blocks)
    model, data = Path(model).absolute(), absolute(None if data is None else Path(data))
    trigger = [Path(path).absolute() for path in known_trigger]
    block = Block(known_trigger=tuple((p, trigger_digest(p)) for p in trigger), layers=tuple(layers), first=0, last=0)
    task = Task(
        command="walks",
        model=model,
        sha256=workers.sha256 or model_digest(model, inputs)[0],
        data=data,
        pictures=pictures_digest(data),
        output=None,
        inputs=inputs,
        run=run,
        limits=workers.limits,
    )
    tasks = [replace(task, block=replace(block, first=part.start, last=part.stop)) for part in parts]
    records = _played(tasks, workers.executor, progress or (lambda done, of: None))
    players = records[0].players
    if any(r.players != players for r in records):
        raise EngineError("blocks differ in who plays")
    paths = [np.array(path) for record in records for path in record.paths]
    return ChannelValues(
        players, merge(paths, len(players), settings=settings, seed=run.seed, evaluations=run.max_evaluations)
    )


def _played(tasks: Sequence[Task], executor: Executor, progress: Progress) -> list[WalksRecord]:
    """What the blocks came to, in their order."""
    stop = threading.Event()
    heard = (None, stop) if isinstance(executor, ThreadPoolExecutor) else ()  # elsewhere limits of time end them
    jobs: dict[Future[Answer], int] = {}
    lost = [0] * len(tasks)
    found: dict[int, WalksRecord] = {}

    def submit(number: int) -> None:
        try:
            jobs[executor.submit(work, tasks[number], *heard)] = number
        except Exception as fault:  # it is broken, or was shut down
            raise EngineError(f"the engine takes no block: {str(fault) or type(fault).__name__}") from None

    try:
        for number in range(len(tasks)):
            submit(number)
        while jobs:
            for future in wait(jobs, return_when=FIRST_COMPLETED).done:
                number = jobs.pop(future)
                try:
                    answer = future.result()
                except Exception as fault:
                    lost[number] += 1
                    if lost[number] > RETRIES:
                        why = f"{lost[number]} times: {str(fault) or type(fault).__name__}"
                        raise EngineError(f"the engine lost block {number + 1} {why}") from None
                    submit(number)
                else:
                    found[number] = _record(answer, f"block {number + 1} of {len(tasks)}")
                    progress(len(found), len(tasks))
    finally:
        stop.set()
        wait([future for future in jobs if not future.cancel()], timeout=STOP_SECONDS)
    return [found[number] for number in range(len(tasks))]


def _record(answer: Answer, name: str) -> WalksRecord:
    if answer.record is None:
        error = EngineError(f"{name}: {answer.reason}")
        error.exit_code = answer.exit_code
        raise error
    try:
        return WalksRecord.model_validate_json(answer.record)
    except ValidationError:
        raise CrashError(f"{name} sent no valid record") from None

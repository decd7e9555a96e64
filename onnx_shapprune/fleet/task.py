"""One model of a batch as data, and the function that audits it, wherever an executor calls it.

Sessions are never shipped: a task holds paths, digests and settings. What it leads to is an answer, whatever the model
does; an exception out of `work` is therefore never the model's fault, but that of the engine which ran it.
"""

import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from onnx_shapprune.case.progress import Progress
from onnx_shapprune.commands.table import COMMANDS
from onnx_shapprune.errors import DataError, EngineError, HostileFileError, ModelError, ShapPruneError
from onnx_shapprune.files.reading import hash_regular_file
from onnx_shapprune.fleet.identity import MAX_DATA_BYTES, code_digest, model_digest, pictures_digest
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.run import Request, run_limited
from onnx_shapprune.settings import InputOptions, RunOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Walks `first` to `last` - 1 of an estimate. known_trigger: its files, with their sha256; layers: whose channels play,
    () for all.
    """

    known_trigger: tuple[tuple[Path, str], ...]
    layers: tuple[str, ...]
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be done with one model."""

    command: Literal["audit", "sanitize", "walks"]
    """The command of the tool that is called."""
    model: Path
    """Absolute."""
    sha256: str
    """Of the model."""
    data: Path | None
    """Pictures; None: they are drawn out of the model."""
    pictures: str
    """Digest of `data`."""
    output: Path | None
    """Where sanitize writes."""
    inputs: InputOptions
    """How pictures become inputs."""
    run: RunOptions
    """How much is searched, and on what."""
    limits: ProcessLimits
    """Of the child process."""
    invocation: tuple[str, ...] = ()
    """How the program was called, for the record."""
    alone: tuple[str, ...] = ()
    """The call that does the same to this model alone, without where the results go; for the record as well."""
    block: Block | None = None
    """Which walks, of "walks" only."""
    code: str = field(default_factory=code_digest)
    """Digest of the tool that asks, and of the libraries that compute for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A record as JSON, or why there is none, with the exit code that this has; with both, the work ended early. missing:
    limits that did not hold.
    """

    record: str | None = None
    reason: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    missing: tuple[str, ...] = ()


def work(task: Task, progress: Progress | None = None, stop: threading.Event | None = None) -> Answer:
    """Check that the files are those that were listed, and do the task in a child process of its own."""
    began = time.monotonic()
    try:
        _check(task)
    except ShapPruneError as error:
        return Answer(reason=str(error), exit_code=error.exit_code)
    settings: dict[str, object] = {"inputs": task.inputs, "run": task.run}
    if block := task.block:
        files = [path for path, _ in block.known_trigger]
        settings |= {"known_trigger": files, "layers": block.layers, "block": (block.first, block.last)}
    else:
        settings["command"] = task.invocation
    if task.command == "sanitize":
        settings["output"] = task.output
    outcome = run_limited(
        Request(COMMANDS[task.command], (task.model, task.data), settings), task.limits, progress, stop=stop
    )
    seconds = time.monotonic() - began
    if isinstance(outcome.error, HostileFileError):
        return _refused(task, outcome.error, seconds)
    if outcome.record is None:
        assert outcome.error is not None
        return Answer(reason=str(outcome.error), exit_code=outcome.error.exit_code, seconds=seconds)
    return Answer(
        record=outcome.record.model_dump_json(),
        reason=str(outcome.error or ""),
        seconds=seconds,
        missing=outcome.missing,
    )


def _refused(task: Task, error: HostileFileError, seconds: float) -> Answer:
    """That a file is hostile is a finding, with a record like any other."""
    from onnx_shapprune.recording.refused import refused_record

    try:
        record = refused_record(task.model, error, task.inputs, task.run, task.invocation)
    except ShapPruneError:  # it is gone meanwhile
        return Answer(reason=str(error), exit_code=error.exit_code, seconds=seconds)
    return Answer(record=record.model_dump_json(), seconds=seconds)


def _check(task: Task) -> None:
    """Raise where this machine has another version of the tool, another model or other pictures than the one that asks."""
    if task.code != code_digest():
        raise EngineError("the worker has another onnx-shapprune, or other libraries, than the batch that asks it")
    found, _ = model_digest(task.model, task.inputs)
    if found != task.sha256:
        raise ModelError(f"{task.model} is not the file that was listed: its sha256 is {found}, not {task.sha256}")
    if pictures_digest(task.data) != task.pictures:
        raise DataError(f"{task.data} does not hold the pictures that the batch was started with")
    for path, sha256 in task.block.known_trigger if task.block else ():
        if trigger_digest(path) != sha256:
            raise DataError(f"{path} is not the trigger that the estimate was started with")


def trigger_digest(path: Path) -> str:
    """sha256 of a file of a known trigger. Raises DataError."""
    return hash_regular_file(path, limit=MAX_DATA_BYTES, what="trigger", error=DataError)


def absolute(path: Path | None) -> Path | None:
    """A path that holds wherever a task runs."""
    return None if path is None else path.absolute()


def absolute_inputs(inputs: InputOptions) -> InputOptions:
    """The same for the paths among them."""
    return replace(
        inputs,
        class_names=absolute(inputs.class_names),
        labels=absolute(inputs.labels),
        unlabelled=absolute(inputs.unlabelled),
        allow_root=absolute(inputs.allow_root),
    )

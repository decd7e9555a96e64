"""batch(): audits of many models by an executor of any kind, each of which ends as a line of the results.

What a model does is an answer, and never tried again. What a future raises is the fault of the engine that ran it (a worker
that was lost, a scheduler that went away): the model is handed over again, RETRIES times.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnx_shapprune.errors import DataError, OutputError, ShapPruneError
from onnx_shapprune.fleet.alone import alone
from onnx_shapprune.fleet.identity import leads_out, model_digest, pictures_digest, settings_digest
from onnx_shapprune.fleet.listing import Entry
from onnx_shapprune.fleet.results import Result, ResultsFolder, failed
from onnx_shapprune.fleet.task import Answer, Task, absolute, absolute_inputs, work
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.settings import RunOptions

RETRIES = 2
STOP_SECONDS = 10.0
AGAIN = "audited again: its earlier result is of other settings, pictures, code or libraries"
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What holds for all models."""

    sanitize: bool = False
    """Repair them too."""
    resume: bool = False
    """Take over earlier results for the same bytes and settings."""
    run: RunOptions = field(default_factory=RunOptions)
    """How much is searched, and on what."""
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    """Of every child process."""
    invocation: tuple[str, ...] = ()
    """How the program was called, for the records."""


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a batch."""

    done: int
    """Models that have a result, their own or that of the same bytes."""
    total: int
    """Models that were listed."""
    model: str
    """The model that was heard of last, as listed."""
    state: str
    """What it is at, or its outcome."""
    over: bool
    """Whether its audit is over."""
    again: bool = False
    """Whether it begins although there is an earlier result, which is not taken over."""
    audited: int = 0
    """Audits that are over."""
    left: int = 0
    """Audits that are still needed, as far as is known."""


@dataclass(frozen=True, slots=True)
class Job:
    """A task under way: of which entry, under which settings, how often it was handed over before."""

    number: int
    key: Key
    task: Task
    tries: int = 0


def batch(
    entries: Sequence[Entry],
    folder: ResultsFolder,
    executor: Executor,
    options: BatchOptions,
    *,
    progress: Callable[[Step], None] | None = None,
) -> tuple[Result, ...]:
    """Audit every entry, each in a child process of its own wherever the executor runs `work`; results in their order.

    The same bytes under the same settings are audited once. When the results cannot be written any more, what is under way
    is ended, and the models that are left could not run. KeyboardInterrupt ends the children and goes on.
    """
    run = _Batch(entries, folder, executor, options, progress or (lambda step: None))
    try:
        for number in range(len(entries)):
            run.add(number)
            run.listen(wait=False)
        while run.jobs:
            run.listen(wait=True)
    except OutputError as error:
        run.abandon(str(error))
    finally:
        run.end()
    assert len(run.results) == len(entries)
    return tuple(run.results[number] for number in range(len(entries)))


class _Batch:
    """Everything happens in the caller's thread; executors only put what has happened into a queue."""

    def __init__(
        self,
        entries: Sequence[Entry],
        folder: ResultsFolder,
        executor: Executor,
        options: BatchOptions,
        progress: Callable[[Step], None],
    ) -> None:
        self.results: dict[int, Result] = {}
        self.jobs: dict[Future[Answer], Job] = {}
        self._entries, self._folder, self._executor, self._options = entries, folder, executor, options
        self._progress = progress
        self._events: queue.SimpleQueue[Future[Answer] | tuple[Job, str]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._same: dict[Key, list[int]] = {}  # entries that wait for the one under way
        self._audited: dict[Key, Result] = {}
        self._done = 0  # audits that are over
        self._pictures: dict[Path | None, str] = {}

    def add(self, number: int) -> None:
        """Begin with an entry, unless its result is known or will be."""
        entry = self._entries[number]
        try:
            if entry.problem:
                raise DataError(entry.problem)
            sha256, alone = model_digest(entry.path, entry.inputs)
            if entry.data not in self._pictures:
                self._pictures[entry.data] = pictures_digest(entry.data)
            task = self._task(entry, sha256)
            settings = settings_digest(task.command, task.pictures, task.inputs, task.run)
        except ShapPruneError as error:
            result = failed(entry.shown, str(error), error.exit_code)
            self._folder.append(result)
            self._record(number, result)
            return
        # Files that may have external data are only the same where they lie in one folder.
        key = sha256, settings, "" if alone else str(entry.path.parent.resolve())
        stray = leads_out(entry.path, entry.inputs)
        if stray:  # it is refused, and shares that with no file of the same bytes
            key = sha256, settings, str(entry.path.absolute())
        if (
            self._options.resume
            and not stray
            and (known := self._folder.finished(entry.shown, entry.path, sha256, settings))
        ):
            self.results[number] = known
            self._report(number, f"{known.outcome}, known before")
        elif key in self._audited or key in self._same:
            if key in self._audited:
                self._share(number, self._audited[key])
            else:
                self._same[key].append(number)
        else:
            self._same[key] = []
            if self._options.resume and self._folder.knows_otherwise(sha256, settings):
                self._report(number, AGAIN, again=True)
            if self._options.sanitize:
                task = replace(task, output=self._folder.output())
            self._submit(Job(number, key, task))

    def listen(self, *, wait: bool) -> None:
        """Take what has happened out of the queue, and wait for something to happen where asked to."""
        while wait or not self._events.empty():
            event = self._events.get()
            if not isinstance(event, Future):
                self._report(event[0].number, event[1])
                continue
            job = self.jobs.pop(event)
            try:
                answer = event.result()
            except Exception as fault:
                self._lost(job, fault)
            else:
                self._finish(job, answer)
            wait = False

    def abandon(self, reason: str) -> None:
        """Call everything off that has no result yet."""
        for number, entry in enumerate(self._entries):
            if number not in self.results:
                self.results[number] = failed(entry.shown, f"not audited: {reason}")

    def end(self) -> None:
        """End children and take back what has not begun."""
        self._stop.set()
        wait([future for future in self.jobs if not future.cancel()], timeout=STOP_SECONDS)
        for job in self.jobs.values():
            self._folder.discard(job.task)

    def _task(self, entry: Entry, sha256: str) -> Task:
        """Paths are made absolute: it may run elsewhere."""
        options = self._options
        return Task(
            command="sanitize" if options.sanitize else "audit",
            model=entry.path.absolute(),
            sha256=sha256,
            data=absolute(entry.data),
            pictures=self._pictures[entry.data],
            output=None,
            limits=options.limits,
            inputs=absolute_inputs(entry.inputs),
            run=replace(options.run, calibration=absolute(options.run.calibration)),
            invocation=options.invocation,
            alone=alone("sanitize" if options.sanitize else "audit", entry),
        )

    def _submit(self, job: Job) -> None:
        # Threads of this process can be heard and stopped; elsewhere, limits of time end what nobody waits for.
        heard = (self._hear(job), self._stop) if isinstance(self._executor, ThreadPoolExecutor) else ()
        try:
            future = self._executor.submit(work, job.task, *heard)
        except Exception as fault:  # it is broken, or was shut down
            self._lost(job, fault)
            return
        self.jobs[future] = job
        future.add_done_callback(self._events.put)

    def _hear(self, job: Job) -> Callable[[str, int, int, str], None]:
        def progress(stage: str, done: int, total: int, note: str) -> None:
            self._events.put((job, f"{stage} {done}/{total} {note}"))

        return progress

    def _lost(self, job: Job, fault: Exception) -> None:
        if job.tries < RETRIES:
            self._submit(replace(job, tries=job.tries + 1))
            return
        why = str(fault) or type(fault).__name__
        self._finish(job, Answer(reason=f"the engine lost it {job.tries + 1} times: {why}", exit_code=2))

    def _finish(self, job: Job, answer: Answer) -> None:
        result = self._folder.keep(self._entries[job.number].shown, job.task, job.key[1], answer)
        self._audited[job.key] = result
        for number in self._same.pop(job.key):
            self._share(number, result)
        self._record(job.number, result)

    def _share(self, number: int, result: Result) -> None:
        """List the result of the same bytes under another path too."""
        same = {"model": self._entries[number].shown, "same_as": result.same_as or result.model, "seconds": 0.0}
        self.results[number] = result.model_copy(update=same)
        self._folder.append(self.results[number])

    def _record(self, number: int, result: Result) -> None:
        self.results[number] = result
        self._done += 1
        self._report(number, result.outcome, over=True)

    def _report(self, number: int, state: str, *, over: bool = False, again: bool = False) -> None:
        done, total = len(self.results), len(self._entries)
        left = total - done - sum(map(len, self._same.values()))
        shown = self._entries[number].shown
        self._progress(Step(done, total, shown, state, over, again, audited=self._done, left=left))

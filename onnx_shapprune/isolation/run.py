"""Run one command of the tool on one model in a child process, and turn every way it can end into a record or an error.

A batch of models is this function, called once per model from as many threads as children may run side by side.
"""

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic

from pydantic import ValidationError

from onnx_shapprune import errors
from onnx_shapprune.case.progress import Progress
from onnx_shapprune.commands.table import Command, Made
from onnx_shapprune.errors import CrashError, HostileFileError, LimitError, ShapPruneError
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.private import private_folder
from onnx_shapprune.isolation.supervisor import Ended, supervise
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.report.text import plain

PACKAGES = str(Path(__file__).parents[2])
# -P and append: a file called numpy.py in the folder of a model must not be what the child imports. The package itself comes
# from where this one lies: another version may be installed, and stand before it.
CHILD = (
    sys.executable,
    "-P",
    "-c",
    f"import importlib.util as u, sys; sys.path.append({PACKAGES!r}); "
    f"s = u.spec_from_file_location('onnx_shapprune', {str(Path(__file__).parents[1] / '__init__.py')!r}); "
    "m = sys.modules[s.name] = u.module_from_spec(s); s.loader.exec_module(m); "
    "from onnx_shapprune.isolation.child import main; main()",
)
OUT_OF_MEMORY = ("bad_alloc", "MemoryError", "Cannot allocate memory", "out of memory")


@dataclass(frozen=True, slots=True)
class Request(Generic[Made]):
    """A function of the tool and what it is called with: what JSON holds, paths, and the settings' dataclasses."""

    command: Command[Made]
    arguments: tuple[object, ...]
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Made]):
    """What came of a request: a record, an error whose `exit_code` is never 0, or both: then the work ended early, and the
    record says what was known by then.
    """

    record: Made | None
    error: ShapPruneError | None
    missing: tuple[str, ...] = ()
    """Limits that were not applied because the platform lacks them."""
    errors: str = ""
    """The end of the child's stderr."""


def run_limited(
    request: Request[Made],
    limits: ProcessLimits,
    progress: Progress | None = None,
    *,
    stop: threading.Event | None = None,
) -> Outcome[Made]:
    """Run a request in a child process of its own. Raises nothing that the child does; safe to call from any thread.

    stop: set it to end the child; the outcome is then an error. The child's temporary files are gone afterwards.
    """
    payload = json.dumps(
        {
            "command": request.command.name,
            "arguments": request.arguments,
            "settings": dict(request.settings),
            "limits": limits,
            "parent": os.getpid(),
        },
        default=_plain,
    )
    with private_folder() as private:
        environment = {**os.environ, "TMPDIR": private, "TEMP": private, "TMP": private}
        try:
            ended = supervise(CHILD, payload.encode(), limits, environment=environment, progress=progress, stop=stop)
        except OSError as error:
            return Outcome(None, CrashError(f"no process can be started: {error.strerror}"))
    if ended.answer is None:
        outcome: Outcome[Made] = Outcome(None, _error_of(ended, limits), errors=ended.errors)
    else:
        outcome = _outcome(request.command, ended.answer, ended.errors)
    if outcome.record is None and outcome.error is not None and ended.so_far is not None:
        return dataclasses.replace(outcome, record=_unfinished(request.command, ended.so_far, outcome.error))
    return outcome


def isolated(
    command: Command[Made], limits: ProcessLimits | None, progress: Progress | None = None
) -> Callable[..., Made]:
    """A command of the tool as a function that runs in a child process, or in this one where `limits` is None.

    It raises what the command would raise, LimitError and CrashError.
    """
    if limits is None:
        call = command.load()
        return call if progress is None else partial(call, progress=progress)

    def call_apart(*arguments: object, **settings: object) -> Made:
        outcome = run_limited(Request(command, arguments, settings), limits, progress)
        if outcome.missing:
            sys.stderr.write(f"note: this system cannot limit {', '.join(outcome.missing)}\n")
        if outcome.record is None:
            assert outcome.error is not None
            raise outcome.error
        if outcome.error is not None:
            sys.stderr.write(f"note: {plain(str(outcome.error), limit=400)}; what was known by then is reported\n")
        return outcome.record

    return call_apart


def _unfinished(command: Command[Made], sent: Mapping[str, object], error: ShapPruneError) -> Made | None:
    """The record that a child sent before the error; it says itself that it is not the last word."""
    try:
        record: Made = command.record.model_validate_json(json.dumps(sent))
    except ValidationError:
        return None
    early = f"the work ended early: {error}"
    if isinstance(record, VerifyRecord):
        return record.model_copy(update={"not_searched": (*record.not_searched, early)})
    if not isinstance(record, AuditRecord):
        return None
    repair = record.repair
    if repair.status == "not_tried" and command.name == "sanitize":
        repair = repair.model_copy(update={"reason": f"the repair is not over: {error}"})
    return record.model_copy(update={"warnings": (*record.warnings, early), "repair": repair})


def _outcome(command: Command[Made], answer: Mapping[str, Any], stderr: str) -> Outcome[Made]:
    """What a child sent is checked like any other input."""
    match answer:
        case {"missing": list() as missing, "record": dict() as sent}:
            try:
                record = command.record.model_validate_json(json.dumps(sent))
            except ValidationError:
                return Outcome(
                    None, CrashError("the process that worked on the file sent no valid record"), errors=stderr
                )
            return Outcome(record, None, tuple(str(m) for m in missing), stderr)
        case {"error": "HostileFileError", "hazards": [[str(), str()], *_] as hazards}:
            found = [(str(h[0]), str(h[1])) for h in hazards if isinstance(h, list) and len(h) == 2]
            return Outcome(None, HostileFileError(found), errors=stderr)
        case {"error": str() as name, "text": str() as text}:
            error = _raised(name, text)
            if isinstance(trace := answer.get("traceback"), str):
                error.add_note(trace)
            return Outcome(None, error, errors=stderr)
    return Outcome(None, CrashError("the process that worked on the file sent no valid answer"), errors=stderr)


def _raised(name: str, text: str) -> ShapPruneError:
    """An error of this package by its name, with its message."""
    kind: object = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, ShapPruneError)):
        return CrashError(text)
    error = kind.__new__(kind)  # some take other arguments than a message
    error.args = (text,)
    return error


def _error_of(ended: Ended, limits: ProcessLimits) -> ShapPruneError:
    """Why there is no answer. Out of time or memory proves nothing; everything else could not run."""
    what = "the process that worked on the file"
    if ended.end == "too long":
        return LimitError(f"{what} took longer than {limits.seconds:g} s: raise --timeout if the file deserves it")
    if ended.end == "stopped":
        return CrashError(f"{what} was stopped")
    if ended.end in ("garbage", "flood"):
        return CrashError(f"{what} sent {'what is no answer' if ended.end == 'garbage' else 'more than it may'}")
    code = ended.code or 0
    if code == -getattr(signal, "SIGXCPU", 0):
        return LimitError(f"{what} used up its processor time: raise --timeout if the file deserves it")
    memory = any(words in ended.errors for words in OUT_OF_MEMORY)
    if memory or code == -getattr(signal, "SIGKILL", 0):
        limit = "" if limits.memory_mib is None else f" ({limits.memory_mib} MiB)"
        return LimitError(
            f"{what} ran out of memory{limit} or was killed for it: raise --memory-limit if it deserves it"
        )
    if code < 0:
        return CrashError(f"{what} crashed ({_signal_name(-code)})")
    return CrashError(f"{what} ended with {code} and without an answer")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _plain(value: object) -> object:
    """What JSON does not know: paths and dataclasses."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be handed to another process")

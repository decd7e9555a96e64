"""The child's side: give up rights, run one command of the tool, send its record, exit."""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import IO, Any

from pydantic import BaseModel, TypeAdapter, ValidationError, validate_call

from onnx_shapprune.commands.table import COMMANDS, Command
from onnx_shapprune.errors import CrashError, DataError, HostileFileError, LimitError, ShapPruneError
from onnx_shapprune.isolation.limits import ProcessLimits, die_with_the_parent, give_up, may_use_cuda

TRACEBACK = 1 << 14  # characters


def main() -> None:
    """Serve one request and end the process. Nothing else may ever be written to the pipe that stdout was."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, prints to stderr
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        request = json.loads(stdin.readline())
    die_with_the_parent(request["parent"])
    limits = TypeAdapter(ProcessLimits).validate_python(request["limits"])
    settings = request["settings"]
    device = (settings.get("run") or settings).get("device", "auto")
    command = COMMANDS[request["command"]]
    missing = give_up(limits, cuda=command.runs_model and may_use_cuda(device))
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    answer = _answer(command, request["arguments"], settings, pipe)
    _send(pipe, {"answer": {"missing": missing, **answer}})
    os._exit(0)  # the answer is out: what native libraries do on their way down can only spoil it


def _answer(
    command: Command[Any], arguments: Sequence[object], settings: Mapping[str, object], pipe: IO[bytes]
) -> dict[str, object]:
    extra = {"progress": _Told(pipe)} if command.runs_model else {}
    try:
        call = _prepared(command, arguments, {**settings, **extra})
        return {"record": call().model_dump(mode="json")}
    except HostileFileError as error:
        return {"error": type(error).__name__, "hazards": error.hazards}
    except ShapPruneError as error:
        return {"error": type(error).__name__, "text": str(error)}
    except MemoryError:
        return {"error": LimitError.__name__, "text": "the limit of memory was hit"}
    except Exception as error:
        return {
            "error": CrashError.__name__,
            "text": f"internal error: {type(error).__name__}",
            "traceback": traceback.format_exc()[-TRACEBACK:],
        }


def _prepared(command: Command[Any], arguments: Sequence[object], settings: Mapping[str, object]) -> Callable[[], Any]:
    """The command with its arguments as it takes them: paths and settings out of what JSON holds. Raises DataError for those
    that it cannot take, before it runs: what is wrong with its results is no fault of theirs.
    """
    function = command.load()

    @wraps(function)
    def bound(*given: object, **named: object) -> Callable[[], Any]:
        return partial(function, *given, **named)

    bound.__annotations__ = {**function.__annotations__, "return": object}
    try:
        return validate_call(bound)(*arguments, **settings)
    except ValidationError as error:  # a path that is no UTF-8, for one
        raise DataError(f"a setting cannot be handed over: {error.errors()[0]['msg']}") from None


class _Told:
    """Progress that the parent follows; it also keeps the record of what is known so far."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        _send(self._pipe, {"progress": [stage, done, total, note]})

    def so_far(self, record: BaseModel) -> None:
        _send(self._pipe, {"so_far": record.model_dump(mode="json")})


def _send(pipe: IO[bytes], frame: Mapping[str, object]) -> None:
    pipe.write(json.dumps(frame, allow_nan=False).encode() + b"\n")
    pipe.flush()


def _leave(number: int, frame: object) -> None:
    """SIGTERM as an exception: what was begun to be written is taken away again."""
    raise SystemExit(128 + number)


def _end_with_the_parent() -> None:
    """The parent holds stdin open as long as it lives."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)  # the private one, which the parent would have removed
    os._exit(2)

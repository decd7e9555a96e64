"""The command group: every way a command can end becomes one exit code and at most one line, tracebacks aside."""

import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click
from click.core import ParameterSource

from onnx_shapprune.cli import exits
from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.report.text import harmless, plain

ERROR_LIMIT = 1000
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Invocation:
    """How the program was called, for the record."""

    command: tuple[str, ...]


class Program(click.Group):
    """A group whose errors are one line on stderr, and whose internal errors exit with 2 and never with Python's 1.

    click itself exits with 1 when stdout is closed early, and prints a blank line on Ctrl-C; hence two places.
    """

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: object) -> object:  # type: ignore[override]
        arguments = list(sys.argv[1:] if args is None else args)
        readable = (a.encode("utf-8", "backslashreplace").decode() for a in arguments)
        extra.setdefault("obj", Invocation(("shapprune", *readable)))
        with _one_line_errors():
            result = super().main(arguments, prog_name, **{**extra, "standalone_mode": False})  # type: ignore[call-overload]
        sys.exit(result if isinstance(result, int) else 0)

    def invoke(self, ctx: click.Context) -> object:
        with _one_line_errors():
            return super().invoke(ctx)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except click.exceptions.Exit:
        raise
    except click.ClickException as error:
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"{_origin(error)} (see {error.ctx.command_path} --help)"
        _say(f"error: {error.format_message()}{hint}")
        code = exits.COULD_NOT_RUN
    except ShapPruneError as error:
        for line in "\n".join(getattr(error, "__notes__", ())).splitlines():  # where an internal error happened
            _say(line)
        _say(f"error: {error}")
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted: no partial file is left")
        code = exits.INTERRUPTED
    except Exception as error:
        code = exits.COULD_NOT_RUN
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            _drop_stdout()
        elif isinstance(error, OSError) and error.errno in FULL:
            _drop_stdout()
            _say(f"error: {error.strerror}: what was to be written is not complete")
        elif isinstance(error, ImportError) and not (error.name or "").startswith(__package__.partition(".")[0]):
            _say(f"error: {error}; shapprune doctor says what is missing")
        else:
            traceback.print_exc()
    else:
        return
    sys.exit(code)


def _origin(error: click.UsageError) -> str:
    """The variable that a wrong value came from, where it came from the environment."""
    option = getattr(error, "param", None)
    if not isinstance(option, click.Option) or error.ctx is None or not option.name:
        return ""
    from_environment = error.ctx.get_parameter_source(option.name) is ParameterSource.ENVIRONMENT
    return f" (from {option.envvar})" if from_environment else ""


def _say(line: str) -> None:
    click.echo(harmless(plain(line, limit=ERROR_LIMIT)), err=True)


def _drop_stdout() -> None:
    """The reader has gone: let Python's last flush go nowhere instead of turning the exit code into another."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())

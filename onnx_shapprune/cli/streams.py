"""What goes to stdout and stderr, and whether it is coloured or drawn over."""

import os
import sys
from typing import TextIO

import click

from onnx_shapprune.errors import OutputError


def wants_colour(choice: str, stream: TextIO | None = None) -> bool:
    """Whether to colour what is written to `stream` (stdout). NO_COLOR wins over FORCE_COLOR (no-color.org)."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream or sys.stdout)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is there and is a terminal that understands escape codes."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def show(text: str) -> None:
    """Write a result to stdout; characters that its encoding lacks become question marks."""
    if sys.stdout is None:  # it was closed before the program began
        raise OutputError("there is no stdout to write the result to")
    encoding = sys.stdout.encoding or "utf-8"
    # color=True: whether to colour was decided before the text was made.
    click.echo(text.encode(encoding, "replace").decode(encoding), nl=False, color=True)

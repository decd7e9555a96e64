"""What is shown where; arrives as `display`."""

import shutil
from dataclasses import dataclass

import click

from onnx_shapprune.cli.options.declare import bundled, option
from onnx_shapprune.cli.sections import DISPLAY
from onnx_shapprune.cli.streams import wants_colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """How results and progress are shown."""

    as_json: bool
    """Whether stdout holds JSON."""
    colour: bool
    """Whether what is written to stdout is coloured."""
    width: int
    """Columns of the terminal."""
    quiet: bool = False
    """Only the verdict, and errors."""
    verbose: bool = False
    """All tables; on stderr a line for every class and stage."""
    progress: str = "auto"
    """"auto", "on" or "off"."""


FORMAT = option(
    DISPLAY,
    "-f",
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="What is printed on stdout.",
)
QUIET = option(DISPLAY, "-q", "--quiet", is_flag=True, help="Only the verdict, and errors.")
VERBOSE = option(
    DISPLAY, "-v", "--verbose", is_flag=True, help="All tables; on stderr a line for every class and stage."
)
COLOUR = option(
    DISPLAY,
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colours on stdout; auto: on a terminal, unless NO_COLOR is set (FORCE_COLOR sets them elsewhere).",
)
PROGRESS = option(
    DISPLAY,
    "--progress",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Progress on stderr: bars on a terminal, lines elsewhere; auto: lines in CI too.",
)


def _display(format_: str, color: str, quiet: bool = False, verbose: bool = False, progress: str = "auto") -> Display:
    return Display(
        as_json=format_ == "json",
        colour=wants_colour(color),
        width=shutil.get_terminal_size((80, 24)).columns,
        quiet=quiet,
        verbose=verbose,
        progress=progress,
    )


display_options = bundled("display", _display, FORMAT, QUIET, VERBOSE, COLOUR, PROGRESS)
# Of commands that are over at once and say no more than their result.
brief_display_options = bundled("display", _display, FORMAT, COLOUR)

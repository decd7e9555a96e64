"""shapprune values"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.options.declare import bundled, option
from onnx_shapprune.cli.options.display import Display, display_options
from onnx_shapprune.cli.options.outputs import model_argument
from onnx_shapprune.cli.options.search import Search, search_options
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.program import Invocation
from onnx_shapprune.cli.progress import progress_on_stderr
from onnx_shapprune.cli.results import shown_whatever_happens
from onnx_shapprune.cli.sections import REPAIR, RESULTS
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.values import FILE, PairCommand
from onnx_shapprune.commands.table import VALUES
from onnx_shapprune.files.writing import write_atomically
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.report.heatmap import heatmap
from onnx_shapprune.report.text import json_text
from onnx_shapprune.report.values import values_csv, values_line, values_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where the values go."""

    output: Path | None
    csv: Path | None
    plot: Path | None


OUTPUT = option(
    RESULTS,
    "-o",
    "--output",
    type=FILE,
    metavar="VALUES.json",
    help="Write all values, and how they were made, as JSON.",
)
CSV = option(RESULTS, "--csv", type=FILE, metavar="VALUES.csv", help="Write a row for each channel, the best first.")
PLOT = option(
    RESULTS, "--plot", type=FILE, metavar="VALUES.svg", help="Draw them: a row for each layer, darker carries more."
)
LAYERS = option(
    REPAIR,
    "--layers",
    multiple=True,
    metavar="NAME",
    help="Only the channels of this layer play, the others stay on; can be given several times.  [default: all]",
)


@click.command(
    "values",
    short_help="Say what every channel is worth to a trigger.",
    cls=PairCommand,
    context_settings={"default_map": {"players": "all"}},
)
@model_argument
@search_options
@LAYERS
@bundled("files", Files, OUTPUT, CSV, PLOT)
@display_options
@click.pass_obj
def values_command(
    invocation: Invocation, *, model: Path, search: Search, layers: tuple[str, ...], files: Files, display: Display
) -> int:
    """Say what every channel is worth to a trigger: the one that you know, or those that the audit's search finds.

    Changes nothing. Exits with 0 when there are values, 3 when nothing was named, so that there is nothing to play for, 2
    when it could not run.

    \b
    Example:
      shapprune values model.onnx --data pictures/ --known-trigger mask.png pattern.png --csv values.csv --plot values.svg
    """
    check_outputs([files.output, files.csv, files.plot], inputs=(model, *search.files))
    with progress_on_stderr(display) as progress:
        record = isolated(VALUES, search.process, progress)(
            model,
            search.data,
            known_trigger=search.known_trigger,
            layers=layers,
            inputs=search.inputs,
            run=search.run,
            command=invocation.command,
        )

    def result() -> None:
        if display.as_json:
            show(json_text(record))
        elif display.quiet or record.reason:
            show(values_line(record, colour=display.colour))
        else:
            show(values_text(record, width=display.width, colour=display.colour, details=display.verbose))

    with shown_whatever_happens(result) as write:
        for path, text in ((files.output, json_text), (files.csv, values_csv), (files.plot, heatmap)):
            if path is not None and (text is json_text or not record.reason):
                write(partial(write_atomically, path, text(record).encode("utf-8", "replace")))
    return exits.INCONCLUSIVE if record.reason else exits.PASS

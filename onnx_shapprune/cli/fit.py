"""shapprune fit"""

from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options.display import Display, display_options
from onnx_shapprune.cli.options.inputs import input_options
from onnx_shapprune.cli.options.outputs import model_argument
from onnx_shapprune.cli.options.process import process_options
from onnx_shapprune.cli.options.running import device_options
from onnx_shapprune.cli.options.search import REQUIRED_DATA
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.program import Invocation
from onnx_shapprune.cli.progress import progress_on_stderr
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.threads import capped
from onnx_shapprune.cli.values import FILE
from onnx_shapprune.commands.table import FIT
from onnx_shapprune.errors import DataError
from onnx_shapprune.files.writing import write_atomically
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.report.fit import fit_line, fit_text
from onnx_shapprune.report.text import json_text
from onnx_shapprune.settings import InputOptions, RunOptions


@click.command("fit", short_help="Find the preprocessing that a model was made for.", cls=ConfiguredCommand)
@model_argument
@REQUIRED_DATA
@click.option("-o", "--output", type=FILE, metavar="FIT.json", help="Write all that was tried here, as JSON.")
@input_options
@device_options
@display_options
@process_options
@click.pass_obj
def fit_command(
    invocation: Invocation,
    *,
    model: Path,
    data: Path | None,
    output: Path | None,
    inputs: InputOptions,
    run: RunOptions,
    display: Display,
    process: ProcessLimits | None,
) -> int:
    """Find the preprocessing that a model was made for: try the usual ones and say which fits.

    With labelled pictures settings are ranked by accuracy. Without labels a model that is sure of pictures, unsure of
    noise, and steady under small changes is taken to be fed rightly, which is a guess. Exits with 0 when a setting fits,
    3 when none does or it is only a guess, 2 when nothing could be tried.

    \b
    Example:
      shapprune fit model.onnx --data pictures/
    """
    if data is None:
        raise DataError("settings are tried on pictures: --data none gives none")
    check_outputs([output], inputs=(model, data, inputs.class_names, inputs.labels))
    with progress_on_stderr(display) as progress:
        call = isolated(FIT, process, progress)
        record = call(model, data, inputs=inputs, run=capped(run), command=invocation.command)
    if output is not None:
        write_atomically(output, json_text(record).encode())
    if display.as_json:
        show(json_text(record))
    elif display.quiet:
        show(fit_line(record, colour=display.colour))
    else:
        show(fit_text(record, width=display.width, colour=display.colour))
    return exits.INCONCLUSIVE if record.none_fits or record.guess else exits.PASS

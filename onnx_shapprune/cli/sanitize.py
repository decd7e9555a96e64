"""shapprune sanitize"""

from pathlib import Path

import click

from onnx_shapprune.cli.exits import repair_code
from onnx_shapprune.cli.options.display import Display, display_options
from onnx_shapprune.cli.options.outputs import Outputs, model_argument, output_options
from onnx_shapprune.cli.options.search import Search, search_options
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.program import Invocation
from onnx_shapprune.cli.progress import progress_on_stderr
from onnx_shapprune.cli.results import deliver, refusal_written
from onnx_shapprune.cli.snapshot import in_folder
from onnx_shapprune.cli.values import PairCommand
from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.table import SANITIZE
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.report.subject import located


@click.command("sanitize", short_help="Audit a model, and repair it until no trigger is found.", cls=PairCommand)
@model_argument
@search_options
@output_options(
    "CLEAN.onnx",
    "Where the repaired model goes; required, unless with --dry-run. Never the input.",
    artifacts=True,
)
@click.option("--dry-run", is_flag=True, help="Print the plan and what it would do, and write no model.")
@click.option(
    "--keep-partial",
    is_flag=True,
    help="Write the best effort too when the model could not be repaired; still exits with 1.",
)
@display_options
@click.pass_obj
def sanitize_command(
    invocation: Invocation,
    *,
    model: Path,
    search: Search,
    outputs: Outputs,
    dry_run: bool,
    keep_partial: bool,
    display: Display,
) -> int:
    """Audit a model and repair it, until no trigger is found any more: by other weights, or by switching channels off.

    Exits with 0 when the model was repaired, or nothing was found (the output is then a copy of the input); with 1 when
    it could not be repaired (no output is written), 2 when it could not run, or a copy would not find the data that the
    model keeps beside it, 3 when nothing can be told.

    \b
    Example:
      shapprune sanitize model.onnx --data pictures/ -o clean.onnx --report report.json --report html=report.html
    """
    if outputs.output is None and not dry_run:
        raise click.UsageError("Missing option '-o': say where the repaired model goes, or use --dry-run.")
    model, search = in_folder(model, search)
    check_outputs(outputs.files, inputs=(model, *search.files), artifacts=outputs.artifacts)
    with (
        refusal_written(model, search, invocation.command, reports=outputs.reports),
        progress_on_stderr(display) as progress,
    ):
        record = isolated(SANITIZE, search.process, progress)(
            model,
            search.data,
            output=Output(None if dry_run else outputs.output, keep_partial=keep_partial, artifacts=outputs.artifacts),
            inputs=search.inputs,
            run=search.run,
            known_trigger=search.known_trigger,
            command=invocation.command,
        )
    deliver(located(record, model, outputs.output), display, reports=outputs.reports)
    return repair_code(record, dry_run=dry_run)

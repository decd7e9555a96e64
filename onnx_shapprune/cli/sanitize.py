"""shapprune sanitize"""

from pathlib import Path

import click

from onnx_shapprune.cli.exits import repair_code
from onnx_shapprune.cli.options import (
    Display,
    artifacts_option,
    data_option,
    display_options,
    input_options,
    model_argument,
    process_options,
    report_option,
    run_options,
    trigger_option,
)
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.program import Invocation
from onnx_shapprune.cli.progress import progress_on_stderr
from onnx_shapprune.cli.results import show_record, write_reports
from onnx_shapprune.cli.values import FILE, PairCommand, Reports, paths
from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.table import SANITIZE
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.settings import InputOptions, RunOptions


@click.command("sanitize", cls=PairCommand)
@model_argument
@data_option
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="CLEAN.onnx",
    help="Where the repaired model goes; required, unless with --dry-run. Never the input.",
)
@report_option
@click.option("--dry-run", is_flag=True, help="Print the plan and what it would do, and write no model.")
@click.option(
    "--keep-partial",
    is_flag=True,
    help="Write the best effort too when the model could not be repaired; still exits with 1.",
)
@trigger_option
@artifacts_option
@display_options
@input_options
@run_options
@process_options
@click.pass_obj
def sanitize_command(
    invocation: Invocation,
    *,
    model: Path,
    data: Path | None,
    output: Path | None,
    reports: Reports,
    dry_run: bool,
    keep_partial: bool,
    known_trigger: tuple[Path, ...],
    artifacts: Path | None,
    display: Display,
    inputs: InputOptions,
    run: RunOptions,
    process: ProcessLimits | None,
) -> int:
    """Audit a model and switch off the few channels that carry its backdoor, until no trigger is found any more.

    Exits with 0 when the model was repaired, or nothing was found (the output is then a copy of the input); with 1 when
    it could not be repaired (no output is written), 2 when it could not run, 3 when nothing can be told.

    \b
    Example:
      shapprune sanitize model.onnx --data pictures/ -o clean.onnx --report report.json --report html=report.html
    """
    if output is None and not dry_run:
        raise click.UsageError("Missing option '-o': say where the repaired model goes, or use --dry-run.")
    wanted = None if dry_run else output
    check_outputs(
        [output, *paths(reports)],
        inputs=(model, data, inputs.class_names, run.calibration, *known_trigger),
        artifacts=artifacts,
    )
    with progress_on_stderr(display) as progress:
        record = isolated(SANITIZE, process, progress)(
            model,
            data,
            output=Output(wanted, keep_partial=keep_partial, artifacts=artifacts),
            inputs=inputs,
            run=run,
            known_trigger=known_trigger,
            command=invocation.command,
        )
    write_reports(record, reports)
    show_record(record, display)
    return repair_code(record)

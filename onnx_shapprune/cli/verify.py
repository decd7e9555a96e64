"""shapprune verify"""

from pathlib import Path

import click

from onnx_shapprune.cli.exits import verdict_code
from onnx_shapprune.cli.options import (
    Display,
    data_option,
    display_options,
    input_options,
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
from onnx_shapprune.commands.table import VERIFY
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.settings import InputOptions, RunOptions


@click.command("verify", cls=PairCommand)
@click.argument("before", type=FILE, metavar="BEFORE.onnx")
@click.argument("after", type=FILE, metavar="AFTER.onnx")
@data_option
@report_option
@trigger_option
@display_options
@input_options
@run_options
@process_options
@click.pass_obj
def verify_command(
    invocation: Invocation,
    *,
    before: Path,
    after: Path,
    data: Path | None,
    reports: Reports,
    known_trigger: tuple[Path, ...],
    display: Display,
    inputs: InputOptions,
    run: RunOptions,
    process: ProcessLimits | None,
) -> int:
    """Compare a model with its repaired copy: what changed in the file, and whether a trigger is still found.

    Exits with 0 when nothing but units changed and no backdoor is found in the second file, 1 otherwise, 2 when it
    could not run, 3 when nothing can be told.

    \b
    Example:
      shapprune verify model.onnx clean.onnx --data pictures/
    """
    check_outputs(paths(reports), inputs=(before, after, data, inputs.class_names, run.calibration, *known_trigger))
    with progress_on_stderr(display) as progress:
        record = isolated(VERIFY, process, progress)(
            before,
            after,
            data,
            inputs=inputs,
            run=run,
            known_trigger=known_trigger,
            command=invocation.command,
        )
    write_reports(record, reports)
    show_record(record, display)
    return verdict_code(record)

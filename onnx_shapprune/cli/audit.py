"""shapprune audit"""

from pathlib import Path

import click

from onnx_shapprune.cli.exits import verdict_code
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
from onnx_shapprune.cli.results import show_record, write_record, write_reports
from onnx_shapprune.cli.values import FILE, PairCommand, Reports, paths
from onnx_shapprune.commands.table import AUDIT
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.settings import InputOptions, RunOptions


@click.command("audit", cls=PairCommand)
@model_argument
@data_option
@click.option("-o", "--output", type=FILE, metavar="REPORT.json", help="Write the whole record here as JSON.")
@report_option
@trigger_option
@artifacts_option
@display_options
@input_options
@run_options
@process_options
@click.pass_obj
def audit_command(
    invocation: Invocation,
    *,
    model: Path,
    data: Path | None,
    output: Path | None,
    reports: Reports,
    known_trigger: tuple[Path, ...],
    artifacts: Path | None,
    display: Display,
    inputs: InputOptions,
    run: RunOptions,
    process: ProcessLimits | None,
) -> int:
    """Look for a backdoor: search a trigger for every class, compare the classes, rank the units that carry it.

    Exits with 0 when no backdoor was found, 1 when one was found, 2 when it could not run, 3 when nothing can be told.

    \b
    Example:
      shapprune audit model.onnx --data pictures/ --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26 -o report.json
    """
    check_outputs(
        [output, *paths(reports)],
        inputs=(model, data, inputs.class_names, run.calibration, *known_trigger),
        artifacts=artifacts,
    )
    with progress_on_stderr(display) as progress:
        record = isolated(AUDIT, process, progress)(
            model,
            data,
            inputs=inputs,
            run=run,
            known_trigger=known_trigger,
            artifacts=artifacts,
            command=invocation.command,
        )
    write_record(record, output)
    write_reports(record, reports)
    show_record(record, display)
    return verdict_code(record)

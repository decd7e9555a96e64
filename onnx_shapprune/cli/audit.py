"""shapprune audit"""

from pathlib import Path

import click

from onnx_shapprune.cli.exits import verdict_code
from onnx_shapprune.cli.options.display import Display, display_options
from onnx_shapprune.cli.options.outputs import Outputs, model_argument, output_options
from onnx_shapprune.cli.options.search import Search, search_options
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.program import Invocation
from onnx_shapprune.cli.progress import progress_on_stderr
from onnx_shapprune.cli.results import deliver, refusal_written
from onnx_shapprune.cli.snapshot import in_folder
from onnx_shapprune.cli.values import PairCommand
from onnx_shapprune.commands.table import AUDIT
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.report.subject import located


@click.command("audit", short_help="Look for a backdoor: search a trigger for every class.", cls=PairCommand)
@model_argument
@search_options
@output_options("REPORT.json", "Write the whole record here as JSON.", artifacts=True)
@display_options
@click.pass_obj
def audit_command(invocation: Invocation, *, model: Path, search: Search, outputs: Outputs, display: Display) -> int:
    """Look for a backdoor: search a trigger for every class, compare the classes, rank the units that carry it.

    MODEL.onnx may be a folder of Hugging Face or MLflow: what config.json, preprocessor_config.json and MLmodel say there
    holds where you say nothing else, and is printed.

    Exits with 0 when no backdoor was found, 1 when one was found, 2 when it could not run, 3 when nothing can be told.

    \b
    Examples:
      shapprune audit model.onnx --data pictures/ --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26 -o report.json
      shapprune audit models--x--y/snapshots/abc --data pictures/
    """
    model, search = in_folder(model, search)
    check_outputs(outputs.files, inputs=(model, *search.files), artifacts=outputs.artifacts)
    with (
        refusal_written(model, search, invocation.command, output=outputs.output, reports=outputs.reports),
        progress_on_stderr(display) as progress,
    ):
        record = isolated(AUDIT, search.process, progress)(
            model,
            search.data,
            inputs=search.inputs,
            run=search.run,
            known_trigger=search.known_trigger,
            artifacts=outputs.artifacts,
            command=invocation.command,
        )
    deliver(located(record, model), display, output=outputs.output, reports=outputs.reports)
    return verdict_code(record)

"""shapprune verify"""

from pathlib import Path

import click

from onnx_shapprune.cli.exits import verdict_code
from onnx_shapprune.cli.options.display import Display, display_options
from onnx_shapprune.cli.options.outputs import Outputs, report_options
from onnx_shapprune.cli.options.search import Search, search_options
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.program import Invocation
from onnx_shapprune.cli.progress import progress_on_stderr
from onnx_shapprune.cli.results import deliver
from onnx_shapprune.cli.values import FILE, PairCommand
from onnx_shapprune.commands.table import VERIFY
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.report.subject import located


@click.command("verify", short_help="Compare a model with its repaired copy.", cls=PairCommand)
@click.argument("before", type=FILE, metavar="BEFORE.onnx")
@click.argument("after", type=FILE, metavar="AFTER.onnx")
@search_options
@report_options
@display_options
@click.pass_obj
def verify_command(
    invocation: Invocation,
    *,
    before: Path,
    after: Path,
    search: Search,
    outputs: Outputs,
    display: Display,
) -> int:
    """Compare a model with its repaired copy: what changed in the file, and whether a trigger is still found.

    Exits with 0 when nothing but units changed and no backdoor is found in the second file, 1 otherwise, 2 when it
    could not run, 3 when nothing can be told.

    \b
    Example:
      shapprune verify model.onnx clean.onnx --data pictures/
    """
    check_outputs(outputs.files, inputs=(before, after, *search.files))
    with progress_on_stderr(display) as progress:
        record = isolated(VERIFY, search.process, progress)(
            before,
            after,
            search.data,
            inputs=search.inputs,
            run=search.run,
            known_trigger=search.known_trigger,
            command=invocation.command,
        )
    deliver(located(record, after), display, reports=outputs.reports)
    return verdict_code(record)

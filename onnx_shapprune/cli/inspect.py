"""shapprune inspect"""

import json
from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options.display import Display, brief_display_options
from onnx_shapprune.cli.options.inputs import file_options
from onnx_shapprune.cli.options.process import process_options
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.values import FILE
from onnx_shapprune.commands.table import INSPECT
from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.report.graph import hostile, inspect_text
from onnx_shapprune.report.text import json_text, plain
from onnx_shapprune.settings import InputOptions


@click.command("inspect", cls=ConfiguredCommand)
@click.argument("models", type=FILE, nargs=-1, required=True, metavar="MODEL.onnx...")
@file_options
@brief_display_options
@process_options
def inspect_command(
    models: tuple[Path, ...], inputs: InputOptions, display: Display, process: ProcessLimits | None
) -> int:
    """Say what files are, without running them.

    Prints inputs, layout, classes, units per layer, operators without a gradient rule, and findings. Exits with 0 when
    every file is an image classifier that can be audited, with 1 when one is made to hurt whoever loads it, else with 2.
    As JSON, several files are a list.

    \b
    Example:
      shapprune inspect model.onnx -f json
    """
    records, code = [], exits.PASS
    for model in models:
        where = f"{model}: " if len(models) > 1 else ""
        try:
            record = isolated(INSPECT, process)(
                model,
                layout=inputs.layout,
                output=inputs.output,
                size=inputs.size,
                limits=inputs.limits,
                allow_root=inputs.allow_root,
            )
        except ShapPruneError as error:
            if len(models) == 1:
                raise
            reason, failed = str(error), exits.COULD_NOT_RUN
        else:
            records.append(record)
            reason = "" if record.readable else where + record.reason
            failed = exits.FAIL if hostile(record) else exits.COULD_NOT_RUN
        if reason:
            click.echo(f"error: {plain(reason, limit=600)}", err=True)
            code = exits.FAIL if exits.FAIL in (code, failed) else failed
    if display.as_json:
        texts = [json_text(r) for r in records]
        show(texts[0] if len(models) == 1 else json.dumps([json.loads(t) for t in texts], indent=2) + "\n")
    else:
        following = _following(models[0], inputs) if len(models) == 1 and records[0].readable else ()
        show(
            "\n".join(inspect_text(r, width=display.width, colour=display.colour, following=following) for r in records)
        )
    return code


def _following(model: Path, inputs: InputOptions) -> tuple[str, ...]:
    """The audit of what was looked at, read in the same way."""
    from onnx_shapprune.fleet.alone import options_of

    return ("shapprune", "audit", str(model), "--data", "pictures/", *options_of(inputs))

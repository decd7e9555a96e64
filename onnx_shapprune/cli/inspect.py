"""shapprune inspect"""

import json
import shutil
from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options import (
    colour_option,
    format_option,
    input_size_option,
    layout_option,
    output_name_option,
)
from onnx_shapprune.cli.streams import show, wants_colour
from onnx_shapprune.cli.values import FILE
from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.report.terminal import inspect_text
from onnx_shapprune.report.text import json_text, plain


@click.command("inspect", cls=ConfiguredCommand)
@click.argument("models", type=FILE, nargs=-1, required=True, metavar="MODEL.onnx...")
@layout_option
@input_size_option
@output_name_option
@format_option
@colour_option
def inspect_command(
    models: tuple[Path, ...], layout: str, input_size: tuple[int, int] | None, output_name: str | None, format_: str,
    color: str,
) -> int:  # fmt: skip
    """Say what files are, without running them.

    Prints inputs, layout, classes, units per layer, operators without a gradient rule, and findings. Exits with 0 when
    every file is an image classifier that can be audited, with 2 otherwise. As JSON, several files are a list.

    \b
    Example:
      shapprune inspect model.onnx -f json
    """
    from onnx_shapprune.inspection import inspect

    records, code = [], exits.PASS
    for model in models:
        try:
            record = inspect(model, layout=layout, output=output_name, size=input_size)
        except ShapPruneError as error:
            if len(models) == 1:
                raise
            reason = str(error)
        else:
            records.append(record)
            where = f"{model}: " if len(models) > 1 else ""
            reason = "" if record.readable else where + record.reason
        if reason:
            click.echo(f"error: {plain(reason, limit=600)}", err=True)
            code = exits.COULD_NOT_RUN
    if format_ == "json":
        texts = [json_text(r) for r in records]
        show(texts[0] if len(models) == 1 else json.dumps([json.loads(t) for t in texts], indent=2) + "\n")
    else:
        width = shutil.get_terminal_size((80, 24)).columns
        show("\n".join(inspect_text(r, width=width, colour=wants_colour(color)) for r in records))
    return code

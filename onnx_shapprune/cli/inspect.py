"""shapprune inspect"""

import shutil
from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.options import (
    colour_option,
    file_options,
    format_option,
    layout_option,
    model_argument,
    output_name_option,
    process_options,
)
from onnx_shapprune.cli.streams import show, wants_colour
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.report.terminal import hostile, inspect_text
from onnx_shapprune.report.text import json_text, plain


@click.command("inspect")
@model_argument
@layout_option
@output_name_option
@file_options
@format_option
@colour_option
@process_options
def inspect_command(
    model: Path, layout: str, output_name: str | None, limits: FileLimits, allow_root: Path | None, format_: str, color: str,
    process: ProcessLimits | None,
) -> int:  # fmt: skip
    """Say what a file is, without running it.

    Prints inputs, layout, classes, units per layer, operators without a gradient rule, and findings. Exits with 0 when
    the file is an image classifier that can be audited, with 1 when it is made to hurt whoever loads it, else with 2.

    \b
    Example:
      shapprune inspect model.onnx -f json
    """
    record = isolated("inspect", process)(
        model, layout=layout, output=output_name, limits=limits, allow_root=allow_root
    )
    if format_ == "json":
        show(json_text(record))
    else:
        width = shutil.get_terminal_size((80, 24)).columns
        show(inspect_text(record, width=width, colour=wants_colour(color)))
    if record.readable:
        return exits.PASS
    click.echo(f"error: {plain(record.reason, limit=600)}", err=True)
    return exits.FAIL if hostile(record) else exits.COULD_NOT_RUN

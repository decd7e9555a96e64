"""shapprune mask"""

import shutil
from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options import (
    colour_option,
    file_options,
    format_option,
    input_size_option,
    layout_option,
    model_argument,
    output_name_option,
    process_options,
)
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.streams import show, wants_colour
from onnx_shapprune.cli.values import FILE
from onnx_shapprune.commands.table import MASK
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.report.terminal import mask_text
from onnx_shapprune.report.text import json_text
from onnx_shapprune.settings import InputOptions


@click.command("mask", cls=ConfiguredCommand)
@model_argument
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    metavar="MASKED.onnx",
    help="Where the graph with mask inputs goes. Never the input.",
)
@layout_option
@input_size_option
@output_name_option
@file_options
@format_option
@colour_option
@process_options
def mask_command(
    model: Path,
    output: Path,
    layout: str,
    input_size: tuple[int, int] | None,
    output_name: str | None,
    limits: FileLimits,
    allow_root: Path | None,
    format_: str,
    color: str,
    process: ProcessLimits | None,
) -> int:
    """Write the graph that the Shapley game is played on, with a mask input for every layer.

    To look at it in a viewer, or to play the game from another language: every mask is 1 unless it is fed, and a 0
    switches a channel off just as the repaired file would. The graph's metadata says which input is which layer.

    \b
    Example:
      shapprune mask model.onnx -o masked.onnx
    """
    check_outputs([output], inputs=[model])
    inputs = InputOptions(layout=layout, output=output_name, size=input_size, limits=limits, allow_root=allow_root)
    record = isolated(MASK, process)(model, output=output, inputs=inputs, device="cpu")
    if format_ == "json":
        show(json_text(record))
    else:
        width = shutil.get_terminal_size((80, 24)).columns
        show(mask_text(record, width=width, colour=wants_colour(color)))
    return exits.PASS

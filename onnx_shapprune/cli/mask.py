"""shapprune mask"""

from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options.display import Display, brief_display_options
from onnx_shapprune.cli.options.inputs import file_options
from onnx_shapprune.cli.options.outputs import model_argument
from onnx_shapprune.cli.options.process import process_options
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.values import FILE
from onnx_shapprune.commands.table import MASK
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.report.graph import mask_text
from onnx_shapprune.report.text import json_text
from onnx_shapprune.settings import InputOptions


@click.command("mask", short_help="Write a model's graph with a mask input for every layer.", cls=ConfiguredCommand)
@model_argument
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    metavar="MASKED.onnx",
    help="Where the graph with mask inputs goes. Never the input.",
)
@file_options
@brief_display_options
@process_options
def mask_command(
    model: Path, output: Path, inputs: InputOptions, display: Display, process: ProcessLimits | None
) -> int:
    """Write the graph that the Shapley game is played on, with a mask input for every layer.

    To look at it in a viewer, or to play the game from another language: every mask is 1 unless it is fed, and a 0
    switches a channel off just as the repaired file would. The graph's metadata says which input is which layer.

    \b
    Example:
      shapprune mask model.onnx -o masked.onnx
    """
    check_outputs([output], inputs=[model])
    record = isolated(MASK, process)(model, output=output, inputs=inputs, device="cpu")
    if display.as_json:
        show(json_text(record))
    else:
        show(mask_text(record, width=display.width, colour=display.colour))
    return exits.PASS

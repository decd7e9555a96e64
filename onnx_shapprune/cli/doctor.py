"""shapprune doctor"""

import shutil

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options import colour_option, format_option
from onnx_shapprune.cli.streams import show, wants_colour


@click.command("doctor", cls=ConfiguredCommand)
@format_option
@colour_option
def doctor_command(format_: str, color: str) -> int:
    """Say whether audits can run here: versions, the wheels of onnxruntime, providers that really run a node.

    Exits with 0 when they can, with 2 when something is in the way; a GPU that is not there is not.

    \b
    Example:
      shapprune doctor
    """
    from onnx_shapprune.commands.doctor import examine_installation
    from onnx_shapprune.report.terminal import installation_text
    from onnx_shapprune.report.text import json_text

    record = examine_installation()
    if format_ == "json":
        show(json_text(record))
    else:
        width = shutil.get_terminal_size((80, 24)).columns
        show(installation_text(record, width=width, colour=wants_colour(color)))
    return exits.PASS if record.fit else exits.COULD_NOT_RUN

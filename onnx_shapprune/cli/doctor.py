"""shapprune doctor"""

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options.display import Display, brief_display_options
from onnx_shapprune.cli.streams import show


@click.command("doctor", short_help="Say whether audits can run here.", cls=ConfiguredCommand)
@brief_display_options
def doctor_command(display: Display) -> int:
    """Say whether audits can run here: versions, the wheels of onnxruntime, providers that really run a node.

    Exits with 0 when they can, with 2 when something is in the way; a GPU that is not there is not.

    \b
    Example:
      shapprune doctor
    """
    from onnx_shapprune.commands.doctor import examine_installation
    from onnx_shapprune.report.installation import installation_text
    from onnx_shapprune.report.text import json_text

    record = examine_installation()
    if display.as_json:
        show(json_text(record))
    else:
        show(installation_text(record, width=display.width, colour=display.colour))
    return exits.PASS if record.fit else exits.COULD_NOT_RUN

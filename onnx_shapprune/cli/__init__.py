"""The command line: parses, calls the pipeline, writes files, turns a verdict into an exit code.

stdout carries the result only; everything else goes to stderr.
"""

import click

from onnx_shapprune.cli.audit import audit_command
from onnx_shapprune.cli.batch import batch_command
from onnx_shapprune.cli.calibrate import calibrate_command
from onnx_shapprune.cli.channels import values_command
from onnx_shapprune.cli.demo import demo_command
from onnx_shapprune.cli.docs import docs_command
from onnx_shapprune.cli.doctor import doctor_command
from onnx_shapprune.cli.fit import fit_command
from onnx_shapprune.cli.gate import gate_command
from onnx_shapprune.cli.inspect import inspect_command
from onnx_shapprune.cli.mask import mask_command
from onnx_shapprune.cli.program import Program
from onnx_shapprune.cli.report import report_command
from onnx_shapprune.cli.rules import rules_command
from onnx_shapprune.cli.sanitize import sanitize_command
from onnx_shapprune.cli.schema import schema_command
from onnx_shapprune.cli.verify import verify_command
from onnx_shapprune.version import __version__


@click.group(
    cls=Program,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 pass, 1 backdoor found or not repaired, 2 could not run, 3 inconclusive.",
)
@click.version_option(__version__, prog_name="shapprune")
def shapprune() -> None:
    """Audit ONNX image classifiers for backdoors, and repair what is found."""


for command in (
    inspect_command,
    fit_command,
    audit_command,
    sanitize_command,
    verify_command,
    values_command,
    gate_command,
    report_command,
    mask_command,
    batch_command,
    calibrate_command,
    demo_command,
    rules_command,
    schema_command,
    doctor_command,
    docs_command,
):
    shapprune.add_command(command)


def main() -> None:
    """Entry point of the command `shapprune`; always ends in SystemExit."""
    shapprune.main(prog_name="shapprune")

"""shapprune report"""

from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.results import today
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.values import FILE, REPORT_FORMATS
from onnx_shapprune.files.writing import write_atomically


@click.command("report", cls=ConfiguredCommand)
@click.argument("evidence", type=FILE, metavar="REPORT.json")
@click.option("-f", "--to", "format_", type=click.Choice(REPORT_FORMATS), required=True, help="What to write.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Where it goes.  [default: stdout]")
@click.option(
    "--policy",
    type=FILE,
    metavar="POLICY.toml",
    help="By which the verdict of the report is made.  [default: see shapprune schema policy]",
)
@click.option(
    "--model",
    type=FILE,
    metavar="MODEL.onnx",
    help="The file to be deployed: hashed, and refused where the report is about other bytes.",
)
def report_command(evidence: Path, format_: str, output: Path | None, policy: Path | None, model: Path | None) -> int:
    """Turn a stored report into a page to read, or into a format for other tools; runs no model.

    The verdict in it is that of a policy, as in shapprune gate. Exits with 0 whatever the verdict is: to decide is
    gate's part, which also writes reports (--report html=report.html).

    \b
    Examples:
      shapprune report report.json -f html -o report.html
      shapprune report report.json -f sarif -o results.sarif --policy policy.toml
    """
    from onnx_shapprune.gate.evidence import check_model, load_record
    from onnx_shapprune.gate.judge import judge
    from onnx_shapprune.gate.policy import load_policy
    from onnx_shapprune.report.formats import FORMATS

    check_outputs([output], inputs=(evidence, policy, model))
    wanted, record = load_policy(policy), load_record(evidence)
    if model is not None:
        check_model(record, model)
    text = FORMATS[format_](record, judge(record, wanted, today=today(), model_checked=model is not None))
    if output is None:
        show(text)
    else:
        write_atomically(output, text.encode("utf-8", "replace"))
    return exits.PASS

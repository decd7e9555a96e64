"""shapprune report"""

from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options.held import Held, held_options
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.results import today
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.values import FILE, REPORT_FORMATS
from onnx_shapprune.files.writing import write_atomically


@click.command("report", short_help="Turn a stored report into a page or another format.", cls=ConfiguredCommand)
@click.argument("evidence", type=FILE, metavar="REPORT.json")
@click.option("-f", "--to", "format_", type=click.Choice(REPORT_FORMATS), required=True, help="What to write.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Where it goes.  [default: stdout]")
@held_options
def report_command(evidence: Path, format_: str, output: Path | None, held: Held) -> int:
    """Turn a stored report into a page to read, or into a format for other tools; runs no model.

    The verdict in it is that of a policy, as in shapprune gate. Exits with 0 whatever the verdict is: to decide is
    gate's part, which also writes reports (--report html=report.html).

    \b
    Examples:
      shapprune report report.json -f html -o report.html
      shapprune report report.json -f sarif -o results.sarif --policy policy.toml
    """
    from onnx_shapprune.gate.baseline import check_baseline, load_baseline
    from onnx_shapprune.gate.evidence import check_model, load_record
    from onnx_shapprune.gate.judge import judge
    from onnx_shapprune.gate.policy import load_policy
    from onnx_shapprune.report.formats import FORMATS
    from onnx_shapprune.report.subject import deployed

    check_outputs([output], inputs=(evidence, *held.files))
    wanted, record = load_policy(held.policy), load_record(evidence)
    if held.model is not None:
        check_model(record, held.model)
    baseline = None if held.baseline is None else load_baseline(held.baseline, wanted)
    if baseline is not None:
        check_baseline(baseline, record)
    judgement = judge(record, wanted, today=today(), model_checked=held.model is not None, baseline=baseline)
    text = FORMATS[format_](deployed(record, held.model), judgement)
    if output is None:
        show(text)
    else:
        write_atomically(output, text.encode("utf-8", "replace"))
    return exits.PASS

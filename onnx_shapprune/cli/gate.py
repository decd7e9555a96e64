"""shapprune gate"""

from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.options.display import Display, display_options
from onnx_shapprune.cli.options.held import Held, held_options
from onnx_shapprune.cli.options.outputs import Outputs, output_options
from onnx_shapprune.cli.options.search import Search, gate_search_options
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.program import Invocation
from onnx_shapprune.cli.progress import progress_on_stderr
from onnx_shapprune.cli.results import (
    refusal_written,
    show_judgement,
    shown_whatever_happens,
    today,
    write_record,
    write_reports,
)
from onnx_shapprune.cli.snapshot import in_folder
from onnx_shapprune.cli.values import FILE, PairCommand
from onnx_shapprune.commands.table import AUDIT
from onnx_shapprune.errors import EvidenceError
from onnx_shapprune.files.writing import same_file
from onnx_shapprune.isolation.run import isolated
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.report.subject import deployed, located

# What can be said about a report; everything else says how a model is to be audited.
ABOUT_REPORTS = {
    "evidence",
    "policy",
    "model",
    "baseline",
    "reports",
    "exit_zero",
    "format_",
    "quiet",
    "verbose",
    "color",
    "progress",
    "config",
    "isolated",
}


@click.command("gate", cls=PairCommand)
@click.argument("evidence", type=FILE, metavar="REPORT.json|-|MODEL.onnx")
@held_options
@gate_search_options
@output_options("REPORT.json", "Write the record here as JSON; only where a model is audited.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 instead of 1; 2 and 3 stay what they are.")
@display_options
@click.pass_obj
def gate_command(
    invocation: Invocation,
    *,
    evidence: Path,
    held: Held,
    search: Search,
    outputs: Outputs,
    exit_zero: bool,
    display: Display,
) -> int:
    """Hold a report against a policy; runs no model. Given a model and pictures instead, audit first. "-" reads the report
    from standard input.

    The report of sanitize is judged as the file that was written, that of verify as the second file. Exits with 0 when
    the policy is met, 1 when it is not, 2 when it could not run, 3 when nothing can be told. Waivers, and what a baseline
    lets pass, are always shown.

    \b
    Examples:
      shapprune gate report.json --policy policy.toml --model model.onnx
      shapprune gate report.json --policy policy.toml --baseline main/report.json
      shapprune gate model.onnx --data pictures/ --policy policy.toml -o report.json
    """
    from onnx_shapprune.gate.baseline import check_baseline, load_baseline
    from onnx_shapprune.gate.evidence import check_model, load_record
    from onnx_shapprune.gate.judge import judge
    from onnx_shapprune.gate.policy import load_policy

    context, wanted = click.get_current_context(), load_policy(held.policy)
    if held.baseline is not None and same_file(held.baseline, evidence):
        raise click.UsageError("the baseline is the report itself: nothing would ever be new", context)
    baseline = None if held.baseline is None else load_baseline(held.baseline, wanted)
    evidence, search = in_folder(evidence, search)
    audited = evidence.suffix.lower() == ".onnx"
    record: AuditRecord | VerifyRecord
    if audited:
        _refuse(context, {"model"}, "the model is given already")
        if context.get_parameter_source("data") is ParameterSource.DEFAULT:
            raise click.UsageError(f"{evidence} is a model: give its report, or --data to audit it now", context)
        check_outputs(outputs.files, inputs=(evidence, *held.files, *search.files))
        with (
            refusal_written(evidence, search, invocation.command, output=outputs.output, reports=outputs.reports),
            progress_on_stderr(display) as progress,
        ):
            record = isolated(AUDIT, search.process, progress)(
                evidence, search.data, inputs=search.inputs, run=search.run, command=invocation.command
            )
        record = located(record, evidence)
        check_model(record, evidence)  # the file may have been exchanged while its audit ran
    else:
        audit_only = {p.name for p in context.command.params if p.name} - ABOUT_REPORTS
        _refuse(context, audit_only, "a report is judged as it is; thresholds belong into the policy")
        check_outputs(outputs.files, inputs=(evidence, *held.files))
        record = load_record(evidence)
        if held.model is not None:
            check_model(record, held.model)
    if baseline is not None:
        try:
            check_baseline(baseline, record)
        except EvidenceError:
            write_record(record, outputs.output if audited else None)  # what was found is not lost
            raise
    checked = audited or held.model is not None
    judgement = judge(record, wanted, today=today(), model_checked=checked, baseline=baseline)
    with shown_whatever_happens(lambda: show_judgement(judgement, display)) as write:
        write(partial(write_record, record, outputs.output if audited else None))
        for report in outputs.reports:
            write(partial(write_reports, deployed(record, held.model), (report,), judgement))
    code = exits.VERDICTS[judgement.verdict]
    if exit_zero and code == exits.FAIL:
        click.echo("note: exit code 1 is given as 0 (--exit-zero)", err=True)
        return exits.PASS
    return code


def _refuse(context: click.Context, names: set[str], why: str) -> None:
    """Raise UsageError where one of these options was typed."""
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[-1]} cannot be used here: {why}", context)

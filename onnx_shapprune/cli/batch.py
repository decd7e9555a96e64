"""shapprune batch"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options.declare import bundled, gathered, option
from onnx_shapprune.cli.options.display import Display, display_options
from onnx_shapprune.cli.options.inputs import input_options
from onnx_shapprune.cli.options.process import limit_options
from onnx_shapprune.cli.options.running import run_options
from onnx_shapprune.cli.options.search import OPTIONAL_DATA, Search
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.program import Invocation
from onnx_shapprune.cli.progress import ProgressReport, clock_text, progress_on_stderr
from onnx_shapprune.cli.results import shown_whatever_happens, today
from onnx_shapprune.cli.sections import RESULTS, WHERE
from onnx_shapprune.cli.snapshot import given_inputs
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.threads import capped
from onnx_shapprune.cli.values import FILE, Report, Reports
from onnx_shapprune.errors import OutputError
from onnx_shapprune.files.writing import write_atomically
from onnx_shapprune.report.text import plain
from onnx_shapprune.runtime.cores import usable_cores
from onnx_shapprune.settings import RunOptions

if TYPE_CHECKING:
    from onnx_shapprune.fleet.batch import Step
    from onnx_shapprune.fleet.results import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to become of the models of a batch."""

    output: Path
    """Folder for the results."""
    policy: Path | None
    """What decides on each report; None: the default policy."""
    sanitize: bool
    """Whether models are repaired too."""
    resume: bool
    """Whether earlier results for the same bytes and settings are taken over."""
    reports: Reports
    """Reports of the whole batch, each with its format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Where the audits of a batch run."""

    shard: str | None
    """Which part of the list; None: all of it."""
    jobs: int
    """Models at a time on this machine."""
    scheduler: str | None
    """Of a Dask cluster that runs them instead."""


# Those of fleet/reports.py, which is not loaded to print a help text; a test compares the two.
BATCH_REPORTS = ("json", "sarif", "junit")
WANTED = (
    option(
        RESULTS,
        "-o",
        "--output",
        type=FILE,
        required=True,
        metavar="RESULTS/",
        help="Folder for the results: a folder per model, index.jsonl, index.html, summary.csv.",
    ),
    option(RESULTS, "--sanitize", is_flag=True, help="Repair the models too, into RESULTS/<sha256>/sanitized.onnx."),
    option(
        RESULTS,
        "--policy",
        type=FILE,
        metavar="POLICY.toml",
        help="What decides on each report.  [default: see shapprune schema policy]",
    ),
    option(
        RESULTS,
        "--resume",
        is_flag=True,
        help="Take over what RESULTS/ holds for the same bytes and settings; the policy decides anew.",
    ),
    option(
        RESULTS,
        "--report",
        "reports",
        type=Report(BATCH_REPORTS),
        multiple=True,
        help=f"Write a report of all models here too; can be given several times. FORMAT: {', '.join(BATCH_REPORTS)}.",
    ),
)
SPREAD = (
    option(
        WHERE,
        "--shard",
        metavar="I/N|auto",
        help="Only every N-th model, from the I-th on; auto: as an array of Slurm or an indexed job of Kubernetes says.",
    ),
    option(
        WHERE,
        "--jobs",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="Models at a time on this machine, which share its cores.",
    ),
    option(
        WHERE,
        "--scheduler",
        metavar="URL",
        help="Scheduler of a Dask cluster that runs the audits instead, tcp://host:8786; with --device cuda, on "
        "workers with the resource GPU.",
    ),
)


@click.command("batch", short_help="Audit many models, each in a process of its own.", cls=ConfiguredCommand)
@click.argument("models", type=FILE, metavar="LIST|FOLDER|PATTERN")
@bundled("wanted", Wanted, *WANTED)
@bundled("spread", Spread, *SPREAD)
@OPTIONAL_DATA
@input_options
@run_options
@limit_options
@gathered("search", Search, "data", "inputs", "run", "process")
@display_options
@click.pass_obj
def batch_command(
    invocation: Invocation, *, models: Path, wanted: Wanted, spread: Spread, search: Search, display: Display
) -> int:
    """Audit many models, each in a process of its own: all .onnx files of a folder, with what config.json,
    preprocessor_config.json and MLmodel say beside each, or those of a list.

    A list has one path per line, or is .csv or .jsonl with a column model and, where models differ, data, mean, std and
    other options of the input; its paths are relative to it. Exits with 1 when a model fails, else 2 when one could not
    run, else 3 when nothing can be told of one, else 0; a list of nothing is 2. Files that are no picture classifiers are
    listed apart and count for nothing, unless there is nothing else: then 2.

    \b
    Examples:
      shapprune batch models/ -o results/ --data pictures/ --jobs 4
      shapprune batch models.csv -o results/ --sanitize --resume
      shapprune batch models.csv -o results/ --scheduler tcp://host:8786 --device cuda
    """
    from onnx_shapprune.fleet.batch import BatchOptions, batch
    from onnx_shapprune.fleet.engine import dask_executor, local_executor
    from onnx_shapprune.fleet.folder import check_apart
    from onnx_shapprune.fleet.listing import NO_DATA, read_entries
    from onnx_shapprune.fleet.overview import write_overview
    from onnx_shapprune.fleet.reports import BATCH_FORMATS
    from onnx_shapprune.fleet.results import OUTCOMES, ResultsFolder
    from onnx_shapprune.fleet.shard import parse_shard, take
    from onnx_shapprune.fleet.summary import worst
    from onnx_shapprune.gate.policy import load_policy

    output, data = wanted.output, search.data
    check_outputs([path for _, path in wanted.reports], inputs=(models, wanted.policy, *search.files))
    given = click.get_current_context().get_parameter_source("data") is not ParameterSource.DEFAULT
    entries = read_entries(
        models,
        data=NO_DATA if given and data is None else data,
        inputs=search.inputs,
        given=given_inputs(),
        leave_out=output,
    )
    if described := sum(bool(entry.inputs.found) for entry in entries):
        click.echo(
            f"note: {described} of {len(entries)} models have settings in files beside them; their records say which",
            err=True,
        )
    if spread.shard is not None:
        entries = take(entries, parse_shard(spread.shard))
    check_apart(entries, output)
    results = ResultsFolder(output, load_policy(wanted.policy), today())
    assert search.process is not None  # there is no --in-process here
    run = _threaded(search.run, spread)
    options = BatchOptions(
        sanitize=wanted.sanitize, resume=wanted.resume, limits=search.process, invocation=invocation.command, run=run
    )
    if spread.scheduler:
        executors = dask_executor(spread.scheduler, gpu=run.device.startswith("cuda"))
    else:
        executors = local_executor(spread.jobs)
    with executors as executor, progress_on_stderr(display) as report:
        done = batch(entries, results, executor, options, progress=BatchProgress(report, verbose=display.verbose))
    outcome = worst(done)
    try:
        write_overview(output)
    except OutputError as error:
        click.echo(f"error: {plain(str(error), limit=400)}", err=True)
        outcome = min(outcome, "could not run", key=OUTCOMES.index)
    with shown_whatever_happens(partial(_show, done, display)) as write:
        for name, path in wanted.reports:
            write(partial(_write_report, BATCH_FORMATS[name], path, output, done))
    return exits.VERDICTS.get(outcome, exits.COULD_NOT_RUN)


def _write_report(
    make: "Callable[[Path, Sequence[Result]], str]", path: Path, output: Path, done: "Sequence[Result]"
) -> None:
    write_atomically(path, make(output, done).encode("utf-8", "replace"))


def _show(done: "Sequence[Result]", display: Display) -> None:
    from onnx_shapprune.fleet.summary import summary_json, summary_line, summary_text

    if display.as_json:
        show(summary_json(done))
    elif display.quiet:
        show(summary_line(done, colour=display.colour))
    else:
        show(summary_text(done, width=display.width, colour=display.colour))


def _threaded(run: RunOptions, spread: Spread) -> RunOptions:
    """Threads of one audit: those that were asked for, else one on a cluster, and here a fair share of the cores."""
    if spread.scheduler:
        return replace(run, threads=run.threads or 1)
    return capped(replace(run, threads=run.threads or max(1, usable_cores() // spread.jobs)))


class BatchProgress:
    """Steps of a batch for a progress report: all models as a bar that names what the last one heard of is at, or a line
    for each model that is done, with rate and time left; every step where `verbose`.
    """

    def __init__(self, report: ProgressReport, *, verbose: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._report, self._verbose, self._clock = report, verbose, clock
        self._began = clock()
        self._told = False  # that earlier results are not taken over, which is said once
        report("models", 0, 0, "")

    def __call__(self, step: "Step") -> None:
        note = f"{Path(step.model).name}: {step.state}"  # short, for a bar
        if self._report.mode == "lines":
            news, self._told = step.again and not self._told, self._told or step.again
            if not (step.over or news or self._verbose):
                return
            # Whole paths: in folders of snapshots every other file is called model.onnx.
            note = f"{step.done}/{step.total} {step.model}: {step.state}{self._pace(step) if step.over else ''}"
        self._report("models", step.done, step.total, note, costly=(step.audited, step.left))

    def _pace(self, step: "Step") -> str:
        """Audits an hour, and how long the rest takes: results that are taken over or shared cost nothing."""
        seconds = self._clock() - self._began
        if not step.audited or not seconds:
            return ""
        left = step.left * seconds / step.audited
        return f", {3600 * step.audited / seconds:.0f} an hour" + (f", {clock_text(left)} left" if left else "")

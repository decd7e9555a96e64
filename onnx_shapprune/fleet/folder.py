"""audit_batch(): many models, from a folder, a pattern or a list, into a folder of results."""

import datetime
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from pathlib import Path

from onnx_shapprune.errors import OutputError
from onnx_shapprune.files.writing import same_file
from onnx_shapprune.fleet.batch import BatchOptions, Step, batch
from onnx_shapprune.fleet.engine import local_executor
from onnx_shapprune.fleet.listing import Entry, read_entries
from onnx_shapprune.fleet.overview import write_overview
from onnx_shapprune.fleet.results import Result, ResultsFolder
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.settings import InputOptions


def audit_batch(
    models: Path | str,
    output: Path | str,
    *,
    data: Path | str | None = None,
    inputs: InputOptions | None = None,
    options: BatchOptions | None = None,
    policy: Path | str | None = None,
    executor: Executor | None = None,
    progress: Callable[[Step], None] | None = None,
) -> tuple[Result, ...]:
    """Audit models, each in a child process of its own; results in the order of the list, and as files in `output`.

    models: a folder, a pattern, or a list as for `shapprune batch`; data: pictures for those of which the list names none,
    "none": drawn out of the models. policy: a TOML file, None: the default one. executor: where the audits run, None: one
    after another. Raises ShapPruneError before anything has run; what a model does is a result.
    """
    output = Path(output)
    entries = read_entries(Path(models), data=data, inputs=inputs, leave_out=output)
    check_apart(entries, output)
    day = datetime.datetime.now(datetime.UTC).date()
    folder = ResultsFolder(output, load_policy(None if policy is None else Path(policy)), day)
    with nullcontext(executor) if executor else local_executor(1) as pool:
        done = batch(entries, folder, pool, options or BatchOptions(), progress=progress)
    write_overview(output)
    return done


def check_apart(entries: Sequence[Entry], output: Path) -> None:
    """Raise OutputError where results would lie among the models that are to be audited."""
    if any(same_file(output, entry.path.parent) for entry in entries):
        raise OutputError(f"{output} holds models that are to be audited: choose another folder for the results")

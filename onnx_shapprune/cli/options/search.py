"""With what one model is searched; arrives as `search`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from onnx_shapprune.cli.options.declare import Command, Declared, Decorator, gathered, option
from onnx_shapprune.cli.options.inputs import input_options
from onnx_shapprune.cli.options.process import process_options
from onnx_shapprune.cli.options.running import run_options
from onnx_shapprune.cli.sections import DATA
from onnx_shapprune.cli.threads import capped
from onnx_shapprune.cli.values import FILE
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.settings import InputOptions, RunOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What every audit is given beside its model."""

    data: Path | None
    """Clean pictures; None: they are drawn out of the model."""
    inputs: InputOptions
    """How they become the model's input."""
    run: RunOptions
    """How much is searched, and on what."""
    process: ProcessLimits | None
    """What the child process may use; None: the work is done in this process."""
    known_trigger: tuple[Path, ...] = ()
    """Files of a trigger that is looked at instead of searching one."""

    @property
    def files(self) -> tuple[Path | None, ...]:
        """Everything that is read beside the model, and must not be written to."""
        of_inputs = self.inputs.class_names, self.inputs.labels, self.inputs.unlabelled
        return (self.data, *of_inputs, self.run.calibration, *self.known_trigger)


def _no_data(context: click.Context, parameter: click.Parameter, value: Path) -> Path | None:
    return None if str(value) == "none" else value


def _data(*, required: bool) -> Declared:
    return option(
        DATA,
        "--data",
        type=FILE,
        required=required,
        metavar="PICTURES|none",
        callback=_no_data,
        help="Clean pictures: a folder with one sub-folder per class, a flat folder (labels are then the model's own "
        "answers), or an .npz with x uint8 [n, h, w, c] and, if known, y. One picture per class is enough from ten classes "
        "on; of fewer give ten pictures. none: they are drawn out of the model.",
    )


REQUIRED_DATA, OPTIONAL_DATA = _data(required=True), _data(required=False)
KNOWN_TRIGGER = option(
    DATA,
    "--known-trigger",
    multiple=True,
    type=FILE,
    metavar="FILE...",
    help="Skip the search and take this trigger: one .npz with mask (0..1) and pattern (0..255), or a mask picture "
    "and a pattern picture in the model's size: --known-trigger mask.png pattern.png",
)


def _search(**values: Any) -> Search:
    return Search(**{**values, "run": capped(values["run"])})


def _with(command: Command, own: Sequence[Declared]) -> Command:
    decorators: tuple[Decorator, ...] = (*own, input_options, run_options, process_options)
    names = [each.name for each in own]
    command = gathered("search", _search, *names, "inputs", "run", "process")(command)
    for each in reversed(decorators):
        command = each(command)
    return command


def search_options(command: Command) -> Command:
    """Of commands that search a model."""
    return _with(command, (REQUIRED_DATA, KNOWN_TRIGGER))


def gate_search_options(command: Command) -> Command:
    """Of gate, which audits only where pictures are given."""
    return _with(command, (OPTIONAL_DATA,))

"""The model that a command is about, and where its results go."""

from dataclasses import dataclass
from pathlib import Path

import click

from onnx_shapprune.cli.options.declare import Command, Decorator, bundled, option
from onnx_shapprune.cli.sections import RESULTS
from onnx_shapprune.cli.values import FILE, REPORT_FORMATS, Report, Reports


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Files that a command is to write."""

    output: Path | None = None
    """What -o names: a record, or the file that was made."""
    reports: Reports = ()
    """Reports of the record, each with its format."""
    artifacts: Path | None = None
    """Folder for triggers."""

    @property
    def files(self) -> list[Path | None]:
        """All of them but the folder."""
        return [self.output, *(path for _, path in self.reports)]


REPORT = option(
    RESULTS,
    "--report",
    "reports",
    type=Report(),
    multiple=True,
    help=f"Write a report here too; can be given several times. FORMAT: {', '.join(REPORT_FORMATS)}; without one the "
    "record as JSON.",
)
ARTIFACTS = option(
    RESULTS,
    "--artifacts",
    type=FILE,
    metavar="DIR",
    help="Folder for the triggers found: mask, pattern and three triggered pictures as PNG, and an .npz.",
)
report_options = bundled("outputs", Outputs, REPORT)


def output_options(metavar: str, about: str, *, artifacts: bool = False) -> Decorator:
    """-o with this help and --report, and --artifacts where asked for; arrive as `outputs`."""
    output = option(RESULTS, "-o", "--output", type=FILE, metavar=metavar, help=about)
    return bundled("outputs", Outputs, output, REPORT, *([ARTIFACTS] if artifacts else []))


def model_argument(command: Command) -> Command:
    """The file that is worked on; arrives as `model`."""
    return click.argument("model", type=FILE, metavar="MODEL.onnx")(command)

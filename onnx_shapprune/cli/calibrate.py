"""shapprune calibrate"""

from pathlib import Path

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.options.display import Display, display_options
from onnx_shapprune.cli.options.inputs import input_options
from onnx_shapprune.cli.options.running import run_options
from onnx_shapprune.cli.options.search import REQUIRED_DATA
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.progress import progress_on_stderr
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.threads import capped
from onnx_shapprune.cli.values import FILE, PairCommand
from onnx_shapprune.errors import ModelError
from onnx_shapprune.files.writing import write_atomically
from onnx_shapprune.settings import InputOptions, RunOptions


@click.command("calibrate", short_help="Learn from clean models what an audit finds in them.", cls=PairCommand)
@click.argument("models", type=FILE, metavar="CLEAN_MODELS/")
@REQUIRED_DATA
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    metavar="CALIBRATION.json",
    help="Where the calibration goes; audits take it with --calibration.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Audits of every model, with as many seeds; its largest value counts.",
)
@display_options
@input_options
@run_options
def calibrate_command(
    *,
    models: Path,
    data: Path | None,
    output: Path,
    seeds: int,
    display: Display,
    inputs: InputOptions,
    run: RunOptions,
) -> int:
    """Learn from models that are known to be clean what the searches find without any backdoor.

    All .onnx files of the folder are audited with the same pictures and preprocessing; at least 8 different models are
    needed.

    \b
    Example:
      shapprune calibrate clean_models/ --data pictures/ -o calibration.json
    """
    from onnx_shapprune.commands.calibrate import calibrate
    from onnx_shapprune.detect.calibration import calibration_text
    from onnx_shapprune.report.text import plain

    files = sorted(models.glob("*.onnx")) if models.is_dir() else []
    if not files:
        raise ModelError(f"{models} is no folder with .onnx files")
    check_outputs([output], inputs=(*files, data, inputs.class_names, inputs.labels, run.calibration))
    with progress_on_stderr(display) as progress:
        result = calibrate(files, data, inputs=inputs, run=capped(run), seeds=seeds, progress=progress)
    made = result.calibration
    write_atomically(output, calibration_text(made).encode())
    for name in result.repeated:
        click.echo(f"note: {plain(name)} holds the same model as another file and is left out", err=True)
    for line in result.accused:
        click.echo(f"warning: by the packaged calibration this model is not clean: {plain(line)}", err=True)
    if display.as_json:
        show(calibration_text(made))
    elif not display.quiet:
        show(f"{made.about.split(';')[0]}: {output} (sha256 {made.digest})\n")
    return exits.PASS

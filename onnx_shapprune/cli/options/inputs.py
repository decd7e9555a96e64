"""How a file is read and how pictures become its input; arrives as `inputs`."""

from dataclasses import asdict
from typing import Any

import click

from onnx_shapprune.cli.options.declare import bundled, option
from onnx_shapprune.cli.sections import DATA, LIMITS
from onnx_shapprune.cli.values import FILE, Numbers
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.pictures.files import RESIZES
from onnx_shapprune.settings import InputOptions


def _limits(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> FileLimits:
    limits = asdict(FileLimits())
    for text in given:
        name, _, number = text.partition("=")
        if (field := name.replace("-", "_")) not in limits or not number.isdecimal() or len(number) > 12:
            raise click.BadParameter(
                f"{text[:40]!r} is no limit: use {', '.join(limits).replace('_', '-')}, as in depth=64"
            )
        limits[field] = int(number)
    return FileLimits(**limits)


DEFAULT_LIMITS = ", ".join(f"{name.replace('_', '-')}={value}" for name, value in asdict(FileLimits()).items())
OF_THE_FILE = (
    option(
        DATA,
        "--layout",
        type=click.Choice(["auto", "NCHW", "NHWC"]),
        default="auto",
        show_default=True,
        help="Order of the axes of the model's input; auto reads it from the graph.",
    ),
    option(
        DATA,
        "--input-size",
        "size",
        nargs=2,
        type=click.IntRange(min=1),
        default=None,
        metavar="H W",
        help="Height and width in pixels, for a model that leaves them open or takes flattened pictures.",
    ),
    option(
        DATA,
        "--output-name",
        metavar="NAME",
        help="Graph output with the class scores, for models with several outputs.",
    ),
    option(
        LIMITS,
        "--limit",
        "limits",
        multiple=True,
        metavar="NAME=N",
        callback=_limits,
        help=f"Raise or lower what the file may ask for, before anything of it runs.  [default: {DEFAULT_LIMITS}]",
    ),
    option(
        LIMITS,
        "--allow-root",
        type=FILE,
        metavar="DIR",
        help="Links of the model or its data may lead anywhere in this folder, a Hugging Face cache for example.  "
        "[default: the model's own folder]",
    ),
)
OF_THE_PICTURES = (
    option(
        DATA,
        "--input-range",
        nargs=2,
        type=float,
        default=(0.0, 1.0),
        show_default=True,
        metavar="LO HI",
        help="What the bytes 0..255 are scaled to, linearly.",
    ),
    option(
        DATA,
        "--mean",
        type=Numbers(),
        default="0",
        show_default=True,
        metavar="M[,M,M]",
        help="Subtracted after scaling, in the input range's unit: one, or one per channel.",
    ),
    option(
        DATA,
        "--std",
        type=Numbers(),
        default="1",
        show_default=True,
        metavar="S[,S,S]",
        help="Divided by after the mean: one, or one per channel.",
    ),
    option(
        DATA,
        "--channel-order",
        type=click.Choice(["RGB", "BGR"]),
        default="RGB",
        show_default=True,
        help="Order of the colours that the model takes.",
    ),
    option(
        DATA,
        "--resize",
        type=click.Choice(RESIZES),
        default="stretch",
        show_default=True,
        help="For another size: stretch, crop (fill and cut), fit (black borders), error.",
    ),
    option(
        DATA,
        "--classes",
        "class_names",
        type=FILE,
        metavar="LABELS.txt",
        help="Class names, one per line in index order, or a config.json with id2label.",
    ),
    option(
        DATA,
        "--labels",
        type=FILE,
        metavar="LABELS.csv",
        help="Of pictures in a flat folder: a .csv with the columns file and label, a class number or a name of --classes.",
    ),
    option(
        DATA,
        "--unlabelled",
        type=FILE,
        metavar="PICTURES",
        help="A folder or .npz with more pictures, labels unknown: a repair by realignment costs less with them.",
    ),
    option(
        DATA,
        "--per-class",
        type=click.IntRange(min=1),
        metavar="N",
        help="Use the first N pictures of each class.  [default: all]",
    ),
)


def _inputs(output_name: str | None, **values: Any) -> InputOptions:
    return InputOptions(output=output_name, **values)


input_options = bundled("inputs", _inputs, *OF_THE_PICTURES, *OF_THE_FILE)
# Of commands that look at no pictures.
file_options = bundled("inputs", _inputs, *OF_THE_FILE)

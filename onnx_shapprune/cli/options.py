"""Options that several commands share. Each decorator hands its command one finished value, not a dozen names."""

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TextIO, TypeVar

import click

from onnx_shapprune.cli.values import FILE, Number
from onnx_shapprune.pictures.files import RESIZES
from onnx_shapprune.pictures.preprocess import parse_numbers

if TYPE_CHECKING:
    from onnx_shapprune.pipeline import InputOptions, RunOptions

Command = Callable[..., int]
Choice = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """How results and progress are shown. colour: for the result on stdout; width: columns of the terminal."""

    format: str
    quiet: bool
    verbose: bool
    progress: str
    colour: bool
    width: int


def model_argument(command: Command) -> Command:
    return click.argument("model", type=FILE, metavar="MODEL.onnx")(command)


def data_option(command: Command) -> Command:
    return click.option(
        "--data", type=FILE, required=True, metavar="PICTURES",
        help="Clean pictures: a folder with one sub-folder per class, a flat folder (labels are then the model's own "
        "answers), or an .npz with x uint8 [n, h, w, c] and, if known, y. One picture per class is enough.",
    )(command)  # fmt: skip


def format_option(command: Command) -> Command:
    return click.option(
        "-f", "--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True,
        help="What is printed on stdout.",
    )(command)  # fmt: skip


def layout_option(command: Command) -> Command:
    return click.option(
        "--layout", type=click.Choice(["auto", "NCHW", "NHWC"]), default="auto", show_default=True,
        help="Order of the axes of the model's input; auto reads it from the graph.",
    )(command)  # fmt: skip


def output_name_option(command: Command) -> Command:
    return click.option(
        "--output-name", metavar="NAME", help="Graph output with the class scores, for models with several outputs."
    )(command)


def colour_option(command: Command) -> Command:
    return click.option(
        "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
        help="Colours on stdout; auto: on a terminal, unless NO_COLOR is set (FORCE_COLOR sets them elsewhere).",
    )(command)  # fmt: skip


def trigger_option(command: Command) -> Command:
    return click.option(
        "--known-trigger", multiple=True, type=FILE, metavar="FILE...",
        help="Skip the search and take this trigger: one .npz with mask (0..1) and pattern (0..255), or a mask picture "
        "and a pattern picture in the model's size: --known-trigger mask.png pattern.png",
    )(command)  # fmt: skip


def artifacts_option(command: Command) -> Command:
    return click.option(
        "--artifacts", type=FILE, metavar="DIR",
        help="Folder for the triggers found: mask, pattern and three triggered pictures as PNG, and an .npz.",
    )(command)  # fmt: skip


def report_option(command: Command) -> Command:
    return click.option("--report", type=FILE, metavar="FILE", help="Write the whole record here as JSON.")(command)


def input_options(command: Command) -> Command:
    """How pictures become the model's input; arrives as `inputs`."""

    @click.option("--input-range", nargs=2, type=float, default=(0.0, 1.0), show_default=True, metavar="LO HI",
                  help="What the bytes 0..255 are scaled to, linearly.")  # fmt: skip
    @click.option("--mean", default="0", show_default=True, metavar="M[,M,M]",
                  help="Subtracted after scaling, in the unit of the input range: one number, or one per channel.")  # fmt: skip
    @click.option("--std", default="1", show_default=True, metavar="S[,S,S]",
                  help="Divided by after the mean: one number, or one per channel.")  # fmt: skip
    @layout_option
    @click.option("--channel-order", type=click.Choice(["RGB", "BGR"]), default="RGB", show_default=True,
                  help="Order of the colours that the model takes.")  # fmt: skip
    @click.option("--resize", type=click.Choice(RESIZES), default="stretch", show_default=True,
                  help="Pictures of another size: stretch, crop (fill and cut), fit (black borders), or an error.")  # fmt: skip
    @click.option("--classes", type=FILE, metavar="LABELS.txt", help="Class names, one per line in index order.")
    @click.option("--per-class", type=click.IntRange(min=1), metavar="N",
                  help="Use the first N pictures of each class.  [default: all]")  # fmt: skip
    @output_name_option
    @functools.wraps(command)
    def wrapper(
        *args: object, input_range: tuple[float, float], mean: str, std: str, layout: str, channel_order: str,
        resize: str, classes: Path | None, per_class: int | None, output_name: str | None, **rest: object,
    ) -> int:  # fmt: skip
        from onnx_shapprune.pipeline import InputOptions

        inputs = InputOptions(
            input_range=input_range,
            mean=parse_numbers(mean, option="--mean"),
            std=parse_numbers(std, option="--std"),
            layout=layout,
            channel_order=channel_order,
            resize=resize,
            class_names=classes,
            per_class=per_class,
            output=output_name,
        )
        return command(*args, inputs=inputs, **rest)

    return wrapper

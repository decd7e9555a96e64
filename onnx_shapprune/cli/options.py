"""Options that several commands share. Each decorator hands its command one finished value, not a dozen names."""

import functools
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from onnx_shapprune.cli.streams import wants_colour
from onnx_shapprune.cli.values import FILE, REPORT_FORMATS, Budget, Number, Report
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.pictures.files import RESIZES, Resize
from onnx_shapprune.pictures.preprocess import parse_numbers
from onnx_shapprune.settings import ESTIMATORS, VALUES, EstimatorName, InputOptions, RunOptions, ValueName

Command = Callable[..., int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """How results and progress are shown. colour: for the result on stdout; width: columns of the terminal."""

    as_json: bool
    quiet: bool
    verbose: bool
    progress: str
    colour: bool
    width: int


def model_argument(command: Command) -> Command:
    return click.argument("model", type=FILE, metavar="MODEL.onnx")(command)


def data_option(command: Command, *, required: bool = True) -> Command:
    return click.option(
        "--data",
        type=FILE,
        required=required,
        metavar="PICTURES|none",
        callback=_no_data,
        help="Clean pictures: a folder with one sub-folder per class, a flat folder (labels are then the model's own "
        "answers), or an .npz with x uint8 [n, h, w, c] and, if known, y. One picture per class is enough; none: they are "
        "drawn out of the model.",
    )(command)


optional_data_option = functools.partial(data_option, required=False)


def _no_data(context: click.Context, parameter: click.Parameter, value: Path) -> Path | None:
    return None if str(value) == "none" else value


def file_options(command: Command) -> Command:
    """What a file may ask for, and where its links may lead; arrive as `limits` and `allow_root`."""
    command = click.option(
        "--allow-root",
        type=FILE,
        metavar="DIR",
        help="Links of the model or its data may lead anywhere in this folder, a Hugging Face cache for example.  "
        "[default: the model's own folder]",
    )(command)
    defaults = ", ".join(f"{name.replace('_', '-')}={value}" for name, value in asdict(FileLimits()).items())
    return click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="NAME=N",
        callback=_limits,
        help=f"Raise or lower what the file may ask for, before anything of it runs.  [default: {defaults}]",
    )(command)


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


def limit_options(command: Command) -> Command:
    """What the child process that works on a file may use; arrives as `process`."""

    @click.option(
        "--timeout",
        type=Number(0, above=True, off=True),
        default=3600,
        show_default=True,
        help="Seconds after which nothing can be told any more; off: no limit.",
    )
    @click.option(
        "--memory-limit",
        type=Number(256, off=True),
        default=8192,
        show_default=True,
        help="Address space in MiB for the work on the file (not with CUDA); off: no limit.",
    )
    @functools.wraps(command)
    def wrapper(*args: object, timeout: float | None, memory_limit: float | None, **rest: object) -> int:
        memory = None if memory_limit is None else int(memory_limit)
        return command(*args, process=ProcessLimits(seconds=timeout, memory_mib=memory), **rest)

    return wrapper


def process_options(command: Command) -> Command:
    """The child process that works on the file; arrives as `process`, None where there is to be none."""

    @limit_options
    @click.option(
        "--in-process",
        is_flag=True,
        envvar="SHAPPRUNE_IN_PROCESS",
        help="Work on the file in this process, without limits: for debugging and files you trust.",
    )
    @functools.wraps(command)
    def wrapper(*args: object, process: ProcessLimits, in_process: bool, **rest: object) -> int:
        return command(*args, process=None if in_process else process, **rest)

    return wrapper


def format_option(command: Command) -> Command:
    return click.option(
        "-f",
        "--format",
        "format_",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="What is printed on stdout.",
    )(command)


def layout_option(command: Command) -> Command:
    return click.option(
        "--layout",
        type=click.Choice(["auto", "NCHW", "NHWC"]),
        default="auto",
        show_default=True,
        help="Order of the axes of the model's input; auto reads it from the graph.",
    )(command)


def input_size_option(command: Command) -> Command:
    return click.option(
        "--input-size",
        nargs=2,
        type=click.IntRange(min=1),
        default=None,
        metavar="H W",
        help="Height and width in pixels, for a model that leaves them open or takes flattened pictures.",
    )(command)


def output_name_option(command: Command) -> Command:
    return click.option(
        "--output-name", metavar="NAME", help="Graph output with the class scores, for models with several outputs."
    )(command)


def colour_option(command: Command) -> Command:
    return click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colours on stdout; auto: on a terminal, unless NO_COLOR is set (FORCE_COLOR sets them elsewhere).",
    )(command)


def trigger_option(command: Command) -> Command:
    return click.option(
        "--known-trigger",
        multiple=True,
        type=FILE,
        metavar="FILE...",
        help="Skip the search and take this trigger: one .npz with mask (0..1) and pattern (0..255), or a mask picture "
        "and a pattern picture in the model's size: --known-trigger mask.png pattern.png",
    )(command)


def artifacts_option(command: Command) -> Command:
    return click.option(
        "--artifacts",
        type=FILE,
        metavar="DIR",
        help="Folder for the triggers found: mask, pattern and three triggered pictures as PNG, and an .npz.",
    )(command)


def report_option(command: Command) -> Command:
    return click.option(
        "--report",
        "reports",
        type=Report(),
        multiple=True,
        help=f"Write a report here too; can be given several times. FORMAT: {', '.join(REPORT_FORMATS)}; without one the "
        "record as JSON.",
    )(command)


def input_options(command: Command) -> Command:
    """How pictures become the model's input; arrives as `inputs`."""

    @click.option(
        "--input-range",
        nargs=2,
        type=float,
        default=(0.0, 1.0),
        show_default=True,
        metavar="LO HI",
        help="What the bytes 0..255 are scaled to, linearly.",
    )
    @click.option(
        "--mean",
        default="0",
        show_default=True,
        metavar="M[,M,M]",
        help="Subtracted after scaling, in the input range's unit: one, or one per channel.",
    )
    @click.option(
        "--std",
        default="1",
        show_default=True,
        metavar="S[,S,S]",
        help="Divided by after the mean: one, or one per channel.",
    )
    @layout_option
    @input_size_option
    @click.option(
        "--channel-order",
        type=click.Choice(["RGB", "BGR"]),
        default="RGB",
        show_default=True,
        help="Order of the colours that the model takes.",
    )
    @click.option(
        "--resize",
        type=click.Choice(RESIZES),
        default="stretch",
        show_default=True,
        help="For another size: stretch, crop (fill and cut), fit (black borders), error.",
    )
    @click.option("--classes", type=FILE, metavar="LABELS.txt", help="Class names, one per line in index order.")
    @click.option(
        "--per-class",
        type=click.IntRange(min=1),
        metavar="N",
        help="Use the first N pictures of each class.  [default: all]",
    )
    @output_name_option
    @file_options
    @functools.wraps(command)
    def wrapper(
        *args: object,
        input_range: tuple[float, float],
        mean: str,
        std: str,
        layout: str,
        input_size: tuple[int, int] | None,
        channel_order: str,
        resize: Resize,
        classes: Path | None,
        per_class: int | None,
        output_name: str | None,
        limits: FileLimits,
        allow_root: Path | None,
        **rest: object,
    ) -> int:
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
            limits=limits,
            allow_root=allow_root,
            size=input_size,
        )
        return command(*args, inputs=inputs, **rest)

    return wrapper


def run_options(command: Command) -> Command:
    """How much is searched, estimated and pruned, and on what; arrives as `run`."""

    @click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        metavar="N",
        help="Seed of all randomness; the same seed on the same machine gives the same result.",
    )
    @click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N. Asking for CUDA where it cannot run is an error.",
    )
    @click.option(
        "--threads",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        metavar="N",
        help="CPU threads; 0 takes all cores.",
    )
    @click.option(
        "--restarts",
        type=click.IntRange(min=1),
        default=3,
        show_default=True,
        metavar="N",
        help="Trigger searches from fresh starts on every suspicious class.",
    )
    @click.option(
        "--clean-budget",
        type=Number(0, 1),
        default=0.02,
        show_default=True,
        help="Clean accuracy (share of 1) that a repair may cost on the pictures given.",
    )
    @click.option(
        "--max-units",
        type=Number(0, 1),
        default=None,
        show_default="0.01, but 24 units at least",
        help="Share of all units (0 to 1) that may be switched off, rounded down to whole units, at least one.",
    )
    @click.option(
        "--clean-weight",
        type=Number(0),
        default=6.0,
        show_default=True,
        help="Lambda: a unit's value is its backdoor part minus lambda times its clean part.",
    )
    @click.option(
        "--value",
        type=click.Choice(VALUES),
        default="dual",
        show_default=True,
        help="What a coalition of units is worth: backdoor minus lambda times clean part, or the backdoor alone "
        "by success rate, probability or margin.",
    )
    @click.option(
        "--estimator",
        type=click.Choice(ESTIMATORS),
        default="permutation",
        show_default=True,
        help="How Shapley values are estimated; the README says when which.",
    )
    @click.option(
        "--permutations",
        type=click.IntRange(min=2),
        default=12,
        show_default=True,
        metavar="N",
        help="Random orders of the units for the Shapley estimate, or coalitions worth as many.",
    )
    @click.option(
        "--epsilon",
        type=Number(0, 1, above=True, off=True),
        default=0.3,
        show_default=True,
        help="Share of uniformly random orders; the others begin with the top units; off: all. "
        "Only --estimator permutation.",
    )
    @click.option(
        "--discard-threshold",
        type=Number(0, off=True),
        default=0.1,
        show_default=True,
        help="An order ends when the backdoor left falls below this share; off: it never does. "
        "Not with --estimator leverage.",
    )
    @click.option(
        "--budget",
        type=Budget(),
        help="Limit of every Shapley estimate: coalitions (200) or seconds (30s; results then depend on how busy "
        "the machine is).  [default: none]",
    )
    @click.option(
        "--search-budget",
        type=Number(0),
        metavar="SECONDS",
        help="Searches that would begin later are left out; a model in which the others find nothing is then "
        "inconclusive.  [default: none]",
    )
    @click.option(
        "--calibration",
        type=FILE,
        metavar="FILE",
        help="What clean models reach, from shapprune calibrate.  [default: the one that comes with it]",
    )
    @click.option(
        "--max-memory",
        type=click.IntRange(min=64),
        default=2048,
        show_default=True,
        metavar="MIB",
        help="Batches and cached activations are fitted into this, beside weights and libraries.",
    )
    @click.option(
        "--min-accuracy",
        type=Number(0, 1),
        help="Clean accuracy (0 to 1) below which the audit is inconclusive: the preprocessing is probably "
        "wrong. Needs labels.  [default: 0.5]",
    )
    @functools.wraps(command)
    def wrapper(
        *args: object,
        seed: int,
        device: str,
        threads: int,
        restarts: int,
        clean_budget: float,
        max_units: float | None,
        clean_weight: float,
        value: ValueName,
        estimator: EstimatorName,
        permutations: int,
        epsilon: float | None,
        discard_threshold: float | None,
        budget: tuple[int | None, float | None] | None,
        max_memory: int,
        min_accuracy: float | None,
        search_budget: float | None,
        calibration: Path | None,
        **rest: object,
    ) -> int:
        run = RunOptions(
            seed=seed,
            device=device,
            threads=threads,
            restarts=restarts,
            clean_budget=clean_budget,
            max_units=max_units,
            clean_weight=clean_weight,
            value=value,
            estimator=estimator,
            epsilon=epsilon,
            discard_threshold=discard_threshold,
            permutations=permutations,
            max_evaluations=budget[0] if budget else None,
            max_seconds=budget[1] if budget else None,
            max_memory=max_memory,
            min_accuracy=min_accuracy,
            search_seconds=search_budget,
            calibration=calibration,
        )
        return command(*args, run=run, **rest)

    return wrapper


def display_options(command: Command) -> Command:
    """What is shown where; arrives as `display`."""

    @format_option
    @click.option("-q", "--quiet", is_flag=True, help="Only the verdict, and errors.")
    @click.option("-v", "--verbose", is_flag=True, help="A line on stderr for every class and stage.")
    @colour_option
    @click.option(
        "--progress",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        show_default=True,
        help="Progress on stderr: bars on a terminal, lines elsewhere; auto: lines in CI too.",
    )
    @functools.wraps(command)
    def wrapper(
        *args: object, format_: str, quiet: bool, verbose: bool, color: str, progress: str, **rest: object
    ) -> int:
        display = Display(
            as_json=format_ == "json",
            quiet=quiet,
            verbose=verbose,
            progress=progress,
            colour=wants_colour(color),
            width=shutil.get_terminal_size((80, 24)).columns,
        )
        return command(*args, display=display, **rest)

    return wrapper

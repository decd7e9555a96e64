"""How much is searched, estimated and pruned, and on what; arrives as `run`."""

from typing import Any

import click

from onnx_shapprune.cli.options.declare import bundled, option
from onnx_shapprune.cli.sections import LIMITS, REPAIR, SEARCH
from onnx_shapprune.cli.values import FILE, Budget, Number
from onnx_shapprune.settings import ESTIMATORS, METHODS, PLAYERS, RECIPES, VALUES, RecipeName, RunOptions


def _recipe(context: click.Context, parameter: click.Parameter, name: RecipeName) -> RecipeName:
    """What a recipe sets are other defaults: a flag, the environment and a file still say something else."""
    context.default_map = {**RECIPES[name], **(context.default_map or {})}
    return name


SEED = option(
    SEARCH,
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of all randomness; the same seed on the same machine gives the same result.",
)
DEVICE = option(
    SEARCH,
    "--device",
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="auto, cpu, cuda or cuda:N. Asking for CUDA where it cannot run is an error.",
)
THREADS = option(
    SEARCH,
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="CPU threads, at most as many as there are cores for this process; 0 takes all.",
)
OF_THE_SEARCH = (
    SEED,
    DEVICE,
    THREADS,
    option(
        SEARCH,
        "--restarts",
        type=click.IntRange(min=1),
        default=3,
        show_default=True,
        metavar="N",
        help="Trigger searches from fresh starts on every suspicious class.",
    ),
    option(
        SEARCH,
        "--search-budget",
        "search_seconds",
        type=Number(0),
        metavar="SECONDS",
        help="Searches that would begin later are left out; a model in which the others find nothing is then "
        "inconclusive.  [default: none]",
    ),
    option(
        SEARCH,
        "--whole-search",
        is_flag=True,
        help="Search every class to the end, also where the first rounds of all searches show what most clean models show.",
    ),
    option(
        SEARCH,
        "--calibration",
        type=FILE,
        metavar="FILE",
        help="What clean models reach, from shapprune calibrate.  [default: the one that comes with it]",
    ),
    option(
        SEARCH,
        "--min-accuracy",
        type=Number(0, 1),
        help="Clean accuracy (0 to 1) below which the audit is inconclusive: the preprocessing is probably "
        "wrong. Needs labels.  [default: 0.6]",
    ),
    option(
        LIMITS,
        "--max-memory",
        type=click.IntRange(min=64),
        default=2048,
        show_default=True,
        metavar="MIB",
        help="Batches and cached activations are fitted into this, beside weights and libraries.",
    ),
)
OF_THE_REPAIR = (
    option(
        REPAIR,
        "--recipe",
        type=click.Choice(tuple(RECIPES)),
        default="own",
        show_default=True,
        is_eager=True,
        callback=_recipe,
        help="shappruning: the stages as published, "
        + " ".join(f"--{name.replace('_', '-')} {value}" for name, value in RECIPES["shappruning"].items())
        + ", unless said otherwise.",
    ),
    option(
        REPAIR,
        "--method",
        type=click.Choice(("auto", *METHODS)),
        default="auto",
        show_default=True,
        help="prune: switch units off; realign: teach layers to overlook the trigger, other weights and the same graph; "
        "both: a few units off, then realign; auto: realign, prune, both, until one holds.",
    ),
    option(
        REPAIR,
        "--clean-budget",
        type=Number(0, 1),
        default=0.02,
        show_default=True,
        help="Clean accuracy (share of 1) that a repair may cost on the pictures given.",
    ),
    option(
        REPAIR,
        "--max-units",
        type=Number(0, 1),
        default=None,
        show_default="0.01, but 24 units at least",
        help="Share of all units (0 to 1) that may be switched off, rounded down to whole units, at least one.",
    ),
    option(
        REPAIR,
        "--clean-weight",
        type=Number(0),
        default=6.0,
        show_default=True,
        help="Lambda: a unit's value is its backdoor part minus lambda times its clean part.",
    ),
    option(
        REPAIR,
        "--value",
        type=click.Choice(VALUES),
        default="dual",
        show_default=True,
        help="What a coalition of units is worth: backdoor minus lambda times clean part, or the backdoor alone "
        "by success rate, probability or margin.",
    ),
    option(
        REPAIR,
        "--players",
        type=click.Choice(PLAYERS),
        default="shortlist",
        show_default=True,
        help="Which units play for their values: those 24 that promise most, or all of the network.",
    ),
    option(
        REPAIR,
        "--candidates",
        type=click.IntRange(min=1),
        default=12,
        show_default=True,
        metavar="N",
        help="Units at the top of the ranking of which the next one to switch off is chosen; 1: always the first.",
    ),
    option(
        REPAIR,
        "--estimator",
        type=click.Choice(ESTIMATORS),
        default="permutation",
        show_default=True,
        help="How Shapley values are estimated; `shapprune docs estimators` says when which.",
    ),
    option(
        REPAIR,
        "--permutations",
        type=click.IntRange(min=2),
        default=12,
        show_default=True,
        metavar="N",
        help="Random orders of the units for the Shapley estimate, or coalitions worth as many.",
    ),
    option(
        REPAIR,
        "--epsilon",
        type=Number(0, 1, above=True, off=True),
        default=0.3,
        show_default=True,
        help="Share of uniformly random orders; the others begin with the top units; off: all. "
        "Only --estimator permutation.",
    ),
    option(
        REPAIR,
        "--discard-threshold",
        type=Number(0, off=True),
        default=0.1,
        show_default=True,
        help="An order ends when the backdoor left falls below this share; off: it never does. "
        "Not with --estimator leverage.",
    ),
    option(
        REPAIR,
        "--budget",
        type=Budget(),
        help="Limit of every Shapley estimate: coalitions (200) or seconds (30s; results then depend on how busy "
        "the machine is).  [default: none]",
    ),
)


def _run(budget: tuple[int | None, float | None] | None, **values: Any) -> RunOptions:
    evaluations, seconds = budget or (None, None)
    return RunOptions(max_evaluations=evaluations, max_seconds=seconds, **values)


run_options = bundled("run", _run, *OF_THE_SEARCH, *OF_THE_REPAIR)
# Of commands that run a model and search nothing.
device_options = bundled("run", RunOptions, DEVICE, THREADS)

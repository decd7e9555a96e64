"""What a user can set, checked once: how pictures become inputs, and how much is searched and pruned."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from onnx_shapprune.errors import DataError
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.pictures.files import Resize

EstimatorName = Literal["permutation", "antithetic", "top-k", "leverage"]
ESTIMATORS: tuple[EstimatorName, ...] = get_args(EstimatorName)
ValueName = Literal["dual", "asr", "probability", "margin"]
VALUES: tuple[ValueName, ...] = get_args(ValueName)
MethodName = Literal["prune", "realign", "both"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
PlayersName = Literal["shortlist", "all"]
PLAYERS: tuple[PlayersName, ...] = get_args(PlayersName)
RecipeName = Literal["own", "shappruning"]
# What a recipe sets unless it is set otherwise. "shappruning": the stages that Guan, Tu, He and Tao published (CVPR 2022);
# docs/pages/method.md says step by step what they leave open. The share of units is their "under 1 %".
RECIPES: Mapping[RecipeName, Mapping[str, Any]] = {
    "own": {},
    "shappruning": {
        "method": "prune",
        "players": "all",
        "value": "asr",
        "estimator": "permutation",
        "discard_threshold": 0.1,
        "epsilon": 0.3,
        "candidates": 1,
        "max_units": 0.01,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """How pictures become the model's input; an ONNX file does not say."""

    input_range: tuple[float, float] = (0.0, 1.0)
    """What the bytes 0..255 are scaled to, linearly."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted after that, in the same unit: one number, or one per channel in RGB order."""
    std: tuple[float, ...] = (1.0,)
    """Divided by after the mean: one number, or one per channel in RGB order."""
    layout: str = "auto"
    """Order of the model's axes: "auto", "NCHW" or "NHWC"."""
    channel_order: str = "RGB"
    """Order of the colours that the model takes: "RGB" or "BGR"."""
    resize: Resize = "stretch"
    """What is done with pictures of another size: "stretch", "crop", "fit" or "error"."""
    class_names: Path | None = None
    """A file with one class name per line, in index order, or a config.json with id2label."""
    labels: Path | None = None
    """A .csv with the columns file and label, of pictures in a flat folder."""
    per_class: int | None = None
    """How many pictures of each class are used; None: all."""
    unlabelled: Path | None = None
    """More pictures for a repair by realignment: of them only what reaches the layers counts, so that no label is needed."""
    output: str | None = None
    """The graph output with the class scores, where there are several."""
    size: tuple[int, int] | None = None
    """Height and width in pixels, where the file leaves them open or takes pictures flattened."""
    limits: FileLimits = field(default_factory=FileLimits)
    """What the file may ask for before anything of it runs."""
    allow_root: Path | None = None
    """A folder around the model's own that links of the model or its data may lead to."""
    found: tuple[str, ...] = ()
    """Which of these were read from files beside the model, in words; for the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How much is searched, estimated and pruned. Raises DataError where a number makes no sense."""

    seed: int = 0
    """Of all randomness."""
    device: str = "auto"
    """"auto", "cpu", "cuda" or "cuda:N"."""
    threads: int = 0
    """CPU threads, never more than there are cores for this process; 0: all of them."""
    restarts: int = 3
    """Free-mask searches of a class that stands out."""
    method: Literal["auto"] | MethodName = "auto"
    """How a model is repaired: units off, layers realigned, both, or the first of them that holds."""
    recipe: RecipeName = "own"
    """By which name settings were chosen, for the record: `RunOptions(recipe=..., **RECIPES[...])`; it sets nothing."""
    clean_budget: float = 0.02
    """Clean accuracy that a repair may cost, 0..1."""
    max_units: float | None = None
    """Share of all units that may be switched off, 0..1; None: 1 %, and 24 units at least."""
    clean_weight: float = 6.0
    """Lambda of the dual game."""
    value: ValueName = "dual"
    """What a coalition of units is worth, see game/value.py."""
    players: PlayersName = "shortlist"
    """Which units play: those that promise most, or all."""
    candidates: int = 12
    """Units at the top of the ranking of which the next one to switch off is chosen, with the earlier ones off; 1: none
    but the first."""
    estimator: EstimatorName = "permutation"
    """How Shapley values are estimated."""
    epsilon: float | None = 0.3
    """Share of uniformly random walks, of "permutation" only; None: all."""
    discard_threshold: float | None = 0.1
    """Share of the backdoor below which a walk ends; None: none does."""
    permutations: int = 12
    """Walks per round; "leverage" evaluates about as many coalitions as so many full walks, "top-k" may end before."""
    max_evaluations: int | None = None
    """Coalitions of one estimate; None: no limit."""
    max_seconds: float | None = None
    """Seconds of one estimate, which then depends on how busy a machine is; None: no limit."""
    min_accuracy: float | None = None
    """Few-shot accuracy under which an audit proves nothing; None: 0.6."""
    max_memory: int = 2048
    """MiB that activations are fitted into, beside the weights and the libraries."""
    calibration: Path | None = None
    """A file of `shapprune calibrate`; None: the one that comes with the package."""
    search_seconds: float | None = None
    """Searches that would begin later are left out, and a model in which the others find nothing is inconclusive."""
    whole_search: bool = False
    """Search every class to the end, also where the first rounds of all searches show nothing."""

    def __post_init__(self) -> None:
        for name, value in (("clean budget", self.clean_budget), ("max units", self.max_units)):
            if value is not None and not 0 <= value <= 1:
                raise DataError(f"{name} must be between 0 and 1, not {value:g}")
        if self.restarts < 1 or self.permutations < 2 or self.candidates < 1:
            raise DataError("at least 1 restart, 2 permutations and 1 candidate are needed")
        for name, chosen, choices in (
            ("estimator", self.estimator, ESTIMATORS),
            ("method", self.method, ("auto", *METHODS)),
            ("value", self.value, VALUES),
            ("players", self.players, PLAYERS),
            ("recipe", self.recipe, tuple(RECIPES)),
        ):
            if chosen not in choices:
                raise DataError(f"no {name} {chosen!r}: choose one of {', '.join(choices)}")
        if (self.max_evaluations is not None and self.max_evaluations < 1) or (
            self.max_seconds is not None and not 0 <= self.max_seconds < math.inf
        ):
            raise DataError("the budget of an estimate must be at least 1 evaluation, or seconds that are not negative")
        if self.search_seconds is not None and not 0 <= self.search_seconds < math.inf:
            raise DataError("the seconds of the search must be a number that is not negative")
        if self.max_memory < 64:
            raise DataError(f"max memory must be at least 64 MiB, not {self.max_memory}")
        if self.epsilon is not None and not 0 < self.epsilon <= 1:
            raise DataError(f"epsilon must be above 0 and at most 1, not {self.epsilon:g}; None switches it off")
        if self.discard_threshold is not None and not math.isfinite(self.discard_threshold):
            raise DataError("the discard threshold must be a finite number, or None")
        if self.seed < 0 or self.threads < 0 or self.clean_weight < 0:
            raise DataError("seed, threads and clean weight must not be negative")

    def unit_limit(self, total: int) -> int:
        """Units that may be switched off in a model of `total` units: the share that was asked for, and one at least.

        Unasked, 24 at least: what carries a backdoor does not shrink with a network, and with the true trigger, 16 of 448
        units did what 12 left undone (docs/pages/results-repair-before.md). The clean budget holds for all.
        """
        if self.max_units is None:
            return max(24, round(0.01 * total))
        return max(1, math.floor(self.max_units * total + 1e-9))

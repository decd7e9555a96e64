"""What a user can set, checked once: how pictures become inputs, and how much is searched and pruned."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from onnx_shapprune.errors import DataError
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.pictures.files import Resize

EstimatorName = Literal["permutation", "antithetic", "top-k", "leverage"]
ESTIMATORS: tuple[EstimatorName, ...] = get_args(EstimatorName)
ValueName = Literal["dual", "asr", "probability", "margin"]
VALUES: tuple[ValueName, ...] = get_args(ValueName)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """How pictures become the model's input; an ONNX file does not say.

    Bytes 0..255 are scaled linearly to `input_range`, then (x - mean) / std in that unit; mean and std hold one number or
    one per channel (RGB order). layout: "auto", "NCHW" or "NHWC". channel_order: "RGB" or "BGR". resize: "stretch",
    "crop", "fit" or "error". class_names: a file with one name per line. per_class: use so many pictures of a class.
    output: which graph output holds the scores, where there are several. size: height and width of the pictures, where the
    file leaves them open or takes them flattened. limits: what the file may ask for. allow_root: a folder around the
    model's own that links of the model or its data may lead to.
    """

    input_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "auto"
    channel_order: str = "RGB"
    resize: Resize = "stretch"
    class_names: Path | None = None
    per_class: int | None = None
    output: str | None = None
    size: tuple[int, int] | None = None
    limits: FileLimits = field(default_factory=FileLimits)
    allow_root: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How much is searched, estimated and pruned. Raises DataError where a number makes no sense.

    restarts: free-mask searches of a class that stands out. clean_budget: clean accuracy that a repair may cost, 0..1.
    max_units: share of all units that may be switched off, 0..1; None: 1 %, and 24 units at least. clean_weight: lambda of
    the dual game. value: what a coalition of units is worth, see game/value.py. estimator: of the Shapley values.
    permutations: walks per round; "leverage" evaluates about as many coalitions as so many full walks, "top-k" may end
    before. discard_threshold: of walks, epsilon: of "permutation" only, None = off. max_evaluations, max_seconds: of one
    estimate; seconds make the result depend on how busy a machine is.
    min_accuracy: few-shot accuracy under which an audit proves nothing, None = 0.5. threads: 0 = all cores. max_memory:
    MiB that activations are fitted into, beside the weights and the libraries. calibration: a file of `shapprune
    calibrate`, None = the one that comes with the package. search_seconds: searches that would begin
    later are left out, and a model in which the others find nothing is inconclusive.
    """

    seed: int = 0
    device: str = "auto"
    threads: int = 0
    restarts: int = 3
    clean_budget: float = 0.02
    max_units: float | None = None
    clean_weight: float = 6.0
    value: ValueName = "dual"
    estimator: EstimatorName = "permutation"
    epsilon: float | None = 0.3
    discard_threshold: float | None = 0.1
    permutations: int = 12
    max_evaluations: int | None = None
    max_seconds: float | None = None
    min_accuracy: float | None = None
    max_memory: int = 2048
    calibration: Path | None = None
    search_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("clean budget", self.clean_budget), ("max units", self.max_units)):
            if value is not None and not 0 <= value <= 1:
                raise DataError(f"{name} must be between 0 and 1, not {value:g}")
        if self.restarts < 1 or self.permutations < 2:
            raise DataError("at least 1 restart and 2 permutations are needed")
        if self.estimator not in ESTIMATORS:
            raise DataError(f"no estimator {self.estimator!r}: choose one of {', '.join(ESTIMATORS)}")
        if self.value not in VALUES:
            raise DataError(f"no value {self.value!r}: choose one of {', '.join(VALUES)}")
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
        units did what 12 left undone (README). The clean budget holds for all.
        """
        if self.max_units is None:
            return max(24, round(0.01 * total))
        return max(1, math.floor(self.max_units * total + 1e-9))

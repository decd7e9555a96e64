"""calibrate(): what the searches find on models that are known to be clean."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_shapprune.case.open import open_case
from onnx_shapprune.case.progress import Progress
from onnx_shapprune.commands.effort import effort_for
from onnx_shapprune.detect.accuracy import unusable
from onnx_shapprune.detect.calibration import FEWEST, Calibration, columns, largest, load_calibration
from onnx_shapprune.detect.examination import examine
from onnx_shapprune.detect.statistics import AGREEMENT, GAP, MANY, PEAK
from onnx_shapprune.errors import DataError, ShapPruneError
from onnx_shapprune.settings import InputOptions, RunOptions


def calibrate(
    models: Sequence[Path],
    data: Path | None,
    *,
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    seeds: int = 2,
    progress: Progress | None = None,
) -> Calibration:
    """Audit clean models, each with `seeds` seeds from the run's on, and keep the largest value of every statistic.

    All models take the same pictures and preprocessing; data None: pictures are drawn out of each model, and only that part
    of the calibration is new, the other is the package's. Raises ShapPruneError naming the model that cannot be audited,
    DataError for fewer than 8 audits.
    """
    inputs, run = inputs or InputOptions(), run or RunOptions()
    if len(models) * seeds < FEWEST:
        raise DataError(
            f"{len(models)} models with {seeds} seeds each are too few: at least {FEWEST} audits of clean models are needed"
        )
    audits: list[dict[str, float]] = []
    nothing = Calibration(about="nothing is known", pictures={})
    for model in models:
        for seed in range(run.seed, run.seed + seeds):
            try:
                case = open_case(model, data, inputs, replace(run, seed=seed))
            except ShapPruneError as error:
                error.args = (f"{model.name}: {error}",)
                raise
            if reason := unusable(case, run.min_accuracy):
                raise DataError(f"{model.name}: {reason}")
            effort = effort_for(case.model.subject.prepared, run)
            found = examine(
                case.shown,
                effort.search,
                effort.relations,
                nothing,
                np.random.default_rng(seed),
                synthesised=data is None,
            )
            looked = [*found.evidence[0].found, AGREEMENT, PEAK] + [GAP] * (len(found.evidence) >= MANY)
            always = dict.fromkeys(looked, 0.0)
            audits.append(always | largest(c for c, _ in found.suspicion.claims))
            if progress:
                progress("audits of clean models", len(audits), len(models) * seeds, f"{model.name} seed {seed}")
    about = f"{len(audits)} audits of {len(models)} models, {'no pictures' if data is None else 'with pictures'}"
    known = load_calibration(None)
    made = columns(audits)
    if data is None:
        return Calibration(about=f"{about}; with pictures: {known.about}", pictures=known.pictures, synthesised=made)
    return Calibration(about=f"{about}; without: {known.about}", pictures=made, synthesised=known.synthesised)

"""calibrate(): what the searches find on models that are known to be clean."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnx_shapprune.case.open import open_case
from onnx_shapprune.case.progress import Progress
from onnx_shapprune.commands.effort import effort_for
from onnx_shapprune.commands.evidence import of_search, thresholds_of
from onnx_shapprune.detect.accuracy import unusable
from onnx_shapprune.detect.calibration import (
    Calibration,
    Domain,
    added,
    columns,
    largest,
    load_calibration,
    strongest,
)
from onnx_shapprune.detect.examination import Examination, examine
from onnx_shapprune.detect.statistics import AGREEMENT, EVERY, FIRST, MOST, NORM, PEAK, SEVERAL, Claim
from onnx_shapprune.detect.thresholds import FEWEST_MODELS, MANY
from onnx_shapprune.detect.verdict import judge
from onnx_shapprune.errors import DataError, ShapPruneError
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.settings import InputOptions, RunOptions


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration, on how many different models and with how many seeds each it was made; accused: models that the
    packaged calibration names, with the reason, and that therefore may not be clean; repeated: files left out because their
    bytes are those of another one.
    """

    calibration: Calibration
    models: int
    seeds: int
    accused: tuple[str, ...]
    repeated: tuple[str, ...]


def calibrate(
    models: Sequence[Path],
    data: Path | None,
    *,
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    seeds: int = 2,
    progress: Progress | None = None,
) -> Calibrated:
    """Audit clean models, each with `seeds` seeds from the run's on, and keep each model's largest value of every statistic:
    seeds of one model are no further models.

    All models take the same pictures and preprocessing; data None: pictures are drawn out of each model, and only that part
    of the calibration is new, the other is the package's. Raises ShapPruneError naming the model that cannot be audited,
    DataError for fewer than 8 different models.
    """
    inputs, run = inputs or InputOptions(), run or RunOptions()
    different, repeated = _different(models, inputs)
    if len(different) < FEWEST_MODELS:
        raise DataError(
            f"{len(different)} different models are too few: at least {FEWEST_MODELS} clean ones are needed, and seeds of "
            "one model are no further models"
        )
    known = load_calibration(None)
    rows: list[dict[str, float]] = []
    audits: list[list[list[Claim]]] = []
    shapes: list[tuple[int, int, int]] = []
    accused: dict[str, str] = {}
    for model in different:
        row: dict[str, float] = {}
        audits.append([])
        for seed in range(run.seed, run.seed + seeds):
            found, size = _examined(model, data, inputs, replace(run, seed=seed), known)
            claims = [c for c, _ in found.suspicion.claims]
            looked = [*found.evidence[0].measured, AGREEMENT, NORM, PEAK, EVERY, SEVERAL, MOST]
            first = {FIRST: found.first.value} if found.first else {}
            row = _larger(row, dict.fromkeys(looked, 0.0) | largest(claims) | first)
            audits[-1].append(claims)
            shapes.append((found.classes, *size))
            _of_one_kind(_domain(shapes))
            verdict = judge(of_search(found), thresholds_of(run))
            if verdict.outcome == "fail":
                accused.setdefault(model.name, verdict.reasons[0])
            if progress:
                done = len(rows) * seeds + seed - run.seed + 1
                progress("audits of clean models", done, len(different) * seeds, f"{model.name} seed {seed}")
        rows.append(row)
    shown = "no pictures" if data is None else "with pictures"
    about = f"{len(rows)} models, {seeds} {'seed' if seeds == 1 else 'seeds'} each, {shown}"
    domain = _domain(shapes)
    if domain.classes[0] >= MANY:
        rows = added(rows, audits)
    made = columns(rows)
    known = known.of(domain.classes[0], domain.pixels[1])
    known = known.model_copy(update={"few": None, "many": None, "large": None, "more": None, "domain": domain})
    if data is None:
        calibration = known.model_copy(
            update={
                "about": f"{about}; with pictures: {known.about}",
                "synthesised": made,
                "strongest_synthesised": strongest(rows),
            }
        )
    else:
        calibration = known.model_copy(
            update={
                "about": f"{about}; without: {known.about}",
                "pictures": made,
                "strongest": strongest(rows),
            }
        )
    return Calibrated(calibration, len(rows), seeds, tuple(f"{name}: {why}" for name, why in accused.items()), repeated)


def _different(models: Sequence[Path], inputs: InputOptions) -> tuple[list[Path], tuple[str, ...]]:
    """The first file of each content, its external data included, and the names of the others."""
    first: dict[tuple[str, ...], Path] = {}
    repeated = []
    for model in models:
        with _named(model):
            file = load_model(model, limits=inputs.limits, allow_root=inputs.allow_root)
        if first.setdefault((file.sha256, *(e.sha256 for e in file.external)), model) is not model:
            repeated.append(model.name)
    return list(first.values()), tuple(repeated)


@contextmanager
def _named(model: Path) -> Iterator[None]:
    """Name the model in whatever is raised about it."""
    try:
        yield
    except ShapPruneError as error:
        error.args = (f"{model.name}: {error}",)
        raise


def _examined(
    model: Path, data: Path | None, inputs: InputOptions, run: RunOptions, known: Calibration
) -> tuple[Examination, tuple[int, int]]:
    """One audit of a clean model, and the size of its pictures."""
    with _named(model):
        case = open_case(model, data, inputs, run)
    if reason := unusable(case, run.min_accuracy):
        raise DataError(f"{model.name}: {reason}")
    effort = effort_for(case.model.subject.prepared, run)
    found = examine(
        case.shown,
        effort.search,
        effort.relations,
        known,
        np.random.default_rng(run.seed),
        synthesised=data is None,
    )
    return found, (case.pictures.shape[1], case.pictures.shape[2])


def _of_one_kind(domain: Domain) -> None:
    """Raise DataError where models have few classes and many: their statistics are not the same."""
    fewest, most = domain.classes
    if fewest < MANY <= most:
        raise DataError(
            f"models with {fewest} and with {most} classes are of two kinds: calibrate those with fewer than {MANY} classes "
            "apart from the others"
        )


def _larger(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in (*one, *other)}


def _domain(shapes: Sequence[tuple[int, int, int]]) -> Domain:
    """shapes: classes, height and width of every model."""
    classes = [c for c, _, _ in shapes]
    edges = [edge for _, *size in shapes for edge in size]
    return Domain(classes=(min(classes), max(classes)), pixels=(min(edges), max(edges)))

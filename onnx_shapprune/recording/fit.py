"""From settings that were tried to the record that users read."""

import datetime
from collections.abc import Sequence

from onnx_shapprune.case.open import Opened
from onnx_shapprune.detect.fit import Attempt, Fit, bounds
from onnx_shapprune.pictures.few_shot import FewShot
from onnx_shapprune.pictures.stated import Stated
from onnx_shapprune.pictures.usual import flags
from onnx_shapprune.record.fit import FitRecord, FitRow, StatedPart
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.report.numbers import count
from onnx_shapprune.report.text import plain
from onnx_shapprune.version import __version__

NAMES = 1000  # class names that are kept


def fit_record(
    opened: Opened, few: FewShot, found: Fit, said: Stated, *, open_layout: bool, command: Sequence[str]
) -> FitRecord:
    """The record of settings that were tried. open_layout: whether the file leaves the layout open, so that an option has
    to say it.
    """
    rows = tuple(_row(t, open_layout=open_layout) for t in found.tried)
    fits = not rows[0].failed if found.fits is None else found.fits
    return FitRecord(
        version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=tuple(command),
        model=FileDigest(name=opened.file.path.name, size=opened.file.size, sha256=opened.file.sha256),
        classes=opened.subject.classes,
        pictures=len(found.tried[0].points),
        digest=few.digest,
        label_source="given" if few.label_source == "given" else "folder" if few.label_source == "folder" else "none",
        rows=rows,
        best=rows[0] if fits else None,
        alike=tuple(found.tried.index(t) for t in found.alike),
        none_fits=not fits,
        guess=found.fits is None,
        reason=_reason(rows, found),
        metadata=tuple(StatedPart(key=plain(k, limit=80), value=plain(v)) for k, v in said.pairs),
        class_names=tuple(plain(n, limit=80) for n in said.class_names[:NAMES]),
    )


def _row(attempt: Attempt, *, open_layout: bool) -> FitRow:
    p, right = attempt.setting.preprocessing, attempt.right
    row = FitRow(
        name=attempt.setting.name,
        source=attempt.setting.source,
        options=flags(p, layout=open_layout),
        input_range=p.input_range,
        mean=p.mean,
        std=p.std,
        layout=p.layout,
        channel_order=p.channel_order,
        failed=attempt.failed,
    )
    if right is None:
        assert attempt.confidence is not None
        assert attempt.on_noise is not None
        assert attempt.agreement is not None
        means = (float(v.mean()) for v in (attempt.confidence, attempt.on_noise, attempt.agreement))
        return row.model_copy(update=dict(zip(("confidence", "on_noise", "agreement"), means, strict=True)))
    number, total = int(right.sum()), len(right)
    return row.model_copy(
        update={
            "right": number,
            "accuracy": number / total,
            "bounds": bounds(number, total),
            "likelihood": None if attempt.failed else attempt.likelihood,
        }
    )


def _reason(rows: Sequence[FitRow], found: Fit) -> str:
    """What was found, in a sentence or two."""
    best, total = rows[0], len(found.tried[0].points)
    options = best.options or "the default preprocessing"
    if best.failed:
        return "the model answers NaN or infinity with every usual setting"
    if found.fits is None:
        return (
            f"a guess, since the pictures have no labels: with {options} ({best.name}) the model is surest of the pictures, "
            "less what it is sure of noise, and steadiest, both added; check it on pictures whose labels are known"
        )
    if not found.fits:
        return (
            f"none of the {len(rows)} usual settings fits: at most {best.right} of {total} pictures get their label, with "
            f"{options}; the preparation is an unusual one, the labels are not the model's, or the model is a weak one"
        )
    said = f"{best.right} of {total} with {options} ({best.name})"
    if found.alike:
        others = count(len(found.alike), "other setting")
        return f"{said}; these pictures do not tell {others} from it: more pictures may"
    return f"{said}, and clearly fewer with every other setting"

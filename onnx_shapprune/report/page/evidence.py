"""What the searches found: classes, claims, and what they were compared with."""

import math
import statistics
from collections.abc import Sequence

from onnx_shapprune.detect.thresholds import MAD_TO_SIGMA
from onnx_shapprune.gate.evidence import Record
from onnx_shapprune.gate.rejudged import levels_of
from onnx_shapprune.record.audit import AuditRecord, ClaimPart, ClassPart
from onnx_shapprune.report.changes import unlearnt
from onnx_shapprune.report.numbers import number, p_value, percent
from onnx_shapprune.report.page.charts import Axis, Row, row_chart
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.tables import Section, behind, bullets, section, table
from onnx_shapprune.report.subject import STATISTICS, class_name

SHOWN = 24  # classes in a chart; the tables have all
HIGHEST_SCORE = 16.0


def classes(record: Record, title: str) -> Section | None:
    """Scores and mask norms of the classes, the most unusual ones where there are many."""
    parts = list(record.classes)
    if not parts:
        return None
    left_out = f" The {SHOWN} with the largest scores are drawn." if len(parts) > SHOWN else ""
    shown = sorted(parts, key=lambda c: (-c.suspicious, -(c.score or 0.0)))[:SHOWN]
    shown.sort(key=lambda c: c.index_of_class)
    return section(
        "classes",
        title,
        "How rarely clean models show the strongest evidence found for a class: the longer the bar, the "
        f"rarer. Beyond the line, at p = {levels_of(record).named:g}, a class is named.{left_out}",
        tag(
            "div",
            behind(_scores(record, shown), "Classes", *_class_table(record, parts)),
            _norms(record, shown),
            class_="charts",
        ),
    )


def claims(record: Record) -> Section | None:
    """Every statistic with its p-value, and the clean models behind them."""
    if not record.claims:
        return None
    rows = [
        [
            STATISTICS.get(c.statistic, c.statistic),
            _goal(record, c),
            number(c.value),
            p_value(c.p_value),
            percent(c.gone, 0),
        ]
        for c in record.claims
    ]
    hot = [i for i, c in enumerate(record.claims) if c.p_value <= levels_of(record).named]
    basis = record.calibration
    score = record.score if isinstance(record, AuditRecord) else None
    whole = (
        ""
        if score is None
        else f" Of the model as a whole, all statistics counted, the p-value is {p_value(10**-score)}."
    )
    return section(
        "claims",
        "Evidence and calibration",
        "Each statistic is compared with what clean models reach in it; p is the share of clean models that would show "
        f"anything as unusual. With ten classes or more, what is said about one class is added up.{whole} "
        "A class that stands out is unlearnt and searched again: with less than half of its lead gone, it is a natural "
        "weakness.",
        table("Claims", ("Statistic", "About", "#Value", "#p", "#Lead gone"), rows, hot=hot),
        bullets(unlearnt(record)),
        tag("p", tag("strong", "The clean models: "), f"{basis}.") if basis else None,
    )


def _scores(record: Record, shown: Sequence[ClassPart]) -> Html:
    top = min(HIGHEST_SCORE, max([4.0, *(c.score or 0.0 for c in shown)]))
    step = 2 if top <= 8 else 4
    ticks = tuple((float(s), "p = 1" if s == 0 else f"1e-{s}") for s in range(0, int(top) + 1, step))
    rows = [
        Row(
            name=class_name(record, c.index_of_class),
            value=c.score,
            hot=c.suspicious,
            text="-" if c.score is None else ("target, " if c.suspicious else "") + p_value(10**-c.score),
        )
        for c in shown
    ]
    targets = ", ".join(class_name(record, c.index_of_class) for c in shown if c.suspicious) or "none"
    bar = levels_of(record).named
    return row_chart(
        "scores",
        "Evidence for each class as a target",
        f"Bars of minus log10 of the smallest p-value. Named: {targets}.",
        rows,
        Axis(0.0, top, ticks),
        bars=True,
        marks=[(-math.log10(bar), f"named at {bar:g}")],
    )


def _norms(record: Record, shown: Sequence[ClassPart]) -> Html | None:
    """Smallest masks by logarithm, each restart a ring, with the median and the spread of the classes."""
    found = [(c, c.norm) for c in shown if c.norm is not None and c.norm > 0]
    if len(found) < 2:
        return None
    norms = [norm for _, norm in found]
    every = [*norms, *(n for c, _ in found for n in c.norms if n > 0)]
    median = statistics.median(norms)
    sigma = MAD_TO_SIGMA * statistics.median(abs(n - median) for n in norms)
    low, high = min(every) / 1.3, max(every) * 1.3
    ticks = tuple((float(t), f"{t:g}") for d in range(-2, 6) for t in (10.0**d, 3 * 10.0**d) if low <= t <= high)
    rows = [
        Row(
            name=class_name(record, c.index_of_class),
            value=norm,
            low=min(c.norms, default=norm),
            high=max(c.norms, default=norm),
            dots=c.norms,
            hot=c.suspicious,
            text=("target, " if c.suspicious else "") + number(norm),
        )
        for c, norm in found
    ]
    chart = row_chart(
        "norms",
        "Size of the smallest mask per class",
        f"Dots on a logarithmic scale of pixels; the median is {median:.1f}.",
        rows,
        Axis(low, high, ticks, log=True),
        marks=[(median, "median")],
        band=(max(low, median - sigma), min(high, median + sigma)),
    )
    words = (
        "The smallest free mask that sends pictures of all other classes to a class, in pixels (L1 norm). A planted target "
        "needs far less than the others. Rings are single searches; the band is one robust deviation around the median. "
        "Classes that were not searched so, or where no mask worked, are left out."
    )
    columns, numbers = (
        ("Class", "#Smallest", "#Index", "Searches"),
        [
            [class_name(record, c.index_of_class), number(c.norm), number(c.index), ", ".join(map(number, c.norms))]
            for c, _ in found
        ],
    )
    return tag(
        "div", tag("h3", "How small a mask is enough"), tag("p", words), behind(chart, "Mask norms", columns, numbers)
    )


def _class_table(record: Record, parts: Sequence[ClassPart]) -> tuple[list[str], list[list[str]]]:
    families = list(dict.fromkeys(f.family for c in parts for f in c.families))
    columns = ["Class", "#p", "#Mask", "#ASR", *(f"#{f} margin" for f in families), "Named"]
    rows = []
    for c in parts:
        margins = {f.family: number(f.margin) for f in c.families}
        p = p_value(None if c.score is None else 10**-c.score)
        rows.append(
            [
                class_name(record, c.index_of_class),
                p,
                number(c.norm),
                percent(c.asr, 0),
                *(margins.get(f, "-") for f in families),
                "target" if c.suspicious else "",
            ]
        )
    return columns, rows


def _goal(record: Record, claim: ClaimPart) -> str:
    if claim.kind == "all-to-all":
        return "every class to another"
    targets = ", ".join(class_name(record, t) for t in claim.targets)
    return f"class {targets}" if claim.source is None else f"class {class_name(record, claim.source)} to {targets}"

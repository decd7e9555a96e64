"""Charts as SVG that keeps its letters readable at every width: x in percent of the page, y and text in pixels.

Each is one picture for a screen reader, with a title and a description; the numbers stand in a table below it.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnx_shapprune.report.page.markup import Html, tag

ROW, TOP, BOTTOM = 24, 40, 8
LETTERS = 17  # of a name, the end counts
LETTER, GAP = 2.0, 2.5  # percent of the narrowest page
CURVE_LEFT, CURVE_WIDTH, CURVE_HEIGHT = 9.0, 67.0, 220


@dataclass(frozen=True, slots=True)
class Axis:
    """What a plot spans, linearly or by logarithm. ticks: (value, what it says)."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the left end and 1 at the right; what lies outside is put at the end."""
        low, high, value = (math.log(max(v, 1e-9)) if self.log else v for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a chart. value: the mark, None for none; low, high: its interval; dots: single trials; text: at the
    right; hot: what the reader is to look at.
    """

    name: str
    value: float | None
    text: str
    low: float | None = None
    high: float | None = None
    dots: tuple[float, ...] = ()
    hot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line of a curve. points: (x, share of 1); style: a class of the style sheet."""

    name: str
    points: tuple[tuple[float, float], ...]
    style: str


def row_chart(
    ident: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    axis: Axis,
    *,
    bars: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    band: tuple[float, float] | None = None,
) -> Html:
    """Bars from the left end, or marks with intervals, one row each. marks: labelled lines across; band: a shaded range."""
    bottom = TOP + ROW * len(rows)
    left = GAP + LETTER * min(LETTERS, max(len(r.name) for r in rows))
    width = 100 - left - 2 * GAP - LETTER * max(len(r.text) for r in rows)

    def x(value: float) -> float:
        return left + width * axis.share(value)

    parts = []
    if band:
        shade = {"x": _percent(x(band[0])), "width": _percent(x(band[1]) - x(band[0]))}
        parts.append(tag("rect", y=TOP, height=bottom - TOP, class_="band", **shade))
    for value, text in axis.ticks:
        parts += [_line(x(value), TOP - 2, x(value), bottom, "grid"), _text(x(value), TOP - 8, text, "tick", "middle")]
    for value, text in marks:
        parts += [_line(x(value), 20, x(value), bottom, "mark"), _text(x(value), 14, text, "marked", "middle")]
    for number, row in enumerate(rows):
        parts += _row(row, x, left, TOP + ROW * number + ROW // 2, bars=bars)
    return _svg(ident, title, description, bottom + BOTTOM, parts)


def curve(ident: str, title: str, description: str, series: Sequence[Series], *, chosen: float, words: str) -> Html:
    """Shares of 1 over a count, a line per series named at its end; `chosen` is marked, with `words` above."""
    counts = sorted({x for s in series for x, _ in s.points})
    span = max(1.0, counts[-1] - counts[0])
    bottom = TOP + CURVE_HEIGHT

    def x(value: float) -> float:
        return CURVE_LEFT + CURVE_WIDTH * (value - counts[0]) / span

    def y(share: float) -> float:
        return bottom - CURVE_HEIGHT * min(1.0, max(0.0, share))

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_line(x(counts[0]), y(share), x(counts[-1]), y(share), "grid"))
        parts.append(_text(CURVE_LEFT - 1.5, y(share) + 4, f"{share:.0%}", "tick", "end"))
    parts += [_text(x(c), bottom + 20, f"{c:g}", "tick", "middle") for c in counts]
    parts += [_line(x(chosen), 22, x(chosen), bottom, "mark"), _text(x(chosen), 14, words, "marked", "middle")]
    ends = _spread([y(s.points[-1][1]) for s in series], gap=17)
    for one, end in zip(series, ends, strict=True):
        places = [(x(a), y(b)) for a, b in one.points]
        parts += [_line(*p, *q, f"line {one.style}") for p, q in itertools.pairwise(places)]
        parts += [_dot(*p, f"point {one.style}", 4) for p in places]
        parts.append(_text(places[-1][0] + 2, end + 4, one.name, f"series {one.style}", "start"))
    return _svg(ident, title, description, bottom + 28, parts)


def _row(row: Row, x: Callable[[float], float], left: float, y: float, *, bars: bool) -> list[Html]:
    hot = " hot" if row.hot else ""
    name = row.name if len(row.name) <= LETTERS else "…" + row.name[1 - LETTERS :]
    parts = [_text(0, y + 4, name, f"name{hot}", "start"), _text(100, y + 4, row.text, f"value{hot}", "end")]
    if row.value is None:
        return parts
    if bars:
        width = _percent(max(0.4, x(row.value) - left))
        return [*parts, tag("rect", x=_percent(left), y=y - 6, width=width, height=12, class_=f"bar{hot}")]
    if row.low is not None and row.high is not None:
        parts.append(_line(x(row.low), y, x(row.high), y, f"range{hot}"))
    parts += [_dot(x(d), y, f"trial{hot}", 3.5) for d in row.dots]
    return [*parts, _dot(x(row.value), y, f"point{hot}", 5)]


def _svg(ident: str, title: str, description: str, height: float, parts: Sequence[Html]) -> Html:
    names = tag("title", title, id=f"{ident}-title"), tag("desc", description, id=f"{ident}-desc")
    return tag(
        "svg",
        names,
        parts,
        class_="chart",
        role="img",
        width="100%",
        height=height,
        aria_labelledby=f"{ident}-title {ident}-desc",
        focusable="false",
    )


def _percent(value: float) -> str:
    return f"{value:.2f}%"


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return tag("line", x1=_percent(x1), y1=f"{y1:.1f}", x2=_percent(x2), y2=f"{y2:.1f}", class_=class_)


def _dot(x: float, y: float, class_: str, radius: float) -> Html:
    return tag("circle", cx=_percent(x), cy=f"{y:.1f}", r=radius, class_=class_)


def _text(x: float, y: float, text: str, class_: str, anchor: str) -> Html:
    return tag("text", text, x=_percent(x), y=f"{y:.1f}", class_=class_, text_anchor=anchor)


def _spread(places: Sequence[float], *, gap: float) -> list[float]:
    """Heights moved apart until none is nearer than `gap` to the one above it."""
    moved = list(places)
    previous = -math.inf
    for i in sorted(range(len(places)), key=lambda i: places[i]):
        moved[i] = previous = max(places[i], previous + gap)
    return moved

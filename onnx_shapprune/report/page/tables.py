"""Tables, and other small pieces that every section uses."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_shapprune.report.page.markup import Html, tag

Cell = str | Html


def table(
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    hot: Sequence[int] = (),
    stacked: bool = False,
) -> Html:
    """A table that scrolls by itself where it is too wide. A column whose title begins with "#" holds numbers.

    name: said to screen readers; hot: rows to look at; stacked: on narrow screens every row is a block, with the titles
    before its cells, so that no column hides beyond the edge.
    """
    numeric = ["num" if c.startswith("#") else None for c in columns]
    head = [tag("th", c.removeprefix("#"), scope="col", class_=n) for c, n in zip(columns, numeric, strict=True)]
    body = [
        tag(
            "tr",
            [
                tag("td", cell, class_=n, data_label=title.removeprefix("#") if stacked and cell else None)
                for cell, n, title in zip(row, numeric, columns, strict=True)
            ],
            class_="hot" if i in hot else None,
        )
        for i, row in enumerate(rows)
    ]
    parts = tag("caption", name), tag("thead", tag("tr", head)), tag("tbody", body)
    inner = tag("table", *parts, class_="stacked" if stacked else None)
    return tag("div", inner, class_="scroll", role="region", aria_label=name, tabindex="0")


def behind(chart: Html, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Html:
    """A chart with its numbers folded below."""
    return tag("figure", chart, tag("details", tag("summary", "The numbers"), table(name, columns, rows)))


def pairs(rows: Sequence[tuple[str, Cell]]) -> Html:
    """Names and values."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows], class_="pairs")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page, with the name under which the contents list it."""

    ident: str
    title: str
    body: Html


def section(ident: str, title: str, lead: str, *content: Html | None, note: bool = False) -> Section:
    """A part with a sentence that says how to read it. note: set apart, smaller."""
    heading = tag("h2", title, id=f"{ident}-heading")
    parts = heading, tag("p", lead, class_="lead") if lead else None
    class_ = "note" if note else None
    body = tag("section", *parts, *content, id=ident, class_=class_, aria_labelledby=f"{ident}-heading")
    return Section(ident, title, body)


def bullets(texts: Sequence[Cell]) -> Html | None:
    return tag("ul", [tag("li", t) for t in texts]) if texts else None


def code(text: str) -> Html:
    return tag("code", text)

"""index.html and summary.csv of a results folder: every model that its index knows, by the last that was found of it."""

from collections.abc import Sequence
from pathlib import Path

from onnx_shapprune.errors import OutputError
from onnx_shapprune.files.writing import write_atomically
from onnx_shapprune.fleet.results import INDEX, OUTCOMES, PAGE, Outcome, Result, read_index
from onnx_shapprune.fleet.summary import by_severity, counted, summary_csv, worst
from onnx_shapprune.report.numbers import count, p_value
from onnx_shapprune.report.page.document import columns, document
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.tables import Section, section, table
from onnx_shapprune.report.page.verdict import icon
from onnx_shapprune.report.text import plain
from onnx_shapprune.version import __version__

OVERVIEW, SUMMARY = "index.html", "summary.csv"
NAME_LIMIT, REASON_LIMIT = 120, 600
TITLES: dict[Outcome, str] = {
    "fail": "Failed",
    "could not run": "Could not run",
    "inconclusive": "Inconclusive",
    "pass": "Passed",
    "not applicable": "Not applicable",
}
LEADS: dict[Outcome, str] = {
    "fail": "A backdoor was found, the policy is not met, or the file is made to hurt whoever opens it. Do not deploy "
    "these files; each report shows the trigger and says what to do next.",
    "could not run": "Nothing was audited: nothing is known about these files. Mend what stands under Why, and run the "
    "batch again.",
    "inconclusive": "Too little is known to say anything. Do not treat these files as clean; each report says what is "
    "missing.",
    "pass": "The policy is met. What that does not cover stands in each report.",
    "not applicable": "No picture classifiers: not audited, nothing is known about these files. Check them by other means.",
}


def write_overview(folder: Path) -> None:
    """Write both files from the index; again where another batch has added to it meanwhile. Raises OutputError."""
    size = -1
    while size != (size := _size(folder / INDEX)):
        latest = list({row.model: row for row in read_index(folder)}.values())
        write_atomically(folder / SUMMARY, summary_csv(latest).encode("utf-8", "replace"))
        write_atomically(folder / OVERVIEW, overview_page(latest).encode("utf-8", "replace"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from None


def overview_page(results: Sequence[Result]) -> str:
    """A page with a table for every outcome, the worst first, and links to the reports."""
    ordered, outcome = by_severity(results), worst(results)
    counts = [f"{number} {name}" for name, number in counted(results).items() if number]
    parts = [_part(name, rows) for name in OUTCOMES if (rows := [r for r in ordered if r.outcome == name])]
    newest = max((r.finished for r in results), default="")
    return document(
        f"{outcome.upper()}: {count(len(results), 'model')}",
        tag(
            "header",
            tag("p", "shapprune batch", class_="kicker"),
            tag("h1", count(len(results), "model")),
            tag(
                "div",
                tag(
                    "div",
                    icon(_sign(outcome)),
                    tag("div", tag("p", outcome.upper(), class_="word"), tag("p", ", ".join(counts), class_="why")),
                    class_="head",
                ),
                class_=f"verdict {_sign(outcome)}",
            ),
        ),
        columns(parts),
        tag("footer", tag("p", f"Made by onnx-shapprune {__version__}; the last result is of {newest}.")),
    )


def _part(outcome: Outcome, results: Sequence[Result]) -> Section:
    rows = [_row(r) for r in results]
    shown = [title for title in rows[0] if any(row[title] for row in rows)]
    listed = table(TITLES[outcome], shown, [[row[title] for title in shown] for row in rows], stacked=True)
    ident = outcome.replace(" ", "-")
    return section(ident, f"{TITLES[outcome]}: {len(results):,}", LEADS[outcome], listed)


def _row(result: Result) -> dict[str, str | Html]:
    """Cells by the titles of their columns."""
    name = plain(result.model, limit=NAME_LIMIT)
    why = [plain(reason, limit=REASON_LIMIT) for reason in result.reasons[:1]]
    if (more := len(result.reasons) - 1) > 0:
        why.append(f"and {count(more, 'reason')} more")
    if result.same_as:
        why.append(f"same bytes as {plain(result.same_as, limit=NAME_LIMIT)}")
    return {
        "Model": tag("a", name, href=f"{result.folder}/{PAGE}") if result.folder else tag("span", name),
        "Why": "; ".join(why),
        "Target": ", ".join(map(str, result.target_classes[:8])),
        "#p": "" if result.score is None else p_value(min(1.0, 10**-result.score)),
        "Repair": result.repair.replace("_", " "),
        "sha256": tag("code", result.sha256[:8], class_="whole"),
    }


def _sign(outcome: Outcome) -> str:
    return "inconclusive" if outcome in ("could not run", "not applicable") else outcome

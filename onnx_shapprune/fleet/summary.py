"""What came of a batch, in counts, as text and as a table for a spreadsheet. The worst comes first everywhere."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence

from onnx_shapprune.fleet.results import OUTCOMES, REPORT, Outcome, Result
from onnx_shapprune.report.layout import Page
from onnx_shapprune.report.numbers import count
from onnx_shapprune.report.terminal import VERDICT_STYLES, WIDTH
from onnx_shapprune.report.text import plain

SHOWN = 50
STYLES = {**VERDICT_STYLES, "could not run": "yellow", "not applicable": "dim"}
COLUMNS = (
    "outcome",
    "model",
    "reasons",
    "target classes",
    "score",
    "repair",
    "seconds",
    "sha256",
    "report",
    "same as",
    "finished",
)
FORMULAS = ("=", "+", "-", "@")  # what a spreadsheet would take for one


def by_severity(results: Sequence[Result]) -> list[Result]:
    """The worst first, then the highest score, then by name."""
    return sorted(results, key=lambda r: (OUTCOMES.index(r.outcome), -(r.score or 0), r.model))


def worst(results: Sequence[Result]) -> Outcome:
    """What a whole batch comes to. A batch of nothing could not run."""
    return min((r.outcome for r in results), key=OUTCOMES.index, default="could not run")


def counted(results: Sequence[Result]) -> dict[Outcome, int]:
    """Models by outcome, the worst outcome first."""
    counts = Counter(r.outcome for r in results)
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def summary_line(results: Sequence[Result], *, colour: bool = False) -> str:
    page = Page(WIDTH, colour=colour)
    page.line(*_headline(results))
    return page.text()


def summary_text(results: Sequence[Result], *, width: int = WIDTH, colour: bool = False) -> str:
    """Counts, and a line for each model that has not passed; of very many, only the worst."""
    page = Page(width, colour=colour)
    page.headline(*_headline(results))
    bad = [r for r in by_severity(results) if r.outcome not in ("pass", "not applicable")]
    _listed(page, "Not passed", bad)
    _listed(
        page, "Not applicable: not audited, nothing is known", [r for r in results if r.outcome == "not applicable"]
    )
    if twins := sum(bool(r.same_as) for r in results):
        page.say(f"{count(twins, 'model')} listed twice or more: the same bytes were audited once")
    return page.text()


def _listed(page: Page, title: str, results: Sequence[Result]) -> None:
    """Models with their reasons, of very many the first."""
    if results:
        page.title(title)
    for result in results[:SHOWN]:
        page.say(f"{result.outcome}  {plain(result.model, limit=1000)}", style=STYLES[result.outcome], limit=1000)
        for reason in result.reasons:
            page.say(reason, indent=4, bullet="-", limit=1000)
    if len(results) > SHOWN:
        page.say(f"and {len(results) - SHOWN} more, see summary.csv")


def summary_json(results: Sequence[Result]) -> str:
    content = {
        "models": len(results),
        "outcomes": counted(results),
        "results": [r.model_dump(mode="json") for r in by_severity(results)],
    }
    return json.dumps(content, indent=2) + "\n"


def summary_csv(results: Sequence[Result]) -> str:
    """One row per model. Cells that a spreadsheet would run as a formula begin with a quote."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for r in by_severity(results):
        cells = (
            r.outcome,
            r.model,
            "; ".join(r.reasons),
            " ".join(map(str, r.target_classes)),
            "" if r.score is None else f"{r.score:.2f}",
            r.repair,
            f"{r.seconds:.1f}",
            r.sha256,
            f"{r.folder}/{REPORT}" if r.folder else "",
            r.same_as,
            r.finished,
        )
        clean = [plain(cell, limit=1000) for cell in cells]
        writer.writerow(f"'{cell}" if cell.startswith(FORMULAS) else cell for cell in clean)
    return text.getvalue()


def _headline(results: Sequence[Result]) -> tuple[str, str, str]:
    outcome = worst(results)
    counts = ", ".join(f"{number} {name}" for name, number in counted(results).items() if number)
    return outcome.upper(), STYLES[outcome], f"{count(len(results), 'model')}: {counts}"

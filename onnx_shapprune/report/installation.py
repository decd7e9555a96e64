"""The doctor's answer as readable text."""

from onnx_shapprune.record.installation import InstallationRecord
from onnx_shapprune.report.layout import Page
from onnx_shapprune.report.terminal import WIDTH
from onnx_shapprune.report.text import plain


def installation_text(record: InstallationRecord, *, width: int = WIDTH, colour: bool = False) -> str:
    """Whether an installation is fit to run, and why not, as text of at most `width` columns."""
    page = Page(width, colour=colour)
    word, style = ("FIT", "green") if record.fit else ("NOT FIT", "red")
    page.headline(word, style, f"onnx-shapprune {record.version}")
    marks = {"ok": ("-", ""), "note": ("-", "dim"), "problem": ("!", "red")}
    for fact in record.facts:
        mark, paint = marks[fact.outcome]
        page.say(f"{fact.name}: {plain(fact.value, limit=400)}", bullet=mark, style=paint)
        if fact.advice:
            page.say(fact.advice, indent=6)
    return page.text()

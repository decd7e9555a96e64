"""Which preparation of the pictures fits, as readable text: what to paste first, then all that was tried."""

from onnx_shapprune.record.fit import FitRecord, FitRow
from onnx_shapprune.report.layout import Column, Page
from onnx_shapprune.report.numbers import count, percent
from onnx_shapprune.report.terminal import WIDTH, file_list
from onnx_shapprune.report.text import plain, some

SHOWN = 10
DEFAULT = "(no option: the default)"
UNDECIDED = "Add labelled pictures until one is left, or audit with each of them and go by the worst verdict."


def fit_text(record: FitRecord, *, width: int = WIDTH, colour: bool = False) -> str:
    """The settings that were tried as text of at most `width` columns; options to paste stand on lines of their own."""
    page = Page(width, colour=colour)
    page.headline(*_outcome(record), record.model.name)
    page.say(record.reason, bullet="-")
    labels = "no labels" if record.guess else f"labels: {record.label_source}"
    page.title(f"Settings by {'how sure and steady the model is' if record.guess else 'accuracy'}")
    page.say(f"{count(record.pictures, 'picture')}, {labels}, {record.classes} classes", style="dim")
    shown = record.rows[:SHOWN]
    titles = ("sure", "on noise", "steady") if record.guess else ("right", "accuracy", "95 % bounds")
    columns = [Column(title="#"), *(Column(title=t) for t in titles), Column(title="order")]
    setting = Column(title="setting", right=False, elastic=True)
    rows = [[str(i + 1), *_numbers(r, record), r.channel_order, _name(r)] for i, r in enumerate(shown)]
    page.table([*columns, setting], rows, style=lambda i: "green" if record.best == shown[i] else "")
    if len(record.rows) > SHOWN:
        page.say(f"and {len(record.rows) - SHOWN} that do no better")
    page.title("Options to paste")
    chosen = [i for i in range(len(shown)) if i == 0 or i in record.alike]
    for i in chosen if record.best is not None else range(min(3, len(shown))):
        page.say(record.rows[i].options or DEFAULT, bullet=f"{i + 1}:")
    if record.alike:
        page.say(UNDECIDED, style="dim")
    if record.metadata:
        page.title("The file's metadata says, which nobody checked")
        page.pairs([(plain(m.key, limit=30), m.value) for m in record.metadata[:SHOWN]])
    if record.class_names:
        page.say(f"{count(len(record.class_names), 'class name')}: {some(record.class_names)}")
    file_list(page, [record.model])
    return page.text()


def fit_line(record: FitRecord, *, colour: bool = False) -> str:
    """One line, however long."""
    page = Page(WIDTH, colour=colour)
    page.line(*_outcome(record), record.reason)
    return page.text()


def _outcome(record: FitRecord) -> tuple[str, str]:
    if record.none_fits:
        return "NONE FITS", "red"
    if record.guess:
        return "A GUESS", "yellow"
    return "FITS" if not record.alike else f"{len(record.alike) + 1} FIT ALIKE", "green"


def _numbers(row: FitRow, record: FitRecord) -> list[str]:
    if row.failed:
        return ["NaN", "-", "-"]
    if record.guess or row.bounds is None:
        return [percent(v, 0) for v in (row.confidence, row.on_noise, row.agreement)]
    low, high = row.bounds
    return [f"{row.right}", percent(row.accuracy, 0), f"{percent(low, 0)} to {percent(high, 0)}"]


def _name(row: FitRow) -> str:
    return row.name if "--layout" not in row.options else f"{row.name}, {row.layout}"

"""Channel values as readable text, and as a table for other programs."""

import csv
import io

from onnx_shapprune.record.audit import EstimatePart
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.record.values import ValuesRecord
from onnx_shapprune.report.layout import Column, Page
from onnx_shapprune.report.numbers import count, percent, signed
from onnx_shapprune.report.terminal import WIDTH, file_list
from onnx_shapprune.report.text import plain, some

SHOWN = 20
HEADER = ("rank", "layer", "channel", "value", "standard_error", "low", "high", "backdoor", "clean")


def values_text(record: ValuesRecord, *, width: int = WIDTH, colour: bool = False, details: bool = False) -> str:
    """The best channels as text of at most `width` columns; details: all of them."""
    page = Page(width, colour=colour)
    page.headline(*_outcome(record), record.model.name)
    if record.reason:
        page.say(record.reason, bullet="-")
        return page.text()
    ranked, estimate = record.units.ranked, record.estimate
    assert estimate is not None
    page.say(f"{_triggers(record)}; {_players(record)}.")
    shown = ranked if details else ranked[:SHOWN]
    page.title(f"Channels by Shapley value (top {len(shown)} of {len(ranked):,} that played)")
    columns = [
        Column(title="#"),
        Column(title="layer", right=False, elastic=True),
        *(Column(title=t) for t in ("ch", "value", "95 % interval", "backdoor", "clean")),
    ]
    rows = [
        [
            str(i),
            u.layer,
            str(u.channel),
            signed(u.value),
            f"{signed(u.interval[0])} .. {signed(u.interval[1])}",
            signed(u.backdoor),
            signed(u.clean),
        ]
        for i, u in enumerate(shown, 1)
    ]
    page.table(columns, rows, style=lambda i: "bold" if shown[i].interval[0] > 0 else "")
    if len(ranked) > len(shown):
        page.say(f"and {len(ranked) - len(shown):,} more: -v, --csv and -o have all", style="dim")
    page.say("backdoor, clean: what those parts lose when this channel alone is off. Bold: the interval is above 0.")
    page.title("How they were estimated")
    for words in _estimated(estimate, record.seed):
        page.say(words, bullet="-")
    for warning in record.warnings:
        page.say(warning, bullet="!", style="yellow")
    file_list(page, [FileDigest(name=record.model.name, size=record.model.size, sha256=record.model.sha256)])
    return page.text()


def values_line(record: ValuesRecord, *, colour: bool = False) -> str:
    """One line, however long."""
    page = Page(WIDTH, colour=colour)
    best = "; ".join(f"{plain(u.layer)}:{u.channel} {signed(u.value)}" for u in record.units.ranked[:3])
    page.line(*_outcome(record), record.reason or f"{record.model.name}: {best}")
    return page.text()


def values_csv(record: ValuesRecord) -> str:
    """A row for each channel that played, the best first. The name of a layer comes out of the file: one that a spreadsheet
    would take for a formula gets an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for rank, u in enumerate(record.units.ranked, 1):
        name = plain(u.layer)
        safe = f"'{name}" if name[:1] in tuple("=+-@") else name
        numbers = (u.value, u.standard_error, *u.interval, u.backdoor, u.clean)
        writer.writerow((rank, safe, u.channel, *(f"{n:.6g}" for n in numbers)))
    return text.getvalue()


def _outcome(record: ValuesRecord) -> tuple[str, str]:
    return ("NO VALUES", "yellow") if record.reason else ("VALUES", "green")


def _triggers(record: ValuesRecord) -> str:
    names = record.model.class_names
    targets = some([names[t] if t < len(names) else f"class {t}" for t in record.targets])
    kind = "the known trigger" if record.known_trigger else count(record.triggers, "recovered trigger")
    return f"{kind[:1].upper()}{kind[1:]} towards {targets}"


def _players(record: ValuesRecord) -> str:
    number, total = len(record.units.ranked), record.units.total
    within = f" of {some(record.played)}" if record.played else ""
    return (
        f"{number:,} of {total:,} channels played{within}, the others stayed on"
        if number < total
        else (f"all {total:,} channels played")
    )


def _estimated(estimate: EstimatePart, seed: int) -> list[str]:
    """Everything that is needed to say what the numbers are, and to get them again."""
    worth = f"backdoor - {estimate.clean_weight:g} x clean" if estimate.value == "dual" else estimate.value
    lines = [
        f"{estimate.method}; a coalition is worth: {worth}",
        f"{count(estimate.permutations, 'walk')}, {estimate.evaluations:,} coalitions, seed {seed}, ended by "
        f"{estimate.stopped}",
        f"the values add up to {signed(estimate.full_value - estimate.end_value)}: {signed(estimate.full_value)} with all "
        f"on, {signed(estimate.end_value)} where walks ended",
    ]
    if estimate.discard_threshold is not None or estimate.epsilon is not None:
        lines.append(
            f"a ranking, no Shapley value: {percent(estimate.zeroed_share, 0)} of the contributions count as zero, since "
            f"{count(estimate.discarded_walks, 'walk')} ended early; --discard-threshold off --epsilon off for the value"
        )
    return lines

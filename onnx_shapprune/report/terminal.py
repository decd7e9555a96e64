"""Audits and comparisons as readable text: the verdict first, then the evidence, what was done, and what it was done to.

Pure functions, record in and text out. Nothing is computed here that is not in the record.
"""

from collections.abc import Mapping, Sequence

from onnx_shapprune.record.audit import (
    AuditRecord,
    ClassPart,
    CompactPart,
    LayerChange,
    RoundPart,
    UnitsPart,
    VerifyRecord,
)
from onnx_shapprune.record.parts import FileDigest, Rates
from onnx_shapprune.report.changes import (
    COST_OF_DRAWN,
    LAYER_COLUMNS,
    OTHER_WEIGHTS,
    layer_rows,
    method_words,
    unlearnt,
    weights_in_fits,
)
from onnx_shapprune.report.layout import Column, Page
from onnx_shapprune.report.numbers import count, number, percent, signed
from onnx_shapprune.report.screen import REASONS, first_screen, where_more_is
from onnx_shapprune.report.subject import compared_with, unchecked
from onnx_shapprune.report.text import plain, some

WIDTH = 80
SHOWN_CLASSES = 20
SHOWN_UNITS = 12
VERDICT_STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow"}
REPAIR_WORDS = {
    "repaired": ("REPAIRED", "green"),
    "not_repaired": ("NOT REPAIRED", "red"),
    "nothing_to_repair": ("nothing to repair", "green"),
    "not_tried": ("not tried", "dim"),
}


def verdict_text(record: AuditRecord | VerifyRecord, *, colour: bool = False) -> str:
    """One line, however long: the verdict, or the outcome of a repair where there was one."""
    page = Page(WIDTH, colour=colour)
    reason = record.reasons[0] if record.reasons else ""
    if isinstance(record, AuditRecord) and record.repair.status in ("repaired", "not_repaired"):
        word, style, about = _outcome(record, "")
        page.line(word, style, f"{about}: {record.repair.reason or reason}")
    else:
        parts = (reason, unchecked(record))
        page.line(record.verdict.upper(), VERDICT_STYLES[record.verdict], "; ".join(p for p in parts if p))
    return page.text()


def audit_text(record: AuditRecord, *, width: int = WIDTH, colour: bool = False, details: bool = True) -> str:
    """An audit, and its repair where one was asked for, as text of at most `width` columns, but for commands to paste.

    details: all tables behind the first screen.
    """
    page = Page(width, colour=colour)
    _headline(page, record)
    first_screen(page, record)
    if not details:
        where_more_is(page, record)
        return page.text()
    model = record.model
    shape = "x".join(map(str, model.input_shape))
    if len(record.reasons) > REASONS or record.repair.status == "repaired":
        page.title("Why")
        for reason in record.reasons:
            page.say(reason, bullet="-")
    page.title("Audited")
    page.pairs(
        [
            (
                "model",
                f"{shape} {model.layout}, {model.classes} classes, opset {model.opset}, {model.parameters:,} "
                f"parameters, {record.units.total:,} units in {record.units.layers} layers",
            ),
            (
                "pictures",
                f"{record.data.pictures} of {record.data.classes_covered} classes, labels: "
                f"{_label_source(record.data.label_source)}",
            ),
            (
                "run",
                f"seed {record.seed}, {record.environment.device}, {_threads(record.environment.threads)}, "
                f"{record.evaluations:,} evaluations",
            ),
        ]
    )
    _compared(page, record)
    _classes(page, record.classes, said=record.reasons)
    _unlearnt(page, record)
    _units(page, record.units)
    _repair(page, record)
    _rates(page, record)
    digests = [FileDigest(name=model.name, size=model.size, sha256=model.sha256), *model.external]
    if record.repair.output is not None:
        digests += [record.repair.output, *record.repair.output_external]
    file_list(page, digests)
    if record.artifacts:
        page.say(f"artifacts: {some([a.name for a in record.artifacts])}")
    _seconds(page, record.seconds, record.peak_memory_mb)
    _warnings(page, record.warnings)
    return page.text()


def verify_text(record: VerifyRecord, *, width: int = WIDTH, colour: bool = False, details: bool = True) -> str:
    """A comparison of two files as text of at most `width` columns; details: as in `audit_text`."""
    page = Page(width, colour=colour)
    names = f"{plain(record.before_model.name, limit=60)} -> {plain(record.after_model.name, limit=60)}"
    page.headline(record.verdict.upper(), VERDICT_STYLES[record.verdict], names)
    first_screen(page, record)
    if not details:
        where_more_is(page, record)
        return page.text()
    page.title("What changed")
    by_layer: dict[str, list[str]] = {}
    for unit in record.zeroed:
        by_layer.setdefault(unit.layer, []).append(str(unit.channel))
    page.say(
        f"off in the second file only: {count(len(record.zeroed), 'unit')}" if by_layer else "no unit was switched off"
    )
    for layer, channels in by_layer.items():
        page.say(f"{plain(layer, limit=80)}: {', '.join(channels)}", indent=4)
    _layers(page, record.realigned)
    if record.changed:
        page.say(f"{count(len(record.changed), 'constant')} changed: {some(record.changed)}")
    for change in record.other_changes:
        page.say(f"beyond the units: {plain(change)}", style="yellow")
    page.say(f"both files give the same class on {percent(record.agreement)} of the clean pictures")
    _compared(page, record)
    _classes(page, record.classes, title="Triggers found in the second file", said=record.reasons)
    _unlearnt(page, record)
    _rates(page, record)
    file_list(page, [record.before_model, record.after_model])
    _seconds(page, record.seconds, None)
    return page.text()


def _compared(page: Page, record: AuditRecord | VerifyRecord) -> None:
    if words := compared_with(record):
        page.say(f"compared with the clean models of a calibration: {words}", style="dim")


def rates_text(before: Rates, after: Rates | None, *, width: int = WIDTH, colour: bool = False) -> str:
    """Accuracy, attack success and recovered accuracy, before and after."""
    page = Page(width, colour=colour)
    _rate_table(page, before, after)
    return page.text()


def _headline(page: Page, record: AuditRecord) -> None:
    page.headline(*_outcome(record, plain(record.model.name, limit=50) + " "))


def _outcome(record: AuditRecord, name: str) -> tuple[str, str, str]:
    """What the run came to, as a word, its style, and words about the file: of a repair, not the verdict on its input."""
    status, written = record.repair.status, record.repair.output is not None
    if status == "repaired":
        if not written:
            return "DRY RUN, nothing written", "yellow", f"{name}(the input is backdoored, and can be repaired)"
        return "REPAIRED", "green", f"{name}(the input was backdoored)"
    if status == "not_repaired":
        about = "the best effort was written" if written else "nothing was written"
        return "NOT REPAIRED", "red", f"{name}(the input is backdoored, {about})"
    remark = f"({said})" if (said := unchecked(record)) else ""
    return record.verdict.upper(), VERDICT_STYLES[record.verdict], f"{name}{remark}".rstrip()


def _classes(page: Page, classes: Sequence[ClassPart], *, title: str = "Classes", said: Sequence[str] = ()) -> None:
    """said: reasons that stand above already."""
    if not classes:
        return
    page.title(title)
    shown = list(classes)
    if len(shown) > SHOWN_CLASSES:
        shown = sorted(shown, key=lambda c: (not c.suspicious, -(c.index or 0), -(c.margin_index or 0)))[:SHOWN_CLASSES]
        shown.sort(key=lambda c: c.index_of_class)
    columns = [
        Column(title="class", right=False, elastic=True),
        Column(title="norm"),
        Column(title="ASR"),
        Column(title="index"),
        Column(title="margin"),
        Column(title="m.index"),
        Column(title="", right=False),
    ]
    rows = []
    for part in shown:
        mark = "TARGET" if part.suspicious else "" if part.success else "no trigger"
        name = f"{part.index_of_class} {plain(part.name, limit=60)}".rstrip()
        if part.name == str(part.index_of_class):
            name = part.name
        numbers = [
            number(part.norm),
            percent(part.asr),
            number(part.index),
            number(_margin(part.compact)),
            number(part.margin_index),
        ]
        rows.append([name, *numbers, mark])
    page.table(columns, rows, style=lambda i: "red" if shown[i].suspicious else "")
    if len(shown) < len(classes):
        page.say(f"and {len(classes) - len(shown)} classes with lower indices")
    page.say(
        "norm: L1 of the smallest mask found, in pixels; index: its anomaly (low side); margin: mean logit lead of "
        " the best square patch; m.index: its anomaly (high side)",
        style="dim",
    )
    for part in classes:
        reasons = "; ".join(r for r in part.reasons if r not in said)
        if part.suspicious and reasons:
            page.say(f"class {part.index_of_class}: {plain(reasons, limit=400)}")


def _unlearnt(page: Page, record: AuditRecord | VerifyRecord) -> None:
    for words in unlearnt(record):
        page.say(words)


def _margin(compact: Sequence[CompactPart]) -> float | None:
    return max((c.margin for c in compact), default=None)


def _units(page: Page, units: UnitsPart) -> None:
    if not units.ranked:
        return
    page.title(f"Units by Shapley value (top {min(SHOWN_UNITS, len(units.ranked))} of {len(units.ranked):,} estimated)")
    off = {(u.layer, u.channel) for u in units.off}
    shown = units.ranked[:SHOWN_UNITS]
    columns = [
        Column(title="layer", right=False, elastic=True),
        Column(title="ch"),
        Column(title="value"),
        Column(title="95 % interval"),
        Column(title="backdoor"),
        Column(title="clean"),
        Column(title="", right=False),
    ]
    rows = [
        [
            u.layer,
            str(u.channel),
            signed(u.value),
            f"{signed(u.interval[0])} .. {signed(u.interval[1])}",
            signed(u.backdoor),
            signed(u.clean),
            "off" if (u.layer, u.channel) in off else "",
        ]
        for u in shown
    ]
    page.table(columns, rows)


def _repair(page: Page, record: AuditRecord) -> None:
    repair, units = record.repair, record.units
    if repair.status == "not_tried" and not repair.rounds and not units.off:
        return
    page.title("Repair")
    word, style = REPAIR_WORDS[repair.status]
    if repair.status == "repaired" and repair.output is None:
        word = "would be repaired: DRY RUN, nothing written"
    page.say(word, style=style)
    if repair.reason:
        page.say(repair.reason)
    if words := method_words(repair):
        page.say(words)
    if repair.rounds:
        columns = [Column(title=t) for t in ("round", "off", "ACC", "cost", "known ASR", "new ASR", "margin")]
        page.table([*columns, Column(title="search", right=False)], round_rows(repair.rounds))
        for n, r in enumerate(repair.rounds, 1):
            if r.note:
                page.say(f"round {n}: {plain(r.note)}")
        if record.data.drawn:
            page.say(COST_OF_DRAWN, style="yellow")
        if words := weights_in_fits(repair.rounds):
            page.say(words, style="dim")
    if units.off:
        by_layer: dict[str, list[str]] = {}
        for unit in units.off:
            by_layer.setdefault(unit.layer, []).append(str(unit.channel))
        share = len(units.off) / units.total if units.total else 0.0
        page.say(f"{len(units.off)} of {units.total:,} units off ({percent(share)}):")
        for layer, channels in by_layer.items():
            page.say(f"{plain(layer, limit=80)}: {', '.join(channels)}", indent=4)
    _layers(page, repair.layers)
    if repair.masked_vs_baked is not None:
        file = "written file" if repair.output is not None else "repaired copy, which was not written,"
        page.say(f"what was searched and the {file} agree to {repair.masked_vs_baked:.1e}")


def _layers(page: Page, layers: Sequence[LayerChange]) -> None:
    """Layers with other weights, and how far these lie from the old ones."""
    if not layers:
        return
    page.say(f"{OTHER_WEIGHTS}:")
    names = [(c, c.removeprefix("#").lower()) for c in LAYER_COLUMNS]
    columns = [Column(title=t, right=c != t.capitalize(), elastic=t == "layer") for c, t in names]
    page.table(columns, layer_rows(layers))


def round_rows(rounds: Sequence[RoundPart]) -> list[list[str]]:
    """Rounds of a repair as cells: number, units off, ACC, clean cost, known and new ASR, new margin, what was found."""
    return [
        [
            str(n),
            str(r.off),
            percent(r.acc),
            percent(r.clean_cost),
            percent(r.known_asr),
            percent(r.asr),
            number(r.margin),
            "still found" if r.still_found else "no trigger",
        ]
        for n, r in enumerate(rounds, 1)
    ]


def _rates(page: Page, record: AuditRecord | VerifyRecord) -> None:
    page.title("On the clean pictures, with the triggers found")
    before, said = record.before, unchecked(record)
    if said:  # the model agrees with itself, which is no accuracy
        before = before.model_copy(update={"acc": None})
    _rate_table(page, before, record.after)
    if said:
        page.say(f"{said}: no labels say whether the model was fed as it was trained", style="yellow")


def _rate_table(page: Page, before: Rates, after: Rates | None) -> None:
    rows = [("before", before), ("after", after)] if after is not None else [("now", before)]
    columns = [
        Column(title="", right=False),
        Column(title="ACC"),
        Column(title="ASR"),
        Column(title="R-Acc"),
        Column(title="pictures"),
        Column(title="triggered"),
    ]
    table = [
        [name, percent(r.acc), percent(r.asr), percent(r.racc), str(r.pictures), str(r.triggered)] for name, r in rows
    ]
    page.table(columns, table)


def file_list(page: Page, files: Sequence[FileDigest]) -> None:
    """Add the section of the files that took part."""
    page.title("Files")
    for file in files:
        page.say(f"{plain(file.name, limit=100)}  {file.size:,} bytes")
        page.say(f"sha256 {file.sha256}", style="dim")


def _seconds(page: Page, seconds: Mapping[str, float], memory: float | None) -> None:
    stages = {k: v for k, v in seconds.items() if k != "total"}
    if not stages:
        return
    total = seconds.get("total", sum(stages.values()))
    parts = [f"{plain(k, limit=40)} {v:.1f} s ({percent(v / total if total else 0.0, 0)})" for k, v in stages.items()]
    page.title(f"Time: {total:.1f} s" + (f", peak memory {memory:,.0f} MB" if memory else ""))
    page.say(", ".join(parts))


def _warnings(page: Page, warnings: Sequence[str]) -> None:
    if warnings:
        page.title("Warnings")
        for warning in warnings:
            page.say(warning, bullet="!", style="yellow")


def _label_source(source: str) -> str:
    return {"model": "the model's own answers (none were given)", "folder": "folder names"}.get(source, source)


def _threads(number: int) -> str:
    return count(number, "thread") if number else "all threads"

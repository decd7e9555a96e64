"""Before and after, the channels that carry the backdoor, and what was switched off."""

from collections.abc import Sequence

from onnx_shapprune.gate.evidence import Record
from onnx_shapprune.record.audit import AuditRecord, ClaimPart, LayerChange, VerifyRecord
from onnx_shapprune.record.parts import Rates, UnitRef
from onnx_shapprune.report.changes import (
    COST_OF_DRAWN,
    LAYER_COLUMNS,
    METHODS,
    OTHER_WEIGHTS,
    layer_rows,
    method_words,
    weights_in_fits,
)
from onnx_shapprune.report.numbers import count, p_value, percent, signed, wilson
from onnx_shapprune.report.page.charts import Axis, Row, Series, curve, row_chart
from onnx_shapprune.report.page.heat import heat
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.tables import Section, behind, bullets, code, section, table
from onnx_shapprune.report.subject import class_name
from onnx_shapprune.report.terminal import REPAIR_WORDS, round_rows

DRAWN = 12  # channels with their intervals; the colours above and the table below show all
SHARES = Axis(0.0, 1.0, ((0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")))


def rates(record: Record) -> Section | None:
    """Accuracy and attack success with Wilson intervals."""
    named = (
        [("before", record.before)] if record.after is None else [("before", record.before), ("after", record.after)]
    )
    rows = [r for which in ("ACC", "ASR", "R-Acc") for r in (_rate(which, name, rates) for name, rates in named) if r]
    if not rows:
        return None
    chart = row_chart(
        "rates",
        "Accuracy and attack success",
        "Shares of the pictures with their 95 % intervals.",
        [row for row, _ in rows],
        SHARES,
    )
    return section(
        "rates",
        "Before and after" if record.after else "Rates",
        "On the pictures given, with the triggers that were found. ACC: clean pictures answered right. ASR: triggered "
        "pictures that go where the trigger leads. R-Acc: triggered pictures that still get their own class. Lines are 95 % "
        "intervals (Wilson).",
        _beside(record) if isinstance(record, AuditRecord) else None,
        behind(chart, "Rates", ("Rate", "#Value", "#95 % interval", "#Pictures"), [numbers for _, numbers in rows]),
        _difference(record),
    )


def _beside(record: AuditRecord) -> Html | None:
    """What is known of the file before the repair and of the one after it, side by side."""
    after, part = record.after, record.repair
    if after is None:
        return None
    changed = part.output.name if part.output else "the repaired copy, not written"
    lost = percent(part.rounds[-1].clean_cost) if part.rounds else "-"
    lost = "not known without pictures" if record.data.drawn else lost
    held = "no class is named" if part.status == "repaired" else "it does not hold"
    rows: list[tuple[str, str, str]] = [
        ("Audit", f"{record.verdict}, class {', '.join(class_name(record, t) for t in record.target_classes)}", held),
        ("Strongest evidence, p", p_value(_strongest(record.claims)), p_value(_strongest(part.claims))),
        ("ACC", percent(record.before.acc, 0), percent(after.acc, 0)),
        ("ASR of the triggers found", percent(record.before.asr, 0), percent(after.asr, 0)),
        ("R-Acc", percent(record.before.racc, 0), percent(after.racc, 0)),
        ("Clean answers lost, estimated", "", lost),
        ("Layers with other weights", "0", str(len(part.layers))),
        ("Units on", f"{record.units.total:,}", f"{record.units.total - len(record.units.off):,}"),
    ]
    return table("The file before and after the repair", ("", f"#{record.model.name}", f"#{changed}"), rows)


def _strongest(claims: Sequence[ClaimPart]) -> float | None:
    return min((c.p_value for c in claims), default=None)


def channels(record: AuditRecord) -> Section | None:
    """The ranking by Shapley value."""
    if not record.units.ranked:
        return None
    off = {(u.layer, u.channel) for u in record.units.off}
    ranked = record.units.ranked
    low = min(0.0, *(u.interval[0] for u in ranked[:DRAWN]))
    high = max(u.interval[1] for u in ranked[:DRAWN])
    high = high if high > low else low + 1.0
    rows = [
        Row(
            name=f"{u.layer} {u.channel}",
            value=u.value,
            low=u.interval[0],
            high=u.interval[1],
            text=("off " if (u.layer, u.channel) in off else "") + f"{u.value:+.3f}",
            hot=(u.layer, u.channel) in off,
        )
        for u in ranked[:DRAWN]
    ]
    chart = row_chart(
        "shapley",
        "Shapley values of the channels",
        "Estimates with their 95 % intervals, the largest first.",
        rows,
        Axis(low, high, ((low, f"{low:+.2f}"), (high, f"{high:+.2f}")) if low < 0 else ((high, f"{high:+.2f}"),)),
        marks=[(0.0, "0")],
    )
    numbers = [
        [
            u.layer,
            str(u.channel),
            signed(u.value),
            f"{signed(u.interval[0])} to {signed(u.interval[1])}",
            signed(u.backdoor),
            signed(u.clean),
            "off" if (u.layer, u.channel) in off else "",
        ]
        for u in ranked
    ]
    columns = ("Layer", "#Channel", "#Value", "#95 % interval", "#Backdoor", "#Clean", "Switched off")
    return section(
        "channels",
        "Channels that carry it",
        "How much of the backdoor each channel carries, by Shapley value: backdoor "
        "strength minus what clean pictures lose." + (" Those marked off are switched off." if off else ""),
        heat(record.units),
        behind(chart, "Shapley values", columns, numbers),
        _estimate(record),
    )


def repair(record: AuditRecord) -> Section | None:
    """The rounds, the curve over them, the channels per layer, and the layers with other weights."""
    part = record.repair
    if part.status == "not_tried" and not part.rounds:
        return None
    columns = ("#Round", "#Off", "#ACC", "#Clean cost", "#Known ASR", "#New ASR", "#New margin", "Search")
    status = tag("p", tag("strong", REPAIR_WORDS[part.status][0]), f": {part.reason}.")
    drawn = behind(_curve(record), "Rounds", columns, round_rows(part.rounds)) if part.rounds else None
    done = METHODS[part.method or "prune"]
    lead = f"In rounds, {done}; after each, an adversary searches the file again."
    lead += f" {COST_OF_DRAWN}" if record.data.drawn else ""
    method, weights = method_words(part), weights_in_fits(part.rounds)
    return section(
        "repair",
        "Repair",
        lead if part.rounds else "What the repair did.",
        status,
        tag("p", f"{method[:1].upper()}{method[1:]}.") if method else None,
        drawn,
        tag("p", f"{weights[:1].upper()}{weights[1:]}.", class_="small") if weights else None,
        _layers(record.units.off),
        _other_weights(part.layers),
    )


def changes(record: VerifyRecord) -> Section:
    """What differs between two files."""
    other = [f"Beyond the channels: {o}" for o in record.other_changes]
    changed = tag("p", f"{count(len(record.changed), 'constant')} changed: ", ", ".join(record.changed[:40]), ".")
    return section(
        "changes",
        "What changed",
        "The second file compared with the first. A repair switches channels off, or gives linear layers other weights; "
        "anything else is suspicious.",
        tag("p", f"Both files give the same class on {percent(record.agreement)} of the clean pictures."),
        _layers(record.zeroed) or tag("p", "No channel was switched off."),
        _other_weights(record.realigned),
        changed if record.changed else None,
        bullets(other),
    )


def _rate(which: str, when: str, rates: Rates) -> tuple[Row, list[str]] | None:
    value, trials = {
        "ACC": (rates.acc, rates.pictures),
        "ASR": (rates.asr, rates.triggered),
        "R-Acc": (rates.racc, rates.triggered),
    }[which]
    if value is None:
        return None
    low, high = wilson(value, trials)
    row = Row(name=f"{which} {when}", value=value, low=low, high=high, text=percent(value, 0))
    return row, [f"{which} {when}", percent(value), f"{percent(low)} to {percent(high)}", str(trials)]


def _difference(record: Record) -> Html | None:
    """The numeric check of a repair: run with masks, and read back from the written file."""
    if not isinstance(record, AuditRecord) or record.repair.masked_vs_baked is None:
        return None
    return tag(
        "p",
        f"Largest difference between the logits that were measured and those of the written file: "
        f"{record.repair.masked_vs_baked:.1e}.",
        class_="small",
    )


def _estimate(record: AuditRecord) -> Html | None:
    e = record.estimate
    if e is None:
        return None
    rest = (e.full_value - e.end_value) - sum(u.value for u in record.units.ranked)
    return tag(
        "p",
        f"Estimated by {e.method}: {count(e.permutations, 'order')} of {e.players} channels, {e.evaluations:,} "
        f"coalitions, {e.discarded_walks} cut short. Efficiency residual: the values shown miss v(all) - v(none) = "
        f"{e.full_value - e.end_value:+.3f} by {abs(rest):.3f}.",
        class_="small",
    )


def _curve(record: AuditRecord) -> Html:
    """Accuracy and attack success over the number of channels that are off, or over rounds that switch none off."""
    before, rounds = record.before, record.repair.rounds
    by_round = not any(r.off for r in rounds)
    counts = [0, *(n if by_round else r.off for n, r in enumerate(rounds, 1))]
    lines: list[tuple[str, str, list[float | None]]] = [
        ("ACC", "first", [before.acc, *(r.acc for r in rounds)]),
        ("known ASR", "second", [before.asr, *(r.known_asr for r in rounds)]),
        ("new ASR", "third", [before.asr, *(r.asr for r in rounds)]),
    ]
    series = [
        Series(
            name=name,
            style=style,
            points=tuple((float(x), y) for x, y in zip(counts, ys, strict=True) if y is not None),
        )
        for name, style, ys in lines
        if any(y is not None for y in ys)
    ]
    chosen = len(rounds) if by_round else len(record.units.off)
    return curve(
        "curve",
        f"Accuracy and attack success over {'rounds' if by_round else 'channels off'}",
        "Known ASR: of triggers found before. New ASR: of the best trigger that a new search found after the round.",
        series,
        chosen=chosen,
        words=f"after round {chosen}" if by_round else f"chosen: {chosen} off",
    )


def _layers(units: Sequence[UnitRef]) -> Html | None:
    """Channels that are off, per layer, in the order chosen."""
    by_layer: dict[str, list[str]] = {}
    for unit in units:
        by_layer.setdefault(unit.layer, []).append(str(unit.channel))
    rows = [[code(layer), str(len(channels)), ", ".join(channels)] for layer, channels in by_layer.items()]
    return table("Channels switched off", ("Layer", "#Off", "Channels"), rows) if rows else None


def _other_weights(layers: Sequence[LayerChange]) -> Html | None:
    """Layers with other weights, and how far these lie from the old ones."""
    rows = [[code(name), *cells] for name, *cells in layer_rows(layers)]
    return table(OTHER_WEIGHTS, LAYER_COLUMNS, rows) if rows else None

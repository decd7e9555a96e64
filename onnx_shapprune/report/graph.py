"""What a file is, as readable text: its interface, units, operators and oddities, and the masks of a masked graph."""

import shlex
from collections.abc import Sequence

from onnx_shapprune.record.graph import InspectRecord, MaskRecord
from onnx_shapprune.report.layout import Column, Page
from onnx_shapprune.report.numbers import count
from onnx_shapprune.report.terminal import WIDTH, file_list
from onnx_shapprune.report.text import plain, some


def inspect_text(
    record: InspectRecord, *, width: int = WIDTH, colour: bool = False, following: Sequence[str] = ()
) -> str:
    """What a file is, as text of at most `width` columns. following: the command that comes next, where there is one."""
    page = Page(width, colour=colour)
    word, style = ("READABLE", "green") if record.readable else ("NOT READABLE", "red")
    if hostile(record):
        word = "HOSTILE"
    page.headline(word, style, record.model.name)
    if record.reason:
        page.say(record.reason)
    page.title("Model")
    rows = [("producer", record.producer or "not said"), ("opsets", ", ".join(f"{k} {v}" for k, v in _opsets(record)))]
    rows += [("input", f"{plain(t.name, limit=60)}  {t.type} {_shape(t.shape)}") for t in record.inputs]
    rows += [("output", f"{plain(t.name, limit=60)}  {t.type} {_shape(t.shape)}") for t in record.outputs]
    rows.append(("layout", record.layout or "unknown"))
    rows.append(("classes", str(record.classes) if record.classes else "not readable from the graph"))
    rows.append(("parameters", "not counted" if record.parameters is None else f"{record.parameters:,}"))
    page.pairs(rows)
    if record.way:
        page.say(record.way)
    page.title(f"Operators ({sum(record.ops.values()):,})")
    page.say(", ".join(f"{plain(op, limit=40)} {n}" for op, n in record.ops.items()), limit=4000)
    if record.layers:
        page.title(f"Units: {record.units:,} in {count(len(record.layers), 'layer')}")
        columns = [Column(title="layer", right=False, elastic=True), Column(title="op", right=False)]
        page.table([*columns, Column(title="units")], [[u.name, u.op, str(u.channels)] for u in record.layers])
    if record.refused:
        page.title("Layers without units")
        for refused in record.refused:
            page.say(f"{plain(refused.name, limit=60)} ({refused.op}): {plain(refused.reason)}")
    page.title("Operators without a gradient rule")
    if record.no_gradient is None:
        page.say("not looked up")
    elif record.no_gradient:
        for op, nodes in record.no_gradient.items():
            page.say(f"{plain(op, limit=40)}: {some(nodes)}", style="yellow")
    else:
        page.say("none")
    page.title("Findings")
    for finding in record.findings:
        rule = f"{finding.rule} {finding.level}: " if finding.rule else ""
        page.say(rule + finding.text, bullet="-" if finding.level == "note" else "!")
    if not record.findings:
        page.say("none")
    file_list(page, [record.model, *record.external])
    if following:
        page.blank()
        page.say("-> Look for a backdoor, with clean pictures:", style="bold")
        page.paste(shlex.join(following))
    return page.text()


def hostile(record: InspectRecord) -> bool:
    """Whether a file is refused for what stands in it."""
    return any(f.level in ("high", "critical") for f in record.findings)


def mask_text(record: MaskRecord, *, width: int = WIDTH, colour: bool = False) -> str:
    """What a masked graph takes and gives, as text of at most `width` columns."""
    page = Page(width, colour=colour)
    page.headline("MASKED", "green", record.model.name)
    batch = "N" if record.batch_free else "1"
    page.pairs(
        [
            ("input", f"{record.input}  float32 [{', '.join([batch, *map(str, record.input_shape)])}] {record.layout}"),
            ("output", f"{record.output}  logits float32 [{batch}, {record.classes}]"),
        ]
    )
    page.title(f"Masks: {sum(m.channels for m in record.masks):,} units, all on unless fed")
    columns = [Column(title=t, right=False, elastic=t == "layer") for t in ("input", "shape", "op", "layer")]
    rows = [[m.input, str(["1 or N", *m.shape]).replace("'", ""), m.op, m.layer] for m in record.masks]
    page.table(columns, rows)
    return page.text()


def _shape(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if d is None else plain(str(d), limit=20) for d in shape) + "]"


def _opsets(record: InspectRecord) -> list[tuple[str, int]]:
    return [(plain(domain, limit=40) or "ai.onnx", version) for domain, version in record.opsets.items()]

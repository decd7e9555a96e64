"""Channel values as a picture of its own: a row for each layer, its channels from left to right. SVG with nothing outside.

Wide layers are binned. A cell shows its largest value, not the mean: one hot channel among dozens is what is looked for.
"""

from collections.abc import Sequence

from onnx_shapprune.record.audit import UnitValue
from onnx_shapprune.record.values import ValuesRecord
from onnx_shapprune.report.numbers import signed
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.text import plain

BINS = 64  # cells of a row at most
CELL, ROW, LEFT, TOP, RIGHT = 10, 18, 190, 64, 90  # pixels
LETTERS = 26  # of a layer's name, the end counts
NOTHING, NEVER = "#f1f1f1", "#ffffff"  # colour of a value of 0 or less, and of a channel that did not play
HOT, WARM = (165, 15, 21), (254, 224, 210)  # RGB of the largest value and of the smallest above 0
STEPS = 5  # of the scale


def heatmap(record: ValuesRecord) -> str:
    """The picture as an SVG document. Layers without a channel that played are left out."""
    values: dict[str, dict[int, UnitValue]] = {}
    for unit in record.units.ranked:
        values.setdefault(unit.layer, {})[unit.channel] = unit
    layers = [layer for layer in record.layers if layer.name in values]
    most = max((u.value for u in record.units.ranked), default=0.0)
    cells = max((min(BINS, layer.channels) for layer in layers), default=1)
    width, height = LEFT + CELL * cells + RIGHT, TOP + ROW * len(layers) + 12
    parts: list[Html] = []
    for number, layer in enumerate(layers):
        parts += _row(layer.name, layer.channels, values[layer.name], most, TOP + ROW * number)
    title = f"Channel values of {record.model.name}"
    words = (
        f"{len(record.units.ranked)} of {record.units.total} channels by layer; darker carries more of the backdoor."
    )
    return (
        tag(
            "svg",
            tag("title", title),
            tag("desc", words),
            tag("rect", width=width, height=height, fill="#ffffff"),
            _text(12, 20, title, size=14),
            _scale(most),
            parts,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {width} {height}",
            width=width,
            height=height,
            role="img",
            font_family="sans-serif",
        )
        + "\n"
    )


def _row(name: str, channels: int, units: dict[int, UnitValue], most: float, y: int) -> list[Html]:
    short = name if len(name) <= LETTERS else "…" + name[1 - LETTERS :]
    total = sum(u.value for u in units.values())
    parts = [_text(12, y + 12, short)]
    bins = min(BINS, channels)
    for place in range(bins):
        held = range(channels * place // bins, channels * (place + 1) // bins)
        parts.append(_cell(LEFT + CELL * place, y, held, [units[c] for c in held if c in units], most))
    return [*parts, _text(LEFT + CELL * bins + 8, y + 12, f"sum {signed(total)}")]


def _cell(x: int, y: int, held: Sequence[int], played: Sequence[UnitValue], most: float) -> Html:
    where = f"channel {held[0]}" if len(held) == 1 else f"channels {held[0]} to {held[-1]}"
    best = max(played, key=lambda u: u.value, default=None)
    if best is None:
        said, colour = "did not play", NEVER
    else:
        low, high = best.interval
        which = "" if len(held) == 1 else f"channel {best.channel} "
        said = f"{which}{signed(best.value)} ({signed(low)} to {signed(high)})"
        colour = shade(best.value, most)
    words = tag("title", f"{where}: {said}")
    return tag(
        "rect", words, x=x, y=y, width=CELL - 1, height=ROW - 3, fill=colour, stroke="#d9d9d9", stroke_width="0.5"
    )


def shade(value: float, most: float) -> str:
    """The colour of a value: #rrggbb, darker for more, grey for 0 and less."""
    if value <= 0 or most <= 0:
        return NOTHING
    share = min(1.0, value / most)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(WARM, HOT, strict=True))


def _scale(most: float) -> list[Html]:
    parts = [_text(12, 44, "largest value of a cell")]
    marks = [0.0, *(most * (i + 1) / STEPS for i in range(STEPS))] if most > 0 else [0.0]
    for i, value in enumerate(marks):
        x = LEFT + 72 * i
        parts.append(tag("rect", x=x, y=34, width=CELL, height=CELL, fill=shade(value, most), stroke="#d9d9d9"))
        parts.append(_text(x + 14, 44, "0 or less" if not i else signed(value)))
    return parts


def _text(x: int, y: int, text: str, *, size: int = 11) -> Html:
    return tag("text", plain(text), x=x, y=y, font_size=size, fill="#222222")

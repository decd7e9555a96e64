"""Channel values over the layers: where in the network a backdoor sits, at one glance."""

import math

from onnx_shapprune.record.audit import UnitsPart
from onnx_shapprune.report.numbers import signed
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.tables import table

LEVELS = 4  # colours of values above zero; the style sheet has as many


def heat(units: UnitsPart) -> Html:
    """A row for each layer that has estimated channels, in the order of the best one; darker carries more."""
    off = {(u.layer, u.channel) for u in units.off}
    most = max((u.value for u in units.ranked), default=0.0)
    layers: dict[str, list[Html]] = {}
    for unit in units.ranked:
        switched = (unit.layer, unit.channel) in off
        words = f"channel {unit.channel}: {signed(unit.value)}{', switched off' if switched else ''}"
        class_ = f"cell h{level(unit.value, most)}" + (" off" if switched else "")
        layers.setdefault(unit.layer, []).append(tag("span", str(unit.channel), class_=class_, title=words))
    scale = [tag("span", name, class_=f"cell h{n}") for n, name in ((0, "0 or less"), (1, " "), (2, " "), (3, " "))]
    scale.append(tag("span", f"{most:+.2f}", class_=f"cell h{LEVELS}"))
    outlined = " Channels with a thick line are switched off." if off else ""
    rows = [[tag("code", layer), tag("div", cells, class_="cells")] for layer, cells in layers.items()]
    words = f"The {len(units.ranked)} channels that were estimated, of {units.total:,}, by number."
    return tag(
        "div",
        table("Channel values by layer", ("Layer", "Channels"), rows),
        tag("p", tag("span", scale, class_="cells"), words + outlined, class_="small legend"),
        class_="heat",
    )


def level(value: float, most: float) -> int:
    """The colour of a value, 0 for none of the backdoor to LEVELS for the largest one."""
    if value <= 0 or most <= 0:
        return 0
    return min(LEVELS, math.ceil(LEVELS * value / most))

"""Recovered triggers, pixel by pixel, and what the model answers to pictures that carry them."""

import base64

from onnx_shapprune.record.audit import AuditRecord, TriedPart, TriggerPart
from onnx_shapprune.report.numbers import count, percent
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.tables import Section, section
from onnx_shapprune.report.subject import FAMILIES, class_name

OPEN = 3  # triggers that are not folded
WIDTH = 96  # that a picture is drawn up to
PNG = b"\x89PNG\r\n\x1a\n"


def gallery(record: AuditRecord) -> Section | None:
    """A card for each trigger of the record, the later ones folded."""
    if not record.triggers:
        return None
    cards = [_card(record, t) for t in record.triggers]
    more = cards[OPEN:]
    folded = tag("details", tag("summary", f"{count(len(more), 'more trigger')}"), more) if more else None
    return section(
        "triggers",
        "Recovered triggers",
        "Each was searched, not given. The mask shows where it covers the picture (white: "
        "fully), the pattern what it puts there; then clean pictures and the same ones with the trigger.",
        *cards[:OPEN],
        folded,
    )


def _card(record: AuditRecord, trigger: TriggerPart) -> Html:
    targets = ", ".join(class_name(record, t) for t in trigger.targets)
    if trigger.kind == "all-to-all":
        goal = "every class to another"
    else:
        source = "all classes" if trigger.source is None else f"class {class_name(record, trigger.source)}"
        goal = f"{source} to class {targets}"
    size = f"{FAMILIES.get(trigger.family, trigger.family)}, {trigger.norm:.1f} pixels" + (
        f", shown at 1/{trigger.reduced} of its size" if trigger.reduced > 1 else ""
    )
    if trigger.on_file is not None:
        size += f"; on the original file, one picture at a time and in whole bytes, it moves {percent(trigger.on_file)}"
    named = (
        tag("span", "names the backdoor", class_="tag hot") if trigger.named else tag("span", "not named", class_="tag")
    )
    pattern = "change, around grey" if trigger.added else "a grid, warped" if trigger.warps else "pattern"
    first = [] if trigger.added or trigger.warps else [picture(trigger.mask, "mask", f"Mask of the trigger, {goal}")]
    shown = [*first, picture(trigger.pattern, pattern, f"Pattern of the trigger, {goal}")]
    pairs = [_pair(record, trigger, t) for t in trigger.tried]
    heading = tag("h3", goal[:1].upper() + goal[1:], " ", named)
    return tag(
        "article", heading, tag("p", size, class_="small"), tag("div", shown, pairs, class_="strip"), class_="card"
    )


def _pair(record: AuditRecord, trigger: TriggerPart, tried: TriedPart) -> Html:
    moved = tried.applied_class in trigger.targets and tried.clean_class != tried.applied_class
    before, after = class_name(record, tried.clean_class), class_name(record, tried.applied_class)
    clean = picture(
        tried.clean,
        tag("span", before, ", ", share(tried.clean_probability)),
        f"Clean picture of class {class_name(record, tried.label)}",
    )
    applied = picture(
        tried.applied,
        tag("span", after, ", ", share(tried.applied_probability), class_="hot" if moved else None),
        f"The same picture with the trigger: class {after}",
    )
    return tag(
        "div",
        clean,
        tag("span", "→", class_="arrow", aria_label="with the trigger", role="img"),
        applied,
        class_="pair",
    )


def picture(png: str, caption: str | Html, alt: str, width: int = WIDTH) -> Html:
    """A figure drawn up to `width` pixels, with a caption. png: in base64."""
    size = _size(png, width)
    if size is None:
        return tag("figure", tag("figcaption", caption, ": no picture"))
    image = tag("img", src=f"data:image/png;base64,{png}", alt=alt, width=size[0], height=size[1])
    return tag("figure", image, tag("figcaption", caption))


def share(probability: float) -> Html:
    """A share in percent that no line break parts."""
    return tag("span", percent(probability, 0), class_="whole")


def _size(png: str, most: int = WIDTH) -> tuple[int, int] | None:
    """Pixels on the page: a whole multiple of the picture's own, so that every pixel of it is a square of one size.

    None where the text is no PNG in base64.
    """
    try:
        content = base64.b64decode(png, validate=True)
    except ValueError:
        return None
    if not content.startswith(PNG):
        return None
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    factor = max(1, most // max(1, width))
    return factor * width, factor * height

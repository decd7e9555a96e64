"""HTML and SVG in which every string is escaped unless it is markup already."""

import html
from collections.abc import Iterable

from onnx_shapprune.report.text import plain

LIMIT = 1000
VOID = {"meta", "link", "img", "br"}


class Html(str):
    """Finished markup."""

    __slots__ = ()


def tag(name: str, /, *content: "str | Html | Iterable[str | Html] | None", **attributes: object) -> Html:
    """An element. Strings are made plain and escaped, Html stays, None is left out, of lists every item.

    attributes: None and False leave one out; `class_` is class, and an underscore inside a name a hyphen.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(plain(str(value), limit=1 << 20))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inner = "".join(_text(c) for c in content)
    return Html(f"<{name}{shown}>" if name in VOID else f"<{name}{shown}>{inner}</{name}>")


def join(parts: Iterable[str | Html]) -> Html:
    """Markup one after the other, without anything in between."""
    return Html("".join(_text(p) for p in parts))


def _text(content: "str | Html | Iterable[str | Html] | None") -> str:
    if content is None:
        return ""
    if isinstance(content, Html):
        return content
    if isinstance(content, str):
        return html.escape(plain(content, limit=LIMIT), quote=False)
    return "".join(_text(c) for c in content)

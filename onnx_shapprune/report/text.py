"""Strings that come from a model or a file name are hostile: they may hold escape codes, bidi marks or a megabyte.

Everything of that kind passes `plain` before it reaches a terminal.
"""

import json
import re
import unicodedata
from collections.abc import Sequence

from pydantic import BaseModel

LIMIT = 200
SHOWN_NAMES = 12
# Letters and marks that take no ink, of categories that mostly do: U+3164 alone makes a name that looks empty.
FILLERS = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
# What CI runners take for a command: "::error::" where a line begins, "##[error]" and "##vso[" anywhere.
AT_START = re.compile(r"^((?:\s|\x1b\[[0-9;]*m)*):(?=:)")
ANYWHERE = re.compile(r"##(?=[A-Za-z]*\[)")


def plain(text: str, *, limit: int = LIMIT) -> str:
    """Text without control, escape, bidi and other invisible characters, on one line, at most `limit` characters."""
    # Cut before the loop too: a name may be as long as the file.
    cleaned = "".join(_visible(c) for c in text[: 4 * limit])
    return cleaned if len(cleaned) <= limit and len(text) <= 4 * limit else cleaned[: limit - 1] + "…"


def some(names: Sequence[str]) -> str:
    """The first names of a list that may be long, and how many more there are."""
    listed = ", ".join(plain(n, limit=40) for n in names[:SHOWN_NAMES])
    return listed + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


def harmless(line: str) -> str:
    """A line of output that no CI runner takes for a command."""
    return ANYWHERE.sub("# #", AT_START.sub(r"\1: ", line))


def _visible(char: str) -> str:
    if char in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    if char in FILLERS:
        return ""
    category = unicodedata.category(char)
    if category == "Cs":  # half of a pair, or a byte of a file name that is no UTF-8: no encoder takes it
        return "\ufffd"
    return "" if category in ("Cc", "Cf") else char


def cells(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(_cells(c) for c in text)


def _cells(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def fit(text: str, width: int, *, right: bool = False) -> str:
    """A text made exactly `width` columns wide: padded (on the left where `right`), or cut with an ellipsis."""
    if cells(text) > width:
        kept, used = [], 0
        for char in text:
            if used + _cells(char) > width - 1:
                break
            kept.append(char)
            used += _cells(char)
        text = "".join(kept) + "…" if width > 0 else ""
    gap = " " * (width - cells(text))
    return gap + text if right else text + gap


def wrap(text: str, width: int, *, indent: str = "") -> list[str]:
    """Lines of at most `width` columns, broken at blanks, or within a word that is longer than a line."""
    lines, line = [], ""
    room = max(8, width - len(indent))
    for word in text.split():
        while cells(word) > room:
            if line:
                lines.append(line)
                line = ""
            head = _head(word, room)
            lines.append(head)
            word = word[len(head) :]
        joined = f"{line} {word}" if line else word
        if cells(joined) > room:
            lines.append(line)
            joined = word
        line = joined
    return [indent + part for part in [*lines, line] if part]


def _head(word: str, room: int) -> str:
    used = 0
    for i, char in enumerate(word):
        used += _cells(char)
        if used > room:
            return word[:i]
    return word


def json_text(record: BaseModel) -> str:
    """A record as indented JSON in ASCII (hostile names reach a terminal only as escapes), with a final newline."""
    # Half a pair, from a file name that is no UTF-8, would be refused by those who read the file.
    whole = json.dumps(record.model_dump(mode="json"), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return ANYWHERE.sub(r"#\\u0023", json.dumps(json.loads(whole), indent=2, ensure_ascii=True)) + "\n"

"""Titles, tables and colours of the terminal reports; every string that is passed in here is made plain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnx_shapprune.report.text import cells, fit, harmless, plain, wrap

CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
MIN_WIDTH, MAX_WIDTH = 60, 120
LINE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table: its heading, whether it is aligned right, and whether it may be cut to make room."""

    title: str
    right: bool = True
    elastic: bool = False


class Page:
    """Collects the lines of a report of at most `width` columns (60 to 120), coloured or not."""

    def __init__(self, width: int, *, colour: bool) -> None:
        self.width = min(MAX_WIDTH, max(MIN_WIDTH, width))
        self._colour = colour
        self._lines: list[str] = []

    def paint(self, text: str, style: str) -> str:
        return f"\x1b[{CODES[style]}m{text}\x1b[0m" if self._colour and style else text

    def line(self, word: str, style: str, rest: str) -> None:
        """A coloured word, then plain text on the same line, however wide: what reads a single line must get all of it."""
        self._lines.append(f"{self.paint(self.paint(word, 'bold'), style)}  {plain(rest, limit=LINE)}".rstrip())

    def headline(self, word: str, style: str, rest: str) -> None:
        """A coloured word, then plain text, cut at the width of the page."""
        room = self.width - cells(word) - 2
        self._lines.append(f"{self.paint(self.paint(word, 'bold'), style)}  {fit(plain(rest), room).rstrip()}".rstrip())

    def title(self, text: str) -> None:
        self._lines.extend(["", self.paint(plain(text), "bold")])

    def say(self, text: str, *, indent: int = 2, style: str = "", bullet: str = "", limit: int = 600) -> None:
        """A wrapped sentence; `bullet` stands before its first line."""
        pad = " " * (indent + (cells(bullet) + 1 if bullet else 0))
        lines = wrap(plain(text, limit=limit), self.width, indent=pad)
        if bullet and lines:
            lines[0] = f"{' ' * indent}{bullet} {lines[0][len(pad) :]}"
        self._lines.extend(self.paint(line, style) for line in lines)

    def blank(self) -> None:
        self._lines.append("")

    def paste(self, command: str) -> None:
        """A command to copy: on one line, however wide, since a line break would be pasted too."""
        self._lines.append(f"     {plain(command, limit=LINE)}")

    def pairs(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names in one column, values wrapped in the next."""
        left = max((cells(name) for name, _ in rows), default=0)
        for name, value in rows:
            pad = " " * (left + 4)
            lines = wrap(plain(value), self.width, indent=pad) or [pad]
            self._lines.append(f"  {fit(name, left)}  {lines[0][len(pad) :]}".rstrip())
            self._lines.extend(lines[1:])

    def table(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, style: Callable[[int], str] | None = None
    ) -> None:
        """A table with two spaces between columns; the elastic column is cut until the rows fit.

        style: row number -> colour name or "".
        """
        clean = [[plain(cell) for cell in row] for row in rows]
        widths = [max([cells(c.title), *(cells(row[i]) for row in clean)]) for i, c in enumerate(columns)]
        excess = sum(widths) + 2 * len(widths) - self.width
        for i, column in enumerate(columns):
            if column.elastic and excess > 0:
                kept = max(8, widths[i] - excess)
                excess -= widths[i] - kept
                widths[i] = kept

        def line(texts: Sequence[str]) -> str:
            parts = [fit(t, w, right=c.right) for t, w, c in zip(texts, widths, columns, strict=True)]
            return ("  " + "  ".join(parts)).rstrip()

        self._lines.append(self.paint(line([c.title for c in columns]), "dim"))
        for number, row in enumerate(clean):
            self._lines.append(self.paint(line(row), style(number) if style else ""))

    def text(self) -> str:
        return "\n".join(map(harmless, self._lines)) + "\n"

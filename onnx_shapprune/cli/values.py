"""Option values that click has no type for."""

import math
from pathlib import Path

import click

from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.errors import DataError
from onnx_shapprune.gate.spelling import meant
from onnx_shapprune.pictures.preprocess import parse_numbers

FILE = click.Path(path_type=Path)
Reports = tuple[tuple[str, Path], ...]
# Those of report/formats, which is not loaded to print a help text; a test compares the two.
REPORT_FORMATS = ("html", "json", "md", "sarif", "junit", "gitlab", "github", "cyclonedx", "intoto")


class Number(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from click 8.4 on
    """A finite number in [low, high], or above low where `above`; with `off`, the word "off" gives None."""

    name = "number"

    def __init__(self, low: float, high: float = math.inf, *, above: bool = False, off: bool = False) -> None:
        self._low, self._high, self._above, self._off = low, high, above, off

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "NUMBER|off" if self._off else "NUMBER"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if self._off and value == "off":
            return None
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        fits = math.isfinite(number) and self._low <= number <= self._high
        if not fits or (self._above and number == self._low):
            top = "" if math.isinf(self._high) else f" and at most {self._high:g}"
            also = ', or "off"' if self._off else ""
            bottom = "above" if self._above else "of at least"
            self.fail(f"{str(value)[:40]!r} is no number {bottom} {self._low:g}{top}{also}", param, ctx)
        return number


class Budget(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Coalitions ("200") or seconds ("30s"): (evaluations, None) or (None, seconds)."""

    name = "budget"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N|SECONDSs"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, float | None]:
        if isinstance(value, tuple):
            return value
        text = str(value)
        try:
            if text.endswith("s"):
                seconds = float(text[:-1])
                if 0 < seconds < math.inf:
                    return None, seconds
            elif (evaluations := int(text)) > 0:
                return evaluations, None
        except ValueError:
            pass
        self.fail(f"{text[:40]!r} is no budget: give coalitions (200) or seconds (30s)", param, ctx)


class Numbers(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Numbers with commas between them: a tuple of floats."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return parse_numbers(str(value), option="numbers")
        except DataError as error:
            self.fail(str(error).removeprefix("numbers: "), param, ctx)


class Report(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """FORMAT=PATH, or a path alone for JSON: (format, path). A path with "=" in its name is written ./a=b."""

    name = "report"

    def __init__(self, formats: tuple[str, ...] = REPORT_FORMATS) -> None:
        self._formats = formats

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "[FORMAT=]FILE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        before, equals, after = str(value).partition("=")
        if not equals or not before.isalnum():
            return "json", Path(str(value))
        if before not in self._formats:
            self.fail(
                f"no format {before[:40]!r}{meant(before, self._formats)} (formats: {', '.join(self._formats)})",
                param,
                ctx,
            )
        if not after:
            self.fail(f"{before}= names no file", param, ctx)
        return before, Path(after)


class PairCommand(ConfiguredCommand):
    """Lets --known-trigger take two files at once (mask.png pattern.png): click options take a fixed number."""

    OPTION = "--known-trigger"
    SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        for arg in args:
            if spread[-2:-1] == [self.OPTION] and all(a.lower().endswith(self.SUFFIXES) for a in (spread[-1], arg)):
                spread.append(self.OPTION)
            spread.append(arg)
        return super().parse_args(ctx, spread)

"""Option values that click has no type for."""

import math
from pathlib import Path

import click

FILE = click.Path(path_type=Path)


class Number(click.ParamType):
    """A finite number in [low, high]; with `off`, the word "off" gives None."""

    name = "number"

    def __init__(self, low: float, high: float = math.inf, *, off: bool = False) -> None:
        self._low, self._high, self._off = low, high, off

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "NUMBER|off" if self._off else "NUMBER"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if self._off and value == "off":
            return None
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and self._low <= number <= self._high):
            top = "" if math.isinf(self._high) else f" and at most {self._high:g}"
            also = ', or "off"' if self._off else ""
            self.fail(f"{str(value)[:40]!r} is no number of at least {self._low:g}{top}{also}", param, ctx)
        return number


class PairCommand(click.Command):
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

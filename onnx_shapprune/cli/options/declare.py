"""How options are declared: as data, and gathered into the one value that a command takes."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from onnx_shapprune.cli.sections import SectionedOption

Command = Callable[..., int]
Decorator = Callable[[Command], Command]


@dataclass(frozen=True, slots=True)
class Declared:
    """One option as click takes it, before it belongs to a command; itself a decorator."""

    names: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name under which its value arrives."""
        return str(click.Option(list(self.names)).name)

    def __call__(self, command: Command) -> Command:
        return click.option(*self.names, cls=SectionedOption, **self.settings)(command)


def option(section: str, *names: str, **settings: Any) -> Declared:
    """Declare an option under a heading of cli/sections.py; names and settings as for `click.option`."""
    return Declared(names, {"section": section, **settings})


def gathered(into: str, build: Callable[..., object], *names: str) -> Decorator:
    """Hand a command `build(**values)` as `into`, in the place of the values with these names."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapper(*args: object, **values: object) -> int:
            own = {name: values.pop(name) for name in names}
            return command(*args, **{into: build(**own)}, **values)

        return wrapper

    return decorate


def bundled(into: str, build: Callable[..., object], *declared: Declared) -> Decorator:
    """Give a command these options, whose values arrive as the one value `build(**values)`."""
    gather = gathered(into, build, *(each.name for each in declared))

    def decorate(command: Command) -> Command:
        wrapper = gather(command)
        for each in reversed(declared):
            wrapper = each(wrapper)
        return wrapper

    return decorate

"""Settings from files and the environment: flag before environment before file before default.

A file is looked for from the current directory upward, and never inside a model's folder: who ships a model must not
ship the settings of its audit. What decides (a policy, --exit-zero) and where results go is never read from a file, and
what protects (calibration, limits, roots, the child process) only from one that was named: anybody who opens a pull
request can put a file where it is found.
"""

import glob
import os
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path

import click

from onnx_shapprune.cli.sections import SETTINGS, SectionedOption, write_sections
from onnx_shapprune.errors import ConfigError
from onnx_shapprune.files.reading import read_regular_file
from onnx_shapprune.files.toml import parsed_toml
from onnx_shapprune.gate.spelling import meant
from onnx_shapprune.report.text import plain

CONFIG, PYPROJECT = "shapprune.toml", "pyproject.toml"
MAX_CONFIG_BYTES = 1 << 20
PREFIX = "SHAPPRUNE"
EVIDENCE = "evidence"  # the argument that is a report, or a model
NOT_IN_FILES = {
    "config",
    "isolated",
    "help",
    "policy",
    "baseline",
    "exit-zero",
    "model",
    "output",
    "report",
    "artifacts",
    "csv",
    "plot",
    "known-trigger",
    "dry-run",
    "keep-partial",
}
ONLY_IN_NAMED_FILES = {"calibration", "allow-root", "limit", "in-process", "timeout", "memory-limit"}


class ConfiguredCommand(click.Command):
    """A command whose options may also stand in a file or, as SHAPPRUNE_<OPTION>, in the environment."""

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.params += [
            SectionedOption(
                ["--config"],
                section=SETTINGS,
                type=click.Path(path_type=Path),
                metavar="FILE",
                expose_value=False,
                help="Settings.  [default: shapprune.toml or [tool.shapprune] in pyproject.toml, here or above]",
            ),
            SectionedOption(
                ["--isolated"],
                section=SETTINGS,
                is_flag=True,
                expose_value=False,
                help="Read no file with settings.",
            ),
        ]
        for name, option in options(self).items():
            option.envvar = f"{PREFIX}_{name.upper().replace('-', '_')}"

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_sections(self, ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = self.make_parser(ctx).parse_args(list(args))[0]
        asks_help = (option := self.get_help_option(ctx)) is not None and option.name in typed
        if not ctx.resilient_parsing and not asks_help:
            path, named = self._config(typed)
            if path is not None:
                found, read = defaults(ctx, path, named=named)
                ctx.default_map = {**(ctx.default_map or {}), **found}
                if read:
                    keys = plain(", ".join(read), limit=400)
                    click.echo(f"note: settings from {plain(str(path), limit=400)}: {keys}", err=True)
        return super().parse_args(ctx, args)

    def _config(self, typed: Mapping[str, object]) -> tuple[Path | None, bool]:
        """The file with settings: the one that was asked for, or the nearest, None for none; and whether it was named."""
        if typed.get("isolated") or click.BOOL(os.environ.get(f"{PREFIX}_ISOLATED") or False):
            return None, False
        if asked := typed.get("config") or os.environ.get(f"{PREFIX}_CONFIG"):
            return Path(str(asked)), True
        found = nearest(Path.cwd())
        about = [p for p in self.params if isinstance(p, click.Argument) or p.name == "model"]
        values = [(p, v) for p in about for v in _each(typed.get(str(p.name)))]
        # A report may lie beside settings, a model must not, whatever it is called.
        models = [Path(v) for p, v in values if p.name != EVIDENCE or v.lower().endswith(".onnx") or os.path.isdir(v)]
        if found is not None and any(inside(Path.cwd(), model) for model in models):
            click.echo(
                f"note: {plain(str(found), limit=400)} is not read, since the current directory is in the model's folder; "
                "--config reads it",
                err=True,
            )
            return None, False
        return found, False


def _each(value: object) -> list[str]:
    """The texts of an argument that takes one, none or many."""
    return [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, str)]


def options(command: click.Command) -> dict[str, click.Option]:
    """Options of a command by their long names, without dashes in front."""
    return {
        max(param.opts, key=len).removeprefix("--"): param
        for param in command.params
        if isinstance(param, click.Option)
    }


def inside(folder: Path, model: Path) -> bool:
    """Whether a folder is that of a model file, or is a folder of models, or lies below it; links are followed, and not
    followed. Of a pattern, the folder before it counts.
    """
    while glob.has_magic(str(model)) and not model.exists():
        model = model.parent
    shown, real = Path(os.path.abspath(model)), model.resolve()
    places = {shown, real} if real.is_dir() else {shown.parent, real.parent}
    return any(folder.is_relative_to(place) or folder.resolve().is_relative_to(place) for place in places)


def nearest(folder: Path) -> Path | None:
    """The first file with settings in a folder or above it."""
    for place in (folder, *folder.parents):
        if (place / CONFIG).is_file():
            return place / CONFIG
        if (place / PYPROJECT).is_file() and table(place / PYPROJECT) is not None:
            return place / PYPROJECT
    return None


def table(path: Path) -> dict[str, object] | None:
    """What a file says, of a pyproject.toml its table tool.shapprune, None where it has none. Raises ConfigError."""
    payload = read_regular_file(path, limit=MAX_CONFIG_BYTES, what="configuration", error=ConfigError)
    try:
        content = parsed_toml(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no TOML: {error}; --isolated goes without it") from None
    if path.name != PYPROJECT:
        return content
    tool = content.get("tool")
    found = tool.get("shapprune") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else None


def defaults(ctx: click.Context, path: Path, *, named: bool) -> tuple[MutableMapping[str, object], list[str]]:
    """Values by parameter name for the command of `ctx`, and the keys that they come from: top-level keys hold for all
    commands that have such an option, a table [audit] only for that one, and first. Every key of the file is checked.
    named: whether the file was asked for, rather than found. Raises ConfigError.
    """
    root = ctx.find_root().command
    commands = root.commands if isinstance(root, click.Group) else {str(ctx.command.name): ctx.command}
    content = table(path) or {}
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    shared = {key: value for key, value in content.items() if key not in tables}
    known = {name for command in commands.values() for name in options(command)} - NOT_IN_FILES
    for key in tables:
        if key not in commands:
            raise ConfigError(f"{path}: no command [{key}]{meant(key, commands)}")
    for key in shared:
        _check_key(path, key, key, known)
    chosen: dict[str, object] = {}
    read: list[str] = []
    for name, command in commands.items():
        own = options(command)
        for key in tables.get(name, {}):
            _check_key(path, f"{name}.{key}", key, own.keys() - NOT_IN_FILES)
        values = {k: v for k, v in shared.items() if k in own} | tables.get(name, {})
        if not named and (protecting := next((k for k in values if k in ONLY_IN_NAMED_FILES), None)):
            raise ConfigError(
                f"{path}: {protecting} is not taken from a file that was only found: give --{protecting}, or name the file "
                "with --config"
            )
        typed = {str(own[k].name): _value(ctx, path, k, own[k], v) for k, v in values.items()}
        if command is ctx.command:
            chosen, read = typed, list(values)
    return chosen, read


def _check_key(path: Path, where: str, key: str, known: Iterable[str]) -> None:
    if key in NOT_IN_FILES:
        raise ConfigError(f"{path}: {where} is never read from a file; give --{key} on the command line")
    if key not in known:
        raise ConfigError(f"{path}: unknown key {where}{meant(key.replace('_', '-'), known)}")


def _value(ctx: click.Context, path: Path, key: str, option: click.Option, value: object) -> object:
    """A value as the command line would take it; paths are relative to the file. Raises ConfigError."""
    if isinstance(value, bool) is not option.is_flag or isinstance(value, dict):
        raise ConfigError(
            f"{path}: {key} must {'be true or false' if option.is_flag else 'not be ' + str(value).lower()}"
        )
    if isinstance(option.type, click.Path) and isinstance(value, str) and value != "none":
        value = os.path.join(path.parent, value)
    elif option.multiple:
        value = value if isinstance(value, list) else [value]
    elif isinstance(value, list) and option.nargs == 1:
        value = ",".join(map(str, value))
    try:
        option.type_cast_value(ctx, value)
    except click.BadParameter as error:
        raise ConfigError(f"{path}: {key}: {error.message}") from None
    except ValueError as error:  # a NUL byte, which no command line can hold
        raise ConfigError(f"{path}: {key}: {error}") from None
    return value

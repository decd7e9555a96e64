"""Settings that were read beside a model, put where the user said nothing."""

from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path

from onnx_shapprune.pictures.beside import beside
from onnx_shapprune.settings import InputOptions

OPTIONS = {"class_names": "classes", "size": "input-size"}  # where an option is not called as its field


def with_found(inputs: InputOptions, model: Path, given: Collection[str]) -> InputOptions:
    """The settings, with those that lie beside a model where they are not `given`, and in `found` what was taken from where.
    Raises DataError where a file beside it cannot be read.
    """
    lies = beside(model)
    taken = {name: value for name, (value, _) in lies.settings.items() if name not in given}
    words = [f"{_option(n)} {_shown(v)} from {source}" for n, (v, source) in lies.settings.items() if n in taken]
    words += [
        f"{_option(n)} as given, not {_shown(v)} from {source}"
        for n, (v, source) in lies.settings.items()
        if n not in taken and v != getattr(inputs, n)
    ]
    return replace(inputs, found=(*words, *lies.remarks), **taken)  # type: ignore[arg-type]


def input_fields() -> tuple[str, ...]:
    """Names of the settings that can be given."""
    return tuple(f.name for f in fields(InputOptions) if f.name != "found")


def _option(name: str) -> str:
    return "--" + OPTIONS.get(name, name.replace("_", "-"))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{v:.9g}" for v in value)
    return value.name if isinstance(value, Path) else str(value)

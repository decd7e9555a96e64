"""The call that does to one model of a batch what the batch did to it: what its report says to do next can be pasted."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from onnx_shapprune.fleet.listing import NO_DATA, Entry
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.settings import InputOptions

SPELLED = {"class_names": "--classes", "size": "--input-size", "output": "--output-name"}
UNLIKE_ITS_NAME = ("found", "limits")  # in words already, and one option each


def alone(command: str, entry: Entry) -> tuple[str, ...]:
    """The words, without where the results go."""
    data = NO_DATA if entry.data is None else str(entry.data)
    return ("shapprune", command, str(entry.path), "--data", data, *options_of(entry.inputs))


def options_of(inputs: InputOptions) -> Iterator[str]:
    """What the command line says for these, defaults left out."""
    usual = InputOptions()
    for each in fields(inputs):
        value = getattr(inputs, each.name)
        if value != getattr(usual, each.name) and each.name not in UNLIKE_ITS_NAME:
            yield SPELLED.get(each.name, "--" + each.name.replace("_", "-"))
            yield from _values(each.name, value)
    for name, number in asdict(inputs.limits).items():
        if number != getattr(FileLimits(), name):
            yield from ("--limit", f"{name.replace('_', '-')}={number}")


def _values(name: str, value: Any) -> list[str]:
    if name in ("mean", "std"):
        return [",".join(f"{number:.9g}" for number in value)]
    if isinstance(value, tuple):
        return [f"{number:.9g}" for number in value]
    return [str(value)]

"""A folder in the place of a model: its file, and what lies beside it."""

from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from onnx_shapprune.cli.options.search import Search
from onnx_shapprune.report.text import plain


def given_inputs() -> frozenset[str]:
    """Which settings of the input the user gave, on the command line or elsewhere."""
    from onnx_shapprune.case.beside import input_fields

    context, names = click.get_current_context(), {"output": "output_name"}
    default = (None, ParameterSource.DEFAULT)
    return frozenset(n for n in input_fields() if context.get_parameter_source(names.get(n, n)) not in default)


def in_folder(model: Path, search: Search) -> tuple[Path, Search]:
    """The model and its settings, where a folder was given; said on stderr. Raises ModelError and DataError."""
    if not model.is_dir():
        return model, search
    from onnx_shapprune.case.beside import with_found
    from onnx_shapprune.pictures.beside import model_in

    path = model_in(model)
    inputs = with_found(search.inputs, path, given_inputs())
    for line in (f"{path} is the model of {model}", *inputs.found):
        click.echo(f"note: {plain(line, limit=400)}", err=True)
    return path, replace(search, inputs=inputs)

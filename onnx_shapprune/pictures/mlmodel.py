"""MLmodel, the file by which MLflow describes a folder: where the ONNX file lies, and what shape its input has.

It is YAML as MLflow writes it: keys by indentation, scalars plain or in quotes. Lists, blocks and anchors are passed over;
of the keys that count, one that is not understood is an error.
"""

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from onnx_shapprune.errors import DataError

KEY = re.compile(r"( *)([A-Za-z_][\w-]*):(?: +(.*))?")
DATA = "flavors.onnx.data"
INPUTS = "signature.inputs"
SIDES = range(1, 1 << 16)


def onnx_file(said: dict[str, str]) -> str | None:
    """The ONNX file of an MLmodel, relative to its folder; None where it describes none. Raises DataError for a place
    outside of the folder.
    """
    if DATA not in said:
        return None
    path = PurePosixPath(said[DATA])
    if path.is_absolute() or ".." in path.parts or path.suffix.lower() != ".onnx":
        raise DataError(f"MLmodel: {DATA} is {said[DATA][:80]!r}, which is no .onnx file in its folder")
    return str(path)


def picture_shape(said: dict[str, str]) -> tuple[str, tuple[int, int]] | None:
    """Layout, and height and width, that the signature gives the only input; None where it says nothing of a picture."""
    try:
        inputs = json.loads(said.get(INPUTS, "[]"))
        shapes = [i["tensor-spec"]["shape"] for i in inputs]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    if len(shapes) != 1 or not isinstance(shapes[0], list) or len(shapes[0]) != 4:
        return None
    _, first, second, third = shapes[0]
    layout, size = ("NCHW", (second, third)) if first in (1, 3) else ("NHWC", (first, second))
    known = all(type(side) is int and side in SIDES for side in size)
    return (layout, size) if known and (layout == "NCHW" or third in (1, 3)) else None


def scalars(text: str) -> dict[str, str]:
    """The scalars of the mappings of an MLmodel, by their keys with dots. Raises DataError for a key that stands twice and
    for a text in quotes that does not end.
    """
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    lines = iter(text.splitlines())
    for line in lines:
        match = KEY.fullmatch(line.rstrip())
        if match is None:
            continue
        indent, name, value = len(match[1]), match[2], match[3] or ""
        while above and above[-1][0] >= indent:
            above.pop()
        above.append((indent, name))
        path = ".".join(key for _, key in above)
        if value:
            if path in found:
                raise DataError(f"MLmodel: {path[:80]} stands twice")
            found[path] = _scalar(value, lines, path)
    return found


def _scalar(value: str, lines: Iterator[str], path: str) -> str:
    """A value without its quotes; one in single quotes may go on in the next lines, each break a blank."""
    if value.startswith("'"):
        while not value[1:].replace("''", "").endswith("'"):
            following = next(lines, None)
            if following is None:
                raise DataError(f"MLmodel: {path[:80]} begins with a quote that does not end")
            value += " " + following.strip()
        return value[1:-1].replace("''", "'")
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            raise DataError(f"MLmodel: {path[:80]} is no text in quotes") from None
    return value

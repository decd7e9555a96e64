"""Which models are to be audited, with which pictures and preprocessing: a folder, a pattern, or a list in a file.

Everything listed here gets a line of its own in the results, whether it can be audited or not; a line that cannot be
understood stops the batch before anything has run.
"""

import csv
import glob
import io
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Never

from onnx_shapprune.case.beside import with_found
from onnx_shapprune.errors import ListError, ShapPruneError
from onnx_shapprune.files.reading import read_regular_file, unique_keys
from onnx_shapprune.files.writing import same_file
from onnx_shapprune.fleet.identity import OUTPUT, RESULT_FOLDER
from onnx_shapprune.gate.spelling import meant
from onnx_shapprune.pictures.files import RESIZES
from onnx_shapprune.pictures.preprocess import parse_numbers
from onnx_shapprune.settings import InputOptions

MAX_LIST_BYTES = 256 << 20
MODEL, DATA, NO_DATA = "model", "data", "none"
Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a list. shown: its path as listed; data: its pictures, None: drawn out of the model; problem: why it
    cannot be audited, "" where nothing is known yet.
    """

    shown: str
    path: Path
    data: Path | None
    inputs: InputOptions
    problem: str = ""


def read_entries(
    source: Path,
    *,
    data: Path | str | None = None,
    inputs: InputOptions | None = None,
    given: Collection[str] = (),
    leave_out: Path | None = None,
) -> tuple[Entry, ...]:
    """The models of a folder (all .onnx files in and below it), of a pattern (models/**/*.onnx), or of a list.

    A list has one path per line, or is .csv with a column `model`, or .jsonl with an object per line; further columns are
    `data` and the options of the input by their names. Its paths are relative to its folder; where a cell is empty, what is
    given here holds. Of a folder, what lies beside each model (pictures/beside.py) holds for settings not in `given`. data:
    pictures, or "none" to draw them out of the model. leave_out: a folder of results, which are no models to audit. Raises
    ListError, which names the line, also for a list of nothing.
    """
    inputs = inputs or InputOptions()
    beside = source.is_dir()
    if beside:
        if leave_out is not None and same_file(source, leave_out):
            raise ListError(
                f"{leave_out} holds the models that are to be audited: choose another folder for the results"
            )
        paths = _below(source, leave_out)
    elif glob.has_magic(str(source)) and not source.exists():
        paths = [p for p in map(Path, sorted(glob.glob(str(source), recursive=True))) if not _is_result(p, leave_out)]
    else:
        found = [_entry(source, *row, data, inputs) for row in _rows(source)]
        return tuple(found) or _nothing(source)
    if data is None and paths:
        raise ListError("say with --data which pictures to take, or none")
    pictures = None if str(data) == NO_DATA else Path(str(data))
    if beside:
        return tuple(_described(path, pictures, inputs, given) for path in paths) or _nothing(source)
    return tuple(Entry(_readable(path), path, pictures, inputs) for path in paths) or _nothing(source)


def _described(path: Path, data: Path | None, inputs: InputOptions, given: Collection[str]) -> Entry:
    """A model with what lies beside it; what cannot be read there is a problem of this model alone."""
    try:
        return Entry(_readable(path), path, data, with_found(inputs, path, given))
    except ShapPruneError as error:
        return Entry(_readable(path), path, data, inputs, problem=str(error))


def _nothing(source: Path) -> Never:
    raise ListError(f"{source} has no models: nothing was audited")


def _below(folder: Path, leave_out: Path | None) -> list[Path]:
    """All .onnx files in and below a folder, sorted. A folder that cannot be read is an error: it may hold models. Links to
    folders are followed, each folder once.
    """

    def refuse(error: OSError) -> None:
        raise ListError(f"{error.filename} cannot be listed: {error.strerror}")

    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        models = [Path(place, name) for name in names if name.lower().endswith(".onnx")]
        found += [path for path in models if not _is_result(path, leave_out)]
    return sorted(found)


def _is_result(path: Path, results: Path | None) -> bool:
    """Whether a file is one that a batch wrote into its folder of results, which may lie anywhere near the models."""
    if results is None or path.name != OUTPUT or not RESULT_FOLDER.fullmatch(path.parent.name):
        return False
    return os.path.realpath(path.parent.parent) == os.path.realpath(results)


def _readable(path: Path) -> str:
    """A path as text that every encoder takes, also where its name is no UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _rows(source: Path) -> Iterator[tuple[int, Row]]:
    """Line numbers and columns of a list in a file."""
    if source.suffix.lower() == ".onnx":
        raise ListError(f"{source} is a model: give a folder or a list, or use shapprune audit")
    payload = read_regular_file(source, limit=MAX_LIST_BYTES, what="list", error=ListError)
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ListError(f"{source} is no list: it is no UTF-8 text") from None
    read = {".csv": _csv, ".jsonl": _json_lines}.get(source.suffix.lower())
    try:
        yield from read(text) if read else _plain_lines(text, source.parent)
    except (csv.Error, ValueError, RecursionError) as error:
        raise ListError(f"{source} cannot be read: {error}") from None


def _plain_lines(text: str, folder: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), 1):
        path = line.strip()
        if path.startswith("#") and os.path.lexists(folder / path):
            raise ValueError(f"line {number} is a comment or the file {path!r}: write ./{path} for the file")
        if path and not path.startswith("#"):
            yield number, {MODEL: path}


def _csv(text: str) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = [name.strip() for name in next(reader, [])]
    if len(set(names)) < len(names):
        raise ValueError("a column stands twice")
    for cells in reader:
        if len(cells) > len(names):
            raise ValueError(f"line {reader.line_num} has {len(cells)} cells, the first line names {len(names)}")
        if any(cells):
            yield reader.line_num, dict(zip(names, (c.strip() for c in cells), strict=False))


def _json_lines(text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique_keys)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object")
        yield number, {name: _cell(value) for name, value in row.items()}


def _cell(value: object) -> str:
    """A JSON value as the command line would take it."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _entry(source: Path, number: int, row: Row, data: Path | str | None, inputs: InputOptions) -> Entry:
    where, folder = f"{source}: line {number}", source.parent
    known = (MODEL, DATA, *COLUMNS)
    for name in row:
        if name not in known:
            raise ListError(f"{where}: no column {name!r}{meant(name, known)} (known: {', '.join(known)})")
    if not row.get(MODEL):
        raise ListError(f"{where} names no {MODEL}")
    own: dict[str, object] = {}
    for name, (field, read) in COLUMNS.items():
        if cell := row.get(name, ""):
            try:
                own[field] = folder / cell if read is Path else read(cell)
            except (ValueError, ShapPruneError) as error:
                raise ListError(f"{where}: {name}: {error}") from None
    pictures = data if not row.get(DATA) else NO_DATA if row[DATA] == NO_DATA else folder / row[DATA]
    if pictures is None:
        raise ListError(f"{where} names no {DATA}: add that column, or --data for all models")
    taken = None if str(pictures) == NO_DATA else Path(pictures)
    return Entry(row[MODEL], folder / row[MODEL], taken, replace(inputs, **own))  # type: ignore[arg-type]


def _numbers(text: str) -> tuple[float, ...]:
    return parse_numbers(text, option="a list of numbers")


def _range(text: str) -> tuple[float, ...]:
    if len(numbers := _numbers(text)) != 2:
        raise ValueError(f"{text!r} are not two numbers")
    return numbers


def _size(text: str) -> tuple[int, int]:
    words = text.replace(",", " ").replace("x", " ").split()
    if len(words) != 2:
        raise ValueError(f"{text[:40]!r} is no size: give height and width, as in 32 48 or 32x48")
    return _positive(words[0]), _positive(words[1])


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"{text[:40]!r} is none of {', '.join(known)}")
        return text

    return read


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:
        raise ValueError(f"{text[:40]!r} is no number of at least 1")
    return int(text)


# Columns by the options' names: the field of InputOptions, and how a cell is read; of a Path, relative to the list.
COLUMNS: dict[str, tuple[str, Callable[[str], object]]] = {
    "input-range": ("input_range", _range),
    "mean": ("mean", _numbers),
    "std": ("std", _numbers),
    "input-size": ("size", _size),
    "layout": ("layout", _one_of("auto", "NCHW", "NHWC")),
    "channel-order": ("channel_order", _one_of("RGB", "BGR")),
    "resize": ("resize", _one_of(*RESIZES)),
    "classes": ("class_names", Path),
    "labels": ("labels", Path),
    "per-class": ("per_class", _positive),
    "output-name": ("output", str),
}

"""Labels of pictures in a flat folder, from a list of files and classes."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_shapprune.errors import DataError
from onnx_shapprune.files.reading import read_regular_file
from onnx_shapprune.pictures.few_shot import FewShot

COLUMNS = ["file", "label"]
MAX_BYTES = 64 << 20


def labelled(pictures: FewShot, path: Path, names: tuple[str, ...], classes: int) -> FewShot:
    """Pictures with the labels of a .csv with the columns file (relative to their folder) and label: a class name where it
    is one of `names`, else a class number. Raises DataError unless every picture has exactly one label, and every label a
    picture.
    """
    if pictures.label_source is not None:
        raise DataError(
            f"the pictures have labels of their own ({pictures.label_source}): --labels is for a flat folder"
        )
    found = {file: _class(path, label, names, classes) for file, label in read_labels(path).items()}
    unlabelled = [name for name in pictures.names if name not in found]
    if unlabelled:
        more = f" and {len(unlabelled) - 1} more" if len(unlabelled) > 1 else ""
        raise DataError(f"labels {str(path)!r} say nothing of {unlabelled[0]!r}{more}")
    if absent := sorted(found.keys() - set(pictures.names)):
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise DataError(f"labels {str(path)!r} name {absent[0]!r}{more}, which is no picture of the folder")
    y = np.array([found[name] for name in pictures.names], np.int64)
    return replace(pictures, y=y, label_source="given")


def read_labels(path: Path) -> dict[str, str]:
    """Files and labels as they are written. Raises DataError, which names the line."""
    payload = read_regular_file(path, limit=MAX_BYTES, what="labels", error=DataError)
    try:
        reader = csv.reader(io.StringIO(payload.decode("utf-8-sig"), newline=""), strict=True)
        if [name.strip() for name in next(reader, [])] != COLUMNS:
            raise DataError(f"labels {str(path)!r}: the first line must be {','.join(COLUMNS)}")
        found: dict[str, str] = {}
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(COLUMNS) or not all(cells):
                raise DataError(f"labels {str(path)!r}, line {reader.line_num}: give a file and a label")
            file = cells[0].strip().removeprefix("./")
            if file in found:
                raise DataError(f"labels {str(path)!r}, line {reader.line_num}: {file[:80]!r} stands twice")
            found[file] = cells[1].strip()
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"labels {str(path)!r} cannot be read: {error}") from None
    return found


def _class(path: Path, label: str, names: tuple[str, ...], classes: int) -> int:
    # Names win over numbers, as they do for folders: a class may be called "7".
    if names.count(label) == 1:
        return names.index(label)
    if label.isascii() and label.isdecimal() and int(label[:9]) < classes and len(label) < 9:
        return int(label)
    known = f"a number below {classes}" + (" or a class name" if names else "; --classes tells what words mean")
    raise DataError(f"labels {str(path)!r}: {label[:80]!r} is no class: give {known}")

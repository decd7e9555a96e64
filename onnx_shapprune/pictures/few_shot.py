"""The few clean pictures a user has, with labels where there are any.

A folder with one sub-folder per class, a flat folder, or an .npz file. Files are taken in sorted order, so the same
folder gives the same arrays and the same digest everywhere.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnx_shapprune.errors import DataError
from onnx_shapprune.pictures.files import (
    MAX_ARRAY_BYTES,
    RESIZES,
    SUFFIXES,
    Resize,
    fit_picture,
    read_npz,
    read_picture,
)
from onnx_shapprune.pictures.stated import label_names

LEADING = re.compile(r"([0-9]{1,9})(?:[^0-9A-Za-z]|$)")  # the class that a folder names
DEEPEST = 3  # folders below, in which pictures are looked for to name them
LabelSource = Literal["given", "folder", "model", "synthesised"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FewShot:
    """Clean pictures. x: uint8 [n, h, w, c]; y: int64 [n] class indices or None; names: where each picture came from.

    label_source is None while y is None, then says who gave the labels: "given" (.npz), "folder" or "model" (the
    audited model's own answers) or "synthesised" (the pictures too come out of the model). alphabetical: names of the
    folders, where nothing but their order says which class each is. Raises DataError on arrays that do not belong
    together.
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64] | None
    names: tuple[str, ...]
    label_source: LabelSource | None
    alphabetical: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.x.dtype != np.uint8 or self.x.ndim != 4 or not self.x.size:
            raise DataError(f"pictures must be uint8 [n, h, w, c] and not empty, not {self.x.dtype} {self.x.shape}")
        if self.y is not None and (self.y.dtype != np.int64 or self.y.shape != self.x.shape[:1]):
            raise DataError(f"labels must be int64 [{len(self.x)}], not {self.y.dtype} {self.y.shape}")
        if len(self.names) != len(self.x) or (self.y is None) != (self.label_source is None):
            raise DataError("every picture needs a name, and labels need a source")

    @property
    def drawn(self) -> bool:
        """Whether they come out of the model."""
        return self.label_source == "synthesised"

    @property
    def digest(self) -> str:
        """sha256 over dtype, shape and bytes of x and y; independent of names and of the machine's byte order."""
        digest = hashlib.sha256()
        parts = [self.x] if self.y is None else [self.x, self.y.astype("<i8")]
        for part in parts:
            digest.update(f"{part.dtype.str}{part.shape};".encode())
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def load_pictures(
    path: Path | str,
    *,
    size: tuple[int, int],
    channels: int,
    resize: Resize = "stretch",
    labels: tuple[str, ...] | None = None,
    classes: int | None = None,
    per_class: int | None = None,
) -> FewShot:
    """Load pictures as uint8 [n, *size, channels], size being (height, width) and channels 1 or 3.

    path: a folder with one sub-folder per class, a flat folder (y is None), or an .npz with x (uint8 [n, h, w, c] or
    grey [n, h, w]) and optionally y. Sub-folders get their class from `labels` (class names in index order), from a
    leading integer ("3" or "3_cat"), or from their sorted order when there are exactly `classes`. per_class keeps
    the first of each labelled class; unlabelled pictures are kept whole. Other file types and hidden files are skipped; a
    picture file that cannot be decoded, a label outside 0..classes-1 or an empty set is a DataError.
    """
    if channels not in (1, 3):
        raise DataError(f"pictures can have 1 or 3 channels, not {channels}")
    if min(size) < 1:
        raise DataError(f"pictures cannot be {size[0]} x {size[1]}: the model's input height and width must be known")
    if resize not in RESIZES:
        raise DataError(f"resize {resize!r} is not understood: use {', '.join(RESIZES)}")
    if per_class is not None and per_class < 1:
        raise DataError(f"pictures per class must be at least 1, not {per_class}")
    if labels is not None:
        if classes not in (None, len(labels)):
            raise DataError(f"{len(labels)} class names are given but the model has {classes} classes")
        classes = len(labels)
    path = Path(path)
    if path.is_dir():
        return _load_folder(path, size, channels, resize, labels, classes, per_class)
    if not path.is_file():
        raise DataError(f"{str(path)!r} does not exist: give a folder of pictures or an .npz file")
    if path.suffix.lower() != ".npz":
        raise DataError(f"{str(path)!r} is neither a folder of pictures nor an .npz file")
    return _load_npz(path, size, channels, resize, classes, per_class)


def few_per_class(pictures: FewShot, k: int) -> FewShot:
    """Keep the first k pictures of every class, in their order. Raises DataError without labels or with k below 1."""
    if k < 1:
        raise DataError(f"pictures per class must be at least 1, not {k}")
    if pictures.y is None:
        raise DataError("pictures without labels cannot be limited per class")
    keep = _first_per_class(pictures.y, k)
    names = tuple(pictures.names[i] for i in keep)
    return replace(pictures, x=pictures.x[keep], y=pictures.y[keep], names=names)


def load_class_names(path: Path | str) -> tuple[str, ...]:
    """Class names, one per line in index order, UTF-8, or those of a .json with id2label. Raises DataError on an empty or
    unprintable name.
    """
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read((4 << 20) + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"class names {str(path)!r} cannot be read as UTF-8 text: {error}") from error
    if len(raw) > 4 << 20:
        raise DataError(f"class names {str(path)!r} are larger than 4 MiB: give one name per line")
    if Path(path).suffix.lower() == ".json":
        return _names_in_json(path, text)
    names = tuple(line.strip() for line in text.rstrip().split("\n"))
    for number, name in enumerate(names, 1):
        # An empty line would shift every later index; control characters would reach terminals and reports.
        if not name or not name.isprintable():
            raise DataError(f"class names {str(path)!r}, line {number}: give one printable name per line")
    return names


def _names_in_json(path: Path | str, text: str) -> tuple[str, ...]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"class names {str(path)!r} are no JSON: {str(error)[:80]}") from None
    names = label_names(content) if isinstance(content, dict) else ()
    if not names:
        raise DataError(f"class names {str(path)!r} hold no id2label with a name for each class, nor label_names")
    for number, name in enumerate(names):
        if not name.strip() or not name.isprintable():
            raise DataError(f"class names {str(path)!r}: class {number} has no printable name")
    return names


def folder_class_names(pictures: FewShot, classes: int) -> tuple[str, ...]:
    """Names of all `classes` in index order, from the folders of the pictures: "cat" for 3_cat. A class without a folder,
    or with one whose name is only a number or is not printable, is called by its number; () where no name is known.
    """
    if pictures.label_source != "folder" or pictures.y is None:
        return ()
    names = {}
    for label, picture in zip(pictures.y.tolist(), pictures.names, strict=True):
        folder = picture.partition("/")[0]
        match = LEADING.match(folder)
        name = folder[match.end() :].strip("_- ") if match else folder
        if name and name.isprintable():
            names[label] = name
    return tuple(names.get(i, str(i)) for i in range(classes)) if names else ()


def _load_folder(
    path: Path,
    size: tuple[int, int],
    channels: int,
    resize: Resize,
    labels: tuple[str, ...] | None,
    classes: int | None,
    per_class: int | None,
) -> FewShot:
    flat = _picture_files(path)
    root = path.resolve()
    # A link to the folder itself or above it is no class.
    folders = [entry for entry in _listing(path) if entry.is_dir() and not root.is_relative_to(entry.resolve())]
    by_folder = {folder.name: files for folder in folders if (files := _picture_files(folder))}
    labelled = bool(by_folder)
    if flat and labelled:
        raise DataError(f"{str(path)!r} holds pictures beside class folders: move them into a class folder")
    files, y = flat, None
    alphabetical: tuple[str, ...] = ()
    if labelled:
        index = _folder_classes(path, tuple(by_folder), tuple(folder.name for folder in folders), labels, classes)
        if labels is None and not all(map(LEADING.match, by_folder)):
            alphabetical = tuple(by_folder)
        ordered = sorted(by_folder, key=lambda name: index[name])
        chosen = [(file, index[name]) for name in ordered for file in by_folder[name][:per_class]]
        files, y = [file for file, _ in chosen], np.array([label for _, label in chosen], np.int64)
        _check_labels(y, classes, where=str(path))
    if not files:
        deeper = _deeper(folders)
        hint = f": its pictures lie deeper, give {str(deeper)!r}" if deeper else f" ({', '.join(sorted(SUFFIXES))})"
        raise DataError(f"{str(path)!r} holds no pictures{hint}")
    shape = _checked_shape(len(files), size, channels)
    x = np.empty(shape, np.uint8)
    for i, file in enumerate(files):
        x[i] = read_picture(file, channels=channels, size=size, resize=resize)
    names = tuple(file.relative_to(path).as_posix() for file in files)
    source: LabelSource | None = None if y is None else "folder"
    return FewShot(x=x, y=y, names=names, label_source=source, alphabetical=alphabetical)


def _deeper(folders: list[Path], depth: int = DEEPEST) -> Path | None:
    """The first folder in or below these whose own sub-folders hold pictures, as data/train/cat/1.png does for data."""
    inside = {folder: [entry for entry in _listing(folder) if entry.is_dir()] for folder in folders}
    for folder, entries in inside.items():
        if any(map(_picture_files, entries)):
            return folder
    below = (_deeper(entries, depth - 1) for entries in inside.values()) if depth else iter(())
    return next((folder for folder in below if folder), None)


def _listing(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "__MACOSX")))
    except OSError as error:
        raise DataError(f"folder {str(path)!r} cannot be read: {error.strerror}") from error


def _picture_files(path: Path) -> list[Path]:
    return [entry for entry in _listing(path) if entry.suffix.lower() in SUFFIXES and not entry.is_dir()]


def _folder_classes(
    path: Path,
    folders: tuple[str, ...],
    with_empty: tuple[str, ...],
    labels: tuple[str, ...] | None,
    classes: int | None,
) -> dict[str, int]:
    """One rule for all folders of a set; a set that no rule fits whole is an error, never a guess.

    folders: those with pictures, sorted; with_empty: all of them, since a class without pictures keeps its place in
    the sorted order.
    """
    named = set(labels or ()) & set(folders)
    if labels is not None and named:
        # Names win over leading integers: a class may be called "30_kmh".
        odd = next((name for name in folders if labels.count(name) != 1), None)
        if odd is not None:
            raise DataError(f"folder {odd!r} in {str(path)!r} is not exactly one of the class names")
        return {name: labels.index(name) for name in folders}
    numbers = [LEADING.match(name) for name in folders]
    index = {name: int(match[1]) for name, match in zip(folders, numbers, strict=True) if match}
    if len(index) == len(folders):
        if len(set(index.values())) < len(index):
            raise DataError(f"two folders in {str(path)!r} start with the same class number")
        return index
    for ordered in (with_empty, folders):
        if labels is None and len(ordered) == classes:
            return {name: i for i, name in enumerate(ordered)}
    expected = f"the model's {classes} classes" if classes is not None else "the model's classes"
    raise DataError(
        f"the {len(folders)} folders in {str(path)!r} cannot be matched to {expected}: name them 0, 1, ... (or 3_cat), "
        "or pass a file of class names that holds the folder names"
    )


def _load_npz(
    path: Path, size: tuple[int, int], channels: int, resize: Resize, classes: int | None, per_class: int | None
) -> FewShot:
    arrays = read_npz(path, wanted=("x", "y"))
    if "x" not in arrays:
        raise DataError(f"{str(path)!r} has no array x: save it with numpy.savez(file, x=pictures, y=labels)")
    x = _checked_pictures(arrays["x"], where=str(path))
    y = None
    if "y" in arrays:
        y = _whole_labels(arrays["y"], len(x), where=str(path))
        _check_labels(y, classes, where=str(path))
    keep = np.arange(len(x)) if y is None or per_class is None else _first_per_class(y, per_class)
    names = tuple(f"{path.name}[{i}]" for i in keep)
    x, y = x[keep], None if y is None else y[keep]
    shape = _checked_shape(len(x), size, channels)
    if x.shape != shape:
        given = x[..., 0] if x.shape[3] == 1 else x
        x = np.empty(shape, np.uint8)
        for i, (picture, name) in enumerate(zip(given, names, strict=True)):
            x[i] = fit_picture(Image.fromarray(picture), channels=channels, size=size, resize=resize, name=name)
    return FewShot(x=x, y=y, names=names, label_source=None if y is None else "given")


def _checked_pictures(x: NDArray[np.generic], *, where: str) -> NDArray[np.uint8]:
    if x.dtype != np.uint8:
        raise DataError(f"{where!r}: x has dtype {x.dtype}; save pictures as uint8 in 0..255")
    if x.ndim == 3 and x.shape[2] > 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[3] not in (1, 3):
        hint = "; move the channels to the last axis" if x.ndim == 4 and x.shape[1] in (1, 3) else ""
        raise DataError(f"{where!r}: x has shape {x.shape}; save [n, h, w, 1 or 3] or grey [n, h, w]{hint}")
    if not x.size:
        raise DataError(f"{where!r}: x holds no pictures")
    return x.view(np.uint8)


def _whole_labels(y: NDArray[np.generic], n: int, *, where: str) -> NDArray[np.int64]:
    if y.dtype.kind not in "iuf":
        raise DataError(f"{where!r}: y has dtype {y.dtype}; save class indices as integers")
    if y.shape == (n, 1):
        y = y[:, 0]
    if y.shape != (n,):
        raise DataError(f"{where!r}: y has shape {y.shape}; save one class index for each of the {n} pictures")
    if y.dtype.kind == "f" and not (np.isfinite(y) & (y == np.rint(y))).all():
        raise DataError(f"{where!r}: y holds fractions; save class indices, not probabilities")
    if y.min() < 0 or y.max() >= 1 << 31:
        raise DataError(f"{where!r}: y holds labels from {y.min()} to {y.max()}; class indices start at 0")
    return y.astype(np.int64)


def _check_labels(y: NDArray[np.int64], classes: int | None, *, where: str) -> None:
    if classes is not None and y.size and y.max() >= classes:
        raise DataError(
            f"{where!r}: label {y.max()} is out of range, the model has {classes} classes counted 0 to {classes - 1}"
        )


def _first_per_class(y: NDArray[np.int64], k: int) -> NDArray[np.intp]:
    firsts = [np.flatnonzero(y == label)[:k] for label in np.unique(y)]
    return np.sort(np.concatenate(firsts))


def _checked_shape(n: int, size: tuple[int, int], channels: int) -> tuple[int, int, int, int]:
    height, width = size
    if n * height * width * channels > MAX_ARRAY_BYTES:
        raise DataError(f"{n} pictures of {height} x {width} are more than {MAX_ARRAY_BYTES} bytes: give fewer")
    return n, height, width, channels

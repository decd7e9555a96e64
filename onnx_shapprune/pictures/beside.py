"""What lies beside a model in the folder that it came in: a snapshot of Hugging Face, or a folder of MLflow.

config.json names the classes, preprocessor_config.json says how Transformers prepares pictures, pretrained_cfg how timm
does, and MLmodel says where the file is. Nothing is fetched. Whoever made the folder wrote this: it is used where the user
says nothing else, and said.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_shapprune.errors import DataError, ModelError
from onnx_shapprune.files.reading import read_regular_file
from onnx_shapprune.pictures.mlmodel import SIDES, onnx_file, picture_shape, scalars
from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.pictures.stated import label_names

CONFIG, PREPROCESSOR, MLMODEL = "config.json", "preprocessor_config.json", "MLmodel"
PLACES = ("onnx", "data")  # folders of a snapshot that models lie in
MAX_BYTES = 16 << 20
SHOWN = 8
# Settings of Transformers that change numbers in a way that has no option here.
UNKNOWN = ("include_top", "do_pad", "do_convert_grayscale", "do_thumbnail", "do_align_long_axis")
Mapped = dict[str, tuple[object, str]]


@dataclass(frozen=True, slots=True)
class Beside:
    """settings: fields of InputOptions, each with the file and the keys that it comes from; remarks: what is in those files
    and has no setting here, in words.
    """

    settings: Mapping[str, tuple[object, str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def model_in(folder: Path) -> Path:
    """The ONNX file of a folder: the one that MLmodel names, else the only one in it, or in its folders onnx and data.
    Raises ModelError where there is none, or several, which it lists.
    """
    if (folder / MLMODEL).is_file() and (name := onnx_file(scalars(_text(folder / MLMODEL)))):
        return folder / name
    found: list[Path] = []
    for place in (folder, *(folder / name for name in PLACES)):
        try:
            found += sorted(p for p in place.iterdir() if p.suffix.lower() == ".onnx") if place.is_dir() else []
        except OSError as error:
            raise ModelError(f"folder {str(place)!r} cannot be read: {error.strerror}") from None
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelError(f"{folder} holds no .onnx file, nor do its folders {' and '.join(PLACES)}: give the file")
    names = ", ".join(p.relative_to(folder).as_posix() for p in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise ModelError(f"{folder} holds {len(found)} .onnx files, name the one to audit: {names}{more}")


def beside(model: Path) -> Beside:
    """What the files beside a model say about its input and its classes. Raises DataError where one cannot be read."""
    root = _root(model)
    config, preprocessor = _json(root / CONFIG), _json(root / PREPROCESSOR)
    found: Mapped = {}
    if (root / MLMODEL).is_file():
        said = scalars(_text(root / MLMODEL))
        if (name := onnx_file(said)) and root / name == model and (shape := picture_shape(said)):
            found |= {"layout": (shape[0], f"{MLMODEL} (signature)"), "size": (shape[1], f"{MLMODEL} (signature)")}
    if isinstance(timm := config.get("pretrained_cfg"), dict):
        found |= _timm(timm)
    found |= _transformers(preprocessor)
    if label_names(config):
        found["class_names"] = root / CONFIG, f"{CONFIG} (id2label or label_names)"
    if (cache := root.absolute().parent).name == "snapshots" and cache.parent.name.startswith("models--"):
        found["allow_root"] = cache.parent, "the folder of a Hugging Face cache, which is made of links"
    unknown = [key for key in UNKNOWN if preprocessor.get(key)]
    return Beside(found, tuple(f"{PREPROCESSOR}: {key} has no option here and was passed over" for key in unknown))


def _root(model: Path) -> Path:
    """The folder that describes a model: its own, or the one around onnx or data."""
    own = model.parent
    described = any((own / name).is_file() for name in (CONFIG, PREPROCESSOR, MLMODEL))
    return own.parent if own.name in PLACES and not described else own


def _transformers(said: Mapping[str, Any]) -> Mapped:
    """Settings of an image processor: pictures are resized, cut, multiplied, and then normalised."""
    found: Mapped = {}
    known = {"image_mean", "image_std", "rescale_factor", "do_rescale", "do_normalize"} & said.keys()
    if known:
        on = said.get("do_rescale", True)
        factor = _number(said, "rescale_factor", 1 / 255) if on else 1.0
        low = -1.0 if on and said.get("rescale_offset") else 0.0
        source = (
            f"{PREPROCESSOR} ({', '.join(k for k in ('do_rescale', 'rescale_factor', 'rescale_offset') if k in said)})"
        )
        range_ = (low, round(low + 255 * factor, 6))
        found["input_range"] = range_, source.replace(" ()", " (as Transformers does by default)")
        if said.get("do_normalize", True):
            for field_, key in (("mean", "image_mean"), ("std", "image_std")):
                if key in said:
                    found[field_] = _numbers(said, key), f"{PREPROCESSOR} ({key})"
    if said.get("do_flip_channel_order"):
        found["channel_order"] = "BGR", f"{PREPROCESSOR} (do_flip_channel_order)"
    cut = bool(said.get("do_center_crop"))
    if cut:
        found["resize"] = "crop", f"{PREPROCESSOR} (do_center_crop)"
    key = "crop_size" if cut and "crop_size" in said else "size"
    if size := _size(said.get(key)):
        found["size"] = size, f"{PREPROCESSOR} ({key})"
    return _checked(found)


def _timm(said: Mapping[str, Any]) -> Mapped:
    """A pretrained_cfg: channels first, mean and std of 0 to 1."""
    source = f"{CONFIG} (pretrained_cfg)"
    found: Mapped = {name: (_numbers(said, name), source) for name in ("mean", "std") if name in said}
    if isinstance(shape := said.get("input_size"), list) and len(shape) == 3 and (size := _size(shape[1:])):
        found["size"] = size, source
    if said.get("crop_mode", "center") == "center" and "crop_pct" in said:
        found["resize"] = "crop", source
    return _checked(found)


def _checked(found: Mapped) -> Mapped:
    """Raise DataError where the numbers make no preprocessing."""
    names = ("input_range", "mean", "std", "channel_order")
    try:
        Preprocessing(**{name: found[name][0] for name in names if name in found})  # type: ignore[arg-type]
    except DataError as error:
        raise DataError(f"the files beside the model make no preprocessing: {error}") from None
    return found


def _number(said: Mapping[str, Any], key: str, default: float) -> float:
    value = said.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{PREPROCESSOR}: {key} is no number")
    return float(value)


def _numbers(said: Mapping[str, Any], key: str) -> tuple[float, ...]:
    value = said[key] if isinstance(said[key], list) else [said[key]]
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in value):
        raise DataError(f"{key} beside the model is no list of numbers")
    return tuple(float(v) for v in value)


def _size(value: object) -> tuple[int, int] | None:
    """Height and width of a size as Transformers writes it; None for one that leaves a side open."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    sides = [value, value] if type(value) is int else value
    if not isinstance(sides, list) or len(sides) != 2 or not all(type(s) is int and s in SIDES for s in sides):
        return None
    return sides[0], sides[1]


def _json(path: Path) -> dict[str, Any]:
    """The object of a JSON file, {} where there is no such file. Raises DataError."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {str(error)[:80]}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is no JSON object")
    return content


def _text(path: Path) -> str:
    try:
        return read_regular_file(path, limit=MAX_BYTES, what="file beside the model", error=DataError).decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text") from None

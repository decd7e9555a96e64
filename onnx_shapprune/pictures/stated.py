"""What a file's metadata says about its pictures, in the words of the exporters that are known to leave any.

Windows ML writes Image.NominalPixelRange and Image.BitmapPixelFormat, Ultralytics names and imgsz, timm and transformers a
configuration as JSON with mean and std, MLflow a signature. Whoever made the file wrote this: it is shown and tried, and not
believed.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx_shapprune.errors import DataError
from onnx_shapprune.pictures.preprocess import ChannelOrder, Preprocessing, parse_numbers

RANGES = {
    "nominalrange_0_255": (0.0, 255.0),
    "normalized_0_1": (0.0, 1.0),
    "normalized_1_1": (-1.0, 1.0),
    "nominalrange_16_235": (16.0, 235.0),
}
# Keys without case, blanks, dashes and underscores, by what they say.
KEYS = {
    "range": {"imagenominalpixelrange", "inputrange", "pixelrange", "valuerange"},
    "scale": {"rescalefactor", "scale", "inputscale"},
    "mean": {"mean", "imagemean", "imgmean", "normmean", "normalizationmean", "pixelmean"},
    "std": {"std", "imagestd", "imgstd", "normstd", "normalizationstd", "pixelstd"},
    "order": {"imagebitmappixelformat", "channelorder", "colororder", "colorformat", "colormode", "pixelformat"},
    "names": {"names", "classnames", "classes", "labels", "id2label", "classlabels"},
}
SHOWN_TOO = {
    *("imagecolorspacegamma", "imgsz", "inputsize", "imagesize", "task", "signature", "mlflowsignature"),
    *("preprocessorconfig", "preprocessing", "normalization", "normalizationoptions", "pretrainedcfg", "defaultcfg"),
}
ULTRALYTICS = {"names", "imgsz", "stride", "task"}
NAME = re.compile(r"""['"]?([0-9]{1,6})['"]?\s*:\s*(?:'([^']{0,200})'|"([^"]{0,200})")""")
DEPTH = 3
NAMES = 100_000


@dataclass(frozen=True, slots=True)
class Stated:
    """pairs: the keys that are about pictures or classes, with their values; preprocessing: what they ask for, None where
    they ask for nothing that makes sense; class_names: in index order.
    """

    pairs: tuple[tuple[str, str], ...]
    preprocessing: Preprocessing | None
    class_names: tuple[str, ...]


def stated(metadata: Sequence[tuple[str, str]]) -> Stated:
    """Read what is known in pairs of a key and a value, of which nothing can be trusted to be well formed."""
    every = [*KEYS.values(), SHOWN_TOO]
    pairs = tuple((k, v) for k, v in metadata if any(_folded(k) in known for known in every))
    said: dict[str, str] = {}
    for key, value in metadata:
        for inner, text in ((key, value), *_within(value)):
            for what, known in KEYS.items():
                if _folded(inner) in known:
                    said.setdefault(what, text)
    if {_folded(k) for k, _ in metadata} >= ULTRALYTICS:
        said.setdefault("range", "Normalized_0_1")
    return Stated(pairs, _preprocessing(said), _names(said.get("names", "")))


def label_names(config: Mapping[str, object]) -> tuple[str, ...]:
    """Class names of a config.json, in index order: id2label of Transformers, or label_names of timm. () where it has none,
    or only those that Transformers makes up (LABEL_0, LABEL_1, ...).
    """
    named, listed = config.get("id2label"), config.get("label_names")
    if isinstance(named, dict):
        listed = [named.get(str(i)) for i in range(len(named))] if len(named) <= NAMES else None
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str) for name in listed):
        return ()
    return () if all(re.fullmatch("LABEL_[0-9]+", name) for name in listed) else tuple(listed)


def _folded(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.lower())


def _within(value: str) -> Iterator[tuple[str, str]]:
    """Keys and values of a JSON object, and of objects in it."""
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        return
    level = [content] if isinstance(content, dict) else []
    for _ in range(DEPTH):
        for mapping in level:
            yield from ((str(k), v if isinstance(v, str) else json.dumps(v)) for k, v in mapping.items())
        level = [v for mapping in level for v in mapping.values() if isinstance(v, dict)]


def _preprocessing(said: dict[str, str]) -> Preprocessing | None:
    mean, std = _numbers(said.get("mean", "")), _numbers(said.get("std", ""))
    input_range = RANGES.get(said.get("range", "").strip().lower()) or _numbers(said.get("range", ""))
    if not input_range and (scale := _numbers(said.get("scale", ""))) and len(scale) == 1:
        input_range = (0.0, 255.0 * scale[0])
    words = said.get("order", "").strip().lower()
    order: ChannelOrder | None = "BGR" if words.startswith("bgr") else "RGB" if words.startswith("rgb") else None
    if not (mean or std or input_range or order):
        return None
    if not input_range:  # means of 100 and more are those of bytes
        input_range = (0.0, 255.0) if max(mean, default=0.0) > 1 else (0.0, 1.0)
    try:
        return Preprocessing(
            input_range=(input_range[0], input_range[-1]),
            mean=mean or (0.0,),
            std=std or (1.0,),
            channel_order=order or "RGB",
        )
    except DataError:
        return None


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return parse_numbers(text.strip(" []()"), option="metadata") if text else ()
    except DataError:
        return ()


def _names(text: str) -> tuple[str, ...]:
    """Class names of a JSON list, a mapping from numbers as JSON or Python write it, or a list with commas."""
    found = {int(number): single or double for number, single, double in NAME.findall(text)}
    if found:
        return tuple(found[i] for i in range(len(found))) if sorted(found) == list(range(len(found))) else ()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = [part.strip() for part in text.split(",")] if "," in text else []
    named = isinstance(content, list) and len(content) <= NAMES and all(isinstance(name, str) for name in content)
    return tuple(content) if named else ()

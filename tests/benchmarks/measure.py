"""The attacker's side of a benchmark: models with their true triggers, and what these still do to a file.

Nothing here may reach an audit: true triggers, true targets and test labels are for scoring it afterwards.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from onnx_shapprune.invert.warping import warped

Pixels = NDArray[np.float32]
Labels = NDArray[np.int64]
Bytes = NDArray[np.uint8]

BATCH = 250


class Entry(BaseModel):
    """One model of a manifest: its file, how pictures become its input, and the backdoor that it is known to have."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    file: str
    folder: str
    kind: str
    layout: str
    scale: float = 255.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    data: str | None = None
    pictures: str | None = None
    classes: int
    trigger: str | None = None
    target: int | None = None
    source_class: int | None = None

    @property
    def backdoored(self) -> bool:
        return self.kind != "clean"

    def as_input(self, pictures: Pixels) -> Pixels:
        """Model input in the model's layout from pictures [n, h, w, c] in 0..255: (x / scale - mean) / std."""
        x = (pictures / np.float32(self.scale) - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(np.moveaxis(x, 3, 1) if self.layout == "NCHW" else x, np.float32)


def entries(zoo: Path) -> list[Entry]:
    """The models of DIR/manifest.json."""
    return [Entry.model_validate(e) for e in json.loads((zoo / "manifest.json").read_text())]


class TrueRates(BaseModel):
    """Shares in 0..1 with the true trigger; asr and racc are None where the manifest lists no trigger."""

    acc: float
    asr: float | None = None
    racc: float | None = None


class TrueTrigger:
    """How the attacker changes a picture: arrays "mask" and "pattern", float [h, w, c], pattern in 0..255, and "mode".

    mode "replace": x (1 - mask) + pattern mask; "replace_then_add": x (1 - mask) + pattern; "add": x + pattern; "warp":
    the pattern is float [h, w, 2], pixels down and right from which each pixel is taken, bilinear (WaNet); "squeeze": it is
    the number of levels that are left of each colour (BppAttack).
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.mask, self.pattern = arrays["mask"].astype(np.float32), arrays["pattern"].astype(np.float32)
        self.mode = str(arrays["mode"])
        if self.mode not in ("replace", "replace_then_add", "add", "warp", "squeeze"):
            raise ValueError(f"trigger mode {self.mode!r} is not known")

    @classmethod
    def load(cls, path: Path) -> "TrueTrigger":
        """The trigger of an .npz file."""
        with np.load(path) as stored:
            return cls(dict(stored))

    def stamp(self, pictures: Pixels) -> Pixels:
        """Triggered copies of pictures [n, h, w, c], clipped to 0..255."""
        if self.mode == "warp":
            return warped(pictures, self.pattern)
        if self.mode == "squeeze":
            steps = self.pattern - 1
            return np.asarray(np.round(pictures / 255 * steps) / steps * 255, np.float32)
        kept = pictures if self.mode == "add" else pictures * (1 - self.mask)
        added = self.pattern * self.mask if self.mode == "replace" else self.pattern
        stamped: Pixels = np.clip(kept + added, 0, 255).astype(np.float32)
        return stamped


class Scorer:
    """Clean and triggered test pictures of one entry, ready to be shown to any file that claims to be this model."""

    def __init__(self, entry: Entry, zoo: Path, x: Bytes, y: Labels, *, threads: int) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.log_severity_level = 4
        self._options.intra_op_num_threads = threads
        self._labels, self._goal = y, np.full(len(y), -1)
        pictures = x.astype(np.float32)
        self._clean, self._stamped = entry.as_input(pictures), None
        self._counted = np.ones(len(y), np.bool_)
        if entry.trigger is None:
            return
        self._stamped = entry.as_input(TrueTrigger.load(zoo / "triggers" / f"{entry.trigger}.npz").stamp(pictures))
        if entry.kind == "all-to-all":
            self._goal = (y + 1) % entry.classes
        elif entry.target is None:
            raise ValueError(f"{entry.file}: a trigger without a target")
        else:
            self._goal = np.full(len(y), entry.target)
            # Only pictures that the attacker wants to move count: not those of the target itself.
            self._counted = y != entry.target if entry.source_class is None else y == entry.source_class

    def rates(self, model: Path | bytes, *, first: int | None = None) -> TrueRates:
        """ACC over the test pictures (the `first` ones, default all); ASR and R-Acc over those the attack is for."""
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, self._options, providers=["CPUExecutionProvider"])
        labels, goal, counted = self._labels[:first], self._goal[:first], self._counted[:first]
        acc = float((answers(session, self._clean[:first]) == labels).mean())
        if self._stamped is None or not counted.any():
            return TrueRates(acc=acc)
        got = answers(session, self._stamped[:first])[counted]
        return TrueRates(acc=acc, asr=float((got == goal[counted]).mean()), racc=float((got == labels[counted]).mean()))


def answers(session: onnxruntime.InferenceSession, x: Pixels) -> Labels:
    """Class of every row of x by the first output; fixed batch sizes, other input ranks and fp16 inputs are met."""
    (info,) = session.get_inputs()
    shape = [d if isinstance(d, int) and d > 0 else None for d in info.shape]
    size = shape[0] or BATCH
    inner = [d or x.shape[i] for i, d in enumerate(shape) if i]
    kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(info.type, np.float32)
    found = []
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        # A fixed batch takes no shorter one: fill it up, and drop those answers.
        full = rows if shape[0] is None else rows[np.arange(size) % len(rows)]
        (scores, *_) = session.run(None, {info.name: full.reshape(len(full), *inner).astype(kind)})
        found.append(np.asarray(scores).reshape(len(full), -1)[: len(rows)].argmax(1))
    return np.concatenate(found).astype(np.int64)


def few_shot(x: Bytes, y: Labels, classes: int, per_class: int, rng: np.random.Generator) -> tuple[Bytes, Labels]:
    """`per_class` pictures of every class that has any, drawn class by class."""
    groups = [np.flatnonzero(y == c) for c in range(classes)]
    rows = np.concatenate([rng.choice(g, min(per_class, len(g)), replace=False) for g in groups if len(g)])
    return x[rows], y[rows]

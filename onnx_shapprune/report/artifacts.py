"""Recovered triggers as files: pictures to look at, and arrays that --known-trigger reads back."""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.errors import OutputError
from onnx_shapprune.files.writing import write_atomically
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.invert.warping import warped
from onnx_shapprune.pictures.files import png_bytes
from onnx_shapprune.record.parts import FileDigest

SHOWN_PICTURES = 3
GRID = 4  # pixels between the lines that a warp is drawn by


def write_artifacts(
    folder: Path, triggers: Sequence[Trigger], pictures: NDArray[np.uint8] | NDArray[np.float32]
) -> tuple[FileDigest, ...]:
    """Write <class>_<family>_{mask,pattern,applied}.png and <class>_<family>_trigger.npz for each trigger.

    mask and pattern have the model's size, so that --known-trigger takes them back; applied is enlarged. pictures:
    [n, h, w, c] in 0..255; the first three carry the pattern in `applied`. A second trigger of the same class and family
    gets _2 in its names. The folder is made, its parent must exist. Raises OutputError.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from None
    written: list[FileDigest] = []
    seen: Counter[str] = Counter()
    for trigger in triggers:
        stem = f"{_goal(trigger)}_{re.sub('[^A-Za-z0-9-]', '-', trigger.family)}"
        seen[stem] += 1
        if seen[stem] > 1:
            stem = f"{stem}_{seen[stem]}"
        shown = trigger.apply(pictures[:SHOWN_PICTURES].astype(np.float32))
        files = {
            f"{stem}_mask.png": png_bytes(trigger.mask * 255, min_height=1),
            f"{stem}_pattern.png": png_bytes(visible(trigger), min_height=1),
            f"{stem}_applied.png": png_bytes(np.concatenate(list(shown), axis=1)),
            f"{stem}_trigger.npz": _npz(trigger),
        }
        for name, payload in files.items():
            write_atomically(folder / name, payload)
            digest = hashlib.sha256(payload).hexdigest()
            written.append(FileDigest(name=name, size=len(payload), sha256=digest))
    return tuple(written)


def _goal(trigger: Trigger) -> str:
    goal = trigger.goal
    return {"all-to-one": f"{goal.target}", "source-specific": f"{goal.source}to{goal.target}"}.get(goal.kind, "all")


def visible(trigger: Trigger) -> NDArray[np.float32]:
    """The pattern [h, w, c] in 0..255 where it shows; of what is added, the change around grey, stretched to full range; of
    a warp, what it makes of a grid.
    """
    if trigger.flow is not None:
        rows, columns = np.indices(trigger.flow.shape[:2])
        lines = np.where((rows % GRID) * (columns % GRID), np.float32(0), np.float32(255))
        grid: NDArray[np.float32] = warped(lines[None, ..., None], trigger.flow)[0]
        return grid
    if not trigger.added:
        return np.where(trigger.mask > 0, trigger.pattern, np.float32(0))
    return np.asarray(127.5 + trigger.paint * (127.5 / max(1.0, float(np.abs(trigger.paint).max()))), np.float32)


def _npz(trigger: Trigger) -> bytes:
    buffer = io.BytesIO()
    shown: dict[str, Any] = {"pattern": trigger.pattern}
    if trigger.flow is not None:
        shown = {"mode": np.array("warp"), "pattern": trigger.flow}
    elif trigger.added:
        shown = {"mode": np.array("add"), "pattern": trigger.paint}
    # A search may overshoot by one rounding step, and the reader refuses that.
    np.savez(buffer, mask=trigger.mask.clip(0, 1), target=np.int64(trigger.goal.target), **shown)
    return buffer.getvalue()

"""A recovered trigger by itself: what it covers, cut out and large. Most are a few pixels of a picture."""

import base64

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.errors import DataError
from onnx_shapprune.pictures.files import decoded_png, png_bytes
from onnx_shapprune.record.audit import TriggerPart

MAX_EDGE = 512  # far above what a record holds; stored records may be anybody's
COVERED = 13  # of 255: a mask below that cannot be seen
AROUND = 1  # pixels left around the trigger
PART = 0.7  # of the picture's edge: a trigger that takes more is not cut out
GREY = 200.0  # where the picture shows through


def closeup(trigger: TriggerPart) -> str:
    """The trigger over grey, as PNG in base64: cut out where it is small. What is added to a picture, or warps it, is shown
    whole; so is what cannot be read.
    """
    if trigger.added or trigger.warps:
        return trigger.pattern
    try:
        mask, pattern = (
            decoded_png(base64.b64decode(png, validate=True), max_edge=MAX_EDGE).astype(np.float32)
            for png in (trigger.mask, trigger.pattern)
        )
    except (ValueError, DataError):
        return trigger.pattern
    if mask.shape != pattern.shape:
        return trigger.pattern
    share = mask / 255
    shown: NDArray[np.float32] = (share * pattern + (1 - share) * GREY).astype(np.float32)
    rows, columns = np.nonzero(mask.max(axis=2) >= COVERED)
    if len(rows):
        edges = [(int(at.min()), int(at.max()) + 1) for at in (rows, columns)]
        if all(end - first <= PART * size for (first, end), size in zip(edges, mask.shape[:2], strict=True)):
            (top, bottom), (left, right) = ((max(0, first - AROUND), end + AROUND) for first, end in edges)
            shown = _square(shown[top:bottom, left:right])
    return base64.b64encode(png_bytes(shown, min_height=1)).decode()


def _square(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey around the shorter edge, so that the cut has the shape of the pictures beside it."""
    height, width = picture.shape[:2]
    rows, columns = max(0, width - height), max(0, height - width)
    edges = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(picture, edges, constant_values=GREY)

"""Read a trigger that the user already knows, to be checked against the model as it is.

A trigger is never resized: stretched, it is another trigger.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.errors import DataError
from onnx_shapprune.pictures.files import read_npz, read_picture

Loaded = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]


def load_trigger(*paths: Path | str, size: tuple[int, int], channels: int) -> Loaded:
    """(mask, paint, flow): for x' = (1 - mask) x + paint float32 [h, w, 1] in 0..1 and [h, w, channels] in -255..255, and
    None; for a warp both 0, and float32 [h, w, 2].

    paths: a grey mask picture (0..255 is scaled to 0..1) and a pattern picture, in this order, or one .npz with mask
    [h, w], [h, w, 1] or [h, w, c] in 0..1 (equal over channels) and pattern [h, w] or [h, w, c] in 0..255, or with mode
    "add" and a pattern in -255..255, which is added to the picture, or with mode "warp" and a pattern [h, w, 2]: by how many
    pixels further down and right each pixel is taken. size is the model's (height, width). Raises DataError when a size,
    range or channel count differs.
    """
    loaded: Loaded
    if len(paths) == 2:
        mask_path, pattern_path = map(Path, paths)
        grey = read_picture(mask_path, channels=1, size=size, resize="error")
        mask = grey.astype(np.float32) / np.float32(255)
        pattern = read_picture(pattern_path, channels=channels, size=size, resize="error").astype(np.float32)
        where, loaded = str(mask_path), (mask, mask * pattern, None)
    elif len(paths) == 1:
        where = str(paths[0])
        loaded = _from_npz(Path(paths[0]), size, channels)
    else:
        raise DataError("a known trigger is one .npz, or a mask picture and a pattern picture")
    if not any(part is not None and part.any() for part in loaded):
        raise DataError(f"{where!r}: the trigger's mask is 0 everywhere")
    return loaded


def _from_npz(path: Path, size: tuple[int, int], channels: int) -> Loaded:
    if path.suffix.lower() != ".npz":
        raise DataError(f"{str(path)!r} is no .npz: give one .npz, or a mask picture and a pattern picture")
    arrays = read_npz(path, wanted=("mask", "pattern", "mode"))
    if "mask" not in arrays or "pattern" not in arrays:
        raise DataError(f"{str(path)!r} needs two arrays, mask and pattern")
    mode = str(arrays.get("mode", "replace"))
    if mode not in ("replace", "blend", "add", "warp"):
        raise DataError(f"{str(path)!r}: trigger mode {mode[:20]!r} is not supported, only replace, blend, add or warp")
    if mode == "warp":
        flow = _numbers(
            arrays["pattern"], size, top=float(max(size)), signed=True, depths=(2,), where=f"{str(path)!r}: pattern"
        )
        return np.zeros((*size, 1), np.float32), np.zeros((*size, channels), np.float32), flow
    mask = _numbers(arrays["mask"], size, top=1.0, where=f"{str(path)!r}: mask")
    pattern = _numbers(arrays["pattern"], size, top=255.0, signed=mode == "add", where=f"{str(path)!r}: pattern")
    if (mask != mask[..., :1]).any():
        raise DataError(f"{str(path)!r}: mask differs between channels, which is not supported")
    if pattern.shape[2] not in (1, channels):
        raise DataError(f"{str(path)!r}: pattern has {pattern.shape[2]} channels, the model takes {channels}")
    pattern = np.broadcast_to(pattern, (*size, channels)).copy()
    if mode == "add":
        return np.zeros_like(mask[..., :1]), pattern, None
    return mask[..., :1].copy(), mask[..., :1] * pattern, None


def _numbers(
    array: NDArray[np.generic],
    size: tuple[int, int],
    *,
    top: float,
    where: str,
    signed: bool = False,
    depths: tuple[int, ...] = (1, 3),
) -> NDArray[np.float32]:
    if array.dtype.kind not in "iufb":
        raise DataError(f"{where} has dtype {array.dtype}; save numbers")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[:2] != size or array.shape[2] not in depths:
        numbers = " or ".join(map(str, depths))
        raise DataError(
            f"{where} has shape {array.shape}; the model's pictures are {size[0]} x {size[1]}, with {numbers} numbers each"
        )
    values = array.astype(np.float32)
    low = -top if signed else 0.0
    if not (np.isfinite(values).all() and values.min() >= low and values.max() <= top):
        raise DataError(f"{where} must hold numbers in {low:g}..{top:g}")
    return values

"""One file in, one array out: picture files and .npz archives, both taken as hostile.

Sizes are read from headers and refused before anything is unpacked; only four decoders are offered to a picture; an
archive's members are never unpickled.
"""

import io
import math
import stat
import warnings
import zipfile
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from onnx_shapprune.errors import DataError, OutputError

Resize = Literal["error", "stretch", "crop", "fit"]
RESIZES: tuple[Resize, ...] = get_args(Resize)
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
MAX_PIXELS = 64 << 20
MAX_FILE_BYTES = 256 << 20
MAX_ARRAY_BYTES = 2 << 30


def read_picture(path: Path, *, channels: int, size: tuple[int, int] | None, resize: Resize) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG, BMP or WebP file into uint8 [h, w, channels]; size None keeps its own.

    The EXIF rotation is applied, transparency is ignored (the colour under it stays), 16 bits are cut to the upper 8,
    an animation gives its first frame. Raises DataError naming the file when it is no such picture, broken or too
    large.
    """
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise DataError(f"{str(path)!r} is not a regular file")
        if info.st_size > MAX_FILE_BYTES:
            raise DataError(f"{str(path)!r} has {info.st_size} bytes, more than the {MAX_FILE_BYTES} allowed")
        with warnings.catch_warnings():
            # Pillow only warns between its limit and twice its limit; ours is below both.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"{str(path)!r} is {image.width} x {image.height}, above {MAX_PIXELS} pixels")
                image.load()
                upright = _eight_bit(ImageOps.exif_transpose(image))
        return fit_picture(upright, channels=channels, size=size, resize=resize, name=str(path))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every built-in error on broken files.
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{str(path)!r} cannot be read as a picture: {reason or type(error).__name__}") from error


def fit_picture(
    image: Image.Image, *, channels: int, size: tuple[int, int] | None, resize: Resize, name: str
) -> NDArray[np.uint8]:
    """Bring an 8-bit picture to uint8 [h, w, channels].

    resize: "stretch" (bilinear, ignores the aspect), "crop" (fills the frame, cuts the rest off evenly), "fit" (whole
    picture, black borders) or "error" (DataError when the size differs). Grey to colour repeats the channel, colour
    to grey takes ITU-R 601 luma.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != size[::-1]:
        if resize == "error":
            raise DataError(
                f"{name!r} is {image.height} x {image.width} but the model takes {size[0]} x {size[1]} (height x "
                "width): resize it, or choose stretch, crop or fit"
            )
        image = _resized(image, size[::-1], resize)
    return np.array(image, np.uint8).reshape(image.height, image.width, channels)


def read_npz(path: Path, *, wanted: tuple[str, ...]) -> dict[str, NDArray[np.generic]]:
    """The arrays of an .npz file that are in `wanted`, without unpickling and without trusting declared sizes.

    Raises DataError when the file is no such archive, an array holds objects, or one takes more than MAX_ARRAY_BYTES.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in wanted:
                if f"{name}.npy" in archive.namelist():
                    arrays[name] = _read_member(archive, f"{name}.npy", where=f"{str(path)!r}")
            if not arrays:
                found = ", ".join(repr(name) for name in sorted(archive.namelist())[:8]) or "nothing"
                raise DataError(f"{str(path)!r} has no array named {' or '.join(wanted)}; it holds {found}")
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and the .npy header parser share no root below Exception.
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{str(path)!r} cannot be read as .npz: {reason or type(error).__name__}") from error
    return arrays


def decoded_png(payload: bytes, *, max_edge: int) -> NDArray[np.uint8]:
    """Pixels [h, w, 3] of a PNG that lies in memory, no edge longer than `max_edge`. Raises DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(payload), formats=("PNG",)) as image:
                if max(image.size) > max_edge:
                    raise DataError(f"the picture is {image.width} x {image.height}, above {max_edge} pixels")
                image.load()
                return np.asarray(_eight_bit(image).convert("RGB"), np.uint8)
    except DataError:
        raise
    except Exception as error:  # as in read_picture
        raise DataError(f"this is no PNG: {type(error).__name__}") from error


def png_bytes(picture: NDArray[np.generic], *, min_height: int = 256) -> bytes:
    """A PNG of a picture [h, w], [h, w, 1] or [h, w, 3] in 0..255 (rounded and clipped), enlarged by a whole factor.

    Nearest neighbour, so every pixel stays a square; the factor is the smallest that reaches min_height, less where
    the width would pass 4096. Raises DataError on another shape or on values that are not finite.
    """
    if picture.ndim not in (2, 3) or 0 in picture.shape or (picture.ndim == 3 and picture.shape[2] not in (1, 3)):
        raise DataError(f"a picture to draw must be [h, w], [h, w, 1] or [h, w, 3], not {picture.shape}")
    values = picture.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError("a picture to draw holds NaN or infinity")
    height, width = picture.shape[:2]
    factor = max(1, min(math.ceil(min_height / height), 4096 // width))
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def save_png(path: Path | str, picture: NDArray[np.generic], *, min_height: int = 256) -> None:
    """Write png_bytes(picture) to `path`. Raises OutputError when it cannot be written."""
    data = png_bytes(picture, min_height=min_height)
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise OutputError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def _eight_bit(image: Image.Image) -> Image.Image:
    """Cut 16-bit grey to its upper byte; Pillow's own conversion clips at 255 instead."""
    if not image.mode.startswith("I"):
        return image
    wide = np.asarray(image).astype(np.int64)
    return Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))


def _resized(image: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    if resize == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    if resize == "fit":
        # ImageOps.pad rounds the short side of a very long picture to 0 and fails.
        ratio = min(size[0] / image.width, size[1] / image.height)
        inner = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
        frame = Image.new(image.mode, size)
        frame.paste(
            image.resize(inner, Image.Resampling.BILINEAR), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
        )
        return frame
    if resize == "stretch":
        return image.resize(size, Image.Resampling.BILINEAR)
    raise DataError(f"resize {resize!r} is not understood: use {', '.join(RESIZES)}")


def _read_member(archive: zipfile.ZipFile, name: str, *, where: str) -> NDArray[np.generic]:
    declared = archive.getinfo(name).file_size
    if declared > MAX_ARRAY_BYTES:
        raise DataError(f"{where}: {name} unpacks to {declared} bytes, more than the {MAX_ARRAY_BYTES} allowed")
    with archive.open(name) as stream:
        shape, dtype = _read_header(stream, where=f"{where}: {name}")
    if dtype.hasobject:
        raise DataError(f"{where}: {name} holds Python objects, which are never loaded; save plain numbers")
    # numpy allocates what the header asks for before it reads, so the header must agree with the member first.
    if math.prod(shape) * dtype.itemsize > declared:
        raise DataError(f"{where}: {name} declares shape {shape} but holds only {declared} bytes")
    with archive.open(name) as stream:
        array: NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _read_header(stream: IO[bytes], *, where: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise DataError(f"{where} has .npy version {version}, which plain numbers never need")
    return shape, dtype

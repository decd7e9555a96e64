"""Pictures, labels and preprocessing, on generated files, broken and hostile ones included."""

import hashlib
import io
import os
import struct
import time
import tracemalloc
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from onnx_shapprune.errors import DataError, OutputError
from onnx_shapprune.pictures import files
from onnx_shapprune.pictures.few_shot import FewShot, few_per_class, folder_class_names, load_class_names, load_pictures
from onnx_shapprune.pictures.files import png_bytes, read_picture, save_png
from onnx_shapprune.pictures.preprocess import Preprocessing, affine, parse_numbers, pull_back, to_input

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SETTINGS = [
    Preprocessing(),
    IMAGENET,
    Preprocessing(input_range=(-1, 1), layout="NHWC"),
    Preprocessing(input_range=(0, 255), mean=(123.7, 116.3, 103.5), channel_order="BGR"),
    Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), layout="NHWC", channel_order="BGR", input_shape=(90,)),
    Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5,), input_shape=(1, 90)),
]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def picture(rng: np.random.Generator, *shape: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, array: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


# Preprocessing


def reference_input(x: NDArray[np.generic], s: Preprocessing) -> NDArray[np.float64]:
    """The definition, step by step in float64."""
    low, high = s.input_range
    unit = low + x.astype(np.float64) / 255 * (high - low)
    out: NDArray[np.float64] = (unit - np.array(s.mean)) / np.array(s.std)
    if s.channel_order == "BGR":
        out = np.stack([out[..., 2], out[..., 1], out[..., 0]], axis=-1)
    if s.layout == "NCHW":
        out = np.moveaxis(out, 3, 1)
    return out if s.input_shape is None else out.reshape(len(x), *s.input_shape)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_input_equals_the_definition(
    settings: Preprocessing, dtype: type[np.generic], rng: np.random.Generator
) -> None:
    x = picture(rng, 4, 5, 6, 3).astype(dtype)
    got, want = to_input(x, settings), reference_input(x, settings)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("settings", SETTINGS)
def test_pull_back_is_the_adjoint(settings: Preprocessing, rng: np.random.Generator) -> None:
    step = rng.uniform(0, 255, (3, 5, 6, 3)).astype(np.float32)
    moved = to_input(step, settings).astype(np.float64) - to_input(np.zeros_like(step), settings)
    cotangent = rng.normal(size=moved.shape).astype(np.float32)
    back = pull_back(cotangent, settings, picture_shape=(5, 6, 3))
    assert back.shape == step.shape
    assert back.dtype == np.float32
    assert back.flags.c_contiguous
    left, right = np.vdot(moved, cotangent.astype(np.float64)), np.vdot(step.astype(np.float64), back)
    assert abs(left) > 1e-2, "vacuous: the two are orthogonal"
    assert abs(left - right) < 1e-5 * np.linalg.norm(moved) * np.linalg.norm(cotangent)
    assert abs(left - 1.01 * right) > abs(left - right)


def test_pull_back_undoes_every_order_of_the_axes(rng: np.random.Generator) -> None:
    x = picture(rng, 2, 4, 4, 3)
    for settings in SETTINGS[1:4]:
        scale, offset = affine(settings, channels=3)
        flat_offset = to_input(np.zeros_like(x), settings)
        back = pull_back(to_input(x, settings) - flat_offset, settings, picture_shape=(4, 4, 3))
        np.testing.assert_allclose(back, x * scale**2, rtol=1e-4, atol=1e-6)
        assert offset.shape == (3,)


def test_grey_pictures_take_any_flat_shape(rng: np.random.Generator) -> None:
    x = picture(rng, 2, 4, 6, 1)
    for shape in [(24,), (24, 1), (1, 24, 1), (4, 6), (1, 4, 6)]:
        np.testing.assert_array_equal(
            to_input(x, Preprocessing(input_shape=shape)).reshape(2, -1), to_input(x, Preprocessing()).reshape(2, -1)
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_range": (1.0, 0.0)}, "low end first"),
        ({"input_range": (0.0, float("nan"))}, "finite"),
        ({"mean": (0.1, 0.2)}, "mean has 2"),
        ({"mean": ()}, "mean has 0"),
        ({"std": (0.0,)}, "above 0"),
        ({"std": (float("inf"),)}, "finite"),
        ({"layout": "CHW"}, "NCHW or NHWC"),
        ({"channel_order": "rgb"}, "RGB or BGR"),
        ({"input_shape": (0, 3)}, "batch axis"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preprocessing(**settings)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused(rng: np.random.Generator) -> None:
    x = picture(rng, 2, 8, 8, 3)
    with pytest.raises(DataError, match="try the other layout"):
        to_input(x, Preprocessing(input_shape=(8, 8, 3)))
    with pytest.raises(DataError, match="do not fill"):
        to_input(x, Preprocessing(input_shape=(3, 8, 9)))
    with pytest.raises(DataError, match="mean has 3"):
        to_input(x[..., :1], IMAGENET)
    with pytest.raises(DataError, match="uint8 or float32"):
        to_input(x.astype(np.float64), IMAGENET)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="does not fit"):
        pull_back(np.zeros((2, 8, 8, 3), np.float32), IMAGENET, picture_shape=(8, 8, 3))


def test_many_pictures_are_prepared_without_float64(rng: np.random.Generator) -> None:
    x = picture(rng, 400, 32, 32, 3)
    tracemalloc.start()
    started = time.perf_counter()
    out = to_input(x, IMAGENET)
    spent = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * out.nbytes
    assert spent < 2


def test_parse_numbers() -> None:
    assert parse_numbers("0.49,0.48, 0.45", option="--mean") == (0.49, 0.48, 0.45)
    assert parse_numbers("0 255", option="--input-range") == (0, 255)
    for text in ("", "a", "0.1;0.2", "nan", "1,inf"):
        with pytest.raises(DataError, match=r"^--mean: .*not a list of numbers") as caught:
            parse_numbers(text, option="--mean")
        assert "\n" not in str(caught.value)


# Picture files


def decode(path: Path, channels: int = 3) -> NDArray[np.uint8]:
    return read_picture(path, channels=channels, size=None, resize="error")


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_formats_come_back_exactly(suffix: str, tmp_path: Path, rng: np.random.Generator) -> None:
    x = picture(rng, 7, 5, 3)
    np.testing.assert_array_equal(decode(write(tmp_path / f"a{suffix}", x)), x)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_come_back_nearly(suffix: str, tmp_path: Path) -> None:
    x = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    np.testing.assert_allclose(decode(write(tmp_path / f"a{suffix}", x)), x, atol=6)


def test_modes_are_brought_to_eight_bit_colour_or_grey(tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    path = tmp_path / "a.png"
    write(path, ramp)
    np.testing.assert_array_equal(decode(path), np.repeat(ramp[..., None], 3, axis=2))
    np.testing.assert_array_equal(decode(path, 1)[..., 0], ramp)
    write(path, ramp.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode(path, 1)[..., 0], ramp)
    np.testing.assert_array_equal(decode(path, 3)[..., 2], ramp)
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[..., 0] = 200
    write(path, colour)
    np.testing.assert_array_equal(decode(path, 1), np.full((8, 8, 1), round(200 * 0.299)))
    Image.fromarray(colour).quantize(4).save(path)
    with Image.open(path) as stored:
        assert stored.mode == "P"
    np.testing.assert_allclose(decode(path), colour, atol=2)
    Image.fromarray(ramp > 100).save(path)
    assert set(np.unique(decode(path))) == {0, 255}
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.jpg")
    np.testing.assert_allclose(decode(tmp_path / "cmyk.jpg"), colour, atol=6)


def test_alpha_is_ignored_not_composited(tmp_path: Path, rng: np.random.Generator) -> None:
    rgba = picture(rng, 6, 6, 4)
    rgba[..., 3] = 0
    np.testing.assert_array_equal(decode(write(tmp_path / "a.png", rgba)), rgba[..., :3])


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    x = np.zeros((8, 16, 3), np.uint8)
    x[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown turned by 90 degrees clockwise: the left half comes to the top.
    Image.fromarray(x).save(tmp_path / "a.jpg", exif=exif, quality=100)
    upright = decode(tmp_path / "a.jpg")
    assert upright.shape == (16, 8, 3)
    assert upright[:7].min() > 200
    assert upright[9:].max() < 50


def test_resizing_rules(tmp_path: Path) -> None:
    x = np.zeros((10, 30, 3), np.uint8)
    x[:, 10:20] = 255
    path = write(tmp_path / "a.png", x)
    with pytest.raises(DataError, match=r"10 x 30 but the model takes 8 x 8"):
        read_picture(path, channels=3, size=(8, 8), resize="error")
    stretched, cropped, fitted = (
        read_picture(path, channels=3, size=(10, 10), resize=rule) for rule in ("stretch", "crop", "fit")
    )
    assert cropped.min() == 255
    assert stretched[:, 5].min() > 200
    assert stretched[:, 0].max() < 50
    assert fitted[0].max() == fitted[9].max() == 0
    assert fitted[5, 5].min() > 100
    sliver = write(tmp_path / "b.png", np.full((1, 500, 3), 255, np.uint8))
    assert read_picture(sliver, channels=3, size=(8, 8), resize="fit").any(axis=(1, 2)).sum() == 1


def test_broken_and_hostile_pictures_are_refused_by_name(tmp_path: Path, rng: np.random.Generator) -> None:
    whole = write(tmp_path / "whole.png", picture(rng, 40, 40, 3)).read_bytes()
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    between = huge.replace(png_chunk(b"IHDR", header), png_chunk(b"IHDR", struct.pack(">II", 9999, 9999) + header[8:]))
    gif = io.BytesIO()
    Image.new("L", (4, 4)).save(gif, "GIF")
    cases = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not a picture",
        "huge": huge,
        "between": between,
        "gif": gif.getvalue(),
    }
    for name, data in cases.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(data)
        with pytest.raises(DataError, match=f"{name}.png") as caught:
            decode(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="9999 x 9999"):
        decode(tmp_path / "between.png")


def test_special_files_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    with pytest.raises(DataError, match=r"pipe.png.*regular file"):
        decode(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"loop\.jpg"):
        decode(tmp_path / "loop.jpg")


# Folders


def class_folders(root: Path, names: list[str], each: int = 2) -> Path:
    """Every picture is one grey value, 10 * folder + picture, so that mix-ups show."""
    for i, name in enumerate(names):
        for j in range(each):
            write(root / name / f"{j}.png", np.full((4, 4, 3), 10 * i + j, np.uint8))
    return root


def load(path: Path, classes: int | None = None, labels: tuple[str, ...] | None = None) -> FewShot:
    return load_pictures(path, size=(4, 4), channels=3, classes=classes, labels=labels)


@pytest.mark.parametrize(
    ("folders", "labels", "classes", "expected"),
    [
        (["0", "2", "10"], None, 11, [0, 2, 10]),
        (["3_cat", "1-dog", "00 owl"], None, 4, [3, 1, 0]),
        (["cat", "dog", "ant"], ("dog", "ant", "cat", "owl"), 4, [2, 0, 1]),
        (["30_kmh", "20_kmh"], ("20_kmh", "30_kmh"), None, [1, 0]),
        (["1", "0"], ("cat", "dog"), None, [1, 0]),
        (["n02", "n01", "n03"], None, 3, [1, 0, 2]),
    ],
)
def test_folder_names_become_classes(
    folders: list[str], labels: tuple[str, ...] | None, classes: int | None, expected: list[int], tmp_path: Path
) -> None:
    few = load(class_folders(tmp_path, folders), classes, labels)
    want = {(10 * i + j, label) for i, label in enumerate(expected) for j in range(2)}
    assert few.y is not None
    assert {(int(x[0, 0, 0]), int(y)) for x, y in zip(few.x, few.y, strict=True)} == want
    assert few.label_source == "folder"
    assert list(few.y) == sorted(few.y)
    assert few.names[0].endswith("/0.png")


@pytest.mark.parametrize(
    ("folders", "labels", "classes", "message"),
    [
        (["cat", "dog"], None, 3, "name them 0, 1"),
        (["cat", "dog"], None, None, "cannot be matched"),
        (["cat", "dgo"], ("cat", "dog"), 2, "'dgo'"),
        (["kat", "dgo"], ("cat", "dog"), 2, "class names"),
        (["crane"], ("crane", "crane"), 2, "not exactly one"),
        (["3_cat", "3_dog"], None, 5, "same class number"),
        (["1", "2"], None, 2, "label 2 is out of range"),
        (["0"], ("a", "b"), 3, "2 class names"),
    ],
)
def test_folders_that_fit_no_rule_are_refused(
    folders: list[str], labels: tuple[str, ...] | None, classes: int | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        load(class_folders(tmp_path, folders), classes, labels)


def test_an_empty_class_keeps_its_place_in_the_sorted_order(tmp_path: Path) -> None:
    class_folders(tmp_path, ["ant", "dog"], each=1)
    (tmp_path / "cat").mkdir()
    few = load(tmp_path, classes=3)
    assert few.y is not None
    assert few.y.tolist() == [0, 2]


def test_flat_folder_has_no_labels_and_a_fixed_order(tmp_path: Path) -> None:
    for name, value in (("b.png", 2), ("a.png", 1), ("C.PNG", 3)):
        write(tmp_path / name, np.full((4, 4), value, np.uint8))
    write(tmp_path / ".hidden.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "docs").mkdir()
    (tmp_path / "self").symlink_to(tmp_path)
    few = load(tmp_path)
    assert few.names == ("C.PNG", "a.png", "b.png")
    assert few.x[:, 0, 0, 0].tolist() == [3, 1, 2]
    assert few.y is None
    assert few.label_source is None


def test_folders_without_a_usable_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="no pictures"):
        load(tmp_path)
    with pytest.raises(DataError, match="neither a folder"):
        load(tmp_path / "notes.txt")
    class_folders(tmp_path, ["0"])
    (tmp_path / "0" / "bad.png").write_bytes(b"bad")
    with pytest.raises(DataError, match=r"bad\.png"):
        load(tmp_path)
    (tmp_path / "0" / "bad.png").unlink()
    write(tmp_path / "flat.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="beside class folders"):
        load(tmp_path)


def test_per_class_reads_only_the_first_of_each(tmp_path: Path) -> None:
    class_folders(tmp_path, ["0", "1"], each=3)
    (tmp_path / "1" / "9.png").write_bytes(b"never read")
    few = load_pictures(tmp_path, size=(4, 4), channels=3, per_class=2)
    assert few.names == ("0/0.png", "0/1.png", "1/0.png", "1/1.png")
    with pytest.raises(DataError, match="at least 1"):
        load_pictures(tmp_path, size=(4, 4), channels=3, per_class=0)


def test_too_many_pictures_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path, ["0"])
    with pytest.raises(DataError, match="give fewer"):
        load_pictures(tmp_path, size=(30000, 30000), channels=3)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match="more than the 10 allowed"):
        load(tmp_path)


# Archives


def test_npz_comes_back_exactly(tmp_path: Path, rng: np.random.Generator) -> None:
    x = picture(rng, 5, 4, 4, 3)
    np.savez(tmp_path / "a.npz", x=x, y=np.array([1, 0, 2, 1, 0], np.uint8))
    few = load(tmp_path / "a.npz", classes=3)
    np.testing.assert_array_equal(few.x, x)
    assert few.y is not None
    assert few.y.dtype == np.int64
    assert few.y.tolist() == [1, 0, 2, 1, 0]
    assert few.names[3] == "a.npz[3]"
    assert few.label_source == "given"
    kept = load_pictures(tmp_path / "a.npz", size=(4, 4), channels=3, per_class=1)
    assert kept.names == ("a.npz[0]", "a.npz[1]", "a.npz[2]")


def test_npz_is_converted_like_files(tmp_path: Path, rng: np.random.Generator) -> None:
    x = picture(rng, 2, 9, 9)
    np.savez_compressed(tmp_path / "a.npz", x=x)
    few = load_pictures(tmp_path / "a.npz", size=(6, 6), channels=3)
    want = read_picture(write(tmp_path / "a.png", x[1]), channels=3, size=(6, 6), resize="stretch")
    np.testing.assert_array_equal(few.x[1], want)
    assert few.y is None
    with pytest.raises(DataError, match=r"a\.npz\[0\].*9 x 9"):
        load_pictures(tmp_path / "a.npz", size=(6, 6), channels=3, resize="error")


X = np.zeros((2, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X.astype(np.float32)}, "float32"),
        ({"x": X.astype(np.int8)}, "int8"),
        ({"x": X.transpose(0, 3, 1, 2)}, "last axis"),
        ({"x": X[0]}, r"shape \(4, 4, 3\)"),
        ({"x": X[:0]}, "no pictures"),
        ({"x": np.uint8(3)}, "shape"),
        ({"images": X}, r"no array named x or y; it holds 'images\.npy'"),
        ({"y": np.zeros(2)}, "no array x"),
        ({"x": X, "y": np.array([0.5, 1])}, "fractions"),
        ({"x": X, "y": np.array([np.nan, 1])}, "fractions"),
        ({"x": X, "y": np.array([0, -1])}, "from -1"),
        ({"x": X, "y": np.array([0, 3])}, "label 3 is out of range"),
        ({"x": X, "y": np.array([0, 1 << 63], np.uint64)}, "labels from"),
        ({"x": X, "y": np.eye(2)}, "one class index for each"),
        ({"x": X, "y": np.array(["a", "b"])}, "class indices"),
        ({"x": X, "y": np.array([True, False])}, "class indices"),
    ],
)
def test_unusable_arrays_are_refused(arrays: dict[str, NDArray[np.generic]], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npz", classes=3)


def test_whole_float_and_column_labels_are_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=np.array([[2.0], [1.0]]))
    few = load(tmp_path / "a.npz", classes=3)
    assert few.y is not None
    assert few.y.tolist() == [2, 1]


class Bait:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("unpickled",)


def test_hostile_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "object.npz", x=np.array([Bait()], dtype=object))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 1 << 12, 1 << 12, 3)}
    )
    npz(tmp_path / "header.npz", x=header.getvalue())
    good = npz(tmp_path / "good.npz", x=npy(X)).read_bytes()
    (tmp_path / "text.npz").write_bytes(b"PK but no archive")
    (tmp_path / "cut.npz").write_bytes(good[:-30])
    # Spoil the deflated bytes, which follow the local header (30 bytes and the name "x.npy").
    (tmp_path / "spoilt.npz").write_bytes(good[:40] + b"\xff" * 8 + good[48:])
    cases = {
        "object": "Python objects",
        "header": "declares shape",
        "text": "cannot be read",
        "cut": "cannot be read",
        "spoilt": "cannot be read",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            load(tmp_path / f"{name}.npz")
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "unpickled").exists()
    assert len(load(tmp_path / "good.npz").x) == 2


def test_a_bomb_is_refused_by_its_declared_size(tmp_path: Path) -> None:
    data = npz(tmp_path / "small.npz", x=npy(X)).read_bytes()
    size = len(npy(X))
    assert data.count(struct.pack("<I", size)) == 2
    (tmp_path / "bomb.npz").write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", 3 << 30)))
    with pytest.raises(DataError, match=f"unpacks to {3 << 30}"):
        load(tmp_path / "bomb.npz")


def test_a_real_bomb_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path / "bomb.npz", x=npy(np.zeros((4000, 64, 64, 1), np.uint8)))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(files, "MAX_ARRAY_BYTES", 1 << 20)
    tracemalloc.start()
    with pytest.raises(DataError, match="more than the 1048576 allowed"):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


# The record


def few_shot(x: NDArray[np.uint8], y: list[int] | None) -> FewShot:
    labels = None if y is None else np.array(y, np.int64)
    return FewShot(x=x, y=labels, names=("n",) * len(x), label_source=None if y is None else "given")


def test_digest_is_stable_and_sees_everything(rng: np.random.Generator) -> None:
    x = picture(rng, 2, 4, 4, 3)
    base = few_shot(x, [0, 1]).digest
    changed = x.copy()
    changed[1, 3, 3, 2] ^= 1
    others = [
        few_shot(changed, [0, 1]),
        few_shot(x, [1, 0]),
        few_shot(x, None),
        few_shot(x.reshape(2, 2, 8, 3), [0, 1]),
    ]
    assert len({base, *(other.digest for other in others)}) == 5
    assert few_shot(np.asfortranarray(x), [0, 1]).digest == base
    spelt_out = b"|u1(1, 2, 2, 3);" + bytes(range(12)) + b"<i8(1,);" + struct.pack("<q", 7)
    small = few_shot(np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3), [7])
    assert small.digest == hashlib.sha256(spelt_out).hexdigest()


def test_few_per_class_keeps_the_first_in_order(rng: np.random.Generator) -> None:
    x = picture(rng, 6, 4, 4, 1)
    kept = few_per_class(few_shot(x, [2, 0, 2, 2, 0, 1]), 2)
    assert kept.y is not None
    assert kept.y.tolist() == [2, 0, 2, 0, 1]
    np.testing.assert_array_equal(kept.x, x[[0, 1, 2, 4, 5]])
    with pytest.raises(DataError, match="without labels"):
        few_per_class(few_shot(x, None), 2)
    with pytest.raises(DataError, match="at least 1"):
        few_per_class(kept, 0)


def test_records_that_do_not_belong_together_are_refused(rng: np.random.Generator) -> None:
    x = picture(rng, 2, 4, 4, 1)
    with pytest.raises(DataError, match="labels must be"):
        few_shot(x, [1, 2, 3])
    with pytest.raises(DataError, match="source"):
        FewShot(x=x, y=None, names=("a", "b"), label_source="model")
    with pytest.raises(DataError, match="name"):
        FewShot(x=x, y=None, names=("a",), label_source=None)
    with pytest.raises(DataError, match="not empty"):
        few_shot(x[:0], None)


def test_folders_name_their_classes() -> None:
    names = ("0/a.png", "2_big dog/a.png", "3-cat/b.png", "4_\u202eevil/c.png")
    few = FewShot(x=np.zeros((4, 2, 2, 1), np.uint8), y=np.array([0, 2, 3, 4]), names=names, label_source="folder")
    assert folder_class_names(few, 6) == ("0", "1", "big dog", "cat", "4", "5")
    words = replace(few, names=("ant/a.png", "bee/a.png", "cow/a.png", "dog/a.png"), y=np.arange(4))
    assert folder_class_names(words, 4) == ("ant", "bee", "cow", "dog")
    assert folder_class_names(replace(few, names=tuple(f"{i}/a.png" for i in range(4))), 6) == ()
    assert folder_class_names(replace(few, label_source="given"), 6) == ()


def test_class_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat\r\n Straße 30 \r\ncrane\r\ncrane\r\n\r\n".encode())
    assert load_class_names(path) == ("cat", "Straße 30", "crane", "crane")
    for data, message in (
        (b"cat\n\ndog\n", "line 2"),
        (b"", "line 1"),
        (b"cat\n\x1b[31mred\n", "line 2"),
        (b"\xff\xfe", "UTF-8"),
        (b"a" * ((4 << 20) + 1), "4 MiB"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            load_class_names(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_class_names(tmp_path / "absent.txt")


# Drawing


@pytest.mark.parametrize(
    ("shape", "factor"), [((28, 28), 10), ((32, 32, 3), 8), ((33, 9, 1), 8), ((300, 2, 3), 1), ((2, 2000), 2)]
)
def test_drawn_pictures_are_enlarged_by_whole_pixels(
    shape: tuple[int, ...], factor: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    x = picture(rng, *shape)
    save_png(tmp_path / "a.png", x)
    drawn = np.asarray(Image.open(tmp_path / "a.png"))
    assert drawn.shape == (shape[0] * factor, shape[1] * factor, *((3,) if shape[2:] == (3,) else ()))
    np.testing.assert_array_equal(drawn, np.kron(x.squeeze(), np.ones((factor, factor, 1)[: x.squeeze().ndim])))


def test_drawing_rounds_clips_and_is_deterministic(tmp_path: Path) -> None:
    data = png_bytes(np.array([[-5.0, 0.6, 254.5, 300.0]]), min_height=1)
    assert np.asarray(Image.open(io.BytesIO(data))).tolist() == [[0, 1, 254, 255]]
    assert data == png_bytes(np.array([[-5.0, 0.6, 254.5, 300.0]]), min_height=1)
    for bad in (np.zeros((2, 2, 4)), np.zeros(3), np.zeros((0, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(DataError, match="picture to draw"):
            png_bytes(bad)
    with pytest.raises(OutputError, match="cannot be written"):
        save_png(tmp_path / "absent" / "a.png", np.zeros((2, 2)))


def test_pictures_that_lie_deeper_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    write(tmp_path / "train" / "0" / "a.png", picture(rng, 4, 4, 3))
    with pytest.raises(DataError, match=r"holds no pictures: its pictures lie deeper, give '.*/train'"):
        load_pictures(tmp_path, size=(4, 4), channels=3)
    assert len(load_pictures(tmp_path / "train", size=(4, 4), channels=3).x) == 1
    (tmp_path / "far" / "off").mkdir(parents=True)
    (tmp_path / "train").rename(tmp_path / "far" / "off" / "train")
    with pytest.raises(DataError, match=r"give '.*/far/off/train'"):
        load_pictures(tmp_path, size=(4, 4), channels=3)


def test_it_is_known_where_only_the_alphabet_numbers_the_classes(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("ship", "cat"):
        write(tmp_path / "words" / name / "a.png", picture(rng, 4, 4, 3))
    for name in ("0_ship", "1_cat"):
        write(tmp_path / "numbers" / name / "a.png", picture(rng, 4, 4, 3))
    given = {"size": (4, 4), "channels": 3, "classes": 2}
    assert load_pictures(tmp_path / "words", **given).alphabetical == ("cat", "ship")
    assert few_per_class(load_pictures(tmp_path / "words", **given), 1).alphabetical == ("cat", "ship")
    assert load_pictures(tmp_path / "words", **given, labels=("ship", "cat")).alphabetical == ()
    assert load_pictures(tmp_path / "numbers", **given).alphabetical == ()

"""Triggers that a user already has: read from pictures or an archive, or refused."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from onnx_shapprune.errors import DataError
from onnx_shapprune.pictures.known_trigger import load_trigger

SIZE = (6, 5)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def write(path: Path, array: NDArray[np.generic]) -> Path:
    Image.fromarray(array).save(path)
    return path


class Bait:
    """Runs when unpickled."""

    def __reduce__(self):
        return print, ("taken",)


def test_trigger_from_two_pictures_and_from_npz_agree(tmp_path: Path, rng: np.random.Generator) -> None:
    grey, pattern = rng.integers(0, 256, SIZE, dtype=np.uint8), rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    grey[0, :2] = 0, 255
    paths = write(tmp_path / "mask.png", grey), write(tmp_path / "pattern.png", pattern)
    mask, paint, _ = load_trigger(*paths, size=SIZE, channels=3)
    assert mask.dtype == paint.dtype == np.float32
    assert mask.shape == (6, 5, 1)
    assert mask[0, :2, 0].tolist() == [0, 1]
    np.testing.assert_allclose(mask[..., 0], grey / 255, rtol=1e-6)
    np.testing.assert_allclose(paint, grey[..., None] / 255 * pattern, rtol=1e-6)
    for stored in (mask[..., 0], mask, np.repeat(mask, 3, axis=2)):
        for mode in ({"mode": "replace"}, {"mode": "blend"}, {}):
            np.savez(tmp_path / "t.npz", mask=stored, pattern=pattern, **mode)
            again = load_trigger(tmp_path / "t.npz", size=SIZE, channels=3)
            np.testing.assert_array_equal(again[0], mask)
            np.testing.assert_array_equal(again[1], paint)


def test_a_grey_pattern_serves_a_colour_model(tmp_path: Path, rng: np.random.Generator) -> None:
    pattern = rng.integers(0, 256, SIZE, dtype=np.uint8)
    np.savez(tmp_path / "t.npz", mask=np.ones(SIZE), pattern=pattern)
    np.testing.assert_array_equal(
        load_trigger(tmp_path / "t.npz", size=SIZE, channels=3)[1], np.stack([pattern] * 3, axis=-1)
    )


def test_what_is_added_covers_nothing_and_may_be_negative(tmp_path: Path, rng: np.random.Generator) -> None:
    added = rng.uniform(-255, 255, (*SIZE, 3)).astype(np.float32)
    for mask in (np.zeros(SIZE), np.ones((*SIZE, 1))):  # what an archive says of a mask is not looked at
        np.savez(tmp_path / "t.npz", mask=mask, pattern=added, mode="add")
        found, paint, _ = load_trigger(tmp_path / "t.npz", size=SIZE, channels=3)
        assert found.shape == (6, 5, 1)
        assert not found.any()
        np.testing.assert_array_equal(paint, added)
    np.savez(tmp_path / "t.npz", mask=np.ones(SIZE), pattern=added[..., 0], mode="add")
    np.testing.assert_array_equal(
        load_trigger(tmp_path / "t.npz", size=SIZE, channels=3)[1], np.stack([added[..., 0]] * 3, axis=-1)
    )


def test_a_warp_has_a_flow_and_covers_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    flow = rng.uniform(-2, 2, (*SIZE, 2)).astype(np.float32)
    np.savez(tmp_path / "t.npz", mask=np.zeros(SIZE), pattern=flow, mode="warp")
    mask, paint, found = load_trigger(tmp_path / "t.npz", size=SIZE, channels=3)
    assert not mask.any()
    assert paint.shape == (*SIZE, 3)
    assert not paint.any()
    assert found is not None
    np.testing.assert_array_equal(found, flow)


def test_a_black_patch_is_a_trigger(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", mask=np.ones(SIZE), pattern=np.zeros(SIZE))
    mask, paint, _ = load_trigger(tmp_path / "t.npz", size=SIZE, channels=1)
    assert mask.all()
    assert not paint.any()


def test_unusable_triggers_are_refused(tmp_path: Path) -> None:
    ones, colours = np.ones((4, 4, 1)), np.full((4, 4, 3), 9.0)
    uneven = np.concatenate([ones, ones, ones * 0], axis=2)
    cases: list[tuple[dict[str, object], str]] = [
        ({"mask": ones * 255, "pattern": colours}, r"mask must hold numbers in 0\.\.1$"),
        ({"mask": ones, "pattern": colours - 10}, r"pattern must hold numbers in 0\.\.255"),
        ({"mask": ones, "pattern": colours - 10, "mode": "blend"}, r"pattern must hold numbers in 0\.\.255"),
        ({"mask": ones * np.nan, "pattern": colours}, "mask must hold"),
        ({"mask": uneven, "pattern": colours}, "differs between channels"),
        ({"mask": ones * 0, "pattern": colours}, "0 everywhere"),
        ({"mask": ones}, "two arrays"),
        ({"mask": ones[:3], "pattern": colours}, "mask has shape"),
        ({"mask": ones, "pattern": colours[..., :2]}, "pattern has shape"),
        ({"mask": np.array([["a"]]), "pattern": colours}, "save numbers"),
        ({"mask": np.array([Bait()], dtype=object), "pattern": colours}, "Python objects"),
        ({"mask": ones, "pattern": colours, "mode": "twist"}, "mode 'twist'"),
        ({"mask": ones, "pattern": colours, "mode": "warp"}, "4 x 4, with 2 numbers each"),
        ({"mask": ones, "pattern": colours[..., :2], "mode": "warp"}, "pattern must hold numbers in -4"),
        ({"mask": ones, "pattern": 0 * colours[..., :2], "mode": "warp"}, "0 everywhere"),
        ({"mask": ones, "pattern": colours - 300, "mode": "add"}, r"pattern must hold numbers in -255\.\.255"),
        ({"mask": ones, "pattern": colours * np.inf, "mode": "add"}, "pattern must hold"),
        ({"mask": ones, "pattern": colours * 0, "mode": "add"}, "0 everywhere"),
    ]
    path = tmp_path / "t.npz"
    for arrays, message in cases:
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=message):
            load_trigger(path, size=(4, 4), channels=3)
    np.savez(path, mask=ones, pattern=colours)
    with pytest.raises(DataError, match="the model takes 1"):
        load_trigger(path, size=(4, 4), channels=1)
    small = write(tmp_path / "m.png", np.ones((3, 3), np.uint8))
    with pytest.raises(DataError, match=r"m\.png.*3 x 3"):
        load_trigger(small, small, size=(4, 4), channels=3)
    with pytest.raises(DataError, match=r"no \.npz"):
        load_trigger(small, size=(4, 4), channels=3)
    with pytest.raises(DataError, match=r"one \.npz, or"):
        load_trigger(size=(4, 4), channels=3)

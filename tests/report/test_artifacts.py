"""Recovered triggers on disk: what is drawn is what was found, and the .npz is read back as a known trigger."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from onnx_shapprune.errors import OutputError
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.known_trigger import load_trigger
from onnx_shapprune.report.artifacts import write_artifacts

SIZE = (8, 6)


def trigger(channels: int, family: str = "patch") -> Trigger:
    mask = np.zeros((*SIZE, 1), np.float32)
    mask[1:3, 2:4] = 1
    pattern = np.full((*SIZE, channels), 200, np.float32)
    return Trigger(mask, pattern, 3, family)


@pytest.mark.parametrize("channels", [1, 3])
def test_files_and_digests(tmp_path, channels):
    pictures = np.zeros((5, *SIZE, channels), np.uint8)
    folder = tmp_path / "out"
    written = write_artifacts(folder, [trigger(channels), trigger(channels), trigger(channels, "../x")], pictures)
    assert {w.name for w in written} == {p.name for p in folder.iterdir()}
    assert {w.name for w in written if w.name.startswith("3_patch")} == {
        f"3_patch{again}_{what}"
        for again in ("", "_2")
        for what in ("mask.png", "pattern.png", "applied.png", "trigger.npz")
    }
    assert "3_---x_mask.png" in {w.name for w in written}
    for file in written:
        payload = (folder / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(payload), hashlib.sha256(payload).hexdigest())


def test_pictures_show_the_trigger(tmp_path):
    write_artifacts(tmp_path, [trigger(1)], np.full((2, *SIZE, 1), 10, np.uint8))
    with Image.open(tmp_path / "3_patch_mask.png") as image:
        mask = np.asarray(image)
    factor = mask.shape[0] // SIZE[0]
    assert factor == 32
    assert np.array_equal(mask[::factor, ::factor] > 0, trigger(1).mask[..., 0] > 0)
    assert np.array_equal(mask, mask[::factor, ::factor].repeat(factor, 0).repeat(factor, 1))
    with Image.open(tmp_path / "3_patch_applied.png") as image:
        applied = np.asarray(image)[::factor, ::factor]
    assert applied.shape == (SIZE[0], 2 * SIZE[1])
    assert (applied[1, 2], applied[0, 0], applied[1, 2 + SIZE[1]]) == (200, 10, 200)


def test_npz_is_a_known_trigger(tmp_path):
    found = trigger(3)
    over = Trigger(found.mask * np.float32(1.0001), found.pattern, 3, "patch")
    write_artifacts(tmp_path, [over], np.zeros((1, *SIZE, 3), np.uint8))
    mask, pattern = load_trigger(tmp_path / "3_patch_trigger.npz", size=SIZE, channels=3)
    assert np.array_equal(mask, found.mask)
    assert np.array_equal(pattern, found.pattern)


def test_same_trigger_gives_the_same_bytes(tmp_path):
    pictures = np.zeros((1, *SIZE, 1), np.uint8)
    assert write_artifacts(tmp_path / "a", [trigger(1)], pictures) == write_artifacts(
        tmp_path / "b", [trigger(1)], pictures
    )


def test_a_folder_that_cannot_be_made(tmp_path):
    with pytest.raises(OutputError, match="cannot make the folder"):
        write_artifacts(tmp_path / "none" / "out", [trigger(1)], np.zeros((1, *SIZE, 1), np.uint8))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the folder"):
        write_artifacts(tmp_path / "file", [trigger(1)], np.zeros((1, *SIZE, 1), np.uint8))

"""Recovered triggers on disk: what is drawn is what was found, and the .npz is read back as a known trigger."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.errors import OutputError
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.known_trigger import load_trigger
from onnx_shapprune.report.artifacts import write_artifacts

SIZE = (8, 6)
THREE = Goal(3)


def trigger(channels: int, family: str = "patch", goal: Goal = THREE) -> Trigger:
    mask = np.zeros((*SIZE, 1), np.float32)
    mask[1:3, 2:4] = 1
    pattern = np.full((*SIZE, channels), 200, np.float32)
    return Trigger.replacing(mask, pattern, goal, family)


def added(channels: int = 3) -> Trigger:
    paint = np.random.default_rng(0).uniform(-20, 20, (*SIZE, channels)).astype(np.float32)
    return Trigger(np.zeros((*SIZE, 1), np.float32), paint, THREE, "linf")


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
    assert np.array_equal(mask > 0, trigger(1).mask[..., 0] > 0)
    factor = 32
    with Image.open(tmp_path / "3_patch_applied.png") as image:
        applied = np.asarray(image)[::factor, ::factor]
    assert applied.shape == (SIZE[0], 2 * SIZE[1])
    assert (applied[1, 2], applied[0, 0], applied[1, 2 + SIZE[1]]) == (200, 10, 200)


def test_names_say_what_the_trigger_is_for(tmp_path):
    goals = [Goal(3), Goal(3, source=1), shift_map(5, 1), shift_map(5, 2)]
    written = write_artifacts(tmp_path, [trigger(1, goal=g) for g in goals], np.zeros((1, *SIZE, 1), np.uint8))
    stems = [w.name.removesuffix("_mask.png") for w in written if w.name.endswith("_mask.png")]
    assert stems == ["3_patch", "1to3_patch", "all_patch", "all_patch_2"]


def test_npz_is_a_known_trigger(tmp_path):
    found = trigger(3)
    over = Trigger(found.mask * np.float32(1.0001), found.paint * np.float32(1.0001), THREE, "patch")
    write_artifacts(tmp_path, [over], np.zeros((1, *SIZE, 3), np.uint8))
    mask, paint, _ = load_trigger(tmp_path / "3_patch_trigger.npz", size=SIZE, channels=3)
    assert np.array_equal(mask, found.mask)
    np.testing.assert_allclose(paint, found.paint, rtol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.25, 0.01])
def test_a_known_trigger_does_what_the_written_one_did(tmp_path, share):
    rng = np.random.default_rng(1)
    mask = (share * rng.random((*SIZE, 1))).astype(np.float32)
    mask[0, :3] = 0
    found = Trigger.replacing(mask, rng.uniform(0, 255, (*SIZE, 3)).astype(np.float32), THREE, "patch")
    write_artifacts(tmp_path, [found], np.zeros((1, *SIZE, 3), np.uint8))
    mask, paint, _ = load_trigger(tmp_path / "3_patch_trigger.npz", size=SIZE, channels=3)
    again = Trigger(mask, paint, THREE, "known")
    x = rng.uniform(0, 255, (4, *SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(again.apply(x), found.apply(x), atol=1e-3)
    with np.load(tmp_path / "3_patch_trigger.npz") as stored:
        assert stored["target"] == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_its_pictures_are_a_known_trigger_too(tmp_path, channels):
    found = trigger(channels)
    write_artifacts(tmp_path, [found], np.zeros((1, *SIZE, channels), np.uint8))
    pictures = [tmp_path / f"3_patch_{name}.png" for name in ("mask", "pattern")]
    mask, paint, _ = load_trigger(*pictures, size=SIZE, channels=channels)
    assert np.array_equal(mask, found.mask)
    assert np.array_equal(paint, found.paint)


def test_npz_of_what_is_added_is_a_known_trigger_too(tmp_path):
    found = added()
    write_artifacts(tmp_path, [found], np.zeros((1, *SIZE, 3), np.uint8))
    mask, paint, _ = load_trigger(tmp_path / "3_linf_trigger.npz", size=SIZE, channels=3)
    assert not mask.any()
    np.testing.assert_array_equal(paint, found.paint)


def test_what_is_added_is_drawn_around_grey(tmp_path):
    found = added(1)
    write_artifacts(tmp_path, [found], np.full((1, *SIZE, 1), 100, np.uint8))
    with Image.open(tmp_path / "3_linf_pattern.png") as image:
        pattern = np.asarray(image).astype(float)
    change = found.paint[..., 0]
    assert (np.abs(pattern[np.unravel_index(np.abs(change).argmax(), SIZE)] - 127.5)) == pytest.approx(127.5)
    np.testing.assert_allclose(pattern - 127.5, change * 127.5 / np.abs(change).max(), atol=1)
    with Image.open(tmp_path / "3_linf_applied.png") as image:
        np.testing.assert_allclose(np.asarray(image)[::32, ::32], 100 + change, atol=1)


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


def test_a_warp_is_drawn_on_a_grid_and_read_back(tmp_path):
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[..., 0] = 1
    write_artifacts(tmp_path, [Trigger.warping(flow, THREE, "warp")], np.zeros((1, *SIZE, 3), np.uint8))
    with Image.open(tmp_path / "3_warp_pattern.png") as image:
        lines = np.asarray(image)
    assert (lines[3] == 255).all(), "the line of row 4 is taken one row up"
    assert lines[4].tolist() == [255, 0, 0, 0, 255, 0]
    mask, _, again = load_trigger(tmp_path / "3_warp_trigger.npz", size=SIZE, channels=3)
    assert not mask.any()
    assert np.array_equal(again, flow)
